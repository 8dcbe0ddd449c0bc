"""Every case of `conformance/cases`, standalone and through each node of a cluster of three."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import quorumlite
from conftest import find_free_port

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "conformance"))

import case_format

CASES = case_format.load()
NODE_IDS = ("n1", "n2", "n3")
TIMEOUT = 30.0

LEFT_OVER = (
    "SELECT type, name FROM sqlite_schema"
    " WHERE type IN ('table', 'view') AND substr(name, 1, length(:p)) = :p"
    " ORDER BY sql LIKE 'CREATE VIRTUAL%' DESC, rowid DESC"
)


def case_parameters() -> list[object]:
    """The cases as pytest parameters; those that Python leaves out are marked with the reason."""
    return [
        pytest.param(
            case,
            id=case.name,
            marks=[pytest.mark.skip(reason=case.skip["python"])] if "python" in case.skip else [],
        )
        for case in CASES
    ]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, quorumlite.Node]]:
    """Three nodes in this process, `n1` being the first of the cluster."""
    directory = tmp_path_factory.mktemp("conformance")
    addresses = [f"127.0.0.1:{find_free_port()}" for _ in NODE_IDS]
    with ExitStack() as opened:
        nodes = {}
        for node_id, address in zip(NODE_IDS, addresses, strict=True):
            nodes[node_id] = opened.enter_context(
                quorumlite.open(
                    str(directory / node_id),
                    node_id=node_id,
                    listen=address,
                    join=addresses[:1] if nodes else [],
                    secret="conformance",
                    timeout=TIMEOUT,
                )
            )
        yield nodes


def check_rows(
    expected: case_format.Outcome, rows: quorumlite.Rows, affected: int = 0, rowid: int = 0
) -> str | None:
    """Says how a result differs from the expected one; None where it does not."""
    lines = [tuple(row) for row in rows]
    return case_format.difference(expected, list(rows.columns), lines, affected, rowid)


def run_step(
    node: quorumlite.Node, step: case_format.Step, consistency: str | None = None
) -> str | None:
    """Runs one step on a node; says what differs, or None."""
    call = step.calls[0]
    try:
        if step.verb == "query":
            rows = node.query(call.sql, call.params, consistency=consistency)
            differences = [check_rows(step.outcomes[0], rows)]
        else:
            if step.verb == "execute":
                results = [node.execute(call.sql, call.params)]
            else:
                results = node.execute_batch([(call.sql, call.params) for call in step.calls])
            if len(results) != len(step.outcomes):
                return f"{len(results)} results for {len(step.outcomes)} statements"
            differences = [
                check_rows(expected, result.rows, result.rows_affected, result.last_insert_rowid)
                for expected, result in zip(step.outcomes, results, strict=True)
            ]
    except quorumlite.Error as error:
        if step.error == (error.kind, error.code):
            return None
        return f"failed with {error.kind} {error.code}: {error}, expected {step.error}"
    if step.error is not None:
        return f"succeeded instead of failing with {step.error}"
    return next((difference for difference in differences if difference is not None), None)


def clean_up(node: quorumlite.Node, prefix: str) -> None:
    """Drops what a case left in a shared database."""
    while left := node.query(LEFT_OVER, {"p": prefix}):
        kind, name = left[0]
        quoted = '"' + name.replace('"', '""') + '"'
        node.execute(f"DROP {kind} {quoted}")


@pytest.mark.parametrize("case", case_parameters())
def test_standalone(case: case_format.Case, tmp_path: Path) -> None:
    """Each case has a fresh node to itself."""
    with quorumlite.open(str(tmp_path / "node"), timeout=TIMEOUT) as node:
        for step in case.steps("s_"):
            difference = run_step(node, step)
            assert difference is None, f"{case.file}: {step}\n{difference}"


@pytest.mark.parametrize("via", NODE_IDS)
@pytest.mark.parametrize("case", case_parameters())
def test_cluster(case: case_format.Case, via: str, cluster: dict[str, quorumlite.Node]) -> None:
    """Writes go through one node; all answer alike afterwards and hold the same content."""
    node = cluster[via]
    others = {node_id: other for node_id, other in cluster.items() if node_id != via}
    prefix = f"c{CASES.index(case)}{via}_"
    try:
        for step in case.steps(prefix):
            difference = run_step(node, step, "linearizable")
            assert difference is None, f"{case.file} on {via}: {step}\n{difference}"
            if step.verb != "query":
                continue
            for node_id, other in others.items():
                difference = run_step(other, step, "linearizable")
                assert difference is None, f"{case.file} on {node_id}: {step}\n{difference}"
    finally:
        hashes = {}
        for node_id, member in cluster.items():
            member.query("SELECT 1", consistency="linearizable")
            hashes[node_id] = member.content_hash().hash
        clean_up(node, prefix)
    assert len(set(hashes.values())) == 1, f"the nodes differ after the case: {hashes}"
