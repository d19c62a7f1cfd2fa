"""What this broker has none of: rules, bridges; and its cluster of one.

Invariant: these answers are true. Exporters and dashboards ask for them and stop working without an answer.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from trio_broker.api.context import Api
from trio_broker.api.paging import PageOf, Paging, page_meta
from trio_broker.api.routes import Routes

routes = Routes("Others")


class Cluster(Struct):
    name: str
    nodes: list[str]
    self: str


@routes.get("/rules", "List rules")
async def list_rules(api: Api, query: Paging) -> PageOf[dict[str, Any]]:
    return PageOf([], page_meta(query, 0))


@routes.get("/bridges", "List bridges")
async def list_bridges(api: Api) -> list[dict[str, Any]]:
    return []


@routes.get("/cluster", "The cluster this node is in")
async def cluster(api: Api) -> Cluster:
    return Cluster("trio_broker", [api.node_name], api.node_name)
