"""`GET /stats`: the gauges, each with its value now (`.count`) and its highest since the start (`.max`).

Invariant: gauges of durable sessions, which EMQX keeps back too, are not shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from trio_broker.api.context import Api
from trio_broker.api.routes import Routes

routes = Routes("Metrics")

Gauges: TypeAlias = dict[str, int]


class StatsQuery(Struct):
    aggregate: Annotated[bool, Meta(description="One object, sums over all nodes")] = False


@routes.get("/stats", "Get stats")
async def stats(api: Api, query: StatsQuery) -> Gauges | list[dict[str, str | int]]:
    gauges = shown_stats(await api.questions.stats())
    return gauges if query.aggregate else [{"node": api.node_name, **gauges}]


def shown_stats(gauges: Mapping[str, int]) -> Gauges:
    return {name: value for name, value in gauges.items() if not name.startswith("durable_subscriptions.")}
