"""CONNECT and CONNACK [MQTT 5.0 sections 3.1, 3.2; MQTT 3.1.1; MQTT 3.1].

Invariant: which dialect a CONNECT speaks is known (`connect_version`) before anything else of it is judged, so that a
wrong one can be answered in the dialect of its sender.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from trio_broker.errors import ProtocolError
from trio_broker.protocol.packets import MQTT5, MQTT31, MQTT311, NO_PROPERTIES, ConnAck, Connect, Properties, Will
from trio_broker.protocol.primitives import (
    broken_rule,
    decode_binary,
    decode_byte,
    decode_string,
    decode_two_byte_integer,
    malformed,
)
from trio_broker.protocol.properties import decode_properties
from trio_broker.protocol.reason_codes import PACKET_REASON_CODES
from trio_broker.protocol.topics import validate_topic_name

PROTOCOL_NAMES: Final = {MQTT31: "MQIsdp", MQTT311: "MQTT", MQTT5: "MQTT"}
BRIDGE_BIT: Final = 0x80

# CONNACK return code of 3.x -> reason code of 5.0 [MQTT 3.1.1 table 3.1].
_REASON_CODES: Final = (0x00, 0x84, 0x85, 0x88, 0x86, 0x87)


_BEGINNINGS: Final = {b"\0\4MQTT" + bytes((level,)): level for level in (MQTT311, MQTT5)}


class ConnectVersion(NamedTuple):
    """How a CONNECT begins. Where `supported` is false, `level` is the dialect its sender will most likely read."""

    supported: bool
    level: int
    bridge: bool
    position: int


def connect_version(data: bytes, position: int, end: int) -> ConnectVersion:
    """Read protocol name and level, the first two fields of a CONNECT [MQTT-3.1.2-1, 3.1.2-2]."""
    after = position + 7
    if after <= end and (known := _BEGINNINGS.get(data[position:after])) is not None:
        return ConnectVersion(True, known, False, after)  # what nearly all clients send
    name, position = decode_string(data, position, end)
    level, position = decode_byte(data, position, end)
    # Mosquitto and its bridges say by the top bit that they are a bridge, in MQTT 3.1 and 3.1.1.
    bridge = level in (MQTT31 | BRIDGE_BIT, MQTT311 | BRIDGE_BIT)
    if bridge:
        level &= ~BRIDGE_BIT
    if PROTOCOL_NAMES.get(level) == name:
        return ConnectVersion(True, level, bridge, position)
    if name == PROTOCOL_NAMES[MQTT31]:
        level = MQTT31
    elif level >= MQTT5:
        level = MQTT5
    else:
        level = MQTT311
    return ConnectVersion(False, level, bridge, position)


def decode_connect(data: bytes, version: ConnectVersion, end: int, flags: int) -> Connect:
    """The rest of a CONNECT behind `version`; `flags` are the lower four bits of its first byte.

    Bits that MQTT 3.1 calls unused are not looked at in level 3.
    """
    level = version.level
    strict = level != MQTT31
    if flags and strict:
        raise malformed("CONNECT has reserved bits set in its first byte")  # [MQTT-2.1.3-1]
    connect_flags, position = decode_byte(data, version.position, end)
    if connect_flags & 0x01 and strict:
        raise malformed("the reserved connect flag is set")  # [MQTT-3.1.2-3]
    has_username = bool(connect_flags & 0x80)
    has_password = bool(connect_flags & 0x40)
    if has_password and not has_username and level != MQTT5:
        raise malformed("there is a password without a user name")  # [MQTT-3.1.2-22] of 3.1.1
    keep_alive, position = decode_two_byte_integer(data, position, end)
    properties = NO_PROPERTIES
    if level == MQTT5:
        properties, position = decode_properties(data, position, end, "CONNECT")
        if "authentication_data" in properties and "authentication_method" not in properties:
            raise broken_rule("there is authentication data without a method")
    try:
        return _decode_payload(data, version, position, end, connect_flags, keep_alive, properties)
    except ProtocolError as error:
        error.maximum_packet_size = properties.get("maximum_packet_size", 0)
        raise


def _decode_payload(
    data: bytes,
    version: ConnectVersion,
    position: int,
    end: int,
    connect_flags: int,
    keep_alive: int,
    properties: Properties,
) -> Connect:
    level = version.level
    strict = level != MQTT31
    has_username = bool(connect_flags & 0x80)
    has_password = bool(connect_flags & 0x40)
    client_id, position = decode_string(data, position, end)
    will = None
    if connect_flags & 0x04:
        will, position = _decode_will(data, position, end, connect_flags, level)
    elif connect_flags & 0x38 and strict:
        raise malformed("there is will QoS or will retain without a will")  # [MQTT-3.1.2-11, 3.1.2-13]
    username: str | None = None
    password: bytes | None = None
    # In MQTT 3.1 the remaining length decides whether these two are there.
    if has_username and (strict or position < end):
        username, position = decode_string(data, position, end)
    if has_password and (strict or position < end):
        password, position = decode_binary(data, position, end)
    if position != end:
        raise malformed("CONNECT goes on behind its last field")  # [MQTT-3.1.3-1]
    clean_start = bool(connect_flags & 0x02)
    return Connect(client_id, level, clean_start, keep_alive, username, password, will, version.bridge, properties)


def _decode_will(data: bytes, position: int, end: int, connect_flags: int, level: int) -> tuple[Will, int]:
    qos = connect_flags >> 3 & 3
    if qos == 3:
        raise malformed("the will QoS is 3")  # [MQTT-3.1.2-12]
    properties = NO_PROPERTIES
    if level == MQTT5:
        properties, position = decode_properties(data, position, end, "WILL")
    topic_name, position = decode_string(data, position, end)
    validate_topic_name(topic_name)
    payload, position = decode_binary(data, position, end)
    return Will(topic_name, payload, qos, bool(connect_flags & 0x20), properties), position


def decode_connack(data: bytes, position: int, end: int, level: int, server: bool) -> ConnAck:
    acknowledge_flags, position = decode_byte(data, position, end)
    code, position = decode_byte(data, position, end)
    properties = NO_PROPERTIES
    if level == MQTT5:
        if code not in PACKET_REASON_CODES["CONNACK"]:
            raise broken_rule(f"CONNACK must not have reason code 0x{code:02X}")  # [MQTT-3.2.2-8]
        properties, position = decode_properties(data, position, end, "CONNACK")
    elif code < len(_REASON_CODES):
        code = _REASON_CODES[code]
    else:
        raise broken_rule(f"CONNACK must not have return code {code}")
    if position != end:
        raise malformed("CONNACK goes on behind its last field")
    if level == MQTT31:
        acknowledge_flags = 0  # the byte is unused there
    if acknowledge_flags > 1:
        raise malformed("CONNACK has reserved flags set")  # [MQTT-3.2.2-1]
    if acknowledge_flags and code:
        raise broken_rule("CONNACK refuses, and says that a session is present")  # [MQTT-3.2.2-6]
    return ConnAck(code, bool(acknowledge_flags), properties)
