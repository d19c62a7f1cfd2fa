"""`POST /publish` and `/publish/bulk`: messages from outside MQTT.

Invariant: a batch in which one message is not as it must be is refused whole; else all of it is published, in order.
The sender is always `http_api`, without a user name; access rules are not asked.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.questions import NewMessage, Published
from trio_broker.api.context import Api
from trio_broker.api.failures import ApiError, invalid
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

TURN: Final = 1000
"""Messages of a batch that are routed at once, and stored together; then others have their turn."""

LONGEST_STRING: Final = 65_535
"""Bytes of UTF-8 that a string of MQTT can hold [MQTT-1.5.4]."""


class PublishProperties(Struct, kw_only=True, forbid_unknown_fields=True):
    payload_format_indicator: Annotated[int, Meta(ge=0, le=1)] | UnsetType = UNSET
    message_expiry_interval: Annotated[int, Meta(ge=0, le=4_294_967_295, description="Seconds")] | UnsetType = UNSET
    response_topic: str | UnsetType = UNSET
    correlation_data: str | UnsetType = UNSET
    user_properties: dict[str, str] | UnsetType = UNSET
    content_type: str | UnsetType = UNSET


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
    payload = body.payload.encode() if body.payload_encoding == "plain" else _from_base64(body.payload)
    properties = Properties() if body.properties is UNSET else _properties(body.properties, f"{path}.properties")
    if _estimated_size(body.topic, payload, properties) > api.questions.max_packet_size:
        raise _refused(PACKET_TOO_LARGE, "packet_too_large")
    return NewMessage(body.topic, payload, body.qos, body.retain, properties)


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters that are not ASCII
        raise _refused(IMPLEMENTATION_ERROR, f'{{decode_base64_payload_failed,<<"{text[:100]}">>}}') from None


def _properties(given: PublishProperties, path: str) -> Properties:
    properties = Properties()
    if given.payload_format_indicator is not UNSET:
        properties["payload_format_indicator"] = given.payload_format_indicator
    if given.message_expiry_interval is not UNSET:
        properties["message_expiry_interval"] = given.message_expiry_interval
    if given.response_topic is not UNSET:
        try:
            validate_topic_name(given.response_topic)  # [MQTT-3.3.2-14]
        except ProtocolError as error:
            raise invalid(f"{path}.response_topic", error.message) from None
        properties["response_topic"] = given.response_topic
    if given.correlation_data is not UNSET:
        correlation_data = given.correlation_data.encode()
        if len(correlation_data) > LONGEST_STRING:
            raise invalid(f"{path}.correlation_data", f"longer than {LONGEST_STRING} bytes")
        properties["correlation_data"] = correlation_data
    if given.user_properties is not UNSET:
        for name, value in given.user_properties.items():
            _check_string(name, f"{path}.user_properties")
            _check_string(value, f"{path}.user_properties")
        properties["user_property"] = list(given.user_properties.items())
    if given.content_type is not UNSET:
        _check_string(given.content_type, f"{path}.content_type")
        properties["content_type"] = given.content_type
    return properties


def _check_string(text: str, path: str) -> None:
    """What cannot be sent to a subscriber must not get in [MQTT-1.5.4-1, 1.5.4-2]."""
    if "\0" in text or len(text.encode()) > LONGEST_STRING:
        raise invalid(path, f"holds U+0000 or is longer than {LONGEST_STRING} bytes")


def _estimated_size(topic_name: str, payload: bytes, properties: Properties) -> int:
    """About the size of the PUBLISH in bytes, never below it."""
    size = 14 + len(topic_name.encode()) + len(payload)
    size += sum(5 + len(name.encode()) + len(value.encode()) for name, value in properties.get("user_property", []))
    size += len(properties.get("correlation_data", b""))
    for text in (properties.get("response_topic", ""), properties.get("content_type", "")):
        size += len(text.encode())
    return size + 3 * len(properties)


def _refused(reason_code: int, message: str) -> ApiError:
    return ApiError(400, NotAccepted(reason_code, message))
