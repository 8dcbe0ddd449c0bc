from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import quorumlite

# What no call takes when all is well; only a hang lasts longer.
HANG = 60.0

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_configure() -> None:
    """On a free-threaded interpreter (make python-free-threaded) the package leaves the GIL off."""
    if sysconfig.get_config_var("Py_GIL_DISABLED") and sys._is_gil_enabled():
        raise pytest.UsageError("importing quorumlite has turned the GIL on")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[quorumlite.Node]:
    """A standalone node with a table `t(id, v)`."""
    with quorumlite.open(tmp_path / "node") as n:
        n.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
        yield n


_candidates = itertools.count(os.getpid() * 61)


def find_free_port() -> int:
    """A port of loopback at which nothing listens.

    It is below those that systems give to outgoing connections, one of which might take it before
    the node does.
    """
    for candidate in _candidates:
        port = 12_000 + candidate % 20_000
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is always another candidate")


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Ports at which nothing listens."""
    return find_free_port


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
