"""`/monitoring/listeners`: what is listened on, for clients and for this API.

Invariant: only what runs is listed, as EMQ 2 does.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from trio_broker.actors.machine import NO_LIMIT
from trio_broker.actors.questions import ListenerInfo, Runtime
from trio_broker.api.context import Api, DoorInfo
from trio_broker.api.formats import by_reason
from trio_broker.api.routes import Routes
from trio_broker.api.v2.envelope import Result
from trio_broker.protocol.reason_codes import ReasonCode

routes = Routes("Listeners")

DASHBOARD: Final = {"http": "dashboard:http", "https": "dashboard:https"}
"""What the doors of v5 are called; those of the older generations are all `mqtt:api`."""

REASONS: Final = {
    ReasonCode.SUCCESS: "normal",
    ReasonCode.UNSPECIFIED_ERROR: "tcp_closed",
    ReasonCode.KEEP_ALIVE_TIMEOUT: "keepalive_timeout",
    ReasonCode.SESSION_TAKEN_OVER: "conflict",
    ReasonCode.ADMINISTRATIVE_ACTION: "kicked",
}
"""EMQ 2's words for why a connection ended; the others are called as their reason codes are."""


class Listener(Struct, kw_only=True):
    protocol: str
    listen: str
    acceptors: int
    max_clients: int
    current_clients: int
    shutdown_count: dict[str, int] | list[int]  # a list where nothing was counted, as Erlang writes a table


@routes.get("/monitoring/listeners", "List the listeners of all nodes")
async def list_listeners(api: Api) -> Result[dict[str, list[Listener]]]:
    return Result({api.node_name: await _listeners(api)})


@routes.get("/monitoring/listeners/:node", "List the listeners of a node")
async def node_listeners(api: Api, node: str) -> Result[list[Listener]]:
    api.check_node(node)
    return Result(await _listeners(api))


async def _listeners(api: Api) -> list[Listener]:
    runtime = await api.questions.runtime()
    infos = [info for info in await api.questions.listeners() if info.running]
    return [*(_listener(info, runtime) for info in infos), *(_door(info) for info in api.doors())]


def _listener(info: ListenerInfo, runtime: Runtime) -> Listener:
    return Listener(
        protocol=f"mqtt:{info.kind}",
        listen=info.bind,
        acceptors=info.acceptors,
        max_clients=NO_LIMIT if info.max_connections is None else info.max_connections,
        current_clients=info.current_connections,
        shutdown_count=by_reason(runtime.disconnected.get(info.identifier, {}), REASONS) or [],
    )


def _door(info: DoorInfo) -> Listener:
    return Listener(
        protocol=DASHBOARD.get(info.name, "mqtt:api"),
        listen=info.bind,
        acceptors=1,
        max_clients=info.max_connections,
        current_clients=info.current_connections,
        shutdown_count=[],  # nobody counts why requests end
    )
