"""`/mqtt/publish` and `/mqtt/publish_batch`: messages from outside MQTT, each to one topic or to several.

Invariant: access rules are not asked, and the client in whose name it is need not be there. What is wrong with a
message is found before any part of it is published; the messages of a batch stand each for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import trio
from attrs import frozen
from msgspec import UNSET, Struct, UnsetType

from trio_broker.actors.questions import NewMessage
from trio_broker.api.context import Api
from trio_broker.api.failures import ApiError
from trio_broker.api.new_messages import (
    TURN,
    PublishProperties,
    check_string,
    estimated_size,
    from_base64,
    properties_of,
)
from trio_broker.api.paging import select
from trio_broker.api.routes import PUBLISHERS, Reply, Routes
from trio_broker.api.v4.envelope import BAD_PARAMETER, BAD_QOS, BAD_TOPIC, Data, Done
from trio_broker.api.v4.paging import listing
from trio_broker.api.v4.parameters import Parameters
from trio_broker.api.v4.taken import Message
from trio_broker.api.v4.topics import NO_CLIENT_ID, is_topic_name, qos_of, said_of_topics, topics_of
from trio_broker.protocol.packets import Properties

routes = Routes("Publish and subscribe")

Word = str | int | float | bool
"""What a user property may be; it is sent as a text."""


class MessageId(Struct):
    """Of the message to the last topic."""

    msgid: str


class MessageIds(Struct):
    """One for each topic."""

    msgids: list[str]


class PublishOutcome(Struct, kw_only=True):
    """Of a message of a batch: 0 = published. What could not be read has a message, and no topic."""

    topic: str | UnsetType = UNSET
    code: int
    message: str | UnsetType = UNSET


@frozen
class _Message:
    topics: Sequence[str]
    payload: bytes
    qos: int
    retain: bool
    properties: Properties
    client_id: str

    def to(self, topic_name: str) -> NewMessage:
        message = NewMessage(topic_name, self.payload, self.qos, self.retain, self.properties)
        if self.client_id:
            message.client_id = self.client_id
        return message


@routes.post(
    "/mqtt/publish",
    "Publish a message",
    access=PUBLISHERS,
    failures=[BAD_PARAMETER, NO_CLIENT_ID, BAD_TOPIC, BAD_QOS],
    takes=Message,
)
async def publish(api: Api, params: Parameters) -> Done | Data[MessageId] | Data[MessageIds]:
    if params.batch is not None:
        raise BAD_PARAMETER.error()
    message = await _read(api, params)
    ids: list[str] = []
    for start in range(0, len(message.topics), TURN):
        some = [message.to(topic) for topic in message.topics[start : start + TURN]]
        ids += [api.message_id(one.message_id) for one in await api.questions.publish(some)]
    if "return" not in params:
        return Done()
    if "topic" in params:
        return Data(MessageId(ids[-1]))
    return Data(MessageIds(ids))


@routes.post(
    "/mqtt/publish_batch",
    "Publish a batch of messages",
    access=PUBLISHERS,
    failures=[BAD_PARAMETER],
    takes=list[Message],
)
async def publish_batch(api: Api, params: Parameters) -> Reply | Data[list[PublishOutcome]]:
    if params.batch is None:
        raise BAD_PARAMETER.error()
    outcomes: list[PublishOutcome] = []
    waiting: list[NewMessage] = []
    for item in params.batch:
        try:
            message = await _read(api, item)
        except ApiError as error:
            outcomes.append(_failed(item, error))
            await trio.lowlevel.checkpoint()  # others have their turn, as they have with those that are published
            continue
        outcomes.append(PublishOutcome(topic=said_of_topics(item), code=0))
        for topic in message.topics:
            waiting.append(message.to(topic))
            if len(waiting) == TURN:
                await api.questions.publish(waiting)
                waiting = []
    if waiting:
        await api.questions.publish(waiting)
    return await listing(outcomes, lambda outcome: outcome)


async def _read(api: Api, params: Any) -> _Message:
    """108, 115 or 116 for what cannot be published."""
    if not isinstance(params, dict):
        raise BAD_PARAMETER.error()
    try:
        topics = topics_of(params)
        payload, properties = _payload(params), _properties(params)
    except (TypeError, ValueError):  # what msgspec raises is one, too
        raise BAD_PARAMETER.error() from None
    client_id = _client_id(params)
    wanted = await select(topics, is_topic_name)
    if not wanted:
        raise BAD_TOPIC.error()
    qos = qos_of(params)
    if qos is None:
        raise BAD_QOS.error()
    longest = max(wanted, key=lambda topic: len(topic.encode()))
    if estimated_size(longest, payload, properties) > api.questions.max_packet_size:
        raise BAD_PARAMETER.error()
    return _Message(wanted, payload, qos, params.get("retain") is True, properties, client_id)


def _client_id(params: Mapping[str, Any]) -> str:
    """Empty where nobody is named. It goes with the message, so it has to be one that a client could have."""
    client_id = params.get("clientid", "")
    if not isinstance(client_id, str):
        raise NO_CLIENT_ID.error()
    try:
        check_string(client_id, "clientid")
    except ValueError:
        raise NO_CLIENT_ID.error() from None
    return client_id


def _payload(params: Mapping[str, Any]) -> bytes:
    """What is no text is sent as its JSON. Raises ValueError."""
    said = params.get("payload", "")
    text = said if isinstance(said, str) else _text(said)
    return from_base64(text) if params.get("encoding") == "base64" else text.encode()


def _properties(params: Mapping[str, Any]) -> Properties:
    """Raises TypeError, ValueError. A subscription identifier means nothing in what comes to a broker."""
    said = dict(params.get("properties", {}))
    msgspec.convert(said.pop("subscription_identifier", 1), int)
    words = [
        pair
        for given in (params.get("user_properties", {}), said.pop("user_properties", {}))
        for pair in msgspec.convert(given, dict[str, Word]).items()
    ]
    properties = properties_of(msgspec.convert(said, PublishProperties))
    if words:
        properties["user_property"] = [(_checked(name), _checked(_text(value))) for name, value in words]
    return properties


def _failed(item: Any, error: ApiError) -> PublishOutcome:
    body: Any = error.body
    if body["message"] == BAD_PARAMETER.message:
        return PublishOutcome(code=body["code"], message=body["message"])
    return PublishOutcome(topic=said_of_topics(item), code=body["code"])


def _checked(text: str) -> str:
    check_string(text, "user_properties")
    return text


def _text(value: object) -> str:
    """Raises ValueError for what is too deep to be written: a little more can be read."""
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:
        raise ValueError("too deep") from None
