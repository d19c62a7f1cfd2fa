"""Messages that come over the API: their payloads, their properties, and how large they are.

Invariant: what passes here can be sent to every subscriber; each generation says in its own words what did not.
"""

from __future__ import annotations

import base64
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.errors import ProtocolError
from trio_broker.protocol.packets import Properties
from trio_broker.protocol.topics import validate_topic_name

__all__ = [
    "TURN",
    "BadProperty",
    "PublishProperties",
    "check_string",
    "estimated_size",
    "from_base64",
    "properties_of",
]

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


class BadProperty(ValueError):
    """`field` is which of them."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def from_base64(text: str) -> bytes:
    """Raises ValueError."""
    return base64.b64decode("".join(text.split()), validate=True)


def properties_of(given: PublishProperties) -> Properties:
    """Raises BadProperty."""
    properties = Properties()
    if given.payload_format_indicator is not UNSET:
        properties["payload_format_indicator"] = given.payload_format_indicator
    if given.message_expiry_interval is not UNSET:
        properties["message_expiry_interval"] = given.message_expiry_interval
    if given.response_topic is not UNSET:
        try:
            validate_topic_name(given.response_topic)  # [MQTT-3.3.2-14]
        except ProtocolError as error:
            raise BadProperty("response_topic", error.message) from None
        properties["response_topic"] = given.response_topic
    if given.correlation_data is not UNSET:
        correlation_data = given.correlation_data.encode()
        if len(correlation_data) > LONGEST_STRING:
            raise BadProperty("correlation_data", f"longer than {LONGEST_STRING} bytes")
        properties["correlation_data"] = correlation_data
    if given.user_properties is not UNSET:
        for name, value in given.user_properties.items():
            check_string(name, "user_properties")
            check_string(value, "user_properties")
        properties["user_property"] = list(given.user_properties.items())
    if given.content_type is not UNSET:
        check_string(given.content_type, "content_type")
        properties["content_type"] = given.content_type
    return properties


def check_string(text: str, field: str) -> None:
    """What cannot be sent to a subscriber must not get in [MQTT-1.5.4-1, 1.5.4-2]. Raises BadProperty."""
    if "\0" in text or len(text.encode()) > LONGEST_STRING:
        raise BadProperty(field, f"holds U+0000 or is longer than {LONGEST_STRING} bytes")


def estimated_size(topic_name: str, payload: bytes, properties: Properties) -> int:
    """About the size of the PUBLISH in bytes, never below it."""
    size = 14 + len(topic_name.encode()) + len(payload)
    size += sum(5 + len(name.encode()) + len(value.encode()) for name, value in properties.get("user_property", []))
    size += len(properties.get("correlation_data", b""))
    for text in (properties.get("response_topic", ""), properties.get("content_type", "")):
        size += len(text.encode())
    return size + 3 * len(properties)
