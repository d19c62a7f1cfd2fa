"""`/alarms`: what is wrong now, and what was; times and durations in microseconds.

Invariant: deleting touches the past only; what is wrong stays on the list until it is over, or somebody says so.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

from trio_broker.actors.questions import AlarmRow
from trio_broker.api.context import UNKNOWN_NODE, Api
from trio_broker.api.routes import Routes
from trio_broker.api.v4.envelope import BAD_RPC, UNKNOWN_ERROR, Data, Done

routes = Routes("Alarms")

MICROSECONDS: Final = 1000
"""Of a millisecond."""


class Alarm(Struct, kw_only=True):
    name: str
    details: dict[str, Any]
    message: str
    activate_at: int
    deactivate_at: int | Literal["infinity"]
    activated: bool
    duration: int


class NodeAlarms(Struct, kw_only=True):
    node: str
    alarms: list[Alarm]


class Deactivation(Struct, kw_only=True):
    node: str
    name: str


@routes.get("/alarms", "List the alarms of now and of the past on all nodes")
async def list_alarms(api: Api) -> Data[list[NodeAlarms]]:
    return Data([NodeAlarms(node=api.node_name, alarms=await _alarms(api, True, False))])


@routes.get("/alarms/activated", "List the alarms of now on all nodes")
async def list_activated(api: Api) -> Data[list[NodeAlarms]]:
    return Data([NodeAlarms(node=api.node_name, alarms=await _alarms(api, True))])


@routes.get("/alarms/deactivated", "List the alarms of the past on all nodes")
async def list_deactivated(api: Api) -> Data[list[NodeAlarms]]:
    return Data([NodeAlarms(node=api.node_name, alarms=await _alarms(api, False))])


@routes.get("/nodes/:node/alarms", "List the alarms of now and of the past on a node", failures=[UNKNOWN_NODE])
async def node_alarms(api: Api, node: str) -> Data[list[Alarm]]:
    api.check_node(node)
    return Data(await _alarms(api, True, False))


@routes.get("/nodes/:node/alarms/activated", "List the alarms of now on a node", failures=[UNKNOWN_NODE])
async def node_activated(api: Api, node: str) -> Data[list[Alarm]]:
    api.check_node(node)
    return Data(await _alarms(api, True))


@routes.get("/nodes/:node/alarms/deactivated", "List the alarms of the past on a node", failures=[UNKNOWN_NODE])
async def node_deactivated(api: Api, node: str) -> Data[list[Alarm]]:
    api.check_node(node)
    return Data(await _alarms(api, False))


@routes.post("/alarms/deactivated", "Take an alarm for over", failures=[BAD_RPC, UNKNOWN_ERROR])
async def deactivate_alarm(api: Api, query: Deactivation) -> Done:
    if query.node != api.node_name:
        raise BAD_RPC.error()
    if not await api.questions.deactivate_alarm(query.name):
        raise UNKNOWN_ERROR.error("not_found")
    return Done()


@routes.delete("/alarms/deactivated", "Forget the alarms of the past on all nodes")
async def forget_alarms(api: Api) -> Done:
    await api.questions.forget_alarms()
    return Done()


@routes.delete("/nodes/:node/alarms/deactivated", "Forget the alarms of the past on a node", failures=[UNKNOWN_NODE])
async def forget_node_alarms(api: Api, node: str) -> Done:
    api.check_node(node)
    await api.questions.forget_alarms()
    return Done()


async def _alarms(api: Api, *activated: bool) -> list[Alarm]:
    alarms: list[Alarm] = []
    for is_active in activated:
        rows, now_ms = await api.questions.alarms(is_active)
        alarms += [_shown(row, now_ms) for row in rows]
    return alarms


def _shown(row: AlarmRow, now_ms: int) -> Alarm:
    end = now_ms if row.deactivate_at is None else row.deactivate_at
    return Alarm(
        name=row.name,
        details=row.details,
        message=row.message,
        activate_at=row.activate_at * MICROSECONDS,
        deactivate_at="infinity" if row.deactivate_at is None else row.deactivate_at * MICROSECONDS,
        activated=row.deactivate_at is None,
        duration=max(0, end - row.activate_at) * MICROSECONDS,
    )
