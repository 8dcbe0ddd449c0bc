"""The synchronous API: ``open`` and ``Node``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from . import _quorumlite
from ._types import ContentHash, Member, Status, make_members, make_status

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._quorumlite import NativeNode, Result, Rows
    from ._types import Consistency, Params, Path, Role, Statement


def open(
    dir: Path,
    *,
    node_id: str | None = None,
    listen: str | None = None,
    advertise: str | None = None,
    join: Sequence[str] | None = None,
    secret: str | None = None,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    insecure: bool = False,
    role: Role = "voter",
    timeout: float | None = None,
    consistency: Consistency = "session",
    max_log_bytes: int | None = None,
    check_interval: float | None = None,
) -> Node:
    """Open a node in the data directory ``dir``, which is created if it does not exist.

    Without ``listen`` the node is standalone: a replicated log of one, and no network at all.
    Opening a directory that is open in this process already gives another handle on the same node.

    **Never open the database file inside the directory with another SQLite in the same process**,
    Python's own ``sqlite3`` included: that drops the locks which protect the file, and can corrupt
    it.

    Args:
        dir: The data directory. Two processes never share one.
        node_id: The name of this node in its cluster, 1 to 64 of ``a-z A-Z 0-9 . _ -``. By default
            it is made once and kept in the directory.
        listen: The address, ``"host:port"``, to listen at for other nodes.
        advertise: The address at which other nodes reach this one; by default ``listen``.
        join: Addresses of members of the cluster to join. Joining again is harmless; an empty
            directory with a ``join`` list never starts a cluster of its own.
        secret: A secret that all nodes share; it encrypts and authenticates their connections.
        ca: PEM file of the authority that signed every node's certificate; with ``cert`` and
            ``key``, instead of ``secret``.
        cert: PEM file of this node's certificate chain.
        key: PEM file of this node's private key.
        insecure: Allow plain TCP beyond loopback. Anyone who reaches the port can read and write.
        role: ``"voter"``, or ``"learner"`` for a copy that does not vote.
        timeout: Seconds that ``open`` waits until the node has joined and can serve, and the
            default deadline of every call; 10 by default.
        consistency: The level of reads that do not name one.
        max_log_bytes: How large the Raft log may grow before its applied and durable part is
            purged; 32 MiB by default.
        check_interval: How often, in seconds, this node has all replicas hash their content and
            compare while it leads (at least 1); by default never. ``Status.divergence`` says what
            was found.

    Raises:
        ConfigError: An option is wrong, or options contradict each other.
        TimeoutError: The node could not join or find a leader in time.
        Error: The directory cannot be used; the message says why.
    """
    operation = _quorumlite.open(
        dir,
        node_id,
        listen,
        advertise,
        join,
        secret,
        ca,
        cert,
        key,
        insecure,
        role,
        timeout,
        consistency,
        max_log_bytes,
        check_interval,
    )
    return Node._of(operation.wait(), os.fspath(dir))


class Node:
    """A member of a cluster, or a standalone database, inside this process; made by ``open``.

    A node may be used from any number of threads at once, and is a context manager that closes it.
    Every call gives the GIL up while it waits. A call that is interrupted by Ctrl-C, or that times
    out, is abandoned, not undone: **interrupted does not mean not written**.

    In a child process made by ``os.fork()`` every call raises ``InterfaceError``: open nodes after
    the fork, or start processes with multiprocessing's ``spawn`` method.
    """

    __slots__ = ("__weakref__", "_dir", "_native")

    _native: NativeNode
    _dir: str

    def __init__(self) -> None:
        raise TypeError("a Node is made by quorumlite.open(dir, ...)")

    @classmethod
    def _of(cls, native: NativeNode, dir: str) -> Self:
        node = object.__new__(cls)
        node._native = native
        node._dir = dir
        return node

    def execute(self, sql: str, params: Params = None, *, timeout: float | None = None) -> Result:
        """Run one write on the cluster, from whichever node, and wait until it is committed.

        It is retried through a change of leader within the timeout, and never applied twice.

        Args:
            sql: Exactly one SQL statement.
            params: A sequence for ``?``, a mapping for ``:name``.
            timeout: Seconds; by default the node's.

        Returns:
            ``rows_affected``, ``last_insert_rowid``, the log ``index`` and, for a RETURNING clause,
            ``rows``.

        Raises:
            ProgrammingError: The statement is wrong.
            IntegrityError: A constraint refused the write.
            UnavailableError: There is no leader or no quorum now.
            TimeoutError: The deadline passed; ``code`` says whether the write may still be applied.
        """
        return self._native.execute(sql, params, timeout).wait()

    def execute_batch(
        self, statements: Iterable[Statement], *, timeout: float | None = None
    ) -> list[Result]:
        """Run several statements as one write: all or nothing.

        Args:
            statements: Each is ``"sql"`` or ``("sql", params)``.
            timeout: Seconds; by default the node's.

        Returns:
            One result for each statement.
        """
        return self._native.execute_batch(statements, timeout).wait()

    def query(
        self,
        sql: str,
        params: Params = None,
        *,
        consistency: Consistency | None = None,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Rows:
        """Read.

        Args:
            sql: Exactly one SQL statement that does not write.
            params: A sequence for ``?``, a mapping for ``:name``.
            consistency: How fresh the answer must be: ``"none"`` (the local state, however old),
                ``"session"`` (never older than what this handle has written or read), ``"weak"``
                (the state of the node that believes that it leads), ``"linearizable"`` (everything
                acknowledged before the read began), ``"strong"`` (the read goes through the log).
                By default the node's.
            max_staleness: No answer (``UnavailableError``) if the data of this node is older than
                so many seconds.
            timeout: Seconds; by default the node's.
        """
        return self._native.query_wait(sql, params, consistency, max_staleness, timeout)

    def status(self) -> Status:
        """Tell what this node knows about itself and its cluster; never waits."""
        return make_status(*self._native.status())

    def members(self) -> list[Member]:
        """List the members of the cluster, each asked whether it answers."""
        return make_members(self._native.members().wait())

    def wait_for_leader(self, timeout: float | None = None) -> str:
        """Wait until some node leads, and return its id."""
        return self._native.wait_for_leader(timeout).wait()

    def transfer_leadership(self, node_id: str, *, timeout: float | None = None) -> None:
        """Hand leadership to another voter."""
        self._native.transfer_leadership(node_id, timeout).wait()

    def remove_member(self, node_id: str, *, timeout: float | None = None) -> None:
        """Remove a member from the cluster."""
        self._native.remove_member(node_id, timeout).wait()

    def void_command(
        self, index: int, *, force: bool = False, timeout: float | None = None
    ) -> None:
        """Take back, on all nodes, the commands at a log index that no node could apply.

        ``index`` is that of ``status().halted``. ``force`` leaves out what the other members say
        that they have applied. Returns when this node has gone on beyond it.
        """
        self._native.void_command(index, force, timeout).wait()

    def retry_apply(self, *, timeout: float | None = None) -> None:
        """Try the command before which this node has halted once more, on this node alone."""
        self._native.retry_apply(timeout).wait()

    def reset_clock(self, *, timeout: float | None = None) -> None:
        """Let ``CURRENT_TIMESTAMP`` go back to the leader's clock, which it was ahead of."""
        self._native.reset_clock(timeout).wait()

    def content_hash(self) -> ContentHash:
        """Hash the logical content of the local database.

        Nodes that have applied the same index have the same hash.
        """
        return ContentHash(*self._native.content_hash().wait())

    def close(self) -> None:
        """Stop the node and release its directory. Closing again is harmless.

        Another handle on the same directory, from another ``open``, goes on working.
        """
        self._native.close().wait()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called on this handle."""
        return self._native.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # In a forked child there is nothing to close, and what happens there goes on.
        if not self._native.forked:
            self.close()

    def __del__(self) -> None:
        # The native side closes in the background, and leaves a forked child's copy alone.
        native = getattr(self, "_native", None)
        if native is not None and not native.forked and not native.closed:
            warnings.warn(
                f"unclosed {self!r}; call close() or use it in a with statement",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def __repr__(self) -> str:
        return _describe("quorumlite.Node", self._native, self._dir)


def _describe(name: str, native: NativeNode, dir: str) -> str:
    state = "forked" if native.forked else "closed" if native.closed else "open"
    return f"<{name} {dir!r} ({state})>"
