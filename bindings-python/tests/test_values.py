from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import math
import random
import types
import uuid
from collections import OrderedDict, UserDict, UserList, deque
from typing import Any

import pytest
import quorumlite

EXACT: list[Any] = [
    None,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    0.0,
    1.5,
    -2.25e-308,
    1.7976931348623157e308,
    5e-324,
    math.inf,
    -math.inf,
    "",
    "ann",
    "nul \0 inside",
    "quotes ' \" ` ; --",
    "ümläut, e\u0301 combined, \u200f right to left, \U0001f40d, \U0010ffff",
    "x" * 100_000,
    b"",
    b"\x00\xff\x80",
    bytes(range(256)) * 4096,
]


@pytest.mark.parametrize("value", EXACT, ids=lambda v: repr(v)[:20])
def test_comes_back_as_it_went_in(node: quorumlite.Node, value: Any) -> None:
    written = node.execute("INSERT INTO t(v) VALUES (?) RETURNING v", [value]).rows[0][0]
    by_name = node.query("SELECT :v", {"v": value})[0][0]
    stored = node.query("SELECT v FROM t")[0][0]
    for back in (written, by_name, stored):
        assert back == value
        assert type(back) is type(value)


class Colour(enum.IntEnum):
    RED = 3


class Text(str):
    __slots__ = ()


CONVERTED: list[tuple[Any, Any]] = [
    (True, 1),
    (False, 0),
    (Colour.RED, 3),
    (Text("sub"), "sub"),
    (bytearray(b"ab"), b"ab"),
    (memoryview(b"abc"), b"abc"),
    (memoryview(b"abcdef")[::-2], b"fdb"),
    (memoryview(b"abcd").cast("H"), b"abcd"),
    (math.nan, None),
]


@pytest.mark.parametrize(("value", "stored"), CONVERTED, ids=lambda v: repr(v)[:20])
def test_is_stored_as(node: quorumlite.Node, value: Any, stored: Any) -> None:
    node.execute("INSERT INTO t(v) VALUES (?)", [value])
    back = node.query("SELECT v FROM t")[0][0]
    assert back == stored
    assert type(back) is type(stored)


def test_negative_zero(node: quorumlite.Node) -> None:
    back = node.query("SELECT ?", [-0.0])[0][0]
    assert isinstance(back, float)
    assert back == 0.0


REFUSED: list[Any] = [
    decimal.Decimal("1.5"),
    fractions.Fraction(1, 2),
    datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc),
    datetime.date(2020, 1, 1),
    uuid.UUID(int=5),
    1j,
    [1],
    (1,),
    {"a": 1},
    {1},
    object(),
    int,
    range(3),
    ...,
]


@pytest.mark.parametrize("value", REFUSED, ids=lambda v: type(v).__name__)
def test_nothing_else_is_guessed(node: quorumlite.Node, value: Any) -> None:
    name = type(value).__name__
    with pytest.raises(TypeError, match=rf"parameter 2: a value of type [\w.]*{name} cannot"):
        node.execute("INSERT INTO t VALUES (?, ?)", [1, value])
    with pytest.raises(TypeError, match=rf"parameter 'v': a value of type [\w.]*{name} cannot"):
        node.query("SELECT :v", {"v": value})
    assert node.query("SELECT * FROM t") == []


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**5000], ids=["above", "below", "far"])
def test_integers_beyond_64_bits(node: quorumlite.Node, value: int) -> None:
    with pytest.raises(OverflowError, match=r"parameter 1: .*64 bits.*str\(value\)"):
        node.execute("INSERT INTO t(v) VALUES (?)", [value])
    with pytest.raises(OverflowError, match="statement 2, parameter 'v'"):
        node.execute_batch(["DELETE FROM t", ("INSERT INTO t(v) VALUES (:v)", {"v": value})])


@pytest.mark.parametrize("value", ["\ud800", "a\udcffb"])
def test_lone_surrogates(node: quorumlite.Node, value: str) -> None:
    with pytest.raises(ValueError, match="parameter 1: .*surrogate.*encode") as e:
        node.execute("INSERT INTO t(v) VALUES (?)", [value])
    assert isinstance(e.value.__cause__, UnicodeEncodeError)
    with pytest.raises(ValueError, match="name of a parameter: .*surrogate"):
        node.query("SELECT :v", {value: 1})


def test_released_memoryview(node: quorumlite.Node) -> None:
    view = memoryview(b"gone")
    view.release()
    with pytest.raises(ValueError, match="released"):
        node.query("SELECT ?", [view])


@pytest.mark.parametrize(
    "params",
    [[1, "a"], (1, "a"), UserList([1, "a"]), deque([1, "a"])],
    ids=lambda p: type(p).__name__,
)
def test_sequences_bind_by_position(node: quorumlite.Node, params: Any) -> None:
    assert node.query("SELECT ?, ?", params) == [(1, "a")]
    assert node.query("SELECT ?2, ?1", params) == [("a", 1)]


def test_a_row_binds_by_position(node: quorumlite.Node) -> None:
    row = node.query("SELECT 1 AS id, 'a' AS v")[0]
    node.execute("INSERT INTO t VALUES (?, ?)", row)
    assert node.query("SELECT * FROM t") == [row]


@pytest.mark.parametrize(
    "params",
    [
        {"a": 1, "b": "x"},
        OrderedDict(a=1, b="x"),
        UserDict(a=1, b="x"),
        types.MappingProxyType({"b": "x", "a": 1}),
    ],
    ids=lambda p: type(p).__name__,
)
def test_mappings_bind_by_name(node: quorumlite.Node, params: Any) -> None:
    assert node.query("SELECT :b, @a, $a", params) == [("x", 1, 1)]


def test_no_parameters(node: quorumlite.Node) -> None:
    nothing: list[Any] = [None, [], (), {}]
    for none in nothing:
        assert node.query("SELECT 1", none) == [(1,)]


def test_random_values(node: quorumlite.Node) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)

    def anything() -> Any:
        return rng.choice(
            [
                lambda: None,
                lambda: rng.randrange(-(2**63), 2**63),
                lambda: rng.uniform(-1e300, 1e300),
                lambda: "".join(chr(rng.randrange(1, 0xD800)) for _ in range(rng.randrange(20))),
                lambda: rng.randbytes(rng.randrange(200)),
            ]
        )()

    rows = [(i, anything()) for i in range(500)]
    node.execute_batch([("INSERT INTO t VALUES (?, ?)", row) for row in rows])
    assert node.query("SELECT id, v FROM t ORDER BY id") == rows, f"seed {seed}"
