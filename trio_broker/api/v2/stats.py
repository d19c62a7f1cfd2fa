"""`/monitoring/stats`: the gauges under EMQ 2's names, each with its value now and its highest since the start.

Invariant: exactly the 14 names of EMQ 2, sorted.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from trio_broker.api.context import Api
from trio_broker.api.routes import Routes
from trio_broker.api.v2.envelope import Result

routes = Routes("Metrics")

Gauges: TypeAlias = dict[str, int]

GAUGES: Final = {
    "clients": "live_connections",
    "retained": "retained",
    "routes": "topics",
    "sessions": "sessions",
    "subscribers": "subscribers",
    "subscriptions": "subscriptions",
    "topics": "topics",
}
"""EMQ 2's names, and the gauges that mean the same."""


@routes.get("/monitoring/stats", "Get the statistics of all nodes")
async def stats(api: Api) -> Result[dict[str, Gauges]]:
    return Result({api.node_name: await _gauges(api)})


@routes.get("/monitoring/stats/:node", "Get the statistics of a node")
async def node_stats(api: Api, node: str) -> Result[Gauges]:
    api.check_node(node)
    return Result(await _gauges(api))


async def _gauges(api: Api) -> Gauges:
    gauges = await api.questions.stats()
    return {f"{name}/{what}": gauges[f"{gauge}.{what}"] for name, gauge in GAUGES.items() for what in ("count", "max")}
