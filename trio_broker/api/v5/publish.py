"""`POST /publish` and `/publish/bulk`: messages from outside MQTT.

Invariant: a batch in which one message is not as it must be is refused whole; else all of it is published, in order.
The sender is always `http_api`, without a user name; access rules are not asked.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.questions import NewMessage, Published
from trio_broker.api.context import Api
from trio_broker.api.failures import ApiError, invalid
from trio_broker.api.new_messages import (
    TURN,
    BadProperty,
    PublishProperties,
    estimated_size,
    from_base64,
    properties_of,
)
from trio_broker.api.paging import each
from trio_broker.api.routes import PUBLISHERS, Documented, Reply, Routes
from trio_broker.errors import ActorGone, AskTimeout, ProtocolError, StoreError
from trio_broker.protocol.packets import Properties
from trio_broker.protocol.topics import validate_topic_name

routes = Routes("Publish")

NO_MATCHING_SUBSCRIBERS: Final = 16
IMPLEMENTATION_ERROR: Final = 131
TOPIC_NAME_INVALID: Final = 144
PACKET_TOO_LARGE: Final = 151


class PublishBody(Struct, kw_only=True, forbid_unknown_fields=True):
    topic: Annotated[str, Meta(description="Topic name, without wildcards")]
    payload: str
    payload_encoding: Literal["plain", "base64"] = "plain"
    qos: Annotated[int, Meta(ge=0, le=2)] = 0
    retain: bool = False
    clientid: Annotated[str, Meta(description="Accepted and ignored")] | UnsetType = UNSET
    properties: PublishProperties | UnsetType = UNSET


class Accepted(Struct):
    id: str


class NotAccepted(Struct):
    reason_code: int
    message: str


_NOBODY: Final = NotAccepted(NO_MATCHING_SUBSCRIBERS, "no_matching_subscribers")
_FAILED: Final = NotAccepted(IMPLEMENTATION_ERROR, "failed_to_dispatch")
_REFUSED: Final = Documented(
    400,
    "Topic name not valid (144), packet too large (151), payload not base64 (131); or `BAD_REQUEST`",
    NotAccepted,
)


@routes.post(
    "/publish",
    "Publish a message",
    access=PUBLISHERS,
    answers=[
        Documented(202, "Nobody has a matching subscription", NotAccepted),
        _REFUSED,
        Documented(503, "It could not be dispatched", NotAccepted),
    ],
)
async def publish(api: Api, body: PublishBody) -> Accepted | Reply:
    message = _message(api, body, "root")
    published = await _publish(api, [message])
    if published is None:
        return Reply(503, _FAILED)
    outcome = _outcome(api, published[0])
    return outcome if isinstance(outcome, Accepted) else Reply(202, outcome)


@routes.post(
    "/publish/bulk",
    "Publish a batch of messages",
    access=PUBLISHERS,
    answers=[
        Documented(202, "At least one message had no matching subscription", list[Accepted | NotAccepted]),
        _REFUSED,
        Documented(503, "At least one message could not be dispatched", list[Accepted | NotAccepted]),
    ],
)
async def publish_bulk(api: Api, body: list[PublishBody]) -> list[Accepted] | Reply:
    if not body:
        raise _refused(IMPLEMENTATION_ERROR, "empty_batch")
    messages = await each(enumerate(body, 1), lambda item: _message(api, item[1], f"root.{item[0]}"))
    outcomes: list[Accepted | NotAccepted] = []
    for start in range(0, len(messages), TURN):
        published = await _publish(api, messages[start : start + TURN])
        if published is None:
            outcomes += [_FAILED] * (len(messages) - start)
            return Reply(503, outcomes)
        outcomes += await each(published, lambda one: _outcome(api, one))
    return Reply(202 if _NOBODY in outcomes else 200, outcomes)


async def _publish(api: Api, messages: list[NewMessage]) -> list[Published] | None:
    """None: it could not be dispatched."""
    try:
        return await api.questions.publish(messages)
    except (ActorGone, AskTimeout, StoreError):
        return None


def _outcome(api: Api, published: Published) -> Accepted | NotAccepted:
    return Accepted(api.message_id(published.message_id)) if published.matched else _NOBODY


def _message(api: Api, body: PublishBody, path: str) -> NewMessage:
    try:
        validate_topic_name(body.topic)
    except ProtocolError:
        raise _refused(TOPIC_NAME_INVALID, "topic_name_invalid") from None
    payload = _payload(body)
    properties = Properties() if body.properties is UNSET else _properties(body.properties, f"{path}.properties")
    if estimated_size(body.topic, payload, properties) > api.questions.max_packet_size:
        raise _refused(PACKET_TOO_LARGE, "packet_too_large")
    return NewMessage(body.topic, payload, body.qos, body.retain, properties)


def _payload(body: PublishBody) -> bytes:
    if body.payload_encoding == "plain":
        return body.payload.encode()
    try:
        return from_base64(body.payload)
    except ValueError:
        raise _refused(IMPLEMENTATION_ERROR, f'{{decode_base64_payload_failed,<<"{body.payload[:100]}">>}}') from None


def _properties(given: PublishProperties, path: str) -> Properties:
    try:
        return properties_of(given)
    except BadProperty as error:
        raise invalid(f"{path}.{error.field}", error.reason) from None


def _refused(reason_code: int, message: str) -> ApiError:
    return ApiError(400, NotAccepted(reason_code, message))
