from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import quorumlite


def write(where: str, value: int) -> int:
    with quorumlite.open(where) as node:
        node.execute("CREATE TABLE IF NOT EXISTS t(a)")
        node.execute("INSERT INTO t VALUES (?)", [value])
        return int(node.query("SELECT sum(a) FROM t")[0][0])


def fail(where: str) -> None:
    with quorumlite.open(where) as node:
        node.execute("INSERT INTO nowhere VALUES (1)")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_with_nodes_of_their_own(tmp_path: Path, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    with quorumlite.open(tmp_path / "mine") as node:
        node.execute("CREATE TABLE t(a)")
        with multiprocessing.get_context(method).Pool(2) as pool:
            sums = pool.starmap(write, [(str(tmp_path / f"n{i}"), i) for i in range(4)])
            # An exception comes through whole.
            with pytest.raises(quorumlite.ProgrammingError) as e:
                pool.apply(fail, (str(tmp_path / "n0"),))
            assert (e.value.kind, e.value.code) == ("Sql", "SQLITE_ERROR")
            pool.close()
            pool.join()
        assert sums == [0, 1, 2, 3]
        node.execute("INSERT INTO t VALUES (1)")
