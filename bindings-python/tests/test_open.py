from __future__ import annotations

import gc
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import quorumlite
from conftest import RunPython, check


def test_first_words(run_python: RunPython) -> None:
    done = run_python(
        "import quorumlite; n = quorumlite.open('d'); n.execute('create table t(a)'); "
        "n.execute('insert into t values (1)'); print(n.query('select * from t')[0][0])"
    )
    # The node is left open on purpose: exit closes it.
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.parametrize("kind", [str, Path])
def test_directory_is_created_and_kept(tmp_path: Path, kind: type) -> None:
    where = kind(tmp_path / "deep" / "er")
    with quorumlite.open(where) as node:
        node.execute("CREATE TABLE t(a)")
        node.execute("INSERT INTO t VALUES (?)", ["kept"])
        first = node.status()
    with quorumlite.open(where) as node:
        assert node.query("SELECT a FROM t")[0]["a"] == "kept"
        again = node.status()
    assert (again.node_id, again.cluster_id) == (first.node_id, first.cluster_id)
    assert again.applied_index >= first.applied_index


def test_execute_result(node: quorumlite.Node) -> None:
    r = node.execute("INSERT INTO t(v) VALUES ('a'), ('b') RETURNING id, v")
    assert (r.rows_affected, r.last_insert_rowid) == (2, 2)
    assert r.rows == [(1, "a"), (2, "b")]
    assert r.rows.columns == ("id", "v")
    assert 0 < r.index <= node.status().applied_index
    assert repr(r).startswith("Result(rows_affected=2, last_insert_rowid=2, index=")
    assert node.execute("DELETE FROM t").rows == []


def test_execute_batch_is_all_or_nothing(node: quorumlite.Node) -> None:
    results = node.execute_batch(
        [
            ("INSERT INTO t(v) VALUES (?)", ["a"]),
            "INSERT INTO t(v) VALUES ('b')",
            ["UPDATE t SET v = :v", {"v": "c"}],
            ("DELETE FROM t WHERE id = 1",),
        ]
    )
    assert [r.rows_affected for r in results] == [1, 1, 2, 1]
    with pytest.raises(quorumlite.IntegrityError):
        node.execute_batch(["INSERT INTO t(v) VALUES ('d')", "INSERT INTO t(id) VALUES (2)"])
    assert node.query("SELECT * FROM t") == [(2, "c")]


def test_execute_batch_takes_an_iterator(node: quorumlite.Node) -> None:
    many = node.execute_batch(("INSERT INTO t(v) VALUES (?)", [i]) for i in range(500))
    assert [r.last_insert_rowid for r in many] == list(range(1, 501))


@pytest.mark.parametrize("level", ["none", "session", "weak", "linearizable", "strong"])
def test_query_at_every_level(node: quorumlite.Node, level: quorumlite.Consistency) -> None:
    node.execute("INSERT INTO t(v) VALUES (1)")
    assert node.query("SELECT v FROM t", consistency=level) == [(1,)]
    with_more = node.query("SELECT v FROM t", [], consistency=level, max_staleness=30, timeout=5.5)
    assert with_more == [(1,)]


def test_status_and_members(node: quorumlite.Node) -> None:
    status = node.status()
    assert status.state == "leader"
    assert status.role == "voter"
    assert status.leader_id == status.node_id == node.wait_for_leader(timeout=5)
    assert len(status.cluster_id) == 32
    assert status.address is None
    assert status.applied_index <= status.commit_index <= status.last_log_index
    assert [m.node_id for m in status.members] == [status.node_id]
    assert status.last_refusal is None
    assert status.snapshot is None
    assert (status.checked_index, status.divergence) == (0, None)
    (member,) = node.members()
    assert (member.node_id, member.role, member.reachable) == (status.node_id, "voter", True)
    with pytest.raises(AttributeError):
        status.term = 5  # type: ignore[misc]


def test_status_says_who_was_turned_away(tmp_path: Path, free_port: Callable[[], int]) -> None:
    address = f"127.0.0.1:{free_port()}"
    with quorumlite.open(tmp_path / "a", node_id="a", listen=address, secret="right") as a:
        with pytest.raises(quorumlite.ForbiddenError, match="secret") as refused:
            quorumlite.open(
                tmp_path / "b",
                node_id="b",
                listen=f"127.0.0.1:{free_port()}",
                join=[address],
                secret="wrong",
            )
        assert refused.value.code == "FORBIDDEN_SECRET"
        refusal = a.status().last_refusal
        assert refusal is not None
        assert "secret" in refusal


