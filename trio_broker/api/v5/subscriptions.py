"""`GET /subscriptions`: one row for each client and filter.

Invariant: the answer is a page (`data` and `meta`), as EMQX sends it, not the bare array of its published schema.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from trio_broker.actors.questions import SubscriptionRow
from trio_broker.api.context import Api
from trio_broker.api.failures import INVALID_PARAMETER, NODE_DOWN
from trio_broker.api.paging import PageOf, Paging, cut, each, page_meta, select
from trio_broker.api.routes import Routes
from trio_broker.api.v5.subscription_object import SubscriptionObject, subscription_object
from trio_broker.errors import ProtocolError
from trio_broker.protocol.topics import SHARE_PREFIX, matches, validate_topic_filter

routes = Routes("Subscriptions")

BAD_MATCH_TOPIC: Final = "match_topic_invalid"


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
async def list_subscriptions(api: Api, query: SubscriptionsQuery) -> PageOf[SubscriptionObject]:
    if query.match_topic is not UNSET:
        _check_match_topic(query.match_topic)
    api.check_node_filter(query.node)
    rows = await api.questions.subscriptions()
    if _filters(query):
        rows = await select(rows, lambda row: _wanted(row, query))
    data = await each(cut(rows, query), lambda row: subscription_object(api, row.client_id, row.subscription))
    return PageOf(data, page_meta(query, len(rows), show_count=query.match_topic is UNSET))


def _check_match_topic(value: str) -> None:
    try:
        if value.startswith(SHARE_PREFIX):
            raise INVALID_PARAMETER.error(BAD_MATCH_TOPIC)
        validate_topic_filter(value)
    except ProtocolError:
        raise INVALID_PARAMETER.error(BAD_MATCH_TOPIC) from None


def _filters(query: SubscriptionsQuery) -> bool:
    parts = (query.clientid, query.qos, query.topic, query.match_topic, query.share_group, query.durable)
    return any(part is not UNSET for part in parts)


def _wanted(row: SubscriptionRow, query: SubscriptionsQuery) -> bool:
    subscription = row.subscription
    if query.durable is True:
        return False
    if query.clientid is not UNSET and row.client_id != query.clientid:
        return False
    if query.qos is not UNSET and subscription.qos != query.qos:
        return False
    if query.share_group is not UNSET and subscription.share_name != query.share_group:
        return False
    if query.topic is not UNSET:
        compared = subscription.topic_filter if query.share_group is UNSET else subscription.match_filter
        if compared != query.topic:
            return False
    # The filter of the subscription is taken as a topic name here.
    return query.match_topic is UNSET or matches(query.match_topic, subscription.match_filter)
