"""PUBLISH and the short forms of its acknowledgements: what goes out all the time.

Invariant: nothing here checks a topic name for wildcards; that was done when the message came in. Bytes of topic names
are cached, bounded, so that a name is encoded once and not for every message.
"""

from __future__ import annotations

from typing import Final

from trio_broker.protocol.packets import MQTT5, NO_PROPERTIES, Properties
from trio_broker.protocol.primitives import encode_string, encode_variable_byte_integer
from trio_broker.protocol.properties import properties_bytes

_CACHED_TOPICS: Final = 65_536
_CACHED_TOPIC_SIZE: Final = 256
_CACHED_HEADS: Final = 16_384


class TopicBytes(dict[str, bytes]):
    """Topic names as they stand on the wire, their length in front; `encoded[name]` raises ValueError for a name
    that cannot be sent. Bounded: long names are not kept, and it is emptied when it is full.
    """

    def __missing__(self, topic_name: str) -> bytes:
        encoded = encode_string(topic_name)
        if len(encoded) <= _CACHED_TOPIC_SIZE:
            if len(self) >= _CACHED_TOPICS:
                self.clear()
            self[topic_name] = encoded
        return encoded


TOPIC_BYTES: Final = TopicBytes()


def publish_frame(
    topic_name: str,
    payload: bytes,
    qos: int = 0,
    retain: bool = False,
    dup: bool = False,
    packet_identifier: int = 0,
    properties: Properties = NO_PROPERTIES,
    level: int = MQTT5,
) -> bytes:
    """A whole PUBLISH; `properties` are left out below level 5.

    Raises ValueError for what cannot be sent: DUP with QoS 0 [MQTT-3.3.1-2], a packet identifier that is missing or
    one too many [MQTT-2.2.1-2, 2.2.1-3], properties that cannot be in a PUBLISH.
    """
    topic = TOPIC_BYTES[topic_name]
    if qos or packet_identifier or dup:
        if not 0 < packet_identifier <= 0xFFFF:
            raise ValueError(f"{packet_identifier} is no packet identifier")
        length = len(topic) + len(payload) + 2
        if length < 127 and not (properties or retain or dup) and 0 < qos < 3:
            # What `publish_parts` would give, in one step, for what is sent most.
            high, low = packet_identifier >> 8, packet_identifier & 0xFF
            if level != MQTT5:
                return b"%c%c%b%c%c%b" % (0x30 | qos << 1, length, topic, high, low, payload)
            return b"%c%c%b%c%c\0%b" % (0x30 | qos << 1, length + 1, topic, high, low, payload)
        before, after = publish_parts(topic_name, payload, qos, retain, dup, properties, level)
        return b"%b%b%b" % (before, packet_identifier.to_bytes(2, "big"), after)
    first = 0x31 if retain else 0x30
    if level != MQTT5:
        length = len(topic) + len(payload)
        if length < 128:
            return b"%c%c%b%b" % (first, length, topic, payload)
        return b"%c%b%b%b" % (first, encode_variable_byte_integer(length), topic, payload)
    section = properties_bytes(properties, "PUBLISH") if properties else b"\0"
    length = len(topic) + len(section) + len(payload)
    if length < 128:
        return b"%c%c%b%b%b" % (first, length, topic, section, payload)
    return b"%c%b%b%b%b" % (first, encode_variable_byte_integer(length), topic, section, payload)


class PublishHeads(dict[tuple[str, int], bytes]):
    """What stands before the packet identifier in a PUBLISH with QoS 1 or 2 that is not a duplicate.

    `heads[topic_name, rest << 3 | qos << 1 | retain]`, where `rest` is the number of bytes that follow: identifier,
    properties, payload. Bounded as `TopicBytes` is: most publishers send the same topic and size again and again.
    """

    def __missing__(self, key: tuple[str, int]) -> bytes:
        topic = TOPIC_BYTES[key[0]]
        rest = key[1] >> 3
        first = 0x30 | key[1] & 7
        length = len(topic) + rest
        if length < 128:
            head = b"%c%c%b" % (first, length, topic)
        else:
            head = b"%c%b%b" % (first, encode_variable_byte_integer(length), topic)
        if len(topic) <= _CACHED_TOPIC_SIZE:
            if len(self) >= _CACHED_HEADS:
                self.clear()
            self[key] = head
        return head


PUBLISH_HEADS: Final = PublishHeads()


def publish_parts(
    topic_name: str,
    payload: bytes,
    qos: int,
    retain: bool = False,
    dup: bool = False,
    properties: Properties = NO_PROPERTIES,
    level: int = MQTT5,
) -> tuple[bytes, bytes]:
    """What stands before and after the two bytes of the packet identifier in a PUBLISH with QoS 1 or 2.

    The parts are the same for every subscriber who gets the message in the same way; joined with the identifier of
    each, big-endian, between them they are its packet. Raises ValueError as `publish_frame` does.
    """
    if qos not in (1, 2):
        raise ValueError(f"a PUBLISH with QoS {qos} has no packet identifier, and no DUP")
    topic = TOPIC_BYTES[topic_name]
    first = 0x30 | qos << 1
    if retain:
        first |= 1
    if dup:
        first |= 8
    if level == MQTT5:
        after = (properties_bytes(properties, "PUBLISH") if properties else b"\0") + payload
    else:
        after = payload
    length = len(topic) + 2 + len(after)
    if length < 128:
        return b"%c%c%b" % (first, length, topic), after
    return b"%c%b%b" % (first, encode_variable_byte_integer(length), topic), after


def puback(packet_identifier: int, reason_code: int = 0) -> bytes:
    """PUBACK without properties; a `reason_code` other than 0 is for level 5 only."""
    if reason_code:
        return (0x40_03_00_00_00 | packet_identifier << 8 | reason_code).to_bytes(5, "big")
    return (0x40_02_00_00 | packet_identifier).to_bytes(4, "big")


def pubrec(packet_identifier: int, reason_code: int = 0) -> bytes:
    """PUBREC without properties; a `reason_code` other than 0 is for level 5 only."""
    if reason_code:
        return (0x50_03_00_00_00 | packet_identifier << 8 | reason_code).to_bytes(5, "big")
    return (0x50_02_00_00 | packet_identifier).to_bytes(4, "big")


def pubrel(packet_identifier: int, reason_code: int = 0) -> bytes:
    """PUBREL without properties; a `reason_code` other than 0 is for level 5 only."""
    if reason_code:
        return (0x62_03_00_00_00 | packet_identifier << 8 | reason_code).to_bytes(5, "big")
    return (0x62_02_00_00 | packet_identifier).to_bytes(4, "big")


def pubcomp(packet_identifier: int, reason_code: int = 0) -> bytes:
    """PUBCOMP without properties; a `reason_code` other than 0 is for level 5 only."""
    if reason_code:
        return (0x70_03_00_00_00 | packet_identifier << 8 | reason_code).to_bytes(5, "big")
    return (0x70_02_00_00 | packet_identifier).to_bytes(4, "big")
