"""The exceptions of quorumlite, in the hierarchy of PEP 249."""

from __future__ import annotations

import builtins


class Error(Exception):
    """The root of all exceptions of quorumlite.

    ``str(error)`` says what happened and how to mend it; it is for people and may change.
    Programs look at the class and at the attributes.
    """

    kind: str
    """What to do about it, one word, the same in every language: ``Sql``, ``Constraint``,
    ``Conflict``, ``Unavailable``, ``Timeout``, ``Busy``, ``Config``, ``Corruption``, ``Closed``,
    ``Forbidden``."""

    code: str
    """A stable code, such as ``SQLITE_CONSTRAINT_UNIQUE`` or ``NO_LEADER``."""

    retryable: bool
    """Whether the same call may succeed later without any change."""

    leader: str | None
    """The id of the node that leads, where that is known."""

    sqlite_code: int | None
    """SQLite's extended result code, where SQLite failed."""

    def __init__(
        self,
        message: str = "",
        *,
        kind: str = "",
        code: str = "",
        retryable: bool = False,
        leader: str | None = None,
        sqlite_code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.retryable = retryable
        self.leader = leader
        self.sqlite_code = sqlite_code


class InterfaceError(Error):
    """The way of calling is wrong: a node used in a child process after ``os.fork()``, say."""


class ClosedError(InterfaceError):
    """The node is closed: open its directory again."""


class DatabaseError(Error):
    """Something about the database or its cluster."""


class OperationalError(DatabaseError):
    """The database cannot do it now: not the programmer's fault."""


class ConflictError(OperationalError):
    """Somebody else wrote meanwhile: run the transaction again."""


class UnavailableError(OperationalError):
    """There is no leader or no quorum now, or this node has stopped: retry later."""


class TimeoutError(OperationalError, builtins.TimeoutError):
    """The deadline passed; ``code`` says whether a write may still be applied."""


class BusyError(OperationalError):
    """A limit was reached: back off, or send less at once."""


class ProgrammingError(DatabaseError):
    """The SQL is wrong or failed while it ran: fix the statement."""


class ConfigError(ProgrammingError, ValueError):
    """An option is wrong, or options contradict each other."""


class IntegrityError(DatabaseError):
    """A UNIQUE, NOT NULL, CHECK, FOREIGN KEY or similar constraint refused the write."""


class DataError(DatabaseError):
    """A value cannot be processed."""


class InternalError(DatabaseError):
    """Something that should not happen did."""


class CorruptionError(InternalError):
    """Data on disk is damaged: restore this node from the others."""


class NotSupportedError(DatabaseError):
    """The database does not do this."""


class ForbiddenError(NotSupportedError):
    """The statement cannot be replicated, or the peer may not take part."""


_BY_KIND: dict[str, type[Error]] = {
    "Sql": ProgrammingError,
    "Constraint": IntegrityError,
    "Conflict": ConflictError,
    "Unavailable": UnavailableError,
    "Timeout": TimeoutError,
    "Busy": BusyError,
    "Config": ConfigError,
    "Corruption": CorruptionError,
    "Closed": ClosedError,
    "Forbidden": ForbiddenError,
    # These two arise in the binding itself.
    "Interface": InterfaceError,
    "Internal": InternalError,
}

# They are shown, and pickled, under the name by which users know them.
for _cls in (Error, DataError, DatabaseError, NotSupportedError, OperationalError):
    _cls.__module__ = "quorumlite"
for _cls in _BY_KIND.values():
    _cls.__module__ = "quorumlite"


def _make(
    kind: str,
    code: str,
    message: str,
    retryable: bool,
    leader: str | None,
    sqlite_code: int | None,
) -> Error:
    """Build the exception of an error of the core; called from native code."""
    return _BY_KIND.get(kind, Error)(
        message,
        kind=kind,
        code=code,
        retryable=retryable,
        leader=leader,
        sqlite_code=sqlite_code,
    )
