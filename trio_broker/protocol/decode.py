"""From the body of any packet but CONNECT and PUBLISH to its object, and the rules of the first byte.

Invariant: `check_first_byte` judges a packet by its first byte alone, so that the answer is the same before and after
its body has arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trio_broker.protocol.decode_acknowledge import decode_puback, decode_pubcomp, decode_pubrec, decode_pubrel
from trio_broker.protocol.decode_connect import decode_connack
from trio_broker.protocol.decode_disconnect import decode_auth, decode_disconnect, decode_pingreq, decode_pingresp
from trio_broker.protocol.decode_subscribe import (
    decode_suback,
    decode_subscribe,
    decode_unsuback,
    decode_unsubscribe,
)
from trio_broker.protocol.packets import MQTT5, MQTT31, MQTT311, Packet, PacketType
from trio_broker.protocol.primitives import broken_rule, malformed

_FROM_CLIENT: Final = (
    PacketType.PUBLISH,
    PacketType.PUBACK,
    PacketType.PUBREC,
    PacketType.PUBREL,
    PacketType.PUBCOMP,
    PacketType.SUBSCRIBE,
    PacketType.UNSUBSCRIBE,
    PacketType.PINGREQ,
    PacketType.DISCONNECT,
    PacketType.AUTH,
)
_FROM_SERVER: Final = (
    PacketType.CONNACK,
    PacketType.PUBLISH,
    PacketType.PUBACK,
    PacketType.PUBREC,
    PacketType.PUBREL,
    PacketType.PUBCOMP,
    PacketType.SUBACK,
    PacketType.UNSUBACK,
    PacketType.PINGRESP,
    PacketType.DISCONNECT,
    PacketType.AUTH,
)
_WITH_FLAGS_0010: Final = (PacketType.PUBREL, PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE)


def _flags(packet_type: PacketType, level: int) -> tuple[int, ...]:
    """The lower four bits of the first byte that a packet may have [MQTT-2.1.3-1]."""
    if packet_type is PacketType.PUBLISH:
        # DUP with QoS 0 is an error since 3.1.1 [MQTT-3.3.1-2]; QoS 3 always is [MQTT-3.3.1-4].
        return tuple(flags for flags in range(16) if flags & 6 != 6 and (level == MQTT31 or flags & 6 or not flags & 8))
    if packet_type in _WITH_FLAGS_0010:
        # [MQTT-3.6.1-1, 3.8.1-1, 3.10.1-1]; MQTT 3.1 sets DUP as well when it sends them again.
        return (2, 10) if level == MQTT31 else (2,)
    return (0,)


def _first_bytes(level: int, server: bool) -> frozenset[int]:
    return frozenset(
        packet_type << 4 | flags
        for packet_type in (_FROM_CLIENT if server else _FROM_SERVER)
        if packet_type is not PacketType.AUTH or level == MQTT5
        for flags in _flags(packet_type, level)
    )


# (level, whether it is the server that reads) -> the first bytes that may come once the client has sent its CONNECT.
FIRST_BYTES: Final = {
    (level, server): _first_bytes(level, server) for level in (MQTT31, MQTT311, MQTT5) for server in (True, False)
}


def check_first_byte(first: int, level: int, server: bool) -> None:
    """Raise ProtocolError where no packet may begin with `first` now.

    `level` 0 means that the server waits for CONNECT [MQTT-3.1.0-1].
    """
    packet_type = first >> 4
    if not level:
        if packet_type != PacketType.CONNECT:
            raise broken_rule("the first packet is not CONNECT")
        # Its flags are judged when its level is known.
        return
    if first in FIRST_BYTES[level, server]:
        return
    if not packet_type or (packet_type == PacketType.AUTH and level != MQTT5):
        raise malformed(f"there is no packet type {packet_type}")
    name = PacketType(packet_type).name
    if server and packet_type == PacketType.CONNECT:
        raise broken_rule("there is a second CONNECT")  # [MQTT-3.1.0-2]
    if packet_type not in (_FROM_CLIENT if server else _FROM_SERVER):
        raise broken_rule(f"{name} came from the wrong side")
    raise malformed(f"{name} must not have flags {first & 15:04b}")


_DECODERS: Final[dict[int, Callable[[bytes, int, int, int, bool], Packet]]] = {
    PacketType.CONNACK: decode_connack,
    PacketType.PUBACK: decode_puback,
    PacketType.PUBREC: decode_pubrec,
    PacketType.PUBREL: decode_pubrel,
    PacketType.PUBCOMP: decode_pubcomp,
    PacketType.SUBSCRIBE: decode_subscribe,
    PacketType.SUBACK: decode_suback,
    PacketType.UNSUBSCRIBE: decode_unsubscribe,
    PacketType.UNSUBACK: decode_unsuback,
    PacketType.PINGREQ: decode_pingreq,
    PacketType.PINGRESP: decode_pingresp,
    PacketType.DISCONNECT: decode_disconnect,
    PacketType.AUTH: decode_auth,
}


def decode_body(first: int, data: bytes, position: int, end: int, level: int, server: bool) -> Packet:
    """The packet that began with `first` (which passed `check_first_byte`) and whose body is `data[position:end]`."""
    return _DECODERS[first >> 4](data, position, end, level, server)
