"""PUBACK, PUBREC, PUBREL and PUBCOMP [MQTT 5.0 sections 3.4 to 3.7].

Invariant: length 2 (code 0, no properties) is read for every level, anything longer for level 5 only.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import unpack
from typing import Final, TypeVar

from trio_broker.protocol.packets import MQTT5, NO_PROPERTIES, PubAck, PubComp, PubRec, PubRel
from trio_broker.protocol.primitives import broken_rule, decode_two_byte_integer, malformed
from trio_broker.protocol.properties import decode_properties
from trio_broker.protocol.reason_codes import PACKET_REASON_CODES

Acknowledgement = TypeVar("Acknowledgement", PubAck, PubRec, PubRel, PubComp)

# First byte -> what a packet of length 2 is; 0x6A is how MQTT 3.1 sends PUBREL again.
ACKNOWLEDGEMENTS: Final[dict[int, type[PubAck | PubRec | PubRel | PubComp]]] = {
    0x40: PubAck,
    0x50: PubRec,
    0x62: PubRel,
    0x6A: PubRel,
    0x70: PubComp,
}


def decode_packet_identifier(data: bytes, position: int, end: int) -> tuple[int, int]:
    packet_identifier, position = decode_two_byte_integer(data, position, end)
    if not packet_identifier:
        raise broken_rule("a packet identifier is 0")  # [MQTT-2.2.1-3]
    return packet_identifier, position


def pubacks(data: bytes) -> Sequence[int] | None:
    """The packet identifiers in bytes that are nothing but whole PUBACKs of length 2; None where they are not.

    What a subscriber with QoS 1 sends all day; for all else, wrong bytes as well, there is the decoder.
    """
    size = len(data)
    if size == 4:
        if data[1] != 2 or data[0] != 0x40:
            return None
        packet_identifier = data[2] << 8 | data[3]
        return (packet_identifier,) if packet_identifier else None
    if size & 3:
        return None
    words = unpack(f">{size >> 2}I", data)
    if min(words) <= 0x4002_0000 or max(words) > 0x4002_FFFF:
        return None
    return [word & 0xFFFF for word in words]


def decode_puback(data: bytes, position: int, end: int, level: int, server: bool) -> PubAck:
    return _decode(PubAck, "PUBACK", data, position, end, level)


def decode_pubrec(data: bytes, position: int, end: int, level: int, server: bool) -> PubRec:
    return _decode(PubRec, "PUBREC", data, position, end, level)


def decode_pubrel(data: bytes, position: int, end: int, level: int, server: bool) -> PubRel:
    return _decode(PubRel, "PUBREL", data, position, end, level)


def decode_pubcomp(data: bytes, position: int, end: int, level: int, server: bool) -> PubComp:
    return _decode(PubComp, "PUBCOMP", data, position, end, level)


def _decode(
    packet: type[Acknowledgement], name: str, data: bytes, position: int, end: int, level: int
) -> Acknowledgement:
    packet_identifier, position = decode_packet_identifier(data, position, end)
    code = 0
    properties = NO_PROPERTIES
    if level == MQTT5 and position < end:
        code = data[position]
        position += 1
        if code not in PACKET_REASON_CODES[name]:
            raise broken_rule(f"{name} must not have reason code 0x{code:02X}")  # [MQTT-3.4.2-1 and its sisters]
        if position < end:
            properties, position = decode_properties(data, position, end, name)
    if position != end:
        raise malformed(f"{name} goes on behind its last field")
    return packet(packet_identifier, code, properties)
