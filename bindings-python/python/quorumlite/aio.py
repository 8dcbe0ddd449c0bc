"""The same API for asyncio: ``await aio.open(...)`` gives an ``AsyncNode``.

**Cancelled does not mean not written.** Cancelling an ``await`` (by ``task.cancel()``,
``asyncio.timeout`` and the like) abandons the call; it never cuts a write in half, and the write
may still be applied.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from . import _quorumlite
from ._node import _describe
from ._types import ContentHash, Member, Status, make_members, make_status

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._quorumlite import NativeNode, Operation, Result, Rows
    from ._types import Consistency, Params, Path, Role, Statement

__all__ = ["AsyncNode", "open"]

_T = TypeVar("_T")


def _settle(operation: Operation[_T]) -> asyncio.Future[_T]:
    """Give a future of the running loop that gets the operation's outcome."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()
    operation.deliver(loop, future)
    return future


def _resolve(items: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    """Set outcomes on their futures; runs in the loop, called from native code."""
    for future, value, error in items:
        if future.done():  # cancelled meanwhile
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)


async def open(
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
) -> AsyncNode:
    """Open a node; see ``quorumlite.open`` for the options and the warnings."""
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
    return AsyncNode._of(await _settle(operation), os.fspath(dir))


class AsyncNode:
    """A member of a cluster, or a standalone database, inside this process; made by ``open``.

    It may be used from several tasks, threads and event loops at once. Use it with ``async with``,
    or await ``close()``. What ``quorumlite.Node`` says about ``os.fork()`` holds here too, and:
    **cancelled does not mean not written**.
    """

    __slots__ = ("__weakref__", "_dir", "_native")

    _native: NativeNode
    _dir: str

    def __init__(self) -> None:
        raise TypeError("an AsyncNode is made by: await quorumlite.aio.open(dir, ...)")

    @classmethod
    def _of(cls, native: NativeNode, dir: str) -> Self:
        node = object.__new__(cls)
        node._native = native
        node._dir = dir
        return node

    async def execute(
        self, sql: str, params: Params = None, *, timeout: float | None = None
    ) -> Result:
        """Run one write on the cluster; see ``quorumlite.Node.execute``."""
        return await _settle(self._native.execute(sql, params, timeout))

    async def execute_batch(
        self, statements: Iterable[Statement], *, timeout: float | None = None
    ) -> list[Result]:
        """Run several statements as one write: all or nothing.

        Each is ``"sql"`` or ``("sql", params)``; see ``quorumlite.Node.execute_batch``.
        """
        return await _settle(self._native.execute_batch(statements, timeout))

    async def query(
        self,
        sql: str,
        params: Params = None,
        *,
        consistency: Consistency | None = None,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Rows:
        """Read; see ``quorumlite.Node.query`` for the levels of consistency."""
        return await _settle(self._native.query(sql, params, consistency, max_staleness, timeout))

    async def status(self) -> Status:
        """Tell what this node knows about itself and its cluster; never waits."""
        return make_status(*self._native.status())

    async def members(self) -> list[Member]:
        """List the members of the cluster, each asked whether it answers."""
        return make_members(await _settle(self._native.members()))

    async def wait_for_leader(self, timeout: float | None = None) -> str:
        """Wait until some node leads, and return its id."""
        return await _settle(self._native.wait_for_leader(timeout))

    async def transfer_leadership(self, node_id: str, *, timeout: float | None = None) -> None:
        """Hand leadership to another voter."""
        await _settle(self._native.transfer_leadership(node_id, timeout))

    async def remove_member(self, node_id: str, *, timeout: float | None = None) -> None:
        """Remove a member from the cluster."""
        await _settle(self._native.remove_member(node_id, timeout))

    async def void_command(
        self, index: int, *, force: bool = False, timeout: float | None = None
    ) -> None:
        """Take back, on all nodes, the commands at a log index that no node could apply.

        ``index`` is that of ``status().halted``. ``force`` leaves out what the other members say
        that they have applied. Returns when this node has gone on beyond it.
        """
        await _settle(self._native.void_command(index, force, timeout))

    async def retry_apply(self, *, timeout: float | None = None) -> None:
        """Try the command before which this node has halted once more, on this node alone."""
        await _settle(self._native.retry_apply(timeout))

    async def reset_clock(self, *, timeout: float | None = None) -> None:
        """Let ``CURRENT_TIMESTAMP`` go back to the leader's clock, which it was ahead of."""
        await _settle(self._native.reset_clock(timeout))

    async def content_hash(self) -> ContentHash:
        """Hash the logical content of the local database."""
        return ContentHash(*await _settle(self._native.content_hash()))

    async def close(self) -> None:
        """Stop the node and release its directory. Closing again is harmless."""
        await _settle(self._native.close())

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called on this handle."""
        return self._native.closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # In a forked child there is nothing to close, and what happens there goes on.
        if not self._native.forked:
            await self.close()

    def __del__(self) -> None:
        # The native side closes in the background, and leaves a forked child's copy alone.
        native = getattr(self, "_native", None)
        if native is not None and not native.forked and not native.closed:
            warnings.warn(
                f"unclosed {self!r}; await close() or use it in an async with statement",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def __repr__(self) -> str:
        return _describe("quorumlite.aio.AsyncNode", self._native, self._dir)
