"""Local point reads from Python: Quorumlite beside the standard library's sqlite3.

Run with the interpreter that has the package (`make bench-python`). Both read the same 50,000 rows
of 200 bytes, picked at random, one caller; the rounds alternate, and the medians count.
"""

import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

import quorumlite

ROWS = 50_000
ROUNDS = 9
READS = 20_000
CREATE = "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)"
INSERT = "INSERT INTO t(v) VALUES (?)"
SELECT = "SELECT v FROM t WHERE id = ?"


def fill_plain(path, rows):
    plain = sqlite3.connect(path)
    plain.execute("PRAGMA journal_mode = WAL")
    plain.execute(CREATE)
    plain.executemany(INSERT, ((row,) for row in rows))
    plain.commit()
    plain.close()
    # With the settings of Quorumlite's own readers.
    plain = sqlite3.connect(path)
    plain.execute("PRAGMA query_only = ON")
    plain.execute("PRAGMA mmap_size = 268435456")
    return plain


def fill_node(path, rows):
    node = quorumlite.open(path)
    node.execute(CREATE)
    for start in range(0, len(rows), 500):
        node.execute_batch([(INSERT, (row,)) for row in rows[start : start + 500]])
    return node


def seconds(read, ids, rows):
    """For one read, in this round."""
    started = time.perf_counter()
    for i in ids:
        found = read(i)
    took = time.perf_counter() - started
    assert found[0] == rows[ids[-1] - 1], "the row that was written"
    return took / len(ids)


def main():
    rows = [os.urandom(200) for _ in range(ROWS)]
    with tempfile.TemporaryDirectory() as folder:
        plain = fill_plain(Path(folder) / "plain.db", rows)
        node = fill_node(Path(folder) / "node", rows)

        def from_plain(i):
            return plain.execute(SELECT, (i,)).fetchone()

        def from_node(i):
            return node.query(SELECT, (i,))[0]

        ratios, ours, theirs = [], [], []
        for _ in range(ROUNDS):
            ids = random.choices(range(1, ROWS + 1), k=READS)
            theirs.append(seconds(from_plain, ids, rows))
            ours.append(seconds(from_node, ids, rows))
            ratios.append(ours[-1] / theirs[-1])
        node.close()
        plain.close()
    name = f"sqlite3 of Python {sys.version_info.major}.{sys.version_info.minor}"
    print(f"{name}: {statistics.median(theirs) * 1e6:.2f} µs a read")
    print(f"quorumlite: {statistics.median(ours) * 1e6:.2f} µs a read")
    print(f"ratio: {statistics.median(ratios):.2f} (median of {ROUNDS} rounds)")


if __name__ == "__main__":
    main()
