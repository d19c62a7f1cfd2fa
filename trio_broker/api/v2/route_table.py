"""`/routes`: the filters somebody is subscribed to.

Invariant: one row for each filter, however many subscribers it has; shared ones are shown in full.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from trio_broker.api.context import Api
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.v2.envelope import Objects, Page, Result
from trio_broker.api.v2.paging import Paging, page
from trio_broker.errors import ProtocolError

routes = Routes("Routes")

ROWS: Final = 256
"""Rows between two turns of others: these are tiny."""


class TopicRoute(Struct, kw_only=True):
    topic: str
    node: str


@routes.get("/routes", "List all routes in the cluster")
async def list_routes(api: Api, query: Paging) -> Result[Page[TopicRoute]] | Reply:
    topics, count = await api.questions.topic_page(query.offset, query.limit)
    return await page(query, count, topics, lambda topic: TopicRoute(topic=topic, node=api.node_name), ROWS)


@routes.get("/routes/:topic", "Retrieve a route in the cluster")
async def route(api: Api, topic: str) -> Result[Objects[TopicRoute]]:
    try:
        is_there = await api.questions.has_topic(topic)
    except ProtocolError:
        is_there = False  # nobody can be subscribed to it
    return Result(Objects([TopicRoute(topic=topic, node=api.node_name)] if is_there else []))
