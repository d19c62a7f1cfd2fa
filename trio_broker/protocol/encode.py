"""From a packet object to its bytes, for every packet and both sides.

Invariant: `encode` gives a packet that can be read at its level, or raises ValueError. Whether topic names and filters
are well formed is not asked again: they were checked when they came in.
"""

from __future__ import annotations

from typing import Final, Literal

from trio_broker.protocol.encode_connect import encode_connack, encode_connect
from trio_broker.protocol.encode_publish import publish_frame
from trio_broker.protocol.encode_subscribe import (
    encode_suback,
    encode_subscribe,
    encode_unsuback,
    encode_unsubscribe,
)
from trio_broker.protocol.packets import (
    MQTT5,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Properties,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    changed,
)
from trio_broker.protocol.primitives import encode_packet_identifier, frame
from trio_broker.protocol.properties import properties_bytes
from trio_broker.protocol.reason_codes import PACKET_REASON_CODES

Role = Literal["server", "client"]

PINGREQ: Final = b"\xc0\x00"
PINGRESP: Final = b"\xd0\x00"

_ACKNOWLEDGEMENTS: Final[dict[type, tuple[int, str]]] = {
    PubAck: (0x40, "PUBACK"),
    PubRec: (0x50, "PUBREC"),
    PubRel: (0x62, "PUBREL"),
    PubComp: (0x70, "PUBCOMP"),
}
_AUTH_CODES: Final[dict[str, tuple[int, int]]] = {"server": (0x00, 0x18), "client": (0x18, 0x19)}


def encode(packet: Packet, level: int, role: Role = "server") -> bytes:
    """The bytes of `packet` in the dialect `level` (3, 4 or 5; a Connect goes by its own), sent by `role`.

    Below level 5 properties are left out, codes are translated or left out. Raises ValueError for what cannot be
    sent: a server's DISCONNECT below level 5, AUTH below level 5, a reason code or a property that the packet cannot
    have, a value that does not fit its field.
    """
    match packet:
        case Publish():
            return publish_frame(
                packet.topic_name,
                packet.payload,
                packet.qos,
                packet.retain,
                packet.dup,
                packet.packet_identifier,
                packet.properties,
                level,
            )
        case PubAck() | PubRec() | PubRel() | PubComp():
            return _encode_acknowledgement(packet, level)
        case SubAck():
            return encode_suback(packet, level)
        case UnsubAck():
            return encode_unsuback(packet, level)
        case PingReq():
            return PINGREQ
        case PingResp():
            return PINGRESP
        case ConnAck():
            return encode_connack(packet, level)
        case Disconnect():
            return _encode_disconnect(packet, level, role)
        case Auth():
            return _encode_auth(packet, level, role)
        case Connect():
            return encode_connect(packet)
        case Subscribe():
            return encode_subscribe(packet, level)
        case Unsubscribe():
            return encode_unsubscribe(packet, level)


def strip_to_fit(packet: Packet, level: int, maximum_packet_size: int, role: Role = "server") -> bytes | None:
    """`encode(packet)`, without what may be left out where it would be larger than `maximum_packet_size` bytes.

    User properties go first, then the reason string too; PUBLISH keeps all it has. None = it does not fit at all.
    A maximum of 0 is none. [MQTT-3.1.2-24, 3.2.2-19, 3.2.2-20, 3.4.2-2, 3.4.2-3 and their sisters]
    """
    encoded = encode(packet, level, role)
    if not maximum_packet_size or len(encoded) <= maximum_packet_size:
        return encoded
    if isinstance(packet, Publish | Connect | Subscribe | Unsubscribe | PingReq | PingResp):
        return None
    for dropped in (("user_property",), ("user_property", "reason_string")):
        properties = _without(packet.properties, dropped)
        encoded = encode(changed(packet, properties=properties), level, role)
        if len(encoded) <= maximum_packet_size:
            return encoded
    return None


def _without(properties: Properties, dropped: tuple[str, ...]) -> Properties:
    rest = properties.copy()
    if "user_property" in dropped:
        rest.pop("user_property", None)
    if "reason_string" in dropped:
        rest.pop("reason_string", None)
    return rest


def _encode_acknowledgement(packet: PubAck | PubRec | PubRel | PubComp, level: int) -> bytes:
    first, name = _ACKNOWLEDGEMENTS[type(packet)]
    body = encode_packet_identifier(packet.packet_identifier)
    if level == MQTT5 and (packet.reason_code or packet.properties):
        _check_code(packet.reason_code, PACKET_REASON_CODES[name], name)
        body += packet.reason_code.to_bytes(1, "big")
        if packet.properties:
            body += properties_bytes(packet.properties, name)
    return frame(first, body)


def _encode_disconnect(packet: Disconnect, level: int, role: Role) -> bytes:
    if level != MQTT5:
        if role == "server":
            raise ValueError(f"a server sends no DISCONNECT at level {level}")
        return b"\xe0\x00"
    name = "DISCONNECT_BY_SERVER" if role == "server" else "DISCONNECT_BY_CLIENT"
    _check_code(packet.reason_code, PACKET_REASON_CODES[name], name)
    return _with_code(0xE0, packet.reason_code, packet.properties, name)


def _encode_auth(packet: Auth, level: int, role: Role) -> bytes:
    if level != MQTT5:
        raise ValueError(f"there is no AUTH at level {level}")
    _check_code(packet.reason_code, _AUTH_CODES[role], "AUTH")
    return _with_code(0xF0, packet.reason_code, packet.properties, "AUTH")


def _with_code(first: int, code: int, properties: Properties, name: str) -> bytes:
    if not properties:
        return frame(first, bytes((code,)) if code else b"")
    return frame(first, bytes((code,)) + properties_bytes(properties, name))


def _check_code(code: int, allowed: frozenset[int] | tuple[int, ...], name: str) -> None:
    if code not in allowed:
        raise ValueError(f"{name} cannot have reason code 0x{code:02X}")
