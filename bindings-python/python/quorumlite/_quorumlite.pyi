from asyncio import AbstractEventLoop, Future
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Literal, TypedDict, TypeVar, final, overload, type_check_only

from ._types import Role

_T = TypeVar("_T")

__all__ = [
    "NativeNode",
    "Operation",
    "Result",
    "Row",
    "Rows",
    "RowsIterator",
    "__version__",
    "_shutdown",
    "check",
    "open",
    "recover_lost_quorum",
]

__version__: str

@type_check_only
class _MemberFields(TypedDict):
    node_id: str
    address: str
    role: Role
    reachable: bool | None
    applied_index: int | None

@type_check_only
class _StatusFields(TypedDict):
    node_id: str
    cluster_id: str
    role: Role
    state: str
    leader_id: str | None
    term: int
    last_log_index: int
    commit_index: int
    applied_index: int
    durable_index: int
    purged_index: int
    log_bytes: int
    address: str | None
    checked_index: int
    divergence: str | None
    last_refusal: str | None
    clock_warning: str | None
    apply_level: int
    fingerprint: str

@type_check_only
class _CheckFields(TypedDict):
    ok: bool
    node_id: str
    cluster_id: str
    term: int
    last_log_term: int
    last_log_index: int
    purged_index: int
    applied_index: int

@type_check_only
class _FindingFields(TypedDict):
    severity: Literal["error", "note"]
    code: str
    message: str

@type_check_only
class _RecoveryFields(TypedDict):
    node_id: str
    cluster_id: str
    last_log_index: int
    removed: list[str]

# Arguments are `object` where the native side does the checking.

@final
class Operation(Generic[_T]):
    def wait(self) -> _T: ...
    def deliver(self, event_loop: AbstractEventLoop, future: Future[_T]) -> None: ...

@final
class NativeNode:
    @property
    def forked(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    def execute(self, sql: object, params: object, timeout: object) -> Operation[Result]: ...
    def execute_batch(self, statements: object, timeout: object) -> Operation[list[Result]]: ...
    def query(
        self,
        sql: object,
        params: object,
        consistency: object,
        max_staleness: object,
        timeout: object,
    ) -> Operation[Rows]: ...
    def query_wait(
        self,
        sql: object,
        params: object,
        consistency: object,
        max_staleness: object,
        timeout: object,
    ) -> Rows: ...
    def status(
        self,
    ) -> tuple[
        _StatusFields,
        list[_MemberFields],
        tuple[int, int, int] | None,
        tuple[int, int, str] | None,
    ]: ...
    def members(self) -> Operation[list[_MemberFields]]: ...
    def wait_for_leader(self, timeout: object) -> Operation[str]: ...
    def transfer_leadership(self, node_id: object, timeout: object) -> Operation[None]: ...
    def remove_member(self, node_id: object, timeout: object) -> Operation[None]: ...
    def void_command(self, index: int, force: bool, timeout: object) -> Operation[None]: ...
    def retry_apply(self, timeout: object) -> Operation[None]: ...
    def reset_clock(self, timeout: object) -> Operation[None]: ...
    def content_hash(self) -> Operation[tuple[str, int]]: ...
    def close(self) -> Operation[None]: ...

def open(
    dir: object,
    node_id: object,
    listen: object,
    advertise: object,
    join: object,
    secret: object,
    ca: object,
    cert: object,
    key: object,
    insecure: object,
    role: object,
    timeout: object,
    consistency: object,
    max_log_bytes: object,
    check_interval: object,
) -> Operation[NativeNode]: ...
def check(dir: object) -> tuple[_CheckFields, list[_MemberFields], list[_FindingFields]]: ...
def recover_lost_quorum(dir: object) -> _RecoveryFields: ...
def _shutdown() -> None: ...

# Rows and Row are registered as sequences at run time.

@final
class Rows(Sequence[Row]):
    @property
    def columns(self) -> tuple[str, ...]: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> Row: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[Row]: ...
    def __iter__(self) -> RowsIterator: ...
    def __reversed__(self) -> Iterator[Row]: ...
    def __contains__(self, item: object, /) -> bool: ...
    def index(self, value: object, /) -> int: ...  # type: ignore[override]
    def count(self, value: object, /) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__ = None  # type: ignore[assignment]

@final
class RowsIterator(Iterator[Row]):
    def __iter__(self) -> RowsIterator: ...
    def __next__(self) -> Row: ...
    def __length_hint__(self) -> int: ...

# What a column holds is not known to a type checker.

@final
class Row(Sequence[Any]):
    def keys(self) -> tuple[str, ...]: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int | str, /) -> Any: ...
    @overload
    def __getitem__(self, index: slice, /) -> tuple[Any, ...]: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __reversed__(self) -> Iterator[Any]: ...
    def __contains__(self, value: object, /) -> bool: ...
    def index(self, value: object, /) -> int: ...  # type: ignore[override]
    def count(self, value: object, /) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __lt__(self, other: Row | tuple[Any, ...], /) -> bool: ...
    def __le__(self, other: Row | tuple[Any, ...], /) -> bool: ...
    def __gt__(self, other: Row | tuple[Any, ...], /) -> bool: ...
    def __ge__(self, other: Row | tuple[Any, ...], /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Result:
    @property
    def rows_affected(self) -> int: ...
    @property
    def last_insert_rowid(self) -> int: ...
    @property
    def index(self) -> int: ...
    @property
    def rows(self) -> Rows: ...
