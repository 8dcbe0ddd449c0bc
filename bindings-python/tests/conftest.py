from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import quorumlite

# What no call takes when all is well; only a hang lasts longer.
HANG = 60.0

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[quorumlite.Node]:
    """A standalone node with a table `t(id, v)`."""
    with quorumlite.open(tmp_path / "node") as n:
        n.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
        yield n


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Ports at which nothing listens."""

    def find() -> int:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            return int(s.getsockname()[1])

    return find


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Run a script in an interpreter of its own, whose end is part of what is tested."""

    def run(
        script: str, *args: object, options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *options, "-c", textwrap.dedent(script), *map(str, args)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONFAULTHANDLER": "1"},
            capture_output=True,
            text=True,
            timeout=HANG,
            check=False,
        )

    return run


def check(done: subprocess.CompletedProcess[str]) -> str:
    """Assert that a script ended well and said nothing on standard error; give its output."""
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout
