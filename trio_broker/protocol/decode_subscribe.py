"""SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK [MQTT 5.0 sections 3.8 to 3.11].

Invariant: whether a topic filter is well formed is not asked here, only whether it is a string: the session answers
for each filter by itself.
"""

from __future__ import annotations

from typing import Final

from trio_broker.protocol.decode_acknowledge import decode_packet_identifier
from trio_broker.protocol.packets import (
    MQTT5,
    NO_PROPERTIES,
    Properties,
    SubAck,
    Subscribe,
    SubscribeFilter,
    UnsubAck,
    Unsubscribe,
)
from trio_broker.protocol.primitives import broken_rule, decode_byte, decode_string, malformed
from trio_broker.protocol.properties import decode_properties
from trio_broker.protocol.reason_codes import PACKET_REASON_CODES
from trio_broker.protocol.topics import SHARE_PREFIX

SUBACK_RETURN_CODES: Final = frozenset((0x00, 0x01, 0x02, 0x80))  # of MQTT 3.1.1


def _decode_head(data: bytes, position: int, end: int, level: int, name: str) -> tuple[int, Properties, int]:
    packet_identifier, position = decode_packet_identifier(data, position, end)
    if level != MQTT5:
        return packet_identifier, NO_PROPERTIES, position
    properties, position = decode_properties(data, position, end, name)
    return packet_identifier, properties, position


def decode_subscribe(data: bytes, position: int, end: int, level: int, server: bool) -> Subscribe:
    packet_identifier, properties, position = _decode_head(data, position, end, level, "SUBSCRIBE")
    filters: list[SubscribeFilter] = []
    while position < end:
        topic_filter, position = decode_string(data, position, end)
        options, position = decode_byte(data, position, end)
        if options & (0xC0 if level == MQTT5 else 0xFC):
            raise malformed("reserved bits of the subscription options are set")  # [MQTT-3.8.3-5]
        qos = options & 3
        if qos == 3:
            raise broken_rule("a SUBSCRIBE asks for QoS 3")
        no_local = bool(options & 0x04)
        if no_local and topic_filter.startswith(SHARE_PREFIX):
            raise broken_rule("no local is set on a shared subscription")  # [MQTT-3.8.3-4]
        retain_handling = options >> 4 & 3
        if retain_handling == 3:
            raise broken_rule("a SUBSCRIBE has retain handling 3")
        filters.append(SubscribeFilter(topic_filter, qos, no_local, bool(options & 0x08), retain_handling))
    if not filters:
        raise broken_rule("a SUBSCRIBE has no topic filter")  # [MQTT-3.8.3-2]
    return Subscribe(packet_identifier, filters, properties)


def decode_unsubscribe(data: bytes, position: int, end: int, level: int, server: bool) -> Unsubscribe:
    packet_identifier, properties, position = _decode_head(data, position, end, level, "UNSUBSCRIBE")
    topic_filters: list[str] = []
    while position < end:
        topic_filter, position = decode_string(data, position, end)
        topic_filters.append(topic_filter)
    if not topic_filters:
        raise broken_rule("an UNSUBSCRIBE has no topic filter")  # [MQTT-3.10.3-2]
    return Unsubscribe(packet_identifier, topic_filters, properties)


def decode_suback(data: bytes, position: int, end: int, level: int, server: bool) -> SubAck:
    packet_identifier, properties, position = _decode_head(data, position, end, level, "SUBACK")
    allowed = PACKET_REASON_CODES["SUBACK"] if level == MQTT5 else SUBACK_RETURN_CODES
    return SubAck(packet_identifier, _decode_codes(data[position:end], allowed, "SUBACK"), properties)


def decode_unsuback(data: bytes, position: int, end: int, level: int, server: bool) -> UnsubAck:
    packet_identifier, properties, position = _decode_head(data, position, end, level, "UNSUBACK")
    codes: list[int] = []
    if level == MQTT5:
        codes = _decode_codes(data[position:end], PACKET_REASON_CODES["UNSUBACK"], "UNSUBACK")
    elif position != end:
        raise malformed("UNSUBACK goes on behind its last field")
    return UnsubAck(packet_identifier, codes, properties)


def _decode_codes(raw: bytes, allowed: frozenset[int], name: str) -> list[int]:
    if not raw:
        raise broken_rule(f"{name} has no reason code")
    for code in raw:
        if code not in allowed:
            raise broken_rule(f"{name} must not have reason code 0x{code:02X}")  # [MQTT-3.9.3-2, 3.11.3-2]
    return list(raw)
