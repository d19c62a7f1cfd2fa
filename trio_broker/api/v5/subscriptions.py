"""`GET /subscriptions`: one row for each client and filter.

Invariant: the answer is a page (`data` and `meta`), as EMQX sends it, not the bare array of its published schema.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

from msgspec import UNSET, Meta, UnsetType

from trio_broker.actors.questions import SubscriptionFilter
from trio_broker.api.context import Api
from trio_broker.api.failures import INVALID_PARAMETER, NODE_DOWN
from trio_broker.api.paging import PageOf, Paging, encoded, page_meta
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.v5.subscription_object import SubscriptionObject, subscription_object
from trio_broker.errors import ProtocolError
from trio_broker.protocol.topics import SHARE_PREFIX, validate_topic_filter

routes = Routes("Subscriptions")

BAD_MATCH_TOPIC: Final = "match_topic_invalid"
ROWS: Final = 128
"""Rows between two turns of others: these are small."""

T = TypeVar("T")


class SubscriptionsQuery(Paging, kw_only=True):
    node: Annotated[str, Meta(description="Only this node")] | UnsetType = UNSET
    clientid: Annotated[str, Meta(description="Exact client id")] | UnsetType = UNSET
    qos: Annotated[int, Meta(ge=0, le=2)] | UnsetType = UNSET
    topic: (
        Annotated[
            str,
            Meta(description="Exact filter; the inner one of a shared subscription only together with `share_group`"),
        ]
        | UnsetType
    ) = UNSET
    match_topic: Annotated[str, Meta(description="Filter that their filters must match")] | UnsetType = UNSET
    share_group: Annotated[str, Meta(description="Only shared subscriptions of this group")] | UnsetType = UNSET
    durable: Annotated[bool, Meta(description="Sessions here are never durable in EMQX's sense")] | UnsetType = UNSET


@routes.get("/subscriptions", "List subscriptions", failures=[INVALID_PARAMETER, NODE_DOWN])
async def list_subscriptions(api: Api, query: SubscriptionsQuery) -> PageOf[SubscriptionObject] | Reply:
    if query.match_topic is not UNSET:
        _check_match_topic(query.match_topic)
    api.check_node_filter(query.node)
    if query.durable is True:
        return PageOf([], page_meta(query, 0, show_count=query.match_topic is UNSET))
    page = await api.questions.subscription_page(_filter(query), query.offset, query.limit)
    meta = page_meta(query, page.count, show_count=query.match_topic is UNSET)
    data = await encoded(page.rows, lambda row: subscription_object(api, row.client_id, row.subscription), ROWS)
    return Reply(200, {"data": data, "meta": meta})


def _check_match_topic(value: str) -> None:
    try:
        if value.startswith(SHARE_PREFIX):
            raise INVALID_PARAMETER.error(BAD_MATCH_TOPIC)
        validate_topic_filter(value)
    except ProtocolError:
        raise INVALID_PARAMETER.error(BAD_MATCH_TOPIC) from None


def _filter(query: SubscriptionsQuery) -> SubscriptionFilter:
    return SubscriptionFilter(
        client_id=_or_none(query.clientid),
        qos=_or_none(query.qos),
        topic=_or_none(query.topic),
        match_topic=_or_none(query.match_topic),
        share_name=_or_none(query.share_group),
    )


def _or_none(value: T | UnsetType) -> T | None:
    return None if value is UNSET else value
