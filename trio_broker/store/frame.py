"""A message as bytes: how a store keeps it.

Invariant: `decode(encode(message), ...)` is the same message; what it says never depends on the process that wrote it.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from trio_broker.errors import StoreError
from trio_broker.protocol.message import Message, Origin
from trio_broker.protocol.packets import NO_PROPERTIES, Properties

FORM: Final = 1
"""The first element of a frame: which form the rest has."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


def encode(message: Message) -> bytes:
    """Topic, payload, QoS, retain, ids and times, publisher, properties; the expiry stands beside it, as wall clock."""
    origin = message.origin
    return _encoder.encode(
        (
            FORM,
            message.topic_name,
            message.payload,
            message.qos,
            message.retain,
            message.message_id,
            message.publish_at,
            origin.client_id,
            origin.username,
            message.properties or None,
        )
    )


def decode(frame: bytes, expires_at: float | None) -> Message:
    """The message again; `expires_at` is Trio time. Raises StoreError for bytes that are no frame."""
    try:
        form, topic_name, payload, qos, retain, message_id, publish_at, client_id, username, properties = (
            _decoder.decode(frame)
        )
        if form != FORM:
            raise StoreError(f"a message is kept in form {form!r}, and only form {FORM} is known")
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise StoreError(f"a message that was kept cannot be read: {error}") from error
    kept = NO_PROPERTIES if not properties else _properties(properties)
    origin = Origin(client_id, username)
    return Message(topic_name, payload, qos, retain, message_id, origin, publish_at, kept, expires_at)


def _properties(raw: dict[str, Any]) -> Properties:
    """User properties are pairs, which come back as lists."""
    if "user_property" in raw:
        raw["user_property"] = [tuple(pair) for pair in raw["user_property"]]
    return cast(Properties, raw)


def encode_plain(value: object) -> bytes:
    """Any plain value: wills and the like."""
    return _encoder.encode(value)


def decode_plain(raw: bytes) -> Any:
    return _decoder.decode(raw)
