from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest
import quorumlite


@pytest.fixture
def rows(node: quorumlite.Node) -> quorumlite.Rows:
    return node.query(
        "SELECT column1 AS id, column2 AS name FROM (VALUES (1,'ann'),(2,'bob'),(3,'cy'))"
    )


def test_a_result_is_a_sequence(rows: quorumlite.Rows) -> None:
    assert isinstance(rows, Sequence)
    assert len(rows) == 3
    assert rows
    assert rows[0] == rows[-3] == (1, "ann")
    assert rows[-1] == (3, "cy")
    assert rows[1:] == [(2, "bob"), (3, "cy")]
    assert rows[::-1] == [(3, "cy"), (2, "bob"), (1, "ann")]
    assert rows[5:] == []
    assert rows[sys.maxsize :: sys.maxsize] == []
    assert rows[2 :: sys.maxsize] == [(3, "cy")]
    assert [r["id"] for r in rows] == [1, 2, 3]
    assert [r["id"] for r in reversed(rows)] == [3, 2, 1]
    assert (2, "bob") in rows
    assert (2, "eve") not in rows
    assert rows.index((3, "cy")) == 2
    assert rows.count((1, "ann")) == 1
    assert rows.columns == ("id", "name")
    assert repr(rows) == "<quorumlite.Rows: 3 rows (id, name)>"
    assert max(rows) == (3, "cy")
    with pytest.raises(ValueError, match="no row"):
        rows.index((9, "x"))


@pytest.mark.parametrize("i", [3, -4, 2**70, -(2**70)])
def test_rows_out_of_range(rows: quorumlite.Rows, i: int) -> None:
    with pytest.raises(IndexError, match=rf"row {i} .*3 row"):
        rows[i]
    with pytest.raises(IndexError, match=rf"column {i} .*2 column" if i != 3 else "column 3"):
        rows[0][i]


@pytest.mark.parametrize("i", ["id", 1.0, None, (0,)])
def test_rows_of_a_wrong_index(rows: Any, i: Any) -> None:
    with pytest.raises(TypeError, match="indexed by int or slice"):
        rows[i]
    if not isinstance(i, str):
        with pytest.raises(TypeError, match="indexed by int, str or slice"):
            rows[0][i]


def test_an_empty_result(node: quorumlite.Node) -> None:
    rows = node.query("SELECT id, v FROM t")
    assert not rows
    assert rows == []
    assert list(rows) == []
    assert rows.columns == ("id", "v")
    with pytest.raises(IndexError):
        rows[0]


def test_results_compare(rows: quorumlite.Rows, node: quorumlite.Node) -> None:
    assert rows == node.query("SELECT * FROM (VALUES (1,'ann'),(2,'bob'),(3,'cy'))")
    assert rows == [(1, "ann"), (2, "bob"), (3, "cy")]
    assert rows != [(1, "ann")]
    assert rows != "rows"
    with pytest.raises(TypeError):
        hash(rows)


def test_iterators_are_independent(rows: quorumlite.Rows) -> None:
    one, other = iter(rows), iter(rows)
    assert next(one) == next(other) == (1, "ann")
    assert one.__length_hint__() == 2
    assert list(one) == [(2, "bob"), (3, "cy")]
    with pytest.raises(StopIteration):
        next(one)
    with pytest.raises(StopIteration):
        next(one)
    assert next(other) == (2, "bob")


def test_a_row(rows: quorumlite.Rows) -> None:
    row = rows[1]
    assert isinstance(row, Sequence)
    assert (row[0], row[1], row[-1]) == (2, "bob", "bob")
    assert (row["id"], row["name"]) == (2, "bob")
    first, second = row
    assert (first, second) == (2, "bob")
    assert row[:1] == (2,)
    assert dict(row) == {"id": 2, "name": "bob"}
    assert {**row} == {"id": 2, "name": "bob"}
    assert row.keys() == ("id", "name")
    assert tuple(row) == (2, "bob")
    assert list(reversed(row)) == ["bob", 2]
    assert "bob" in row
    assert row.index("bob") == 1
    assert row.count(2) == 1
    assert len(row) == 2
    assert repr(row) == "Row(id=2, name='bob')"
    assert hash(row) == hash((2, "bob"))
    assert row == (2, "bob") == row
    assert row != (2, "eve")
    assert row != [2, "bob"]
    assert rows[0] < row < (3, "a")
    assert {row, (2, "bob")} == {(2, "bob")}
    with pytest.raises(ValueError, match="not in"):
        row.index("eve")


def test_patterns_match_rows(rows: quorumlite.Rows) -> None:
    match rows:
        case [(1, first), *rest]:
            assert first == "ann"
            assert len(rest) == 2
        case _:
            pytest.fail("no match")


def test_an_unknown_column(rows: quorumlite.Rows) -> None:
    with pytest.raises(KeyError, match="no column 'nmae'; the columns are: id, name"):
        rows[0]["nmae"]


def test_equal_names_give_the_first(node: quorumlite.Node) -> None:
    row = node.query("SELECT 1 AS a, 2 AS a")[0]
    assert row["a"] == 1
    assert row.keys() == ("a", "a")
    assert tuple(row) == (1, 2)
    wide = node.query("SELECT " + ", ".join(f"{i} AS c{i % 50}" for i in range(100)))[0]
    assert [wide[f"c{i}"] for i in range(50)] == list(range(50))
    with pytest.raises(KeyError):
        wide["c50"]


def test_a_large_result(node: quorumlite.Node) -> None:
    n = 100_000
    rows = node.query(
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < ?) "
        "SELECT i, 'row ' || i AS t FROM s",
        [n],
    )
    assert len(rows) == n
    assert sum(i for i, _ in rows) == n * (n + 1) // 2
    assert rows[n - 1] == (n, f"row {n}")


def test_rows_outlive_their_node(tmp_path: Any) -> None:
    with quorumlite.open(tmp_path / "n") as node:
        rows = node.query("SELECT 1 AS a")
        iterator = iter(rows)
    assert rows == [(1,)]
    assert next(iterator)["a"] == 1
