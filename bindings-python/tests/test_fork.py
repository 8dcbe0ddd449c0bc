from __future__ import annotations

import os

import pytest
from conftest import RunPython, check

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")

# Python 3.12 and later warn of every fork in a process with threads.
QUIET = ("-W", "ignore::DeprecationWarning")


def test_every_call_in_the_child(run_python: RunPython) -> None:
    said = check(
        run_python(
            """
            import os, sys, asyncio, quorumlite
            node = quorumlite.open("n")
            node.execute("CREATE TABLE t(a)")
            anode = asyncio.run(quorumlite.aio.open("n"))
            asyncio.run(anode.query("SELECT 1"))
            pid = os.fork()
            if pid == 0:
                calls = [
                    lambda: node.execute("INSERT INTO t VALUES (1)"),
                    lambda: node.execute_batch(["INSERT INTO t VALUES (1)"]),
                    lambda: node.query("SELECT 1"),
                    lambda: node.query("SELECT 1", consistency="linearizable"),
                    lambda: node.status(),
                    lambda: node.members(),
                    lambda: node.wait_for_leader(),
                    lambda: node.content_hash(),
                    lambda: node.close(),
                    lambda: asyncio.run(anode.execute("INSERT INTO t VALUES (1)")),
                    lambda: asyncio.run(anode.status()),
                    lambda: asyncio.run(anode.close()),
                ]
                for call in calls:
                    try:
                        call()
                        print("no error")
                    except quorumlite.InterfaceError as e:
                        assert e.code == "FORKED" and "after the fork" in str(e)
                print(repr(node).rsplit("(")[1], node.closed, len(calls), flush=True)
                del node, anode, calls, call
                sys.exit(7)  # through atexit and the destructors
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 7, status
            node.execute("INSERT INTO t VALUES (2)")
            print(list(map(tuple, node.query("SELECT * FROM t"))))
            node.close()
            asyncio.run(anode.close())
            """,
            options=QUIET,
        )
    )
    assert said == "forked)> False 12\n[(2,)]\n"


def test_with_in_the_child(run_python: RunPython) -> None:
    """Leaving the parent's `with` block in the child hides nothing and closes nothing."""
    check(
        run_python(
            """
            import os, sys, quorumlite
            pid = None
            with quorumlite.open("n") as node:
                node.execute("CREATE TABLE t(a)")
                pid = os.fork()
                if pid == 0:
                    sys.exit(7)
                _, status = os.waitpid(pid, 0)
                assert os.waitstatus_to_exitcode(status) == 7
                node.execute("INSERT INTO t VALUES (2)")
            """,
            options=QUIET,
        )
    )


def test_a_child_opens_its_own(run_python: RunPython) -> None:
    check(
        run_python(
            """
            import os, asyncio, quorumlite
            node = quorumlite.open("parent")
            node.execute("CREATE TABLE t(a)")
            pid = os.fork()
            if pid == 0:
                own = quorumlite.open("child")
                own.execute("CREATE TABLE t(a)")
                own.execute("INSERT INTO t VALUES (1)")
                assert own.query("SELECT a FROM t", consistency="linearizable") == [(1,)]

                async def main():
                    async with await quorumlite.aio.open("child") as n:
                        assert await n.query("SELECT a FROM t") == [(1,)]

                asyncio.run(main())
                grandchild = os.fork()
                if grandchild == 0:
                    try:
                        own.status()
                    except quorumlite.InterfaceError:
                        with quorumlite.open("grandchild") as n:
                            n.execute("CREATE TABLE t(a)")
                        raise SystemExit(3)
                _, status = os.waitpid(grandchild, 0)
                assert os.waitstatus_to_exitcode(status) == 3
                raise SystemExit(7)  # with `own` open
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 7
            node.close()
            """,
            options=QUIET,
        )
    )


def test_a_child_cannot_take_the_parents_directory(run_python: RunPython) -> None:
    check(
        run_python(
            """
            import os, quorumlite
            node = quorumlite.open("n")
            node.execute("CREATE TABLE t(a)")
            pid = os.fork()
            if pid == 0:
                try:
                    quorumlite.open("n", timeout=5)
                except quorumlite.Error as e:
                    assert e.code and e.code != "INTERNAL_PANIC", e.code
                    os._exit(7)
                os._exit(1)
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 7
            node.execute("INSERT INTO t VALUES (2)")
            node.close()
            """,
            options=QUIET,
        )
    )


def test_a_child_does_not_keep_the_directory(run_python: RunPython) -> None:
    """The parent closes and opens again while a child that was forked meanwhile lives."""
    check(
        run_python(
            """
            import os, quorumlite
            node = quorumlite.open("n")
            node.execute("CREATE TABLE t(a)")
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(write)
                os.read(read, 1)  # until the parent closes its end
                os._exit(7)
            os.close(read)
            node.close()
            with quorumlite.open("n") as node:
                node.execute("INSERT INTO t VALUES (2)")
            os.close(write)
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 7
            """,
            options=QUIET,
        )
    )


def test_fork_among_busy_threads(run_python: RunPython) -> None:
    """The child never waits for a lock that a thread of the parent held."""
    check(
        run_python(
            """
            import os, threading, quorumlite
            node = quorumlite.open("n")
            node.execute("CREATE TABLE t(a)")
            stop = threading.Event()

            def work():
                while not stop.is_set():
                    node.execute("INSERT INTO t VALUES (1)")
                    node.query("SELECT count(*) FROM t")
                    quorumlite.open("n").close()

            threads = [threading.Thread(target=work) for _ in range(4)]
            for t in threads:
                t.start()
            for _ in range(20):
                pid = os.fork()
                if pid == 0:
                    try:
                        node.query("SELECT 1")
                    except quorumlite.InterfaceError:
                        os._exit(7)
                    os._exit(1)
                _, status = os.waitpid(pid, 0)
                assert os.waitstatus_to_exitcode(status) == 7, status
            stop.set()
            for t in threads:
                t.join()
            node.close()
            """,
            options=QUIET,
        )
    )
