"""The format of the conformance cases, for runners written in Python. README.md describes it."""

from __future__ import annotations

import math
import re
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CASES_DIR = Path(__file__).resolve().parent / "cases"

Value = int | float | str | bytes | None
Params = list[Value] | dict[str, Value] | None

KINDS = {"Sql", "Constraint", "Forbidden", "Busy", "Config"}
RUNNERS = {"sqlite3", "python", "rust", "node", "kotlin", "swift"}


class FormatError(Exception):
    """A file of cases that does not follow README.md."""


@dataclass(frozen=True)
class Outcome:
    """What one statement must give; None: the case does not say."""

    columns: list[str] | None = None
    rows: list[list[Value]] | None = None
    rows_affected: int | None = None
    last_insert_rowid: int | None = None


@dataclass(frozen=True)
class Call:
    """One statement with its parameters."""

    sql: str
    params: Params = None


@dataclass(frozen=True)
class Step:
    """One call of a verb, with what must come of it."""

    verb: str
    calls: list[Call]
    outcomes: list[Outcome]
    error: tuple[str, str] | None

    def __str__(self) -> str:
        return f"{self.verb}: " + "; ".join(call.sql for call in self.calls)


@dataclass(frozen=True)
class Case:
    """One case as it stands in its file; `steps` fills in the prefix."""

    name: str
    file: str
    skip: dict[str, str] = field(default_factory=dict)
    since: str | None = None
    uses: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    def steps(self, prefix: str) -> list[Step]:
        """The set-up and the steps with `{p}` replaced by `prefix`."""
        steps = [_step({"execute": sql}, prefix) for sql in self.raw.get("setup", [])]
        return steps + [_step(step, prefix) for step in self.raw["steps"]]


def load(directory: Path = CASES_DIR) -> list[Case]:
    """All cases, in the order of the files' names. Raises FormatError on the first fault."""
    cases: list[Case] = []
    seen: set[str] = set()
    files = sorted(directory.glob("*.toml"))
    if not files:
        raise FormatError(f"no cases in {directory}")
    for path in files:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        _only(document, {"case"}, path.name)
        for raw in document["case"]:
            where = f"{path.name}: {raw.get('name')}"
            _only(raw, {"name", "why", "skip", "since", "uses", "setup", "steps"}, where)
            if not re.fullmatch(r"[a-z0-9_]+", raw.get("name", "")) or raw["name"] in seen:
                raise FormatError(f"{where}: the name is missing, malformed or used twice")
            seen.add(raw["name"])
            _only(raw.get("skip", {}), RUNNERS, f"{where}: skip")
            case = Case(
                name=raw["name"],
                file=path.name,
                skip=raw.get("skip", {}),
                since=raw.get("since"),
                uses=raw.get("uses", []),
                raw=raw,
            )
            try:
                case.steps("p_")
            except (FormatError, KeyError, TypeError, ValueError) as fault:
                raise FormatError(f"{where}: {fault!r}") from fault
            cases.append(case)
    return cases


def value(raw: Any, prefix: str) -> Value:
    """Decodes one value."""
    times = 1
    if isinstance(raw, dict):
        _only(raw, {"repeat", "times"}, "value")
        times, raw = raw["times"], raw["repeat"]
        if raw[:2] not in ("t:", "x:"):
            raise FormatError(f"only t: and x: can be repeated, not {raw!r}")
    raw = raw.replace("{p}", prefix)
    if raw == "null":
        return None
    tag, _, text = raw.partition(":")
    if tag == "i" and re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    if tag == "r":
        return float(text)
    if tag == "t" and ":" in raw:
        return text * times
    if tag == "x" and re.fullmatch(r"([0-9a-f]{2})*", text):
        return bytes.fromhex(text) * times
    raise FormatError(f"not a value: {raw!r}")


