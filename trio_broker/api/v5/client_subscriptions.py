"""`/clients/:clientid/subscriptions`, `subscribe` and `unsubscribe`, one by one and in bulk.

Invariant: access rules are not asked (who may call this may do anything); no SUBACK goes to the client.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.api.context import Api
from trio_broker.api.failures import CLIENT_NOT_FOUND, INVALID_PARAMETER
from trio_broker.api.paging import each
from trio_broker.api.routes import Routes
from trio_broker.api.v5.subscription_object import (
    SubscriptionObject,
    checked_filter,
    subscription_object,
)
from trio_broker.errors import ProtocolError
from trio_broker.protocol.topics import parse_topic_filter
from trio_broker.routing.subscription import Subscription

routes = Routes("Clients")

# [MQTT-3.8.3-4]
NO_LOCAL_SHARED: Final = "Invalid Subscribe options: `no_local` not allowed for shared-sub. See [MQTT-3.8.3-4]"

Flag = Annotated[int, Meta(ge=0, le=1)]


class SubscribeBody(Struct, kw_only=True, forbid_unknown_fields=True):
    topic: str
    qos: Annotated[int, Meta(ge=0, le=2)] = 0
    nl: Flag = 0
    rap: Flag = 0
    rh: Annotated[int, Meta(ge=0, le=2)] = 0


class Subscribed(Struct, kw_only=True):
    clientid: str
    node: str
    topic: str
    qos: int
    nl: int
    rap: int
    rh: int


class NotSubscribed(Struct):
    """`data` is client id, topic and options, as they were asked for."""

    data: tuple[str, str, dict[str, int]]
    reason: str


class PartlySubscribed(Struct):
    succeed: list[Subscribed]
    failed: list[NotSubscribed]


class UnsubscribeBody(Struct, kw_only=True, forbid_unknown_fields=True):
    topic: str


class UnsubscribeItem(Struct, kw_only=True, forbid_unknown_fields=True):
    topic: str | UnsetType = UNSET


@routes.get("/clients/:clientid/subscriptions", "Get client subscriptions", failures=[CLIENT_NOT_FOUND])
async def client_subscriptions(api: Api, clientid: str) -> list[SubscriptionObject]:
    subscriptions = await api.questions.client_subscriptions(clientid)
    if subscriptions is None:
        raise CLIENT_NOT_FOUND.error()
    return await each(subscriptions, lambda subscription: subscription_object(api, clientid, subscription))


@routes.post("/clients/:clientid/subscribe", "Subscribe", failures=[CLIENT_NOT_FOUND, INVALID_PARAMETER])
async def subscribe(api: Api, clientid: str, body: SubscribeBody) -> Subscribed:
    checked_filter(body.topic, "root.topic")
    if await api.questions.client(clientid) is None:
        raise CLIENT_NOT_FOUND.error()
    subscription = _subscription(body)
    if subscription.no_local and subscription.share_name is not None:
        raise INVALID_PARAMETER.error(NO_LOCAL_SHARED)
    if not await api.questions.subscribe(clientid, subscription):
        raise CLIENT_NOT_FOUND.error()
    return _subscribed(api, clientid, body)


@routes.post("/clients/:clientid/subscribe/bulk", "Subscribe bulk", failures=[CLIENT_NOT_FOUND])
async def subscribe_bulk(api: Api, clientid: str, body: list[SubscribeBody]) -> list[Subscribed] | PartlySubscribed:
    if await api.questions.client(clientid) is None:
        raise CLIENT_NOT_FOUND.error()
    succeed: list[Subscribed] = []
    failed: list[NotSubscribed] = []
    for item in body:
        reason = await _try_to_subscribe(api, clientid, item)
        if reason is None:
            succeed.append(_subscribed(api, clientid, item))
        else:
            options = {"qos": item.qos, "nl": item.nl, "rap": item.rap, "rh": item.rh}
            failed.append(NotSubscribed((clientid, item.topic, options), reason))
    return PartlySubscribed(succeed, failed) if failed else succeed


@routes.post("/clients/:clientid/unsubscribe", "Unsubscribe", failures=[CLIENT_NOT_FOUND])
async def unsubscribe(api: Api, clientid: str, body: UnsubscribeBody) -> None:
    if not await api.questions.unsubscribe(clientid, body.topic):
        raise CLIENT_NOT_FOUND.error()


@routes.post("/clients/:clientid/unsubscribe/bulk", "Unsubscribe bulk", failures=[CLIENT_NOT_FOUND])
async def unsubscribe_bulk(api: Api, clientid: str, body: list[UnsubscribeItem]) -> None:
    if await api.questions.client(clientid) is None:
        raise CLIENT_NOT_FOUND.error()
    for item in body:
        if item.topic is not UNSET:
            await api.questions.unsubscribe(clientid, item.topic)


async def _try_to_subscribe(api: Api, client_id: str, item: SubscribeBody) -> str | None:
    """Why it was not done; None when it was."""
    try:
        subscription = _subscription(item)
    except ProtocolError as error:
        return f"topic_filter_invalid: {error.message}"
    if subscription.no_local and subscription.share_name is not None:
        return NO_LOCAL_SHARED
    if not await api.questions.subscribe(client_id, subscription):
        return CLIENT_NOT_FOUND.message
    return None


def _subscription(body: SubscribeBody) -> Subscription:
    """Raises ProtocolError where the filter is not well formed."""
    share_name, match_filter = parse_topic_filter(body.topic)
    return Subscription(
        topic_filter=body.topic,
        match_filter=match_filter,
        share_name=share_name,
        qos=body.qos,
        no_local=body.nl == 1,
        retain_as_published=body.rap == 1,
        retain_handling=body.rh,
    )


def _subscribed(api: Api, client_id: str, body: SubscribeBody) -> Subscribed:
    return Subscribed(
        clientid=client_id,
        node=api.node_name,
        topic=body.topic,
        qos=body.qos,
        nl=body.nl,
        rap=body.rap,
        rh=body.rh,
    )
