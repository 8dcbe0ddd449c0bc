from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import quorumlite


def test_others_run_while_a_call_waits(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """A thread waits in `open` for a cluster that never comes; this one must not even stutter."""
    ends: list[str] = []

    def join() -> None:
        try:
            quorumlite.open(
                tmp_path / "n",
                listen=f"127.0.0.1:{free_port()}",
                join=[f"127.0.0.1:{free_port()}"],
                secret="correct horse",
                timeout=2,
            )
        except quorumlite.Error as e:
            ends.append(e.kind)

    waiting = threading.Thread(target=join)
    begin = last = time.monotonic()
    waiting.start()
    longest = 0.0
    while waiting.is_alive():
        now = time.monotonic()
        longest = max(longest, now - last)
        last = now
    took = time.monotonic() - begin
    assert ends, "open ended without an error"
    # Held throughout, the GIL would stop this thread for the whole call.
    assert longest < took / 2, f"this thread stood still for {longest:.2f} of {took:.2f} seconds"


def test_others_run_while_a_read_computes(node: quorumlite.Node) -> None:
    """The same for a read that runs on the calling thread."""
    begun = threading.Event()
    answers: list[object] = []

    def compute() -> None:
        begun.set()
        rows = node.query(
            "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 3000000) "
            "SELECT count(*) FROM s",
            timeout=60,
        )
        answers.append(rows[0][0])

    computing = threading.Thread(target=compute)
    computing.start()
    begun.wait()
    begin = last = time.monotonic()
    longest = 0.0
    while computing.is_alive():
        now = time.monotonic()
        longest = max(longest, now - last)
        last = now
    took = time.monotonic() - begin
    assert answers == [3_000_000]
    assert longest < took / 2, f"this thread stood still for {longest:.2f} of {took:.2f} seconds"
