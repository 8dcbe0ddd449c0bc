from __future__ import annotations

import asyncio
import builtins
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import quorumlite
from conftest import RunPython, check
from quorumlite import _errors

NAN = float("nan")

# Options of open: what is wrong, which exception, what the message says.
BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"colour": 1}, TypeError, "colour"),
    ({"node_id": 7}, TypeError, "node_id must be str, not int"),
    ({"node_id": ""}, quorumlite.ConfigError, "node_id"),
    ({"node_id": "no spaces"}, quorumlite.ConfigError, "a-z A-Z 0-9"),
    ({"node_id": "x" * 65}, quorumlite.ConfigError, "64"),
    ({"listen": 7001}, TypeError, "listen must be str, not int"),
    ({"listen": "7001"}, quorumlite.ConfigError, "host:port"),
    ({"listen": "127.0.0.1:99999"}, quorumlite.ConfigError, "host:port"),
    ({"listen": "127.0.0.1:7001\ud800"}, ValueError, "listen: .*surrogate"),
    ({"listen": "192.0.2.1:7001"}, quorumlite.ConfigError, "secret="),
    ({"listen": "0.0.0.0:7001", "secret": "s"}, quorumlite.ConfigError, "advertise"),
    ({"advertise": "127.0.0.1:7001"}, quorumlite.ConfigError, "listen"),
    ({"join": "127.0.0.1:7001"}, TypeError, r"join must be a list.*\[\"127.0.0.1:7001\"\]"),
    ({"join": [7001]}, TypeError, "each address in join must be str, not int"),
    ({"join": {"127.0.0.1:7001"}}, TypeError, "join must be a list"),
    ({"join": ["127.0.0.1:7001"]}, quorumlite.ConfigError, "listen"),
    ({"join": ["nowhere"], "listen": "127.0.0.1:0"}, quorumlite.ConfigError, "host:port"),
    ({"secret": b"bytes"}, TypeError, "secret must be str, not bytes"),
    ({"secret": ""}, quorumlite.ConfigError, "long random text"),
    ({"secret": "x"}, quorumlite.ConfigError, "listen"),
    ({"secret": "x", "ca": "ca.pem"}, quorumlite.ConfigError, "one or the other"),
    ({"ca": "ca.pem", "cert": "cert.pem"}, quorumlite.ConfigError, "give all three"),
    ({"key": 5}, TypeError, "key must be a path"),
    ({"insecure": "no"}, TypeError, "insecure must be True or False, not str"),
    ({"insecure": 1}, TypeError, "insecure must be True or False, not int"),
    ({"role": "king"}, quorumlite.ConfigError, "voter"),
    ({"role": 1}, TypeError, "role must be str, not int"),
    ({"timeout": "5"}, TypeError, "timeout must be a number of seconds .*, not str"),
    ({"timeout": True}, TypeError, "timeout must be a number of seconds .*, not bool"),
    ({"timeout": NAN}, ValueError, "timeout must be a number of seconds from 0 to 86400"),
    ({"timeout": float("inf")}, ValueError, "from 0 to 86400"),
    ({"timeout": -1}, ValueError, "from 0 to 86400"),
    ({"timeout": 10**400}, ValueError, "from 0 to 86400"),
    ({"timeout": 0}, quorumlite.ConfigError, "more than 0"),
    ({"consistency": "eventual"}, quorumlite.ConfigError, '"session"'),
    ({"consistency": 1}, TypeError, "consistency must be str, not int"),
    ({"max_log_bytes": 1}, quorumlite.ConfigError, "1048576"),
    ({"check_interval": 0.5}, quorumlite.ConfigError, "check_interval must be 1 to"),
    ({"check_interval": NAN}, ValueError, "check_interval must be a number of seconds"),
    ({"max_log_bytes": -1}, ValueError, "number of bytes"),
    ({"max_log_bytes": 2**64}, ValueError, "number of bytes"),
    ({"max_log_bytes": 1.5e9}, TypeError, "number of bytes .*, not float"),
]


