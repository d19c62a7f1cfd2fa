"""`GET /metrics`: the counters since the start.

Invariant: names with dots are flat keys; the collector says what they are, nothing is added here but `node`. What only
this broker counts is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.api.context import Api
from trio_broker.api.routes import Routes
from trio_broker.session.meter import OWN_METRIC_NAMES

routes = Routes("Metrics")

Counters: TypeAlias = dict[str, int]


class MetricsQuery(Struct):
    aggregate: Annotated[bool, Meta(description="One object, sums over all nodes")] = False
    node: Annotated[str, Meta(description="Only this node; not with `aggregate`")] | UnsetType = UNSET


@routes.get("/metrics", "Get metrics")
async def metrics(api: Api, query: MetricsQuery) -> Counters | list[dict[str, str | int]]:
    counters = shown_counters(await api.questions.metrics())
    if query.aggregate:
        return counters
    if query.node is not UNSET and query.node != api.node_name:
        return []
    return [{"node": api.node_name, **counters}]


def shown_counters(counters: Mapping[str, int]) -> Counters:
    return {name: value for name, value in counters.items() if name not in OWN_METRIC_NAMES}