def same(expected: Value, actual: object) -> bool:
    """Whether two values have one type and are equal; reals by their bits, so -0.0 is not 0.0."""
    if type(expected) is not type(actual):
        return False
    if isinstance(expected, float) and isinstance(actual, float):
        if math.isnan(expected) or math.isnan(actual):
            return math.isnan(expected) and math.isnan(actual)
        return struct.pack(">d", expected) == struct.pack(">d", actual)
    return expected == actual


def difference(
    expected: Outcome,
    columns: list[str],
    rows: list[tuple[object, ...]],
    rows_affected: int,
    last_insert_rowid: int,
) -> str | None:
    """Says how an outcome differs from the expected one; None where it does not."""
    if expected.columns is not None and expected.columns != columns:
        return f"columns {columns!r} instead of {expected.columns!r}"
    if expected.rows is not None:
        if len(expected.rows) != len(rows):
            return f"{len(rows)} rows instead of {len(expected.rows)}: {_short(rows)}"
        for i, (want, got) in enumerate(zip(expected.rows, rows, strict=True)):
            if len(want) != len(got) or not all(map(same, want, got)):
                return f"row {i} is {_short(got)} instead of {_short(want)}"
    if expected.rows_affected not in (None, rows_affected):
        return f"rows_affected {rows_affected} instead of {expected.rows_affected}"
    if expected.last_insert_rowid not in (None, last_insert_rowid):
        return f"last_insert_rowid {last_insert_rowid} instead of {expected.last_insert_rowid}"
    return None


def _short(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= 400 else text[:400] + "..."


def _only(table: dict[str, Any], allowed: set[str], where: str) -> None:
    unknown = set(table) - allowed
    if unknown:
        raise FormatError(f"{where}: unknown keys {sorted(unknown)}")


def _call(raw: dict[str, Any], prefix: str) -> Call:
    params = raw.get("params")
    if isinstance(params, dict):
        params = {name: value(v, prefix) for name, v in params.items()}
    elif params is not None:
        params = [value(v, prefix) for v in params]
    return Call(raw["sql"].replace("{p}", prefix), params)


def _outcome(raw: dict[str, Any], prefix: str) -> Outcome:
    columns, rows = raw.get("columns"), raw.get("rows")
    return Outcome(
        columns=None if columns is None else [c.replace("{p}", prefix) for c in columns],
        rows=None if rows is None else [[value(v, prefix) for v in row] for row in rows],
        rows_affected=raw.get("rows_affected"),
        last_insert_rowid=raw.get("last_insert_rowid"),
    )


def _step(raw: dict[str, Any], prefix: str) -> Step:
    verbs = [verb for verb in ("execute", "execute_batch", "query") if verb in raw]
    if len(verbs) != 1:
        raise FormatError(f"a step has one verb, not {verbs}")
    verb = verbs[0]
    results = {"columns", "rows"}
    if verb == "execute_batch":
        _only(raw, {verb, "results", "error"}, "step")
        calls = []
        for statement in raw[verb]:
            _only(statement, {"sql", "params"}, "statement")
            calls.append(_call(statement, prefix))
        outcomes = []
        for result in raw.get("results", [{}] * len(calls)):
            _only(result, results | {"rows_affected", "last_insert_rowid"}, "result")
            outcomes.append(_outcome(result, prefix))
        if len(outcomes) != len(calls):
            raise FormatError(f"{len(outcomes)} results for {len(calls)} statements")
    else:
        if verb == "execute":
            results |= {"rows_affected", "last_insert_rowid"}
        _only(raw, results | {verb, "params", "error"}, "step")
        calls = [_call({"sql": raw[verb], "params": raw.get("params")}, prefix)]
        outcomes = [_outcome(raw, prefix)]
    error = None
    if "error" in raw:
        _only(raw["error"], {"kind", "code"}, "error")
        error = (raw["error"]["kind"], raw["error"]["code"])
        if error[0] not in KINDS or not re.fullmatch(r"[A-Z][A-Z0-9_]*", error[1]):
            raise FormatError(f"not an error: {error}")
        if outcomes != [Outcome()] * len(outcomes):
            raise FormatError("a step expects an error or a result, not both")
    return Step(verb, calls, outcomes, error)