@pytest.mark.parametrize(("options", "cls", "says"), BAD_OPTIONS, ids=str)
def test_bad_option(
    tmp_path: Path, options: dict[str, Any], cls: type[Exception], says: str
) -> None:
    with pytest.raises(cls, match=says) as e:
        quorumlite.open(tmp_path / "n", **options)
    if isinstance(e.value, quorumlite.Error):
        assert e.value.kind == "Config"
        assert e.value.code.startswith("CONFIG_")
        assert not e.value.retryable
    # The same from asyncio.
    with pytest.raises(cls, match=says):
        asyncio.run(quorumlite.aio.open(tmp_path / "n", **options))
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize("where", [None, 5, b"bytes", ["list"]])
def test_directory_of_a_wrong_type(where: Any) -> None:
    with pytest.raises(TypeError, match="dir must be a path"):
        quorumlite.open(where)


def test_directory_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    with pytest.raises(quorumlite.Error, match="file") as e:
        quorumlite.open(file)
    assert e.value.code
    assert file.read_text() == "not a directory"


@pytest.mark.parametrize("where", ["", "nul\0byte", "/proc/no/such/place"])
def test_directory_that_cannot_be(where: str) -> None:
    with pytest.raises(quorumlite.Error) as e:
        quorumlite.open(where)
    assert e.value.code
    assert type(e.value) is not quorumlite.InternalError


def test_directory_without_permission(run_python: RunPython) -> None:
    said = check(
        run_python(
            """
            import os, tempfile, quorumlite
            if os.geteuid() == 0:
                # Root may write everywhere. Only now: another user may be unable to import.
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            with tempfile.TemporaryDirectory() as place:
                quorumlite.open(place + "/n").close()
                os.mkdir(place + "/closed", mode=0o500)
                try:
                    quorumlite.open(place + "/closed/n")
                except quorumlite.Error as e:
                    print(type(e).__name__, e.code, e)
                assert not os.listdir(place + "/closed")
            """
        )
    )
    assert said.startswith("ConfigError CONFIG_PERMISSION")
    assert "/closed/n; choose" in said


# SQL that fails: the statement and its parameters, the exception, its code and SQLite's.
BAD_SQL: list[tuple[str, Any, type[quorumlite.Error], str, int | None]] = [
    ("SELEKT 1", None, quorumlite.ProgrammingError, "SQLITE_ERROR", 1),
    ("INSERT INTO nowhere VALUES (1)", None, quorumlite.ProgrammingError, "SQLITE_ERROR", 1),
    ("", None, quorumlite.ProgrammingError, "SQL_EMPTY", None),
    (
        "DELETE FROM t; DELETE FROM t",
        None,
        quorumlite.ProgrammingError,
        "SQL_MULTIPLE_STATEMENTS",
        None,
    ),
    ("INSERT INTO t(v) VALUES (?)", [], quorumlite.ProgrammingError, "SQL_PARAMETERS", None),
    ("INSERT INTO t(v) VALUES (?)", [1, 2], quorumlite.ProgrammingError, "SQL_PARAMETERS", None),
    (
        "INSERT INTO t(v) VALUES (:a)",
        {"b": 1},
        quorumlite.ProgrammingError,
        "SQL_PARAMETERS",
        None,
    ),
    (
        "INSERT INTO t(id) VALUES (1)",
        None,
        quorumlite.IntegrityError,
        "SQLITE_CONSTRAINT_PRIMARYKEY",
        1555,
    ),
    ("ATTACH 'x' AS y", None, quorumlite.ForbiddenError, "FORBIDDEN_ATTACH", None),
    ("BEGIN", None, quorumlite.ForbiddenError, "FORBIDDEN_TRANSACTION_CONTROL", None),
]


@pytest.mark.parametrize(("sql", "params", "cls", "code", "sqlite_code"), BAD_SQL, ids=str)
def test_bad_sql(
    node: quorumlite.Node,
    sql: str,
    params: Any,
    cls: type[quorumlite.Error],
    code: str,
    sqlite_code: int | None,
) -> None:
    node.execute("INSERT INTO t(id) VALUES (1)")
    for fails in (
        lambda: node.execute(sql, params),
        lambda: node.execute_batch(["UPDATE t SET v = 'lost'", (sql, params)]),
    ):
        with pytest.raises(cls) as e:
            fails()
        assert type(e.value) is cls
        assert e.value.code == code
        assert not e.value.retryable
        assert str(e.value)
        if sqlite_code is not None:
            assert e.value.sqlite_code == sqlite_code
    assert node.query("SELECT * FROM t") == [(1, None)]