def test_status_knows_only_of_itself_whether_it_is_reachable(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    first = f"127.0.0.1:{free_port()}"
    options = {"secret": "correct horse"}
    with (
        quorumlite.open(tmp_path / "a", node_id="a", listen=first, **options) as a,
        quorumlite.open(
            tmp_path / "b",
            node_id="b",
            listen=f"127.0.0.1:{free_port()}",
            join=[first],
            **options,
        ),
    ):
        assert {m.node_id: m.reachable for m in a.status().members} == {"a": True, "b": None}
        assert {m.node_id: m.reachable for m in a.members()} == {"a": True, "b": True}


def test_content_hash_is_of_the_content(tmp_path: Path) -> None:
    with quorumlite.open(tmp_path / "a") as a, quorumlite.open(tmp_path / "b") as b:
        for n in (a, b):
            n.execute("CREATE TABLE t(a)")
            n.execute("INSERT INTO t VALUES (1)")
        one, other = a.content_hash(), b.content_hash()
        assert one.hash == other.hash
        assert len(one.hash) == 64
        assert one.index == a.status().applied_index
        b.execute("INSERT INTO t VALUES (2)")
        assert b.content_hash().hash != one.hash


def test_close_is_idempotent_and_shown(tmp_path: Path) -> None:
    node = quorumlite.open(tmp_path / "n")
    assert not node.closed
    assert repr(node) == f"<quorumlite.Node {str(tmp_path / 'n')!r} (open)>"
    node.close()
    node.close()
    assert node.closed
    assert repr(node).endswith("(closed)>")
    with quorumlite.open(tmp_path / "n") as node:
        node.close()
    assert node.closed


def test_with_closes_on_exceptions(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), quorumlite.open(tmp_path / "n") as node:
        raise ZeroDivisionError
    assert node.closed


def test_two_handles_share_one_node(tmp_path: Path) -> None:
    with quorumlite.open(tmp_path / "n") as one:
        one.execute("CREATE TABLE t(a)")
        with quorumlite.open(tmp_path / "n") as other:
            other.execute("INSERT INTO t VALUES (1)")
            # Another handle's write is another session's: ask for more than "session".
            assert one.query("SELECT a FROM t", consistency="linearizable") == [(1,)]
            assert one.status().node_id == other.status().node_id
        assert other.closed
        assert not one.closed
        one.execute("INSERT INTO t VALUES (2)")
        assert one.query("SELECT count(*) FROM t") == [(2,)]


def test_a_directory_belongs_to_one_process(tmp_path: Path, run_python: RunPython) -> None:
    script = """
        import sys, quorumlite
        try:
            quorumlite.open(sys.argv[1])
        except quorumlite.Error as e:
            print(type(e).__name__, e.code, str(e))
    """
    with quorumlite.open(tmp_path / "n"):
        said = check(run_python(script, tmp_path / "n"))
    assert "process" in said
    assert said.split()[1].isupper()
    assert check(run_python(script, tmp_path / "n")) == ""


def test_forgotten_node_warns_and_closes(tmp_path: Path, run_python: RunPython) -> None:
    node = quorumlite.open(tmp_path / "n")
    node.execute("CREATE TABLE t(a)")
    with pytest.warns(ResourceWarning, match="unclosed <quorumlite.Node"):
        del node
        gc.collect()
    # In this process the directory can be opened at once, whether it has closed already or not.
    with quorumlite.open(tmp_path / "n") as node:
        assert node.query("SELECT * FROM t") == []


def test_closed_node_does_not_warn(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quorumlite.open(tmp_path / "n") as node:
            pass
        del node
        gc.collect()


def test_threads_share_a_node(node: quorumlite.Node) -> None:
    failures: list[BaseException] = []

    def write(start: int) -> None:
        try:
            for i in range(start, start + 50):
                node.execute("INSERT INTO t VALUES (?, ?)", [i, "x"])
                assert node.query("SELECT v FROM t WHERE id = ?", [i]) == [("x",)]
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=write, args=(n * 50,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []
    assert node.query("SELECT count(*), min(id), max(id) FROM t") == [(400, 0, 399)]


def test_threads_share_what_a_query_gave(node: quorumlite.Node) -> None:
    """An iterator that many threads draw from gives each row to one of them."""
    node.execute(
        "INSERT INTO t WITH RECURSIVE n(i) AS"
        " (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19999) SELECT i, 'x' FROM n"
    )
    rows = node.query("SELECT id, v FROM t ORDER BY id")
    drawn: list[list[int]] = [[] for _ in range(8)]
    failures: list[BaseException] = []
    iterator = iter(rows)
    begin = threading.Barrier(len(drawn))

    def draw(mine: list[int]) -> None:
        try:
            begin.wait()
            for row in iterator:
                mine.append(row["id"])
                # The names are made by whoever asks first.
                assert rows.columns == tuple(row.keys()) == ("id", "v")
                assert rows[row["id"]] == tuple(row)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=draw, args=(mine,)) for mine in drawn]
    # As often as an interpreter with a GIL can be made to switch.
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(usual)
    assert failures == []
    assert sorted(i for mine in drawn for i in mine) == list(range(20_000))
    assert all(mine == sorted(mine) for mine in drawn)


def test_public_names_are_documented() -> None:
    assert quorumlite.__version__.count(".") == 2
    for name in quorumlite.__all__:
        public = getattr(quorumlite, name)
        if isinstance(public, type):
            assert public.__doc__, name
            assert public.__module__.startswith("quorumlite"), name
    for cls in (quorumlite.Node, quorumlite.aio.AsyncNode, quorumlite.Rows, quorumlite.Row):
        for name in dir(cls):
            if not name.startswith("_"):
                assert getattr(cls, name).__doc__, f"{cls}.{name}"
    for said in (quorumlite.__doc__, quorumlite.aio.__doc__):
        assert said is not None
        assert "ancelled does not mean not written" in said
    assert quorumlite.open.__doc__ is not None
    assert "another SQLite in the same process" in quorumlite.open.__doc__
