"""What is done to a data directory that no node has open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from . import _quorumlite
from ._types import Member, make_members

if TYPE_CHECKING:
    from ._types import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that ``check`` found."""

    severity: Literal["error", "note"]
    """``error``: data is damaged or missing; ``note``: worth knowing, and no damage."""
    code: str
    """A stable code, such as ``CORRUPTION_LOG``."""
    message: str
    """What was found, and what to do."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What ``check`` says of a data directory.

    Of several copies of one cluster, the one with the highest ``last_log_term``, and among these
    the highest ``last_log_index``, knows most.
    """

    ok: bool
    """Whether nothing is damaged: no finding is an error."""
    node_id: str
    """The node's id; empty where the directory does not say."""
    cluster_id: str
    """The cluster's id, 32 hexadecimal digits; empty before the node has joined one."""
    term: int
    """The term of the last vote."""
    last_log_term: int
    """The term of the last entry in the log."""
    last_log_index: int
    """The index of the last entry in the log (0 where it is empty)."""
    purged_index: int
    """The last index that was purged from the log."""
    applied_index: int
    """The index up to which entries are applied to the database."""
    members: list[Member]
    """The members that log and database name last; not asked whether they are there."""
    findings: list[Finding]
    """What was found; empty where there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What ``recover_lost_quorum`` has done."""

    node_id: str
    """The node's id, as before."""
    cluster_id: str
    """The id of the new cluster, 32 hexadecimal digits."""
    last_log_index: int
    """The index of the last entry of the old cluster that the new one has."""
    removed: list[str]
    """The members of the old cluster that are none of the new one."""


def check(dir: Path) -> CheckReport:
    """Check the data directory ``dir``, which no node may have open.

    Looks at the checksums of the log, every page of the database, whether the two belong together,
    and the directory's identity; reads all of it once, and changes nothing but what SQLite itself
    mends after a crash. What is wrong with the data is no exception but a ``Finding``.

    Raises:
        ConfigError: The directory is in use (``CONFIG_IN_USE``) or holds no node.
    """
    fields, members, findings = _quorumlite.check(dir)
    return CheckReport(
        **fields, members=make_members(members), findings=[Finding(**f) for f in findings]
    )


def recover_lost_quorum(dir: Path) -> Recovery:
    """Make the data directory ``dir`` the start of a new cluster, with all the data that it has.

    For a cluster that lost its majority for good, and for nothing else: **what only the lost nodes
    had is lost**. No node may have the directory open; take the copy that knows most (see
    ``CheckReport``), and keep a copy of the directory. Afterwards open the node and let empty
    directories join it. Members of the old cluster are refused. After a crash in the middle, call
    this again.

    Raises:
        ConfigError: The directory is in use or holds no member of a cluster.
        CorruptionError: The directory is damaged.
    """
    return Recovery(**_quorumlite.recover_lost_quorum(dir))
