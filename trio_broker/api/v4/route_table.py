"""`/routes` of EMQX 4: the filters somebody is subscribed to.

Invariant: one row for each filter, however many subscribers it has, and one more for each shared group of it; groups
are not named.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from trio_broker.api.context import Api
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.v4.envelope import Data, Listed
from trio_broker.api.v4.paging import Paging, listing, page_meta
from trio_broker.protocol.topics import parse_topic_filter

routes = Routes("Routes")

ROWS: Final = 256
"""Rows between two turns of others: these are tiny."""


class RouteObject(Struct, kw_only=True):
    topic: str
    node: str


@routes.get("/routes", "List routes")
async def list_routes(api: Api, query: Paging) -> Listed[RouteObject] | Reply:
    topics, count = await api.questions.topic_page(query.offset, query.limit)

    def show(topic: str) -> RouteObject:
        return RouteObject(topic=parse_topic_filter(topic).match_filter, node=api.node_name)

    return await listing(topics, show, page_meta(query, count, hasnext=False), ROWS)


@routes.get("/routes/:topic", "Lookup routes to a topic")
async def lookup_routes(api: Api, topic: str) -> Data[list[RouteObject]]:
    names = await api.questions.share_names(topic)
    return Data([RouteObject(topic=topic, node=api.node_name)] * len(names))
