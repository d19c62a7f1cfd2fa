"""SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK as bytes [MQTT 5.0 sections 3.8 to 3.11].

Invariant: below level 5 nothing is written that the dialect does not know.
"""

from __future__ import annotations

from trio_broker.protocol.packets import MQTT5, Properties, SubAck, Subscribe, SubscribeFilter, UnsubAck, Unsubscribe
from trio_broker.protocol.primitives import encode_packet_identifier, encode_string, frame
from trio_broker.protocol.properties import properties_bytes
from trio_broker.protocol.reason_codes import PACKET_REASON_CODES

_SUBSCRIBE_FIRST = 0x82
_UNSUBSCRIBE_FIRST = 0xA2


def _head(packet_identifier: int, properties: Properties, level: int, name: str) -> bytes:
    head = encode_packet_identifier(packet_identifier)
    return head + properties_bytes(properties, name) if level == MQTT5 else head


def encode_subscribe(packet: Subscribe, level: int) -> bytes:
    if not packet.filters:
        raise ValueError("a SUBSCRIBE needs a topic filter")
    parts = [_head(packet.packet_identifier, packet.properties, level, "SUBSCRIBE")]
    for wanted in packet.filters:
        parts.append(encode_string(wanted.topic_filter))
        parts.append(bytes((_options(wanted, level),)))
    return frame(_SUBSCRIBE_FIRST, b"".join(parts))


def _options(wanted: SubscribeFilter, level: int) -> int:
    if wanted.qos not in (0, 1, 2) or wanted.retain_handling not in (0, 1, 2):
        raise ValueError(f"there are no such subscription options: {wanted}")
    if level != MQTT5:
        return wanted.qos
    return wanted.qos | wanted.no_local << 2 | wanted.retain_as_published << 3 | wanted.retain_handling << 4


def encode_unsubscribe(packet: Unsubscribe, level: int) -> bytes:
    if not packet.topic_filters:
        raise ValueError("an UNSUBSCRIBE needs a topic filter")
    parts = [_head(packet.packet_identifier, packet.properties, level, "UNSUBSCRIBE")]
    parts.extend(map(encode_string, packet.topic_filters))
    return frame(_UNSUBSCRIBE_FIRST, b"".join(parts))


def encode_suback(packet: SubAck, level: int) -> bytes:
    """Below level 5 every failure is 0x80 [MQTT-3.9.3-2]."""
    _check_codes(packet.reason_codes, "SUBACK")
    codes = packet.reason_codes if level == MQTT5 else [min(code, 0x80) for code in packet.reason_codes]
    return frame(0x90, _head(packet.packet_identifier, packet.properties, level, "SUBACK") + bytes(codes))


def encode_unsuback(packet: UnsubAck, level: int) -> bytes:
    """Below level 5 there are no codes."""
    head = _head(packet.packet_identifier, packet.properties, level, "UNSUBACK")
    if level != MQTT5:
        return frame(0xB0, head)
    _check_codes(packet.reason_codes, "UNSUBACK")
    return frame(0xB0, head + bytes(packet.reason_codes))


def _check_codes(codes: list[int], name: str) -> None:
    if not codes or not PACKET_REASON_CODES[name].issuperset(codes):
        raise ValueError(f"{name} cannot have reason codes {codes}")  # [MQTT-3.9.3-2, 3.11.3-2]
