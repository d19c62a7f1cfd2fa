"""`/trace/:name/log`, `/log_detail`, `/download`: what a trace has recorded.

Invariant: the log of a trace is found by the trace, never by a name that came from outside.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Final, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.api.context import Api
from trio_broker.api.failures import UNAVAILABLE, Failure
from trio_broker.api.routes import Documented, Reply, Routes
from trio_broker.api.v5.trace import NO_SUCH_TRACE, no_such_trace

routes = Routes("Trace")

NODE_ERROR: Final = Failure(404, "NODE_ERROR", "Node not found")
NO_LOG: Final = Failure(404, "NOT_FOUND", "The log file of the trace is gone")

ZIP: Final = "application/octet-stream"

Answer = TypeVar("Answer")


class NodeQuery(Struct, kw_only=True):
    node: str | UnsetType = UNSET


class LogQuery(NodeQuery, kw_only=True):
    position: Annotated[int, Meta(ge=0, le=2**63 - 1, description="Bytes from the start")] = 0
    bytes: Annotated[int, Meta(ge=1, le=2**31 - 1, description="At most; a megabyte is the most at once")] = 1000


class LogMeta(Struct):
    position: Annotated[int, Meta(description="Where to go on")]
    bytes: int


class LogPiece(Struct):
    meta: LogMeta
    items: Annotated[str, Meta(description="Empty at the end")]


class LogDetail(Struct):
    node: str
    size: Annotated[int, Meta(description="Bytes")]
    mtime: Annotated[int, Meta(description="Milliseconds since the epoch")]


@routes.get("/trace/:name/log", "Read a piece of the log", failures=[NO_SUCH_TRACE, NO_LOG, NODE_ERROR])
async def trace_log(api: Api, name: str, query: LogQuery) -> LogPiece:
    _check_node(api, query)
    piece = await _look(name, api.questions.traces.read(name, query.position, query.bytes))
    return LogPiece(LogMeta(piece.position, query.bytes), piece.text)


@routes.get("/trace/:name/log_detail", "Size and time of the log", failures=[NO_SUCH_TRACE, NO_LOG])
async def trace_log_detail(api: Api, name: str) -> list[LogDetail]:
    row = await _look(name, api.questions.traces.detail(name))
    return [LogDetail(api.node_name, row.size, row.mtime_ms or 0)]


@routes.get(
    "/trace/:name/download",
    "Download the log as a zip",
    failures=[NO_SUCH_TRACE, NO_LOG, NODE_ERROR],
    answers=[Documented(200, "A zip with the log", content_type=ZIP)],
)
async def trace_download(api: Api, name: str, query: NodeQuery) -> Reply:
    _check_node(api, query)
    packed = await _look(name, api.questions.traces.zipped(name))
    disposition = f'attachment; filename="{name}.zip"'  # there is such a trace, so the name is harmless
    return Reply(200, text=packed, content_type=ZIP, headers={"content-disposition": disposition})


def _check_node(api: Api, query: NodeQuery) -> None:
    if query.node is not UNSET and query.node != api.node_name:
        raise NODE_ERROR.error()


async def _look(name: str, asked: Awaitable[Answer | None]) -> Answer:
    try:
        found = await asked
    except FileNotFoundError:
        raise NO_LOG.error() from None
    except OSError as error:
        raise UNAVAILABLE.error(f"The log of {name} cannot be read: {error.strerror or error}") from None
    if found is None:
        raise no_such_trace(name)
    return found
