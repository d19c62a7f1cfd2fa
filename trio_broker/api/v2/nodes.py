"""`/management/nodes` and `/monitoring/nodes`: the one node there is, and its figures.

Invariant: it is always listed as running: what does not run does not answer.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from trio_broker.actors.machine import NO_LIMIT
from trio_broker.api.context import Api
from trio_broker.api.formats import memory
from trio_broker.api.routes import Routes
from trio_broker.api.v2.envelope import Result
from trio_broker.api.v2.formats import load, local_time, uptime

routes = Routes("Nodes")

SYSDESCR: Final = "EMQ X"


class Broker(Struct, kw_only=True):
    version: str
    sysdescr: str = SYSDESCR
    uptime: str
    datetime: str
    otp_release: str
    node_status: str = "Running"


class NamedBroker(Broker, kw_only=True):
    name: str


class Node(Struct, kw_only=True):
    name: str
    otp_release: str
    memory_total: str
    memory_used: str
    process_available: int = NO_LIMIT  # tasks are bounded by memory only
    process_used: int
    max_fds: int
    clients: int
    node_status: str = "Running"
    load1: str
    load5: str
    load15: str


@routes.get("/management/nodes", "List the brokers of the cluster")
async def list_brokers(api: Api) -> Result[list[NamedBroker]]:
    broker = await _broker(api)
    return Result(
        [
            NamedBroker(
                name=api.node_name,
                version=broker.version,
                uptime=broker.uptime,
                datetime=broker.datetime,
                otp_release=broker.otp_release,
            )
        ]
    )


@routes.get("/management/nodes/:node", "Get a broker")
async def broker_by_node(api: Api, node: str) -> Result[Broker]:
    api.check_node(node)
    return Result(await _broker(api))


@routes.get("/monitoring/nodes", "List the figures of all nodes")
async def list_nodes(api: Api) -> Result[list[Node]]:
    return Result([await _node(api)])


@routes.get("/monitoring/nodes/:node", "Get the figures of a node")
async def node_by_name(api: Api, node: str) -> Result[Node]:
    api.check_node(node)
    return Result(await _node(api))


async def _broker(api: Api) -> Broker:
    info = await api.questions.node()
    return Broker(
        version=api.level,
        uptime=uptime(info.uptime_ms),
        datetime=local_time(info.started_at + info.uptime_ms),
        otp_release=info.runtime,
    )


async def _node(api: Api) -> Node:
    info = await api.questions.node()
    load1, load5, load15 = map(load, info.load)
    return Node(
        name=info.name,
        otp_release=info.runtime,
        # EMQ 2 writes what is below a mebibyte as a part of one and calls it K; these are kibibytes.
        memory_total=memory(info.memory_total),
        memory_used=memory(info.memory_used),
        process_used=info.tasks,
        max_fds=info.max_fds,
        clients=info.connections,
        load1=load1,
        load5=load5,
        load15=load15,
    )
