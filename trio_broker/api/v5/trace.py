"""`/trace`: logs of what one client, one address or one topic sees.

Invariant: nothing is decided here; what a trace may be is said in `trio_broker.actors.trace_record`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.trace_record import MOST, NewTrace, TraceRefused
from trio_broker.actors.traces import TraceRow
from trio_broker.api.context import Api
from trio_broker.api.failures import UNAVAILABLE, ApiError, Failure, invalid
from trio_broker.api.formats import milliseconds
from trio_broker.api.routes import Routes
from trio_broker.errors import StoreError

routes = Routes("Trace")

ALREADY_EXISTS: Final = Failure(409, "ALREADY_EXISTS", "<name> Already Exists")
DUPLICATE_CONDITION: Final = Failure(409, "DUPLICATE_CONDITION", "<name> Duplication Condition")
BAD_TYPE: Final = Failure(409, "BAD_TYPE", "Traces of this type cannot be made here: there are no rules")
INVALID_PARAMS: Final = Failure(400, "INVALID_PARAMS", f"A value is not as it must be, or there are {MOST} traces")
NO_SUCH_TRACE: Final = Failure(404, "NOT_FOUND", "<name> NOT FOUND")

_REFUSALS: Final = {
    failure.code: failure for failure in (ALREADY_EXISTS, DUPLICATE_CONDITION, BAD_TYPE, INVALID_PARAMS)
}
_DIGITS: Final = re.compile(r"[0-9]{1,18}")

Kind = Literal["clientid", "topic", "ip_address", "ruleid"]
Time = Annotated[str, Meta(description="RFC 3339, or seconds since the epoch")]


class NewTraceBody(Struct, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(description="`^[A-Za-z]+[A-Za-z0-9-_]*$`, at most 200 characters")]
    type: Annotated[Kind, Meta(description="The field of this name says what is traced")]
    clientid: str | UnsetType = UNSET
    topic: Annotated[str, Meta(description="Topic filter")] | UnsetType = UNSET
    ip_address: str | UnsetType = UNSET
    ruleid: str | UnsetType = UNSET
    start_at: Time | int | UnsetType = UNSET
    end_at: Time | int | UnsetType = UNSET
    payload_encode: Literal["text", "hex", "hidden"] = "text"
    formatter: Literal["text", "json"] = "text"


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
    payload_encode: Literal["text", "hex", "hidden"]
    formatter: Literal["text", "json"]


class Stopped(Struct):
    enable: bool
    name: str


@routes.get("/trace", "List traces")
async def list_traces(api: Api) -> list[TraceObject]:
    return [_shown(api, row) for row in await api.questions.traces.rows()]


@routes.post("/trace", "Create a trace", failures=[INVALID_PARAMS, ALREADY_EXISTS, DUPLICATE_CONDITION, BAD_TYPE])
async def create_trace(api: Api, body: NewTraceBody) -> TraceObject:
    value = getattr(body, body.type)
    if value is UNSET:
        raise INVALID_PARAMS.error(f"type={body.type} required {body.type}")
    new = NewTrace(
        body.name,
        body.type,
        value,
        _seconds("root.start_at", body.start_at),
        _seconds("root.end_at", body.end_at),
        body.payload_encode,
        body.formatter,
    )
    try:
        return _shown(api, await api.questions.traces.create(new))
    except TraceRefused as refused:
        raise _REFUSALS[refused.code].error(refused.message) from None
    except StoreError as error:
        raise UNAVAILABLE.error(str(error)) from None


@routes.delete("/trace", "Delete all traces and their logs")
async def clear_traces(api: Api) -> None:
    await api.questions.traces.clear()


@routes.delete("/trace/:name", "Delete a trace and its log", failures=[NO_SUCH_TRACE])
async def delete_trace(api: Api, name: str) -> None:
    if not await api.questions.traces.delete(name):
        raise no_such_trace(name)


@routes.put("/trace/:name/stop", "Stop a trace", failures=[NO_SUCH_TRACE])
async def stop_trace(api: Api, name: str) -> Stopped:
    if not await api.questions.traces.stop(name):
        raise no_such_trace(name)
    return Stopped(enable=False, name=name)


def no_such_trace(name: str) -> ApiError:
    return NO_SUCH_TRACE.error(f"{name} NOT FOUND")


def _seconds(name: str, value: str | int | UnsetType) -> int | None:
    if value is UNSET:
        return None
    if isinstance(value, int):
        return value
    if _DIGITS.fullmatch(value):
        return int(value)
    try:
        return milliseconds(name, value) // 1000
    except ApiError:
        raise invalid(name, "Expected type epoch_second or RFC 3339 time", value=value[:200]) from None


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(timespec="seconds")


def _shown(api: Api, row: TraceRow) -> TraceObject:
    record = row.record
    return TraceObject(
        name=record.name,
        type=record.type,
        status=row.status,
        start_at=_rfc3339(record.start_at),
        end_at=_rfc3339(record.end_at),
        log_size={api.node_name: row.size},
        payload_encode=record.payload_encode,
        formatter=record.formatter,
        **{record.type: record.value},
    )
