"""The examples of the README at the root of the repository do what they say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"


def blocks() -> tuple[str, str, str]:
    """The first words, the three opens of a cluster, and what any of its processes may do."""
    first, opens, calls = re.findall(
        r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.M | re.S
    )
    return first, opens, calls


def test_first_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(blocks()[0] + "node.close()", names)
    assert capsys.readouterr().out == "1\n"


def test_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    monkeypatch.chdir(tmp_path)
    _, opens, calls = blocks()
    for port in ("7001", "7002", "7003"):
        opens = opens.replace(port, str(free_port()))
    start, *parts = re.split(r"^(?=node = )", opens, flags=re.M)
    assert len(parts) == 3
    nodes = []
    try:
        for part in parts:
            names: dict[str, Any] = {}
            exec(start + part, names)
            nodes.append(names["node"])
        for count, node in enumerate(nodes, start=1):
            exec(calls, {"node": node})
            rows = node.query("SELECT name FROM t ORDER BY id", consistency="linearizable")
            assert [name for (name,) in rows] == ["bob", "eve"] * count
        assert {node.wait_for_leader() for node in nodes} == {"n1"}
    finally:
        for node in nodes:
            node.close()
