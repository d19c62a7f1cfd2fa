"""`/mqtt`: publish a message, subscribe and unsubscribe on behalf of a client.

Invariant: access rules are not asked; no SUBACK goes to the client.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from trio_broker.actors.questions import NewMessage
from trio_broker.api.context import Api
from trio_broker.api.failures import ApiError, Failure
from trio_broker.api.new_messages import check_string, estimated_size
from trio_broker.api.routes import PUBLISHERS, Routes
from trio_broker.api.v2.envelope import UNKNOWN_ERROR, WRONG_TYPE, Result
from trio_broker.errors import ProtocolError
from trio_broker.protocol.packets import NO_PROPERTIES
from trio_broker.protocol.topics import TopicFilterParts, parse_topic_filter, validate_topic_name
from trio_broker.routing.subscription import Subscription

routes = Routes("Messages")

LONGEST_TOPIC: Final = 4096
"""Bytes."""

_TOO_LARGE: Final = Failure(200, UNKNOWN_ERROR.code, "packet_too_large")
_NO_CLIENT: Final = Failure(200, UNKNOWN_ERROR.code, "Clientid: <id> not found")
_BAD_TOPIC: Final = Failure(200, UNKNOWN_ERROR.code, "validate topic: <topic> fail")

QoS = Annotated[int, Meta(ge=0, le=2)]


class PublishBody(Struct, kw_only=True):
    topic: Annotated[str, Meta(description="Topic name, without wildcards")]
    payload: str = ""
    qos: QoS = 0
    retain: bool = False
    client_id: Annotated[str, Meta(description="Who sends it; need not be connected")] = "http"


class SubscribeBody(Struct, kw_only=True):
    client_id: str
    topic: Annotated[str, Meta(description="Topic filter")]
    qos: QoS = 0


class UnsubscribeBody(Struct, kw_only=True):
    client_id: str
    topic: Annotated[str, Meta(description="Topic filter")]


@routes.post("/mqtt/publish", "Publish an MQTT message", access=PUBLISHERS, failures=[_BAD_TOPIC, _TOO_LARGE])
async def publish(api: Api, body: PublishBody) -> Result[list[None]]:
    try:
        validate_topic_name(body.topic)
    except ProtocolError:
        raise _bad_topic(body.topic) from None
    _check_length(body.topic)
    try:
        check_string(body.client_id, "client_id")  # it goes with the message
    except ValueError:
        raise WRONG_TYPE.error() from None
    payload = body.payload.encode()
    if estimated_size(body.topic, payload, NO_PROPERTIES) > api.questions.max_packet_size:
        raise _TOO_LARGE.error()
    await api.questions.publish([NewMessage(body.topic, payload, body.qos, body.retain, client_id=body.client_id)])
    return Result([])


@routes.post("/mqtt/subscribe", "Create a subscription", failures=[_BAD_TOPIC, _NO_CLIENT])
async def subscribe(api: Api, body: SubscribeBody) -> Result[list[None]]:
    share_name, match_filter = _parts(body.topic)
    subscription = Subscription(body.topic, match_filter, share_name, body.qos)
    if not await api.questions.subscribe(body.client_id, subscription):
        raise _no_client(body.client_id)
    return Result([])


@routes.post("/mqtt/unsubscribe", "End a subscription", failures=[_BAD_TOPIC, _NO_CLIENT])
async def unsubscribe(api: Api, body: UnsubscribeBody) -> Result[list[None]]:
    _parts(body.topic)
    if not await api.questions.unsubscribe(body.client_id, body.topic):
        raise _no_client(body.client_id)
    return Result([])


def _parts(topic_filter: str) -> TopicFilterParts:
    _check_length(topic_filter)
    try:
        return parse_topic_filter(topic_filter)
    except ProtocolError:
        raise _bad_topic(topic_filter) from None


def _check_length(topic: str) -> None:
    if len(topic.encode()) > LONGEST_TOPIC:
        raise _bad_topic(topic)


def _bad_topic(topic: str) -> ApiError:
    return _BAD_TOPIC.error(f"validate topic: {topic} fail")


def _no_client(client_id: str) -> ApiError:
    return _NO_CLIENT.error(f"Clientid: {client_id} not found")
