"""`/monitor`: the samples of the last week for charts; `GET /monitor_current`: rates and gauges of this moment.

Invariant: a rate is measured between two looks at the counters; the first caller waits a second for it. What is in a
sample was counted then; where there is none, only the time is shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.monitor import COUNTERS, GAUGES, Sample
from trio_broker.api.context import UNKNOWN_NODE, Api
from trio_broker.api.paging import encoded
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.v5.stats import Gauges

routes = Routes("Metrics")

ROWS: Final = 128
"""Samples between two turns of others: less than half a millisecond."""


class MonitorQuery(Struct):
    latest: Annotated[int, Meta(ge=1, description="Seconds; without it all that is kept, up to a week")] | UnsetType = (
        UNSET
    )


class Row(Struct, kw_only=True, omit_defaults=True):
    """A sample; a gap has only `time_stamp` (milliseconds, at a full mark of the clock).

    `received` to `persisted` were counted since the sample before it; the others are as they were at that time.
    """

    time_stamp: int
    received: int | UnsetType = UNSET
    sent: int | UnsetType = UNSET
    dropped: int | UnsetType = UNSET
    validation_succeeded: int | UnsetType = UNSET
    validation_failed: int | UnsetType = UNSET
    transformation_succeeded: int | UnsetType = UNSET
    transformation_failed: int | UnsetType = UNSET
    persisted: int | UnsetType = UNSET
    disconnected_durable_sessions: int | UnsetType = UNSET
    subscriptions_durable: int | UnsetType = UNSET
    subscriptions: int | UnsetType = UNSET
    subscriptions_ram: int | UnsetType = UNSET
    topics: int | UnsetType = UNSET
    connections: int | UnsetType = UNSET
    live_connections: int | UnsetType = UNSET


class _Current(Struct, kw_only=True):
    received_msg_rate: int
    sent_msg_rate: int
    dropped_msg_rate: int
    persisted_rate: int
    validation_succeeded_rate: int
    validation_failed_rate: int
    transformation_succeeded_rate: int
    transformation_failed_rate: int
    subscriptions: int
    topics: int
    connections: int
    live_connections: int
    retained_msg_count: int
    shared_subscriptions: int


class ClusterCurrent(_Current, kw_only=True):
    subscriptions_ram: int
    subscriptions_durable: int = 0
    disconnected_durable_sessions: int = 0


class NodeCurrent(_Current, kw_only=True):
    node_uptime: int


@routes.get("/monitor", "Samples of the cluster for charts")
async def monitor(api: Api, query: MonitorQuery) -> list[Row] | Reply:
    return await _rows(api, query, _row_of_cluster)


@routes.get("/monitor/nodes/:node", "Samples of a node for charts", failures=[UNKNOWN_NODE])
async def monitor_node(api: Api, node: str, query: MonitorQuery) -> list[Row] | Reply:
    api.check_node(node)
    return await _rows(api, query, _row)


@routes.delete("/monitor", "Forget all samples")
async def forget_monitor(api: Api) -> None:
    api.questions.monitor.history.clear()


async def _rows(api: Api, query: MonitorQuery, make: Callable[[Sample | int], Row]) -> Reply:
    latest = math.inf if query.latest is UNSET else query.latest
    return Reply(200, await encoded(api.questions.monitor.rows(latest), make, ROWS))


def _row(sample: Sample | int) -> Row:
    if isinstance(sample, int):
        return Row(time_stamp=sample)
    figures = dict(zip((*COUNTERS, *GAUGES), (*sample.counted, *sample.gauges), strict=True))
    return Row(time_stamp=sample.time_stamp, disconnected_durable_sessions=0, subscriptions_durable=0, **figures)


def _row_of_cluster(sample: Sample | int) -> Row:
    row = _row(sample)
    row.subscriptions_ram = row.subscriptions
    return row


@routes.get("/monitor_current", "Current rates and gauges of the cluster")
async def monitor_current(api: Api) -> ClusterCurrent:
    rate = await api.rates.measure(api.questions.metrics)
    gauges = await api.questions.stats()
    return ClusterCurrent(**_figures(rate, gauges), subscriptions_ram=gauges["subscriptions.count"])


@routes.get("/monitor_current/nodes/:node", "Current rates and gauges of a node", failures=[UNKNOWN_NODE])
async def monitor_current_node(api: Api, node: str) -> NodeCurrent:
    api.check_node(node)
    rate = await api.rates.measure(api.questions.metrics)
    gauges = await api.questions.stats()
    return NodeCurrent(**_figures(rate, gauges), node_uptime=(await api.questions.node()).uptime_ms)


def _figures(rate: Callable[[str], int], gauges: Gauges) -> dict[str, int]:
    return {
        "received_msg_rate": rate("messages.received"),
        "sent_msg_rate": rate("messages.sent"),
        "dropped_msg_rate": rate("messages.dropped"),
        "persisted_rate": rate("messages.persisted"),
        "validation_succeeded_rate": rate("messages.validation_succeeded"),
        "validation_failed_rate": rate("messages.validation_failed"),
        "transformation_succeeded_rate": rate("messages.transformation_succeeded"),
        "transformation_failed_rate": rate("messages.transformation_failed"),
        "subscriptions": gauges["subscriptions.count"],
        "topics": gauges["topics.count"],
        "connections": gauges["connections.count"],
        "live_connections": gauges["live_connections.count"],
        "retained_msg_count": gauges["retained.count"],
        "shared_subscriptions": gauges["subscriptions.shared.count"],
    }
