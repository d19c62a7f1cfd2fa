"""`/nodes`: this node, its figures from the broker and from the machine.

Invariant: there is one node, and it is always listed as running: what does not run does not answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct

from trio_broker.actors.machine import NO_LIMIT
from trio_broker.api.context import UNKNOWN_NODE, Api
from trio_broker.api.formats import memory
from trio_broker.api.routes import Routes
from trio_broker.api.v5.metrics import Counters, shown_counters
from trio_broker.api.v5.stats import Gauges, shown_stats

routes = Routes("Nodes")

NO_LOG_FILE: Final = "No log file is configured; the log goes to standard error."
PACKAGE: Final = str(Path(__file__).parents[2])


class Node(Struct, kw_only=True):
    node: str
    node_status: str = "running"
    role: str = "core"
    version: str
    trio_broker_version: str
    edition: str = "Opensource"
    uptime: int
    otp_release: str
    connections: int
    live_connections: int
    cluster_sessions: int
    load1: float
    load5: float
    load15: float
    max_fds: int
    memory_total: str
    memory_used: str
    process_available: int = NO_LIMIT  # tasks are bounded by memory only
    process_used: int
    sys_path: str
    log_path: str


@routes.get("/nodes", "List nodes")
async def list_nodes(api: Api) -> list[Node]:
    return [await _node(api)]


@routes.get("/nodes/:node", "Get node info", failures=[UNKNOWN_NODE])
async def node_by_name(api: Api, node: str) -> Node:
    api.check_node(node)
    return await _node(api)


@routes.get("/nodes/:node/metrics", "Get node metrics", failures=[UNKNOWN_NODE])
async def node_metrics(api: Api, node: str) -> Counters:
    api.check_node(node)
    return shown_counters(await api.questions.metrics())


@routes.get("/nodes/:node/stats", "Get node stats", failures=[UNKNOWN_NODE])
async def node_stats(api: Api, node: str) -> Gauges:
    api.check_node(node)
    return shown_stats(await api.questions.stats())


async def _node(api: Api) -> Node:
    info = await api.questions.node()
    load1, load5, load15 = (round(load, 2) for load in info.load)
    return Node(
        node=info.name,
        version=api.level,
        trio_broker_version=api.questions.broker_version,
        uptime=info.uptime_ms,
        otp_release=info.runtime,
        connections=info.sessions,
        live_connections=info.connections,
        cluster_sessions=info.sessions,
        load1=load1,
        load5=load5,
        load15=load15,
        max_fds=info.max_fds,
        memory_total=memory(info.memory_total),
        memory_used=memory(info.memory_used),
        process_used=info.tasks,
        sys_path=PACKAGE,
        log_path=NO_LOG_FILE if info.log_path is None else info.log_path,
    )
