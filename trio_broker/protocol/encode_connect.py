"""CONNECT and CONNACK as bytes [MQTT 5.0 sections 3.1, 3.2].

Invariant: what is written here is read back by decode_connect.py as the same object, except for what the dialect
cannot say.
"""

from __future__ import annotations

from trio_broker.protocol.decode_connect import BRIDGE_BIT, PROTOCOL_NAMES
from trio_broker.protocol.packets import MQTT5, MQTT311, ConnAck, Connect
from trio_broker.protocol.primitives import encode_binary, encode_string, frame
from trio_broker.protocol.properties import properties_bytes
from trio_broker.protocol.reason_codes import PACKET_REASON_CODES, connack_return_code


def encode_connect(packet: Connect) -> bytes:
    """In the dialect of `packet.protocol_level`."""
    level = packet.protocol_level
    if level not in PROTOCOL_NAMES:
        raise ValueError(f"there is no protocol level {level}")
    if packet.bridge and level == MQTT5:
        raise ValueError("level 5 has no bridge bit")
    if packet.password is not None and packet.username is None and level != MQTT5:
        raise ValueError("a password needs a user name below level 5")  # [MQTT-3.1.2-22] of 3.1.1
    connect_flags = 0x02 if packet.clean_start else 0
    parts = [encode_string(packet.client_id)]
    will = packet.will
    if will is not None:
        if will.qos not in (0, 1, 2):
            raise ValueError(f"there is no QoS {will.qos}")
        connect_flags |= 0x04 | will.qos << 3 | (0x20 if will.retain else 0)
        if level == MQTT5:
            parts.append(properties_bytes(will.properties, "WILL"))
        parts.append(encode_string(will.topic_name))
        parts.append(encode_binary(will.payload))
    if packet.username is not None:
        connect_flags |= 0x80
        parts.append(encode_string(packet.username))
    if packet.password is not None:
        connect_flags |= 0x40
        parts.append(encode_binary(packet.password))
    if not 0 <= packet.keep_alive <= 0xFFFF:
        raise ValueError(f"keep alive cannot be {packet.keep_alive}")
    head = [
        encode_string(PROTOCOL_NAMES[level]),
        bytes((level | (BRIDGE_BIT if packet.bridge else 0), connect_flags)),
        packet.keep_alive.to_bytes(2, "big"),
    ]
    if level == MQTT5:
        head.append(properties_bytes(packet.properties, "CONNECT"))
    return frame(0x10, b"".join(head + parts))


def encode_connack(packet: ConnAck, level: int) -> bytes:
    """Session present is left out by MQTT 3.1, which does not know it, and with any refusal [MQTT-3.2.2-6]."""
    present = int(packet.session_present and level >= MQTT311 and not packet.reason_code)
    if packet.reason_code not in PACKET_REASON_CODES["CONNACK"]:
        raise ValueError(f"CONNACK cannot have reason code 0x{packet.reason_code:02X}")  # [MQTT-3.2.2-8]
    if level != MQTT5:
        return bytes((0x20, 2, present, connack_return_code(packet.reason_code)))
    return frame(0x20, bytes((present, packet.reason_code)) + properties_bytes(packet.properties, "CONNACK"))
