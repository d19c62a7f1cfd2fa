"""`/listeners`: where clients come in.

Invariant: a listener's id is `<type>:<name>`.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import UNSET, Struct, UnsetType

from trio_broker.actors.questions import ListenerInfo
from trio_broker.api.context import Api
from trio_broker.api.failures import Failure, invalid
from trio_broker.api.routes import Routes

routes = Routes("Listeners")

LISTENER_NOT_FOUND: Final = Failure(404, "BAD_LISTENER_ID", "Listener id not found")
KINDS: Final = ("tcp", "ssl", "ws", "wss", "quic", "unix", "memory")
ACCEPTORS: Final = 1
"""One task accepts for each listener."""

Infinity = Literal["infinity"]


class ListenersQuery(Struct):
    type: Literal["tcp", "ssl", "ws", "wss", "quic", "unix", "memory"] | UnsetType = UNSET


class ListenerStatus(Struct):
    running: bool
    max_connections: int | Infinity
    current_connections: int


class NodeStatus(Struct):
    node: str
    status: ListenerStatus


class Listener(Struct, kw_only=True):
    id: str
    type: str
    name: str
    enable: bool
    bind: str
    acceptors: int = ACCEPTORS
    number: int = 1
    status: ListenerStatus
    node_status: list[NodeStatus]


@routes.get("/listeners", "List listeners")
async def list_listeners(api: Api, query: ListenersQuery) -> list[Listener]:
    listeners = await api.questions.listeners()
    return [_listener(api, info) for info in listeners if query.type in (UNSET, info.kind)]


@routes.get("/listeners/:id", "Get a listener", failures=[LISTENER_NOT_FOUND])
async def listener_by_id(api: Api, id: str) -> dict[str, Any]:
    kind, colon, name = id.partition(":")
    if kind not in KINDS or not colon or not name:
        raise invalid("id", "Expected <type>:<name>", value=id[:200])
    for info in await api.questions.listeners():
        if info.identifier == id:
            return {
                "acceptors": ACCEPTORS,
                **info.configuration,
                "id": info.identifier,
                "type": info.kind,
                "name": info.name,
                "enable": info.enable,
                "bind": info.bind,
                "max_connections": _max_connections(info),
                "running": info.running,
                "current_connections": info.current_connections,
            }
    raise LISTENER_NOT_FOUND.error()


def _listener(api: Api, info: ListenerInfo) -> Listener:
    status = ListenerStatus(info.running, _max_connections(info), info.current_connections)
    return Listener(
        id=info.identifier,
        type=info.kind,
        name=info.name,
        enable=info.enable,
        bind=info.bind,
        status=status,
        node_status=[NodeStatus(api.node_name, status)],
    )


def _max_connections(info: ListenerInfo) -> int | Infinity:
    return "infinity" if info.max_connections is None else info.max_connections