def test_write_in_query(node: quorumlite.Node) -> None:
    with pytest.raises(quorumlite.ForbiddenError, match="execute") as e:
        node.query("DELETE FROM t")
    assert e.value.code == "FORBIDDEN_WRITE_IN_QUERY"


VERBS: dict[str, Callable[[quorumlite.Node], object]] = {
    "execute": lambda n: n.execute("DELETE FROM t"),
    "execute_batch": lambda n: n.execute_batch(["DELETE FROM t"]),
    "query": lambda n: n.query("SELECT 1"),
    "query_linearizable": lambda n: n.query("SELECT 1", consistency="linearizable"),
    "status": lambda n: n.status(),
    "members": lambda n: n.members(),
    "wait_for_leader": lambda n: n.wait_for_leader(),
    "transfer_leadership": lambda n: n.transfer_leadership("n2"),
    "remove_member": lambda n: n.remove_member("n2"),
    "content_hash": lambda n: n.content_hash(),
}


@pytest.mark.parametrize("verb", VERBS)
def test_closed(tmp_path: Path, verb: str) -> None:
    node = quorumlite.open(tmp_path / "n")
    node.close()
    with pytest.raises(quorumlite.ClosedError, match="open the directory again") as e:
        VERBS[verb](node)
    assert (e.value.kind, e.value.code) == ("Closed", "CLOSED")
    assert isinstance(e.value, quorumlite.InterfaceError)


BAD_CALLS: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    (lambda n: n.execute(), TypeError, "sql"),
    (lambda n: n.execute(5), TypeError, "sql must be str, not int"),
    (lambda n: n.execute(b"SELECT 1"), TypeError, "sql must be str, not bytes"),
    (lambda n: n.execute("SELECT '\udc80'"), ValueError, "sql: .*surrogate"),
    (lambda n: n.execute("SELECT 1", None, 5), TypeError, "positional"),
    (lambda n: n.execute("SELECT 1", colour=5), TypeError, "colour"),
    (lambda n: n.execute("SELECT 1", timeout="1"), TypeError, "timeout must be a number"),
    (lambda n: n.execute("SELECT 1", timeout=NAN), ValueError, "timeout must be .*not NaN"),
    (lambda n: n.execute("SELECT 1", timeout=-0.5), ValueError, "timeout must be .*not -0.5"),
    (lambda n: n.execute("SELECT ?", 5), TypeError, "params must be a sequence or a mapping"),
    (lambda n: n.execute("SELECT ?", "five"), TypeError, r"\[value\]"),
    (lambda n: n.execute("SELECT ?", b"five"), TypeError, r"\[value\]"),
    (lambda n: n.execute("SELECT ?", {5}), TypeError, "not set"),
    (lambda n: n.execute("SELECT ?", iter([5])), TypeError, "list_iterator"),
    (lambda n: n.execute("SELECT :a", {1: 5}), TypeError, "names of parameters must be str"),
    (lambda n: n.execute_batch("SELECT 1"), TypeError, "takes a list"),
    (lambda n: n.execute_batch(5), TypeError, "takes a list"),
    (lambda n: n.execute_batch({"SELECT 1": []}), TypeError, "takes a list"),
    (lambda n: n.execute_batch([5]), TypeError, "item 1 is 5"),
    (lambda n: n.execute_batch(["SELECT 1", ()]), TypeError, r"item 2 is \(\)"),
    (lambda n: n.execute_batch([("SELECT 1", [], 1)]), TypeError, "item 1"),
    (lambda n: n.execute_batch([(5, [])]), TypeError, "statement 1: sql must be str"),
    (lambda n: n.execute_batch(["x", ("SELECT ?", [{}])]), TypeError, "statement 2, parameter 1"),
    (lambda n: n.execute_batch([("SELECT ?", 5)]), TypeError, "statement 1, params must be"),
    (lambda n: n.query("SELECT 1", consistency="maybe"), quorumlite.ConfigError, "linearizable"),
    (lambda n: n.query("SELECT 1", consistency=1), TypeError, "consistency must be str"),
    (lambda n: n.query("SELECT 1", max_staleness=NAN), ValueError, "max_staleness must be"),
    (lambda n: n.query("SELECT 1", max_staleness="1"), TypeError, "max_staleness must be"),
    (lambda n: n.wait_for_leader(timeout=-1), ValueError, "timeout must be"),
    (lambda n: n.transfer_leadership(5), TypeError, "node_id must be str"),
    (lambda n: n.remove_member(None), TypeError, "node_id must be str"),
    (lambda n: type(n)(), TypeError, "open"),
]


