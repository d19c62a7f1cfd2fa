"""`GET /monitor_current`: rates and gauges of this moment, as dashboards and exporters ask for them.

Invariant: a rate is measured between two looks at the counters; the first caller waits a second for it.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from trio_broker.api.context import UNKNOWN_NODE, Api
from trio_broker.api.routes import Routes
from trio_broker.api.v5.stats import Gauges

routes = Routes("Metrics")


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
