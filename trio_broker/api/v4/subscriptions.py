"""`/subscriptions` of EMQX 4: one row for each client and filter.

Invariant: shared subscriptions are shown in full, `$share/<group>/<filter>`, with `$queue` as the group of that name;
they are looked for by their filters without that.
"""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import unquote

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.questions import SubscriptionFilter, SubscriptionRow
from trio_broker.api.context import Api
from trio_broker.api.routes import Documented, Reply, Routes
from trio_broker.api.v4.envelope import BAD_PARAMETER, Data, Listed
from trio_broker.api.v4.paging import Paging, listing, page_meta
from trio_broker.api.v4.parameters import or_none
from trio_broker.protocol.topics import SHARE_PREFIX
from trio_broker.routing.subscription import Subscription

routes = Routes("Subscriptions")

ROWS: Final = 128
"""Rows between two turns of others: these are small."""
_PLAIN: Final = "text/plain"
_BAD_QOS: Final = Documented(400, "`qos` is no integer", content_type=_PLAIN)


class SubscriptionsQuery(Paging, kw_only=True):
    """With `topic` the rows are counted, and `_match_topic` does not count."""

    clientid: str | UnsetType = UNSET
    qos: Annotated[int | str, Meta(description="0, 1 or 2")] | UnsetType = UNSET
    share: Annotated[str, Meta(description="Only shared subscriptions of this group")] | UnsetType = UNSET
    topic: Annotated[str, Meta(description="Exact filter, without `$share/<group>/`")] | UnsetType = UNSET
    match_topic: Annotated[str, Meta(description="Filter that their filters must match")] | UnsetType = msgspec.field(
        name="_match_topic", default=UNSET
    )


class SubscriptionObject(Struct, kw_only=True):
    node: str
    clientid: str
    topic: str
    qos: int


@routes.get("/subscriptions", "A list of subscriptions in the cluster", failures=[BAD_PARAMETER], answers=[_BAD_QOS])
async def list_subscriptions(api: Api, query: SubscriptionsQuery) -> Listed[SubscriptionObject] | Reply:
    try:
        qos = None if query.qos is UNSET else int(query.qos)
    except ValueError:
        term = f'{{bad_value_type,{{<<"qos">>,<<"{str(query.qos)[:200]}">>,integer}}}}'
        return Reply(400, text=term, content_type=_PLAIN)
    counted = query.topic is not UNSET
    wanted = SubscriptionFilter(
        client_id=or_none(query.clientid),
        qos=qos,
        # It comes encoded once more than the others.
        match_filter=None if query.topic is UNSET else unquote(query.topic),
        match_topic=None if counted else or_none(query.match_topic),
        share_name=or_none(query.share),
    )
    page = await api.questions.subscription_page(wanted, query.offset, query.limit)
    meta = page_meta(query, page.count, counted=counted or wanted == SubscriptionFilter())

    def show(row: SubscriptionRow) -> SubscriptionObject:
        return _shown(api, row.client_id, row.subscription)

    return await listing(page.rows, show, meta, ROWS)


@routes.get(
    "/nodes/:node/subscriptions",
    "A list of subscriptions on a node",
    failures=[BAD_PARAMETER],
    answers=[_BAD_QOS],
)
async def list_node_subscriptions(api: Api, node: str, query: SubscriptionsQuery) -> Listed[SubscriptionObject] | Reply:
    api.check_node(node)
    return await list_subscriptions(api, query)


@routes.get("/subscriptions/:clientid", "A list of subscriptions of a client")
async def lookup_client_subscriptions(api: Api, clientid: str) -> Data[list[SubscriptionObject]] | Reply:
    subscriptions = await api.questions.client_subscriptions(clientid)
    return await listing(subscriptions or (), lambda held: _shown(api, clientid, held), step=ROWS)


@routes.get("/nodes/:node/subscriptions/:clientid", "A list of subscriptions of a client on the node")
async def lookup_client_subscriptions_with_node(
    api: Api, node: str, clientid: str
) -> Data[list[SubscriptionObject]] | Reply:
    api.check_node(node)
    return await lookup_client_subscriptions(api, clientid)


def _shown(api: Api, client_id: str, held: Subscription) -> SubscriptionObject:
    topic = held.match_filter if held.share_name is None else f"{SHARE_PREFIX}{held.share_name}/{held.match_filter}"
    return SubscriptionObject(node=api.node_name, clientid=client_id, topic=topic, qos=held.qos)
