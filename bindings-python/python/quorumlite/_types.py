"""What goes into a call and what comes out of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

Value: TypeAlias = int | float | str | bytes | bytearray | memoryview | None
"""What can be stored. A ``bool`` is an ``int``; nothing else is guessed."""

Params: TypeAlias = Sequence[Value] | Mapping[str, Value] | None
"""A sequence binds to ``?``, a mapping to ``:name``, ``@name`` or ``$name``."""

Statement: TypeAlias = str | tuple[str] | tuple[str, Params] | list[Any]
"""A statement of a batch: ``"sql"`` or ``("sql", params)``."""

# Unions of Literals and not Literals of many: stubtest wants the same at run time as in types.
Consistency: TypeAlias = (
    Literal["none"]
    | Literal["session"]
    | Literal["weak"]
    | Literal["linearizable"]
    | Literal["strong"]
)
"""How fresh the answer of a read must be."""

Role: TypeAlias = Literal["voter"] | Literal["learner"]
"""What a node does in its cluster."""

Path: TypeAlias = str | os.PathLike[str]
"""The path of a file or a directory."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the cluster."""

    node_id: str
    """Its id."""
    address: str
    """Its address; empty for a standalone node."""
    role: Role
    """Whether it votes."""
    reachable: bool | None
    """Whether it answers now; ``None`` where it was not asked."""
    applied_index: int | None
    """The index that it has applied, where known."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a node knows about itself and its cluster."""

    node_id: str
    """This node's id."""
    cluster_id: str
    """The cluster's id, 32 hexadecimal digits."""
    role: Role
    """Whether this node votes."""
    state: str
    """``leader``, ``follower``, ``candidate``, ``learner`` or ``stopped``."""
    leader_id: str | None
    """The node that leads, as far as this node knows."""
    term: int
    """The current Raft term."""
    last_log_index: int
    """The index of the last entry in this node's log (0 where it is empty)."""
    commit_index: int
    """The index up to which this node knows entries to be committed."""
    applied_index: int
    """The index up to which entries are applied to this node's database."""
    durable_index: int
    """The index up to which the database survives a power cut without the log."""
    purged_index: int
    """The last index that was purged from the log."""
    log_bytes: int
    """Bytes of log on disk."""
    address: str | None
    """The address at which other nodes reach this one; none for a standalone node."""
    checked_index: int
    """The latest log index at which this replica was found equal to the others; 0 for never."""
    divergence: str | None
    """The first difference between replicas that was found; see the option ``check_interval``."""
    last_refusal: str | None
    """Why the last peer that was turned away at this node's port was turned away."""
    clock_warning: str | None
    """That the time of the last command is far ahead of this node's clock, where it is."""
    apply_level: int
    """What log entries mean to this node; members replicate only where this is equal."""
    fingerprint: str
    """Of all else that decides what a write does: SQLite, functions, limits, the platform."""
    halted: Halted | None
    """Where this node has stopped applying, if it has; see ``Node.void_command``."""
    snapshot: SnapshotProgress | None
    """The snapshot that this node receives, or the last one; none since it was opened."""
    members: list[Member]
    """All members; ``Node.members`` also asks the others whether they answer."""


@dataclass(frozen=True, slots=True)
class Halted:
    """A command that this node does not apply any more, nor anything after it."""

    index: int
    """The index of its entry in the log."""
    attempts: int
    """How often it was tried."""
    reason: str
    """What came of it."""


@dataclass(frozen=True, slots=True)
class SnapshotProgress:
    """How far the reception of a snapshot is."""

    total_bytes: int
    """Bytes of the whole database."""
    present_bytes: int
    """How many of them are there."""
    received_bytes: int
    """What had to be sent for it: less where this node had an old copy, and it is compressed."""


@dataclass(frozen=True, slots=True)
class ContentHash:
    """A hash of the logical content (schema and rows) of a database."""

    hash: str
    """SHA-256, 64 hexadecimal digits."""
    index: int
    """The applied index that the hash belongs to."""


if TYPE_CHECKING:
    from ._quorumlite import _MemberFields, _StatusFields


def make_members(fields: list[_MemberFields]) -> list[Member]:
    """Build members from the native module's answer."""
    return [Member(**m) for m in fields]


def make_status(
    fields: _StatusFields,
    members: list[_MemberFields],
    snapshot: tuple[int, int, int] | None,
    halted: tuple[int, int, str] | None,
) -> Status:
    """Build a status from the native module's answer."""
    return Status(
        **fields,
        members=make_members(members),
        halted=None if halted is None else Halted(*halted),
        snapshot=None if snapshot is None else SnapshotProgress(*snapshot),
    )
