"""`/mqtt/subscribe`, `/mqtt/unsubscribe` and their batches: subscriptions of a client that others make.

Invariant: access rules are not asked, and no SUBACK goes to the client. The elements of a batch stand each for itself,
and one comes after the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import trio
from msgspec import Struct

from trio_broker.api.context import Api
from trio_broker.api.failures import ApiError, Failure
from trio_broker.api.paging import select
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.v4.envelope import BAD_PARAMETER, BAD_QOS, BAD_TOPIC, NOT_FOUND, Data, Done
from trio_broker.api.v4.formats import UNDEFINED, echoed
from trio_broker.api.v4.paging import listing
from trio_broker.api.v4.parameters import Parameters
from trio_broker.api.v4.taken import Subscribing, Unsubscribing
from trio_broker.api.v4.topics import NO_CLIENT_ID, is_topic_filter, qos_of, said_of_topics, topics_of
from trio_broker.protocol.topics import parse_topic_filter
from trio_broker.routing.subscription import Subscription

routes = Routes("Publish and subscribe")

NO_CLIENT: Final = Failure(200, NOT_FOUND.code, "channel_not_found")


class SubscribeOutcome(Struct):
    """Of an element of a batch; client id and topic as they were sent."""

    clientid: Any
    topic: Any
    code: int


@routes.post(
    "/mqtt/subscribe",
    "Subscribe a client to one topic filter or several",
    failures=[BAD_PARAMETER, NO_CLIENT_ID, BAD_TOPIC, BAD_QOS, NO_CLIENT],
    takes=Subscribing,
)
async def subscribe(api: Api, params: Parameters) -> Done:
    await _subscribe(api, _one(params))
    return Done()


@routes.post(
    "/mqtt/subscribe_batch",
    "Make a batch of subscriptions",
    failures=[BAD_PARAMETER],
    takes=list[Subscribing],
)
async def subscribe_batch(api: Api, params: Parameters) -> Reply | Data[list[SubscribeOutcome]]:
    return await _each(api, params, _subscribe)


@routes.post(
    "/mqtt/unsubscribe",
    "Unsubscribe a client from a topic filter",
    failures=[BAD_PARAMETER, NO_CLIENT_ID, BAD_TOPIC, NO_CLIENT],
    takes=Unsubscribing,
)
async def unsubscribe(api: Api, params: Parameters) -> Done:
    await _unsubscribe(api, _one(params))
    return Done()


@routes.post(
    "/mqtt/unsubscribe_batch",
    "End a batch of subscriptions",
    failures=[BAD_PARAMETER],
    takes=list[Unsubscribing],
)
async def unsubscribe_batch(api: Api, params: Parameters) -> Reply | Data[list[SubscribeOutcome]]:
    return await _each(api, params, _unsubscribe)


async def _subscribe(api: Api, params: Mapping[str, Any]) -> None:
    """To those of the filters that are well formed; 108, 115, 116 or 112 where it cannot be done."""
    client_id = _client_id(params)
    try:
        wanted = await select(topics_of(params), is_topic_filter)
    except TypeError:
        raise BAD_TOPIC.error() from None
    except ValueError:
        raise BAD_PARAMETER.error() from None
    if not wanted:
        raise BAD_TOPIC.error()
    qos = qos_of(params)
    if qos is None:
        raise BAD_QOS.error()
    for topic_filter in wanted:
        share_name, match_filter = parse_topic_filter(topic_filter)
        subscription = Subscription(
            topic_filter=topic_filter, match_filter=match_filter, share_name=share_name, qos=qos
        )
        if not await api.questions.subscribe(client_id, subscription):
            raise NO_CLIENT.error()


async def _unsubscribe(api: Api, params: Mapping[str, Any]) -> None:
    client_id = _client_id(params)
    topic_filter = params.get("topic")
    if not isinstance(topic_filter, str) or not is_topic_filter(topic_filter):
        raise BAD_TOPIC.error()
    if not await api.questions.unsubscribe(client_id, topic_filter):
        raise NO_CLIENT.error()


async def _each(api: Api, params: Parameters, call: Callable[[Api, Mapping[str, Any]], Awaitable[None]]) -> Reply:
    if params.batch is None:
        raise BAD_PARAMETER.error()
    outcomes: list[SubscribeOutcome] = []
    for item in params.batch:
        said: Mapping[str, Any] = item if isinstance(item, dict) else {}
        code = 0
        try:
            await call(api, said)
        except ApiError as error:
            body: Any = error.body
            code = body["code"]
            await trio.lowlevel.checkpoint()
        client_id, topic = echoed(said.get("clientid", UNDEFINED)), echoed(said_of_topics(said, UNDEFINED))
        outcomes.append(SubscribeOutcome(client_id, topic, code))
    return await listing(outcomes, lambda outcome: outcome)


def _one(params: Parameters) -> Parameters:
    if params.batch is not None:
        raise BAD_PARAMETER.error()
    return params


def _client_id(params: Mapping[str, Any]) -> str:
    client_id = params.get("clientid")
    if not isinstance(client_id, str):
        raise NO_CLIENT_ID.error()
    return client_id
