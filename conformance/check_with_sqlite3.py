"""Runs the cases against the sqlite3 module of the standard library: an oracle of its own.

The cases say what plain SQLite does, except where they name `skip.sqlite3`. A command is a
savepoint here as it is in Quorumlite, foreign keys are on, and double-quoted strings are off where
Python can say so. Usage: python check_with_sqlite3.py [-v] [part of a case's name]
"""

from __future__ import annotations

import re
import sqlite3
import sys
import warnings

import case_format
from case_format import Call, Case, Step

MISUSE = {"SQL_PARAMETERS", "SQL_MULTIPLE_STATEMENTS"}
NAMES_UNKNOWN_TO_PYTHON = {3091: "SQLITE_CONSTRAINT_DATATYPE"}
NUMBERED = re.compile(r"\?[0-9]")

# From 3.14 on this is an error, and reason_to_skip knows it.
warnings.filterwarnings("ignore", ".*named parameter", DeprecationWarning)


class Oracle:
    """A database in memory that counts as Quorumlite counts."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.execute("PRAGMA foreign_keys = ON")
        self.db.execute("CREATE TEMP TABLE _oracle(x)")
        if sys.version_info >= (3, 12):
            self.db.setconfig(sqlite3.SQLITE_DBCONFIG_DQS_DML, False)
            self.db.setconfig(sqlite3.SQLITE_DBCONFIG_DQS_DDL, False)
            self.db.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)

    def run(self, call: Call) -> tuple[list[str], list[tuple[object, ...]], int, int]:
        """Runs one statement; gives columns, rows, rows affected and the last rowid."""
        before = self.db.total_changes
        cursor = self.db.execute(call.sql, () if call.params is None else call.params)
        rows = cursor.fetchall()
        columns = [column[0] for column in cursor.description or []]
        wrote = self.db.total_changes != before
        changes, rowid = self.db.execute("SELECT changes(), last_insert_rowid()").fetchone()
        return columns, rows, changes if wrote else 0, rowid

    def command(self, calls: list[Call]) -> list[tuple[list[str], list, int, int]]:
        """Runs statements as one command: all or nothing."""
        # Puts last_insert_rowid() and then changes() back to 0.
        self.db.execute("INSERT INTO temp._oracle(rowid) VALUES (0)")
        self.db.execute("DELETE FROM temp._oracle")
        self.db.execute("DELETE FROM temp._oracle")
        self.db.execute("SAVEPOINT command")
        try:
            results = [self.run(call) for call in calls]
            self.db.execute("RELEASE command")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise
        return results

    def close(self) -> None:
        """Forgets the database."""
        self.db.close()


def check_step(oracle: Oracle, step: Step) -> str | None:
    """Runs a step; says what differs, or None."""
    try:
        if step.verb == "query":
            results = [oracle.run(step.calls[0])]
        else:
            results = oracle.command(step.calls)
    except (sqlite3.Error, sqlite3.Warning) as error:
        return check_error(step, error)
    if step.error is not None:
        return f"succeeded instead of failing with {step.error[1]}"
    for expected, result in zip(step.outcomes, results, strict=True):
        different = case_format.difference(expected, *result)
        if different is not None:
            return different
    return None


def check_error(step: Step, error: Exception) -> str | None:
    """Compares an error's name, where this Python knows it (3.11 and newer)."""
    if step.error is None:
        return f"failed: {error!r}"
    kind, code = step.error
    name = getattr(error, "sqlite_errorname", None)
    if name == "unknown":
        name = NAMES_UNKNOWN_TO_PYTHON.get(getattr(error, "sqlite_errorcode", 0), name)
    if code in MISUSE:
        if name is None and isinstance(error, (sqlite3.ProgrammingError, sqlite3.Warning)):
            return None
        return f"failed with {error!r} instead of {code}"
    if name is not None and name != code:
        return f"failed with {name} ({error}) instead of {code}"
    integrity = isinstance(error, sqlite3.IntegrityError)
    # Python files SQLITE_MISMATCH under IntegrityError too.
    if integrity != (kind == "Constraint") and code != "SQLITE_MISMATCH":
        return f"failed with {error!r} instead of kind {kind}"
    return None


def check_case(case: Case) -> str | None:
    """Runs a case; says what differs, or None."""
    oracle = Oracle()
    try:
        for step in case.steps("s_"):
            different = check_step(oracle, step)
            if different is not None:
                return f"{str(step)[:300]}\n    {different}"
    finally:
        oracle.close()
    return None


def reason_to_skip(case: Case, options: set[str]) -> str | None:
    """Why this SQLite cannot run the case."""
    if "sqlite3" in case.skip:
        return case.skip["sqlite3"]
    if case.since and sqlite3.sqlite_version_info < tuple(map(int, case.since.split("."))):
        return f"needs SQLite {case.since}, here is {sqlite3.sqlite_version}"
    if sys.version_info >= (3, 14) and any(
        NUMBERED.search(call.sql) for step in case.steps("s_") for call in step.calls
    ):
        return "Python takes ?1 for a name since 3.14"
    for option in case.uses:
        if f"ENABLE_{option}" not in options:
            return f"this SQLite was built without {option}"
    return None


def main(arguments: list[str]) -> int:
    """Runs the cases whose names contain each argument; gives the exit status."""
    verbose = "-v" in arguments
    wanted = [a for a in arguments if a != "-v"]
    cases = [c for c in case_format.load() if all(w in c.name for w in wanted)]
    db = sqlite3.connect(":memory:")
    options = {row[0] for row in db.execute("PRAGMA compile_options")}
    db.close()
    passed, skipped, failures = 0, 0, 0
    for case in cases:
        reason = reason_to_skip(case, options)
        if reason is not None:
            skipped += 1
            if verbose or not case.skip:
                print(f"skip {case.name}: {reason}")
            continue
        different = check_case(case)
        if different is None:
            passed += 1
        else:
            failures += 1
            print(f"FAIL {case.file}: {case.name}\n    {different}")
    print(f"SQLite {sqlite3.sqlite_version}: {passed} passed, {failures} failed, {skipped} skipped")
    return 0 if passed and not failures else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
