"""The properties of MQTT 5.0: one table, and the decoder and encoder made from it [MQTT 5.0 section 2.2.2].

Invariant: what a property is called, how it is encoded, where it may stand and which values it may have is said in
`PROPERTY_RULES` and nowhere else.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, cast

from attrs import define

from trio_broker.errors import ProtocolError
from trio_broker.protocol.packets import NO_PROPERTIES, Properties
from trio_broker.protocol.primitives import (
    broken_rule,
    decode_binary,
    decode_string,
    decode_variable_byte_integer,
    encode_binary,
    encode_string,
    encode_variable_byte_integer,
    malformed,
)
from trio_broker.protocol.reason_codes import ReasonCode


class PropertyType(Enum):
    """How a value stands on the wire; the value is the width in bytes of those with a fixed one."""

    BYTE = 1
    TWO_BYTES = 2
    FOUR_BYTES = 4
    VARIABLE = "variable byte integer"
    STRING = "string"
    TOPIC_NAME = "topic name"  # a string that names a topic: not empty, no wildcards
    BINARY = "binary data"
    STRING_PAIR = "string pair"


@define(frozen=True)
class PropertyRule:
    """One row. `packets` are names of packets; WILL stands for the will properties of CONNECT, and where the
    direction counts the name ends in _BY_CLIENT or _BY_SERVER. A number outside `low`..`high` gives `error`.
    """

    identifier: int
    name: str
    type: PropertyType
    packets: frozenset[str]
    low: int
    high: int
    error: ReasonCode = ReasonCode.PROTOCOL_ERROR


# Names by which packets go here, with those of both directions where both matter.
PACKET_NAMES: Final = (
    "CONNECT",
    "WILL",
    "CONNACK",
    "PUBLISH_BY_CLIENT",
    "PUBLISH_BY_SERVER",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "DISCONNECT_BY_CLIENT",
    "DISCONNECT_BY_SERVER",
    "AUTH",
)
_PUBLISH: Final = "PUBLISH_BY_CLIENT PUBLISH_BY_SERVER"
_DISCONNECT: Final = "DISCONNECT_BY_CLIENT DISCONNECT_BY_SERVER"
_ACKNOWLEDGEMENTS: Final = "PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK"

_HIGHEST: Final = {PropertyType.BYTE: 0xFF, PropertyType.TWO_BYTES: 0xFFFF, PropertyType.VARIABLE: 268_435_455}


def _rule(
    identifier: int,
    name: str,
    kind: PropertyType,
    packets: str,
    low: int = 0,
    high: int | None = None,
    error: ReasonCode = ReasonCode.PROTOCOL_ERROR,
) -> PropertyRule:
    highest = _HIGHEST.get(kind, 0xFFFF_FFFF) if high is None else high
    return PropertyRule(identifier, name, kind, frozenset(packets.split()), low, highest, error)


_B, _B2, _B4, _V = PropertyType.BYTE, PropertyType.TWO_BYTES, PropertyType.FOUR_BYTES, PropertyType.VARIABLE
_S, _T, _D, _P = PropertyType.STRING, PropertyType.TOPIC_NAME, PropertyType.BINARY, PropertyType.STRING_PAIR

PROPERTY_RULES: Final[tuple[PropertyRule, ...]] = (
    _rule(0x01, "payload_format_indicator", _B, f"{_PUBLISH} WILL", high=1),
    _rule(0x02, "message_expiry_interval", _B4, f"{_PUBLISH} WILL"),
    _rule(0x03, "content_type", _S, f"{_PUBLISH} WILL"),
    _rule(0x08, "response_topic", _T, f"{_PUBLISH} WILL"),  # [MQTT-3.3.2-13, 3.3.2-14]
    _rule(0x09, "correlation_data", _D, f"{_PUBLISH} WILL"),
    _rule(0x0B, "subscription_identifier", _V, "PUBLISH_BY_SERVER SUBSCRIBE", low=1),  # [MQTT-3.3.4-6]
    _rule(0x11, "session_expiry_interval", _B4, "CONNECT CONNACK DISCONNECT_BY_CLIENT"),  # [MQTT-3.14.2-2]
    _rule(0x12, "assigned_client_identifier", _S, "CONNACK"),
    _rule(0x13, "server_keep_alive", _B2, "CONNACK"),
    _rule(0x15, "authentication_method", _S, "CONNECT CONNACK AUTH"),
    _rule(0x16, "authentication_data", _D, "CONNECT CONNACK AUTH"),
    _rule(0x17, "request_problem_information", _B, "CONNECT", high=1),
    _rule(0x18, "will_delay_interval", _B4, "WILL"),
    _rule(0x19, "request_response_information", _B, "CONNECT", high=1),
    _rule(0x1A, "response_information", _S, "CONNACK"),
    _rule(0x1C, "server_reference", _S, "CONNACK DISCONNECT_BY_SERVER"),
    _rule(0x1F, "reason_string", _S, f"CONNACK {_ACKNOWLEDGEMENTS} {_DISCONNECT} AUTH"),
    _rule(0x21, "receive_maximum", _B2, "CONNECT CONNACK", low=1),
    _rule(0x22, "topic_alias_maximum", _B2, "CONNECT CONNACK"),
    _rule(0x23, "topic_alias", _B2, _PUBLISH, low=1, error=ReasonCode.TOPIC_ALIAS_INVALID),  # [MQTT-3.3.2-8]
    _rule(0x24, "maximum_qos", _B, "CONNACK", high=1),
    _rule(0x25, "retain_available", _B, "CONNACK", high=1),
    _rule(0x26, "user_property", _P, " ".join(PACKET_NAMES)),
    _rule(0x27, "maximum_packet_size", _B4, "CONNECT CONNACK", low=1),
    _rule(0x28, "wildcard_subscription_available", _B, "CONNACK", high=1),
    _rule(0x29, "subscription_identifier_available", _B, "CONNACK", high=1),
    _rule(0x2A, "shared_subscription_available", _B, "CONNACK", high=1),
)

_BY_IDENTIFIER: Final = {rule.identifier: rule for rule in PROPERTY_RULES}
_BY_NAME: Final = {rule.name: rule for rule in PROPERTY_RULES}

# Properties whose value is always a list in `Properties`.
LISTS: Final = frozenset(("user_property", "subscription_identifier"))


def _may_come_again(rule: PropertyRule, packet_name: str) -> bool:
    return rule.type is _P or (rule.name == "subscription_identifier" and packet_name == "PUBLISH_BY_SERVER")


# Packet name -> identifier -> what the decoder has to know of a property, laid out for its loop:
# name, type, width in bytes (0 = not fixed), lowest and highest value, whether it may come again.
_BY_PACKET: Final[dict[str, dict[int, tuple[str, PropertyType, int, int, int, bool]]]] = {
    packet_name: {
        rule.identifier: (
            rule.name,
            rule.type,
            rule.type.value if isinstance(rule.type.value, int) else 0,
            rule.low,
            rule.high,
            _may_come_again(rule, packet_name),
        )
        for rule in PROPERTY_RULES
        if packet_name in rule.packets
    }
    for packet_name in PACKET_NAMES
}


def decode_properties(data: bytes, position: int, end: int, packet_name: str) -> tuple[Properties, int]:
    """The property section that begins at `position`, and where it ends.

    Unknown identifiers are malformed; a property in a packet it is not for, one that comes twice and a value outside
    its limits are protocol errors, topic alias 0 is 0x94.
    """
    length, position = decode_variable_byte_integer(data, position, end)
    if not length:
        return NO_PROPERTIES, position
    stop = position + length
    if stop > end:
        raise malformed("the properties reach beyond the end of the packet")
    rules = _BY_PACKET[packet_name]
    found: dict[str, Any] = {}
    while position < stop:
        rule = rules.get(data[position])
        if rule is None:
            raise _not_here(data[position], packet_name)
        name, kind, width, low, high, several = rule
        position += 1
        value: Any
        if width:
            after = position + width
            if after > stop:
                raise malformed(f"{name} reaches beyond the end of the properties")
            value = int.from_bytes(data[position:after], "big")
            if not low <= value <= high:
                raise _out_of_limits(name, value)
            position = after
        elif kind is _P:
            key, position = decode_string(data, position, stop)
            text, position = decode_string(data, position, stop)
            value = (key, text)
        elif kind is _D:
            value, position = decode_binary(data, position, stop)
        elif kind is _V:
            value, position = decode_variable_byte_integer(data, position, stop)
            if not low <= value <= high:
                raise _out_of_limits(name, value)
        else:
            value, position = decode_string(data, position, stop)
            if kind is _T and (not value or "+" in value or "#" in value):
                raise broken_rule(f"{name} is not the name of a topic")
        if name in found:
            if not several:
                raise broken_rule(f"{name} is there twice")
            found[name].append(value)
        else:
            found[name] = [value] if name in LISTS else value
    return cast(Properties, found), stop


def _not_here(identifier: int, packet_name: str) -> ProtocolError:
    rule = _BY_IDENTIFIER.get(identifier)
    if rule is None:
        # Identifiers are variable byte integers by the book; all that exist have one byte.
        return malformed(f"there is no property 0x{identifier:02X}")
    return broken_rule(f"{rule.name} must not be in {packet_name}")


def _out_of_limits(name: str, value: int) -> ProtocolError:
    return ProtocolError(_BY_NAME[name].error, f"{name} must not be {value}")


def properties_bytes(properties: Properties, packet_name: str) -> bytes:
    """The whole property section, its length in front, of the packet called `packet_name`.

    `packet_name` is one of `PACKET_NAMES`, or PUBLISH or DISCONNECT for whatever either side may send. Raises
    ValueError for a property that is unknown or not for this packet, and for a value it cannot have.
    """
    if not properties:
        return b"\0"  # [MQTT-2.2.2-1]
    parts: list[bytes] = []
    for name, value in properties.items():
        rule = _BY_NAME.get(name)
        if rule is None:
            raise ValueError(f"there is no property {name}")
        if packet_name not in rule.packets and not _either_side(packet_name, rule):
            raise ValueError(f"{name} cannot be in {packet_name}")
        identifier = rule.identifier.to_bytes(1, "big")
        if name in LISTS:
            for item in cast("list[Any]", value):
                parts.append(identifier)
                parts.append(_encode_value(rule, item))
        else:
            parts.append(identifier)
            parts.append(_encode_value(rule, value))
    section = b"".join(parts)
    return encode_variable_byte_integer(len(section)) + section


def _either_side(packet_name: str, rule: PropertyRule) -> bool:
    return f"{packet_name}_BY_CLIENT" in rule.packets or f"{packet_name}_BY_SERVER" in rule.packets


def _encode_value(rule: PropertyRule, value: Any) -> bytes:
    kind = rule.type
    if kind is _S or kind is _T:
        return encode_string(value)
    if kind is _P:
        key, text = value
        return encode_string(key) + encode_string(text)
    if kind is _D:
        return encode_binary(value)
    if not rule.low <= value <= rule.high:
        raise ValueError(f"{rule.name} cannot be {value}")
    if kind is _V:
        return encode_variable_byte_integer(value)
    width: int = kind.value
    return int(value).to_bytes(width, "big")
