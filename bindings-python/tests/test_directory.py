"""The offline check of a data directory, and the recovery of a lost quorum."""

import pytest
import quorumlite


def fill(path):
    with quorumlite.open(path) as node:
        node.execute("CREATE TABLE t(x)")
        for i in range(20):
            node.execute("INSERT INTO t VALUES (?)", [i])


def test_a_sound_directory(tmp_path):
    path = tmp_path / "n1"
    fill(path)
    report = quorumlite.check(path)
    assert report.ok
    assert report.findings == []
    assert report.applied_index >= 21
    assert [m.node_id for m in report.members] == [report.node_id]


def test_damage_is_a_finding_with_advice(tmp_path):
    path = tmp_path / "n1"
    fill(path)
    (segment,) = (path / "log").glob("*.log")
    damaged = bytearray(segment.read_bytes())
    damaged[500] ^= 1
    segment.write_bytes(damaged)
    report = quorumlite.check(path)
    assert not report.ok
    (finding,) = report.findings
    assert (finding.severity, finding.code) == ("error", "CORRUPTION_LOG")
    assert "Restore this node" in finding.message
    with pytest.raises(quorumlite.CorruptionError):
        quorumlite.recover_lost_quorum(path)


def test_a_directory_in_use_and_none_at_all_are_refused(tmp_path):
    with quorumlite.open(tmp_path / "n1"):
        for call in (quorumlite.check, quorumlite.recover_lost_quorum):
            with pytest.raises(quorumlite.ConfigError) as refused:
                call(tmp_path / "n1")
            assert refused.value.code == "CONFIG_IN_USE"
    with pytest.raises(quorumlite.ConfigError):
        quorumlite.check(tmp_path / "missing")
    with pytest.raises(TypeError):
        quorumlite.check(7)


def test_a_lost_quorum_is_recovered(tmp_path, free_port):
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    first = quorumlite.open(tmp_path / "n1", node_id="n1", listen=addresses[0], secret="s3")
    second = quorumlite.open(
        tmp_path / "n2", node_id="n2", listen=addresses[1], join=[addresses[0]], secret="s3"
    )
    second.execute("CREATE TABLE t(x)")
    second.execute("INSERT INTO t VALUES (1)")
    old = second.status().cluster_id
    first.close()
    second.close()
    recovery = quorumlite.recover_lost_quorum(tmp_path / "n2")
    assert (recovery.node_id, recovery.removed) == ("n2", ["n1"])
    assert recovery.cluster_id != old
    with quorumlite.open(tmp_path / "n2", listen=addresses[1], secret="s3") as node:
        node.execute("INSERT INTO t VALUES (2)")
        assert [tuple(r) for r in node.query("SELECT x FROM t ORDER BY x")] == [(1,), (2,)]
        assert [m.node_id for m in node.status().members] == ["n2"]
