"""Opens and closes, and calls, many times; memory and descriptors must stay flat.

Prints the figures. python flat.py [opens] [calls]
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import quorumlite
import quorumlite.aio

# What is kept in memory of a log of the usual 32 MiB would grow for some 200,000 writes.
SMALL_LOG = 2 << 20


def measure() -> dict[str, int]:
    gc.collect()
    status = Path("/proc/self/status").read_text()

    def field(name: str) -> int:
        return int(re.search(rf"{name}:\s+(\d+)", status)[1])  # type: ignore[index]

    return {
        "rss_kib": field("VmRSS"),
        "objects": len(gc.get_objects()),
        "threads": field("Threads"),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def flat(name: str, count: int, step: Callable[[int], None]) -> None:
    """Run `step` so often; measure after a third, when caches are full, and at the end."""
    began = time.monotonic()
    warm: dict[str, int] = {}
    for i in range(count):
        if i == count // 3:
            warm = measure()
        step(i)
    seconds = time.monotonic() - began
    end = measure()
    print(f"{name}: {count} in {seconds:.1f} s; warm {warm}; end {end}")
    # Idle threads and the pool of readers come and go. A leak of one descriptor, or of a few KiB,
    # in each call would be far beyond.
    assert end["rss_kib"] - warm["rss_kib"] <= 32_768, f"{name}: memory is not flat"
    assert end["objects"] - warm["objects"] <= 2_000, f"{name}: objects are not flat"
    assert end["descriptors"] <= warm["descriptors"] + 32, f"{name}: descriptors are not flat"
    assert end["threads"] <= 200, f"{name}: threads are not flat"


async def calls(node: quorumlite.aio.Node, i: int) -> None:
    """Twenty at once: writes, reads, errors, batches, and calls that are cancelled."""

    async def call(j: int) -> None:
        match j % 5:
            case 0:
                insert = "INSERT OR REPLACE INTO t VALUES (?, ?, ?)"
                await node.execute(insert, [j, "text", b"x" * 100])
            case 1:
                await node.query("SELECT * FROM t WHERE id < ?", [20])
            case 2:
                with contextlib.suppress(quorumlite.Error):
                    await node.query("SELEKT")
            case 3:
                await node.execute_batch([("UPDATE t SET a = ? WHERE id = 0", [i]), "SELECT 1"])
            case _:
                task = asyncio.create_task(node.query("SELECT count(*) FROM t"))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])

    await asyncio.gather(*(call(j) for j in range(20)))


def main(opens: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "n"
        flat(
            "open and close",
            opens,
            lambda _: quorumlite.open(path, max_log_bytes=SMALL_LOG).close(),
        )

        def sync_calls(i: int) -> None:
            insert = "INSERT OR REPLACE INTO t VALUES (?, ?, ?)"
            node.execute(insert, [i % 20, "text", b"x" * 100])
            node.query("SELECT * FROM t WHERE id < ?", [20])

        with quorumlite.open(path, max_log_bytes=SMALL_LOG) as node:
            node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)")
            flat("sync calls", rounds // 10, sync_calls)

        loop = asyncio.new_event_loop()
        aio_node = loop.run_until_complete(quorumlite.aio.open(path, max_log_bytes=SMALL_LOG))
        step = lambda i: loop.run_until_complete(calls(aio_node, i))  # noqa: E731
        flat("asyncio calls", rounds // 20, step)
        loop.run_until_complete(aio_node.close())
        loop.close()


if __name__ == "__main__":
    main(*(int(a) for a in (sys.argv[1:3] or ["10000", "100000"])))
