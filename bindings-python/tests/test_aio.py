from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import quorumlite
from conftest import HANG, RunPython, check
from quorumlite import aio


async def until_counted(node: aio.AsyncNode, rows: int) -> None:
    """Wait until the table holds so many rows, and see that they do not become more."""

    async def count() -> int:
        return int((await node.query("SELECT count(*) FROM t"))[0][0])

    end = time.monotonic() + HANG
    while await count() < rows:
        assert time.monotonic() < end, "abandoned writes were lost"
    assert await count() == rows


def test_the_same_verbs(tmp_path: Path) -> None:
    async def main() -> None:
        async with await aio.open(tmp_path / "n") as node:
            await node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)")
            r = await node.execute("INSERT INTO t(name) VALUES (?) RETURNING id", ["ann"])
            assert (r.rows_affected, r.last_insert_rowid) == (1, 1)
            assert r.rows == [(1,)]
            two = await node.execute_batch(
                [("INSERT INTO t(name) VALUES (?)", ["bob"]), "DELETE FROM t WHERE id = 1"]
            )
            assert [r.rows_affected for r in two] == [1, 1]
            for level in ("none", "session", "weak", "linearizable"):
                rows = await node.query(
                    "SELECT * FROM t WHERE id = :id", {"id": 2}, consistency=level, timeout=5
                )
                assert rows[0]["name"] == "bob"
            status = await node.status()
            assert status.leader_id == await node.wait_for_leader(timeout=5)
            assert [m.node_id for m in await node.members()] == [status.node_id]
            assert len((await node.content_hash()).hash) == 64
            assert repr(node).startswith("<quorumlite.aio.AsyncNode ")
        assert node.closed
        await node.close()
        with pytest.raises(quorumlite.ClosedError):
            await node.execute("DELETE FROM t")
        with pytest.raises(quorumlite.ClosedError):
            await node.status()

    asyncio.run(main())


def test_errors_are_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        async with await aio.open(tmp_path / "n") as node:
            await node.execute("CREATE TABLE t(a UNIQUE)")
            await node.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(quorumlite.IntegrityError) as e:
                await node.execute("INSERT INTO t VALUES (1)")
            assert e.value.code == "SQLITE_CONSTRAINT_UNIQUE"
            with pytest.raises(TypeError, match="parameter 1"):
                await node.execute("INSERT INTO t VALUES (?)", [object()])  # type: ignore[list-item]
            with pytest.raises(ValueError, match="timeout"):
                await node.query("SELECT 1", timeout=float("nan"))

    asyncio.run(main())


def test_many_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with await aio.open(tmp_path / "n") as node:
            await node.execute("CREATE TABLE t(a INTEGER PRIMARY KEY)")
            done = await asyncio.gather(
                *(node.execute("INSERT INTO t VALUES (?)", [i]) for i in range(500))
            )
            assert sum(r.rows_affected for r in done) == 500
            assert (await node.query("SELECT count(*) FROM t"))[0][0] == 500

    asyncio.run(main())


def test_the_loop_runs_while_a_call_waits(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def main() -> None:
        joining = asyncio.create_task(
            aio.open(
                tmp_path / "n",
                listen=f"127.0.0.1:{free_port()}",
                join=[f"127.0.0.1:{free_port()}"],
                secret="correct horse",
                timeout=1,
            )
        )
        turns = 0
        while not joining.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert turns > 50
        with pytest.raises((quorumlite.TimeoutError, quorumlite.UnavailableError)):
            await joining

    asyncio.run(main())


def test_cancelled_is_abandoned_not_undone(tmp_path: Path) -> None:
    async def main() -> None:
        async with await aio.open(tmp_path / "n") as node:
            await node.execute("CREATE TABLE t(a INTEGER PRIMARY KEY)")
            tasks = [
                asyncio.create_task(node.execute("INSERT INTO t VALUES (?)", [i]))
                for i in range(100)
            ]
            await asyncio.sleep(0)  # each has started its call
            for t in tasks:
                t.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(e, asyncio.CancelledError) for e in ends)
            await until_counted(node, 100)

    asyncio.run(main())


def test_cancelled_open_leaves_the_directory_free(tmp_path: Path, run_python: RunPython) -> None:
    async def main() -> None:
        task = asyncio.create_task(aio.open(tmp_path / "n"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gc.collect()
    # The node that nobody took closes in the background: another process can have its directory.
    check(
        run_python(
            """
            import sys, time, quorumlite
            end = time.monotonic() + 30
            while True:
                try:
                    quorumlite.open(sys.argv[1]).close()
                    break
                except quorumlite.Error:
                    if time.monotonic() > end:
                        raise
            """,
            tmp_path / "n",
        )
    )


def test_a_node_belongs_to_no_loop(tmp_path: Path) -> None:
    async def prepare() -> aio.AsyncNode:
        node = await aio.open(tmp_path / "n")
        await node.execute("CREATE TABLE t(a INTEGER PRIMARY KEY)")
        return node

    async def begin(node: aio.AsyncNode) -> list[asyncio.Task[quorumlite.Result]]:
        tasks = [
            asyncio.create_task(node.execute("INSERT INTO t VALUES (?)", [i])) for i in range(50)
        ]
        await asyncio.sleep(0)
        return tasks  # asyncio.run cancels them

    async def go_on(node: aio.AsyncNode) -> None:
        async with node:
            await node.execute("INSERT INTO t VALUES (1000)")
            await until_counted(node, 51)

    node = asyncio.run(prepare())
    assert all(t.cancelled() for t in asyncio.run(begin(node)))
    asyncio.run(go_on(node))


def test_a_loop_closed_under_its_calls(run_python: RunPython) -> None:
    """Outcomes for a loop that is gone are dropped, silently."""
    check(
        run_python(
            """
            import asyncio
            from quorumlite import aio

            async def prepare():
                node = await aio.open("n")
                await node.execute("CREATE TABLE t(a)")
                return node

            async def again(node):
                async with node:
                    await node.execute("INSERT INTO t VALUES (1)")
                    print((await node.query("SELECT count(*) FROM t"))[0][0])

            node = asyncio.run(prepare())
            loop = asyncio.new_event_loop()
            for i in range(20):
                coroutine = node.execute("INSERT INTO t VALUES (1)")

                async def begin(c=coroutine):
                    return c.send(None)

                future = loop.run_until_complete(begin())
                coroutine.close()
            loop.close()
            asyncio.run(again(node))
            """
        )
    )


def test_loops_in_several_threads(tmp_path: Path) -> None:
    with quorumlite.open(tmp_path / "n") as node:
        node.execute("CREATE TABLE t(a)")
        failures: list[BaseException] = []

        async def write() -> None:
            async with await aio.open(tmp_path / "n") as mine:
                await asyncio.gather(*(mine.execute("INSERT INTO t VALUES (1)") for _ in range(50)))

        def run() -> None:
            try:
                asyncio.run(write())
            except BaseException as e:
                failures.append(e)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert failures == []
        rows = node.query("SELECT count(*) FROM t", consistency="linearizable")
        assert rows[0][0] == 200


def test_forgotten_node_warns(tmp_path: Path) -> None:
    async def main() -> None:
        node = await aio.open(tmp_path / "n")
        with pytest.warns(ResourceWarning, match=r"unclosed <quorumlite\.aio\.AsyncNode"):
            del node
            gc.collect()

    asyncio.run(main())
