"""`/subscriptions` and `/nodes/:node/subscriptions`: one row for each client and filter."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from trio_broker.actors.questions import SubscriptionFilter, SubscriptionRow
from trio_broker.api.context import Api
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.v2.envelope import Objects, Page, Result
from trio_broker.api.v2.paging import MOST, Paging, found, page

routes = Routes("Subscriptions")

ROWS: Final = 128
"""Rows between two turns of others: these are small."""


class Subscription(Struct, kw_only=True):
    """`topic` is the filter, as it was subscribed to."""

    client_id: str
    topic: str
    qos: int


@routes.get("/nodes/:node/subscriptions", "List all subscriptions of a node")
async def list_subscriptions(api: Api, node: str, query: Paging) -> Result[Page[Subscription]] | Reply:
    api.check_node(node)
    held = await api.questions.subscription_page(SubscriptionFilter(), query.offset, query.limit)
    return await page(query, held.count, held.rows, _subscription, ROWS)


@routes.get("/nodes/:node/subscriptions/:client_id", "List subscriptions of a client on a node")
async def subscriptions_on_node(api: Api, node: str, client_id: str) -> Result[Objects[Subscription]] | Reply:
    api.check_node(node)
    return await subscriptions(api, client_id)


@routes.get("/subscriptions/:client_id", "List subscriptions of a client")
async def subscriptions(api: Api, client_id: str) -> Result[Objects[Subscription]] | Reply:
    held = await api.questions.subscription_page(SubscriptionFilter(client_id=client_id), 0, MOST)
    return await found(held.rows, _subscription, ROWS)


def _subscription(row: SubscriptionRow) -> Subscription:
    held = row.subscription
    return Subscription(client_id=row.client_id, topic=held.topic_filter, qos=held.qos)
