"""SQLite that lives inside your process and keeps a quorum of copies.

    import quorumlite

    with quorumlite.open("data/n1") as node:
        node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)")
        node.execute("INSERT INTO t(name) VALUES (?)", ["ann"])
        print(node.query("SELECT * FROM t")[0]["name"])

``quorumlite.aio`` is the same for asyncio. Every exception derives from ``quorumlite.Error``.

**Never open the database file with another SQLite in the same process**, Python's own ``sqlite3``
included: that drops the locks which protect the file, and can corrupt it.

**Cancelled does not mean not written**: a call that is interrupted, cancelled or timed out may
still be applied.
"""

import atexit as _atexit
from collections.abc import Sequence as _Sequence

from . import _quorumlite, aio
from ._directory import CheckReport, Finding, Recovery, check, recover_lost_quorum
from ._errors import (
    BusyError,
    ClosedError,
    ConfigError,
    ConflictError,
    CorruptionError,
    DatabaseError,
    DataError,
    Error,
    ForbiddenError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    TimeoutError,
    UnavailableError,
)
from ._node import Node, open
from ._quorumlite import Result, Row, Rows, __version__
from ._types import (
    Consistency,
    ContentHash,
    Halted,
    Member,
    Params,
    Path,
    Role,
    SnapshotProgress,
    Statement,
    Status,
    Value,
)

__all__ = [
    "BusyError",
    "CheckReport",
    "ClosedError",
    "ConfigError",
    "ConflictError",
    "Consistency",
    "ContentHash",
    "CorruptionError",
    "DataError",
    "DatabaseError",
    "Error",
    "Finding",
    "ForbiddenError",
    "Halted",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "Member",
    "Node",
    "NotSupportedError",
    "OperationalError",
    "Params",
    "Path",
    "ProgrammingError",
    "Recovery",
    "Result",
    "Role",
    "Row",
    "Rows",
    "SnapshotProgress",
    "Statement",
    "Status",
    "TimeoutError",
    "UnavailableError",
    "Value",
    "__version__",
    "aio",
    "check",
    "open",
    "recover_lost_quorum",
]

_Sequence.register(Rows)
_Sequence.register(Row)
# Handlers run last in, first out: those of the user, registered later, still find open nodes.
_atexit.register(_quorumlite._shutdown)
