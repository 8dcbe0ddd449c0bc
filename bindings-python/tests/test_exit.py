from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import quorumlite
from conftest import HANG, RunPython, check


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise RuntimeError('unhandled')", 1),
        ("globals().clear()", 0),
    ],
)
def test_exit_with_open_nodes(tmp_path: Path, run_python: RunPython, end: str, status: int) -> None:
    done = run_python(
        f"""
        import sys, asyncio, quorumlite
        node = quorumlite.open("n")
        node.execute("CREATE TABLE t(a)")
        other = quorumlite.open("other")
        anode = asyncio.run(quorumlite.aio.open("n"))
        node.execute("INSERT INTO t VALUES (5)")
        cycle = [node]; cycle.append(cycle)
        {end}
        """
    )
    assert done.returncode == status, done.stderr
    assert "panicked" not in done.stderr
    with quorumlite.open(tmp_path / "n") as node:
        assert node.query("SELECT a FROM t") == [(5,)]


def test_handlers_of_the_user_find_nodes_open(run_python: RunPython) -> None:
    said = check(
        run_python(
            """
            import atexit, quorumlite
            node = quorumlite.open("n")
            node.execute("CREATE TABLE t(a)")

            @atexit.register
            def last_words():
                node.execute("INSERT INTO t VALUES (1)")
                print(node.query("SELECT count(*) FROM t")[0][0])
            """
        )
    )
    assert said == "1\n"


def test_calls_after_the_end(run_python: RunPython) -> None:
    said = check(
        run_python(
            """
            import atexit

            def after():
                try:
                    node.query("SELECT 1")
                except quorumlite.ClosedError as e:
                    print(e.code)
                try:
                    quorumlite.open("late")
                except quorumlite.ClosedError as e:
                    print(e.code)
                node.close()

            atexit.register(after)  # before the import, so it runs after the package's own
            import quorumlite
            node = quorumlite.open("n")
            """
        )
    )
    assert said == "CLOSED\nCLOSED\n"


def test_exit_while_daemon_threads_call(run_python: RunPython) -> None:
    for _ in range(5):
        done = run_python(
            """
            import threading, asyncio, quorumlite
            node = quorumlite.open("n")
            node.execute("CREATE TABLE IF NOT EXISTS t(a)")
            begun = threading.Barrier(6)

            def work():
                begun.wait()
                try:
                    while True:
                        node.execute("INSERT INTO t VALUES (1)")
                        node.query("SELECT 1", consistency="linearizable")
                        node.query("SELECT 1")
                except quorumlite.Error:
                    pass

            async def awork():
                async with await quorumlite.aio.open("n") as n:
                    begun.wait()
                    while True:
                        await n.query("SELECT 1")

            for _ in range(4):
                threading.Thread(target=work, daemon=True).start()
            threading.Thread(target=lambda: asyncio.run(awork()), daemon=True).start()
            begun.wait()
            """
        )
        assert done.returncode == 0, done.stderr


def test_exit_is_bounded(run_python: RunPython, free_port: Callable[[], int]) -> None:
    """A daemon thread that waits for a cluster that never comes does not hold exit up."""
    start = time.monotonic()
    done = run_python(
        """
        import sys, threading, quorumlite
        begun = threading.Event()

        def join():
            begun.set()
            quorumlite.open("n", listen="127.0.0.1:" + sys.argv[1], secret="s",
                            join=["127.0.0.1:" + sys.argv[2]], timeout=3600)

        threading.Thread(target=join, daemon=True).start()
        begun.wait()
        """,
        free_port(),
        free_port(),
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 20


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent differently there")
def test_ctrl_c_ends_the_waiting(tmp_path: Path, free_port: Callable[[], int]) -> None:
    script = """
        import sys, quorumlite
        try:
            print("waiting", flush=True)
            quorumlite.open("n", listen="127.0.0.1:" + sys.argv[1], secret="s",
                            join=["127.0.0.1:" + sys.argv[2]], timeout=3600)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        with quorumlite.open("another") as node:
            print(node.query("SELECT 1")[0][0])
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(free_port()), str(free_port())],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        # Whether the signal comes just before the call or within it, it must end it.
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=HANG)
    finally:
        child.kill()
        child.wait()
    assert (child.returncode, out) == (0, "interrupted\n1\n"), err
