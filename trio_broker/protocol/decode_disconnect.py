"""DISCONNECT, AUTH and the two pings [MQTT 5.0 sections 3.12 to 3.15].

Invariant: what may stand in DISCONNECT and AUTH depends on who sent it; `server` is true where a client did, because
it is the server that reads it.
"""

from __future__ import annotations

from trio_broker.protocol.packets import MQTT5, NO_PROPERTIES, Auth, Disconnect, PingReq, PingResp, Properties
from trio_broker.protocol.primitives import broken_rule, malformed
from trio_broker.protocol.properties import decode_properties
from trio_broker.protocol.reason_codes import PACKET_REASON_CODES

_AUTH_BY_CLIENT = frozenset((0x18, 0x19))
_AUTH_BY_SERVER = frozenset((0x00, 0x18))


def decode_pingreq(data: bytes, position: int, end: int, level: int, server: bool) -> PingReq:
    _expect_end(position, end, "PINGREQ")
    return PingReq()


def decode_pingresp(data: bytes, position: int, end: int, level: int, server: bool) -> PingResp:
    _expect_end(position, end, "PINGRESP")
    return PingResp()


def decode_disconnect(data: bytes, position: int, end: int, level: int, server: bool) -> Disconnect:
    if level != MQTT5:
        if not server:
            raise broken_rule(f"a server does not send DISCONNECT at level {level}")
        _expect_end(position, end, "DISCONNECT")
        return Disconnect()
    name = "DISCONNECT_BY_CLIENT" if server else "DISCONNECT_BY_SERVER"
    code, properties = _decode_code(data, position, end, PACKET_REASON_CODES[name], name)
    return Disconnect(code, properties)


def decode_auth(data: bytes, position: int, end: int, level: int, server: bool) -> Auth:
    # A client never says that authentication has succeeded, and so never sends the short form [MQTT-3.15.2-1].
    allowed = _AUTH_BY_CLIENT if server else _AUTH_BY_SERVER
    code, properties = _decode_code(data, position, end, allowed, "AUTH")
    if position < end and "authentication_method" not in properties:
        raise broken_rule("AUTH has no authentication method")
    return Auth(code, properties)


def _decode_code(data: bytes, position: int, end: int, allowed: frozenset[int], name: str) -> tuple[int, Properties]:
    code = 0
    properties = NO_PROPERTIES
    if position < end:
        code = data[position]
        position += 1
        if position < end:
            properties, position = decode_properties(data, position, end, name)
    if code not in allowed:
        raise broken_rule(f"{name} must not have reason code 0x{code:02X}")  # [MQTT-3.14.2-1, 3.15.2-1]
    _expect_end(position, end, name)
    return code, properties


def _expect_end(position: int, end: int, name: str) -> None:
    if position != end:
        raise malformed(f"{name} goes on behind its last field")
