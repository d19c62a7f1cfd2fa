"""`GET /listeners`: where clients come in.

Invariant: a listener's id is `<type>:<name>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec import UNSET, Struct, UnsetType

from trio_broker.actors.questions import ListenerInfo
from trio_broker.api.context import Api
from trio_broker.api.failures import Failure, invalid
from trio_broker.api.routes import Routes
from trio_broker.api.v5.listener_body import Type

routes = Routes("Listeners")

LISTENER_NOT_FOUND: Final = Failure(404, "BAD_LISTENER_ID", "Listener id not found")

_ID: Final = re.compile(r"(tcp|ssl|ws|wss|quic|unix|memory):([A-Za-z0-9][A-Za-z0-9_-]{0,254})", re.ASCII)

Infinity = Literal["infinity"]
Inconsistent = Literal["inconsistent"]


class ListenersQuery(Struct):
    type: Type | UnsetType = UNSET


class ListenerStatus(Struct):
    running: bool | Inconsistent
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
    acceptors: int
    number: int = 1
    status: ListenerStatus
    node_status: list[NodeStatus]


class ListenerType(Struct, kw_only=True):
    """All listeners of one type; `name`, `bind` and `acceptors` are those of the first."""

    type: str
    enable: bool
    ids: list[str]
    name: str
    bind: str
    acceptors: int
    status: ListenerStatus
    node_status: list[NodeStatus]


@routes.get("/listeners", "List listeners")
async def list_listeners(api: Api, query: ListenersQuery) -> list[Listener]:
    listeners = await api.questions.listeners()
    return [_listener(api, info) for info in listeners if query.type in (UNSET, info.kind)]


@routes.get("/listeners_status", "Listeners by type")
async def listeners_status(api: Api) -> list[ListenerType]:
    by_kind: dict[str, list[ListenerInfo]] = {}
    for info in await api.questions.listeners():
        by_kind.setdefault(info.kind, []).append(info)
    return [_type(api, infos) for infos in by_kind.values()]


@routes.get("/listeners/:id", "Get a listener", failures=[LISTENER_NOT_FOUND])
async def listener_by_id(api: Api, id: str) -> dict[str, Any]:
    parse_id(id)
    return await listener_object(api, id)


def parse_id(id: str) -> tuple[str, str]:
    """Type and name; 400 for what cannot be an id."""
    parts = _ID.fullmatch(id)
    if parts is None:
        raise invalid("id", "Expected <type>:<name>", value=id[:200])
    return parts[1], parts[2]


async def listener_object(api: Api, id: str) -> dict[str, Any]:
    """The whole of one listener; 404 when there is none."""
    for info in await api.questions.listeners():
        if info.identifier == id:
            return {
                "acceptors": info.acceptors,
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
        acceptors=info.acceptors,
        status=status,
        node_status=[NodeStatus(api.node_name, status)],
    )


def _type(api: Api, infos: Sequence[ListenerInfo]) -> ListenerType:
    limits = [info.max_connections for info in infos if info.max_connections is not None]
    status = ListenerStatus(
        infos[0].running if len({info.running for info in infos}) == 1 else "inconsistent",
        sum(limits) if len(limits) == len(infos) else "infinity",
        sum(info.current_connections for info in infos),
    )
    return ListenerType(
        type=infos[0].kind,
        enable=any(info.enable for info in infos),
        ids=[info.identifier for info in infos],
        name=infos[0].name,
        bind=infos[0].bind,
        acceptors=infos[0].acceptors,
        status=status,
        node_status=[NodeStatus(api.node_name, status)],
    )


def _max_connections(info: ListenerInfo) -> int | Infinity:
    return "infinity" if info.max_connections is None else info.max_connections
