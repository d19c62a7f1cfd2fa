"""`/nodes`: the one node there is, its figures from the broker and from the machine."""

from __future__ import annotations

from msgspec import Struct

from trio_broker.actors.machine import NO_LIMIT
from trio_broker.api.context import UNKNOWN_NODE, Api
from trio_broker.api.formats import memory
from trio_broker.api.routes import Routes
from trio_broker.api.v4.envelope import Data
from trio_broker.api.v4.formats import uptime

routes = Routes("Brokers and nodes")


class Node(Struct, kw_only=True):
    """`connections` are all sessions, `live_connections` those whose clients are connected."""

    node: str
    node_status: str = "Running"
    version: str
    otp_release: str
    uptime: str
    process_used: int
    process_available: int = NO_LIMIT  # tasks are bounded by memory only
    memory_used: str
    memory_total: str
    max_fds: int
    load1: str
    load5: str
    load15: str
    connections: int
    live_connections: int


@routes.get("/nodes", "List the nodes of the cluster")
async def list_nodes(api: Api) -> Data[list[Node]]:
    return Data([await _node(api)])


@routes.get("/nodes/:node", "Get a node", failures=[UNKNOWN_NODE])
async def node_by_name(api: Api, node: str) -> Data[Node]:
    api.check_node(node)
    return Data(await _node(api))


async def _node(api: Api) -> Node:
    info = await api.questions.node()
    load1, load5, load15 = (f"{load:.2f}" for load in info.load)
    return Node(
        node=info.name,
        version=api.level,
        otp_release=info.runtime,
        uptime=uptime(info.uptime_ms),
        process_used=info.tasks,
        memory_used=memory(info.memory_used),
        memory_total=memory(info.memory_total),
        max_fds=info.max_fds,
        load1=load1,
        load5=load5,
        load15=load15,
        connections=info.sessions,
        live_connections=info.connections,
    )
