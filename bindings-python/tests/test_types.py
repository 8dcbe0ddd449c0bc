"""What type checkers are told is true, and is enough for strict users."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="type checks need mypy; install the dev extra")


def run(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *args], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_stubs_match_the_native_module(tmp_path: Path) -> None:
    done = run("mypy.stubtest", "quorumlite", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_users_program(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(
        textwrap.dedent(
            """
            from pathlib import Path
            import quorumlite
            from quorumlite import aio

            def main(where: Path, level: quorumlite.Consistency) -> str:
                with quorumlite.open(where, join=("a:1",), timeout=5) as node:
                    r = node.execute("x", [1, None, "a", b"b", 1.5, True])
                    n: int = r.rows_affected + r.last_insert_rowid + r.index
                    node.execute_batch(["x", ("y", [n]), ("z", {"a": "b"})])
                    for row in node.query("x", {"a": 1}, consistency=level):
                        d: dict[str, object] = dict(zip(row.keys(), row))
                        print(row[0], row["name"], d)
                    first, second = node.query("x")[0]
                    leader: str | None = node.status().leader_id
                    reachable: list[bool | None] = [m.reachable for m in node.members()]
                    print(leader, reachable, first, second)
                    try:
                        node.close()
                    except quorumlite.Error as e:
                        return e.code
                    return node.content_hash().hash

            async def amain(where: str) -> int:
                async with await aio.open(where) as node:
                    return (await node.execute("x")).index
            """
        )
    )
    done = run("mypy", "--strict", "user.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mistakes_are_seen(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(
        textwrap.dedent(
            """
            import quorumlite
            node = quorumlite.open("d", colour=1)
            node.query("x", consistency="eventual")
            node.execute("x", 5)
            node.execute(b"x")
            quorumlite.Rows()[0].nothing
            """
        )
    )
    done = run("mypy", "--strict", "user.py", cwd=tmp_path)
    lines = {line.split(":")[1] for line in done.stdout.splitlines() if ": error:" in line}
    assert lines == {"3", "4", "5", "6", "7"}, done.stdout + done.stderr
