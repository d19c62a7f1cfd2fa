"""`/trace`: logs of what one client, one address or one topic sees, for a time; how they are made and read.

Invariant: codes of refusals are words here, as EMQX 4 has them for traces alone; the log of a trace is found by the
trace, never by a name that came from outside.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Final, Literal, TypeVar, cast

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.trace_record import NewTrace, TraceRefused
from trio_broker.actors.traces import TraceRow
from trio_broker.api.context import Api
from trio_broker.api.failures import ApiError, Failure
from trio_broker.api.formats import rfc3339, seconds
from trio_broker.api.routes import Documented, Reply, Routes
from trio_broker.api.v4.envelope import UNKNOWN_ERROR, Data, Done
from trio_broker.errors import StoreError

routes = Routes("Trace")

ALREADY_EXISTED: Final = Failure(200, "ALREADY_EXISTED", "<name> Already Exists")
DUPLICATE_CONDITION: Final = Failure(200, "DUPLICATE_CONDITION", "<name> Duplication Condition")
INCORRECT_PARAMS: Final = Failure(200, "INCORRECT_PARAMS", "A parameter is not as it must be")
NO_SUCH_TRACE: Final = Failure(200, "NOT_FOUND", "<name> NOT FOUND")
NO_SUCH_NODE: Final = Failure(200, "NOT_FOUND", "node not found")
NO_LOG: Final = Failure(200, "NOT_FOUND", "enoent")

_REFUSALS: Final = {"ALREADY_EXISTS": ALREADY_EXISTED, "DUPLICATE_CONDITION": DUPLICATE_CONDITION}
ZIP: Final = "application/octet-stream"

Answer = TypeVar("Answer")
Kind = Literal["clientid", "topic", "ip_address"]
KINDS: Final = ("clientid", "topic", "ip_address")
Time = Annotated[str | int, Meta(description="RFC 3339, or seconds since the epoch")]


class NewTraceQuery(Struct, kw_only=True):
    name: Annotated[str, Meta(description="`^[A-Za-z]+[A-Za-z0-9-_]*$`, at most 200 characters")] = ""
    type: Annotated[str, Meta(description="clientid, topic or ip_address: the parameter that says what is traced")] = ""
    clientid: str = ""
    topic: Annotated[str, Meta(description="Topic filter")] = ""
    ip_address: str = ""
    start_at: Time | None = None
    end_at: Time | None = None


class NodeQuery(Struct, kw_only=True):
    node: str | UnsetType = UNSET


class LogQuery(NodeQuery, kw_only=True):
    position: Annotated[int, Meta(ge=0, le=2**63 - 1, description="Bytes from the start")] = 0
    bytes: Annotated[int, Meta(ge=1, le=2**31 - 1, description="At most; a megabyte is the most at once")] = 1000


class TraceObject(Struct, kw_only=True):
    name: str
    type: Kind
    clientid: str | UnsetType = UNSET
    topic: str | UnsetType = UNSET
    ip_address: str | UnsetType = UNSET
    status: Literal["waiting", "running", "stopped"]
    start_at: str
    end_at: str
    log_size: Annotated[dict[str, int], Meta(description="Bytes by node")]


class Stopped(Struct):
    name: str
    enable: bool


class LogDetail(Struct):
    node: str
    size: Annotated[int, Meta(description="Bytes")]
    mtime: Annotated[int, Meta(description="Seconds since the epoch")]


class LogMeta(Struct):
    position: Annotated[int, Meta(description="Where to go on")]
    bytes: int


class LogPiece(Struct):
    meta: LogMeta
    items: Annotated[str, Meta(description="Empty at the end")]


@routes.get("/trace", "List traces, the latest start first")
async def list_traces(api: Api) -> Data[list[TraceObject]]:
    return Data([_shown(api, row) for row in await api.questions.traces.rows()])


@routes.post(
    "/trace",
    "Create a trace",
    failures=[INCORRECT_PARAMS, ALREADY_EXISTED, DUPLICATE_CONDITION, UNKNOWN_ERROR],
)
async def create_trace(api: Api, query: NewTraceQuery) -> Done:
    if query.type not in KINDS:
        raise INCORRECT_PARAMS.error(f"type must be one of {', '.join(KINDS)}")
    new = NewTrace(
        query.name,
        cast(Kind, query.type),
        getattr(query, query.type),
        _seconds("start_at", query.start_at),
        _seconds("end_at", query.end_at),
    )
    try:
        await api.questions.traces.create(new)
    except TraceRefused as error:
        raise _REFUSALS.get(error.code, INCORRECT_PARAMS).error(error.message) from None
    except StoreError as error:
        raise UNKNOWN_ERROR.error(str(error)) from None
    return Done()


@routes.delete("/trace", "Delete all traces and their logs")
async def clear_traces(api: Api) -> Done:
    await api.questions.traces.clear()
    return Done()


@routes.delete("/trace/:name", "Delete a trace and its log", failures=[NO_SUCH_TRACE])
async def delete_trace(api: Api, name: str) -> Done:
    if not await api.questions.traces.delete(name):
        raise _no_such_trace(name)
    return Done()


@routes.put("/trace/:name/stop", "Stop a trace", failures=[NO_SUCH_TRACE])
async def stop_trace(api: Api, name: str) -> Data[Stopped]:
    if not await api.questions.traces.stop(name):
        raise _no_such_trace(name)
    return Data(Stopped(name=name, enable=False))


@routes.get("/trace/:name/detail", "Size and time of the log", failures=[NO_SUCH_TRACE, NO_LOG])
async def trace_detail(api: Api, name: str) -> Data[list[LogDetail]]:
    row = await _look(name, api.questions.traces.detail(name))
    return Data([LogDetail(api.node_name, row.size, (row.mtime_ms or 0) // 1000)])


@routes.get(
    "/trace/:name/download",
    "Download the log as a zip",
    failures=[NO_SUCH_TRACE, NO_LOG],
    answers=[Documented(200, "A zip with the log", content_type=ZIP)],
)
async def trace_download(api: Api, name: str) -> Reply:
    packed = await _look(name, api.questions.traces.zipped(name))
    disposition = f'attachment; filename="{name}.zip"'  # there is such a trace, so the name is harmless
    return Reply(200, text=packed, content_type=ZIP, headers={"content-disposition": disposition})


@routes.get("/trace/:name/log", "Read a piece of the log", failures=[NO_SUCH_TRACE, NO_LOG, NO_SUCH_NODE])
async def trace_log(api: Api, name: str, query: LogQuery) -> Data[LogPiece]:
    if query.node is not UNSET and query.node != api.node_name:
        raise NO_SUCH_NODE.error()
    piece = await _look(name, api.questions.traces.read(name, query.position, query.bytes))
    return Data(LogPiece(LogMeta(piece.position, query.bytes), piece.text))


async def _look(name: str, asked: Awaitable[Answer | None]) -> Answer:
    try:
        found = await asked
    except FileNotFoundError:
        raise NO_LOG.error() from None
    except OSError as error:
        raise UNKNOWN_ERROR.error(f"the log cannot be read: {error.strerror or error}") from None
    if found is None:
        raise _no_such_trace(name)
    return found


def _no_such_trace(name: str) -> ApiError:
    return NO_SUCH_TRACE.error(f"{name} NOT FOUND")


def _seconds(name: str, value: str | int | None) -> int | None:
    if value is None:
        return None
    try:
        return seconds(name, value)
    except ApiError:
        raise INCORRECT_PARAMS.error(f"{name} must be an RFC 3339 time, or seconds since the epoch") from None


def _shown(api: Api, row: TraceRow) -> TraceObject:
    record = row.record
    return TraceObject(
        name=record.name,
        type=cast(Kind, record.type),
        status=row.status,
        start_at=rfc3339(record.start_at),
        end_at=rfc3339(record.end_at),
        log_size={api.node_name: row.size},
        **{record.type: record.value},
    )