@pytest.mark.parametrize(("call", "cls", "says"), BAD_CALLS)
def test_bad_call(
    node: quorumlite.Node, call: Callable[[Any], object], cls: type[Exception], says: str
) -> None:
    before = node.status().last_log_index
    with pytest.raises(cls, match=says):
        call(node)
    # Nothing was written, and the node still works.
    assert node.status().last_log_index == before
    assert node.query("SELECT 1") == [(1,)]


def test_errors_in_an_iterator_pass_through(node: quorumlite.Node) -> None:
    def statements() -> Any:
        yield "DELETE FROM t"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        node.execute_batch(statements())


def test_hierarchy() -> None:
    tree: dict[type[Exception], tuple[type[Exception], ...]] = {
        quorumlite.InterfaceError: (quorumlite.Error,),
        quorumlite.ClosedError: (quorumlite.InterfaceError,),
        quorumlite.DatabaseError: (quorumlite.Error,),
        quorumlite.DataError: (quorumlite.DatabaseError,),
        quorumlite.OperationalError: (quorumlite.DatabaseError,),
        quorumlite.ConflictError: (quorumlite.OperationalError,),
        quorumlite.UnavailableError: (quorumlite.OperationalError,),
        quorumlite.TimeoutError: (quorumlite.OperationalError, builtins.TimeoutError),
        quorumlite.BusyError: (quorumlite.OperationalError,),
        quorumlite.ProgrammingError: (quorumlite.DatabaseError,),
        quorumlite.ConfigError: (quorumlite.ProgrammingError, ValueError),
        quorumlite.IntegrityError: (quorumlite.DatabaseError,),
        quorumlite.InternalError: (quorumlite.DatabaseError,),
        quorumlite.CorruptionError: (quorumlite.InternalError,),
        quorumlite.NotSupportedError: (quorumlite.DatabaseError,),
        quorumlite.ForbiddenError: (quorumlite.NotSupportedError,),
    }
    assert issubclass(quorumlite.Error, Exception)
    for cls, parents in tree.items():
        assert cls.__bases__ == parents
        assert cls.__module__ == "quorumlite"


@pytest.mark.parametrize("kind", [*_errors._BY_KIND, "A kind that comes later"])
def test_exceptions_keep_their_fields(kind: str) -> None:
    e = _errors._make(kind, "SOME_CODE", "what to do", True, "n1", 2067)
    for it in (e, pickle.loads(pickle.dumps(e))):
        assert type(it) is _errors._BY_KIND.get(kind, quorumlite.Error)
        assert (str(it), it.args) == ("what to do", ("what to do",))
        assert (it.kind, it.code, it.retryable) == (kind, "SOME_CODE", True)
        assert (it.leader, it.sqlite_code) == ("n1", 2067)


def test_timeout_names_its_seconds_or_cause(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Nobody answers at the address to join: `open` gives up when its time is over."""
    with pytest.raises((quorumlite.TimeoutError, quorumlite.UnavailableError)) as e:
        quorumlite.open(
            tmp_path / "n",
            listen=f"127.0.0.1:{free_port()}",
            join=[f"127.0.0.1:{free_port()}"],
            secret="correct horse",
            timeout=0.5,
        )
    assert e.value.kind in ("Timeout", "Unavailable")
    assert e.value.code
