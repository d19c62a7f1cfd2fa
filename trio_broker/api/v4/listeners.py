"""`/listeners`: where clients come in, and how often and why they went; and where this API is.

Invariant: what is restarted is configured as before.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, Struct, UnsetType

from trio_broker.actors.listener_settings import NoSuchListener
from trio_broker.actors.machine import NO_LIMIT
from trio_broker.actors.questions import ListenerInfo, Runtime
from trio_broker.api.context import UNKNOWN_NODE, Api, DoorInfo
from trio_broker.api.formats import by_reason
from trio_broker.api.routes import Documented, Reply, Routes
from trio_broker.api.updates import as_text, refusals
from trio_broker.api.v4.envelope import UNKNOWN_ERROR, Data, Done
from trio_broker.protocol.reason_codes import ReasonCode

routes = Routes("Listeners")

WEB_SOCKETS: Final = ("ws", "wss")
NOT_OURS: Final = "http_listener_restart_unsupported"

DASHBOARD: Final = {"http": "http:dashboard", "https": "https:dashboard"}
"""What the doors of v5 are called; those of the older generations are all `http:management`."""

REASONS: Final = {
    ReasonCode.SUCCESS: "normal",
    ReasonCode.UNSPECIFIED_ERROR: "tcp_closed",
    ReasonCode.KEEP_ALIVE_TIMEOUT: "keepalive_timeout",
    ReasonCode.SESSION_TAKEN_OVER: "takeovered",
    ReasonCode.ADMINISTRATIVE_ACTION: "kicked",
}
"""EMQX 4's words for why a connection ended; the others are called as their reason codes are."""


class Listener(Struct, kw_only=True):
    """`identifier` is what restarts it; those of WebSockets do not show it, and are `mqtt:ws:<name>`."""

    protocol: str
    listen_on: str
    identifier: str | UnsetType = UNSET
    acceptors: int
    max_conns: int
    current_conns: int
    shutdown_count: dict[str, int] | list[int]  # a list where nothing was counted, as Erlang writes a table


class NodeListeners(Struct, kw_only=True):
    node: str
    listeners: list[Listener]


@routes.get("/listeners", "List the listeners of all nodes")
async def list_listeners(api: Api) -> Data[list[NodeListeners]]:
    return Data([NodeListeners(node=api.node_name, listeners=await _listeners(api))])


@routes.get("/nodes/:node/listeners", "List the listeners of a node", failures=[UNKNOWN_NODE])
async def node_listeners(api: Api, node: str) -> Data[list[Listener]]:
    api.check_node(node)
    return Data(await _listeners(api))


@routes.put(
    "/listeners/:identifier/restart",
    "Restart a listener on all nodes, and close its connections",
    failures=[UNKNOWN_ERROR],
    answers=[Documented(403, "It is one of this API", str)],
)
async def restart_listener(api: Api, identifier: str) -> Done | Reply:
    if identifier.startswith("http"):
        return Reply(403, NOT_OURS)
    await _restart(api, identifier, f"{{restart,[{{'{api.node_name}',{{error,{_unknown(identifier)}}}}}]}}")
    return Done()


@routes.put(
    "/nodes/:node/listeners/:identifier/restart",
    "Restart a listener on a node, and close its connections",
    failures=[UNKNOWN_ERROR, UNKNOWN_NODE],
)
async def restart_node_listener(api: Api, node: str, identifier: str) -> Done:
    api.check_node(node)
    await _restart(api, identifier, _unknown(identifier))
    return Done()


def _unknown(identifier: str) -> str:
    return f'{{no_such_listener,"{identifier[:200]}"}}'


async def _restart(api: Api, identifier: str, unknown: str) -> None:
    """`unknown`: what is said where there is no such listener."""
    protocol, kind, name = (*identifier.split(":", 2), "", "")[:3]
    try:
        if protocol != "mqtt":
            raise NoSuchListener(identifier)
        with refusals(as_text(UNKNOWN_ERROR), UNKNOWN_ERROR):
            await api.questions.listener_settings.restart(kind, name)
    except NoSuchListener:
        raise UNKNOWN_ERROR.error(unknown) from None


async def _listeners(api: Api) -> list[Listener]:
    """Those that run: the others have no place in EMQX 4."""
    runtime = await api.questions.runtime()
    infos = await api.questions.listeners()
    return [*(_shown(info, runtime) for info in infos if info.running), *(_door(info) for info in api.doors())]


def _shown(info: ListenerInfo, runtime: Runtime) -> Listener:
    is_web = info.kind in WEB_SOCKETS
    last = info.bind.rpartition(":")[2] if is_web else ""
    return Listener(
        protocol=f"mqtt:{info.kind}:{last}" if is_web else f"mqtt:{info.kind}",
        listen_on=info.bind,
        identifier=UNSET if is_web else f"mqtt:{info.identifier}",
        acceptors=info.acceptors,
        max_conns=NO_LIMIT if info.max_connections is None else info.max_connections,
        current_conns=info.current_connections,
        shutdown_count=by_reason(runtime.disconnected.get(info.identifier, {}), REASONS) or [],
    )


def _door(info: DoorInfo) -> Listener:
    return Listener(
        protocol=DASHBOARD.get(info.name, "http:management"),
        listen_on=info.bind,
        acceptors=1,
        max_conns=info.max_connections,
        current_conns=info.current_connections,
        shutdown_count=[],  # nobody counts why requests end
    )
