"""`/topics`: the filters somebody is subscribed to.

Invariant: one row for each filter, however many subscribers it has.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.api.context import Api
from trio_broker.api.failures import Failure
from trio_broker.api.paging import PageOf, Paging, cut, encoded, page_meta
from trio_broker.api.routes import Reply, Routes
from trio_broker.errors import ProtocolError
from trio_broker.protocol.topics import parse_topic_filter

routes = Routes("Topics")

# The code is spelled this way by EMQX, and callers compare it.
BAD_FILTER: Final = Failure(400, "INVALID_PARAMTER", "topic_filter_invalid")
ROWS: Final = 256
"""Rows between two turns of others: these are tiny."""
TOPIC_NOT_FOUND: Final = Failure(404, "TOPIC_NOT_FOUND", "Topic not found")


class TopicsQuery(Paging, kw_only=True):
    topic: Annotated[str, Meta(description="Exact filter, shared ones in full")] | UnsetType = UNSET
    node: Annotated[str, Meta(description="Only this node")] | UnsetType = UNSET


class Topic(Struct):
    topic: str
    node: str


@routes.get("/topics", "List topics", failures=[BAD_FILTER])
async def list_topics(api: Api, query: TopicsQuery) -> PageOf[Topic] | Reply:
    is_here = query.node is UNSET or query.node == api.node_name
    if query.topic is not UNSET:
        _check(query.topic)
        topics = [query.topic] if is_here and await api.questions.has_topic(query.topic) else []
        return PageOf([Topic(topic, api.node_name) for topic in cut(topics, query)], page_meta(query, len(topics)))
    if not is_here:
        return PageOf([], page_meta(query, 0))
    topics, count = await api.questions.topic_page(query.offset, query.limit)
    data = await encoded(topics, lambda topic: Topic(topic, api.node_name), ROWS)
    return Reply(200, {"data": data, "meta": page_meta(query, count)})


@routes.get("/topics/:topic", "Lookup topic info by name", failures=[TOPIC_NOT_FOUND])
async def topic_by_name(api: Api, topic: str) -> list[Topic]:
    try:
        is_there = await api.questions.has_topic(topic)
    except ProtocolError:
        is_there = False  # nobody can be subscribed to it
    if not is_there:
        raise TOPIC_NOT_FOUND.error()
    return [Topic(topic, api.node_name)]


def _check(topic_filter: str) -> None:
    try:
        parse_topic_filter(topic_filter)
    except ProtocolError:
        raise BAD_FILTER.error() from None
