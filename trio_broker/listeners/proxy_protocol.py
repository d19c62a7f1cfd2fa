"""The PROXY protocol, versions 1 (text) and 2 (binary): who a load balancer says is at the other end.

Invariant: any bytes give a header, an error, or a wish for more, and never is a byte behind the header consumed.
"""

from __future__ import annotations

import ipaddress
import struct

from attrs import define, field

from trio_broker.errors import TrioBrokerError

SIGNATURE_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
PREFIX_V1 = b"PROXY "
MAXIMUM_V1 = 107  # bytes, line end included

_V2_FIXED = 16
_TLV_SSL = 0x20
_TLV_SSL_COMMON_NAME = 0x22


def is_sane_name(name: str) -> bool:
    """No control characters, as in every name that MQTT carries: names go into logs, topics and requests to others."""
    return not any(character < " " or "\x7f" <= character <= "\x9f" for character in name)


class ProxyProtocolError(TrioBrokerError):
    """The peer sent something that is no PROXY header."""


@define(frozen=True)
class ProxyHeader:
    """`host` is None when the proxy speaks for itself (LOCAL, UNKNOWN): the address of the socket counts."""

    host: str | None = None
    port: int = 0
    common_name: str | None = None
    """Of the client certificate the proxy has verified (version 2 only)."""


@define
class ProxyHeaderParser:
    """Fed until `header` is there."""

    header: ProxyHeader | None = field(default=None, init=False)
    _buffer: bytearray = field(factory=bytearray, init=False, repr=False)

    def feed(self, data: bytes) -> int:
        """How many bytes of `data` are header; the rest belongs to what follows. Raises ProxyProtocolError."""
        if self.header is not None:
            return 0
        before = len(self._buffer)
        self._buffer += data
        buffer = bytes(self._buffer)
        if buffer[:12] == SIGNATURE_V2[: len(buffer)]:
            end = self._version_2(buffer)
        elif buffer[:6] == PREFIX_V1[: len(buffer)]:
            end = self._version_1(buffer)
        else:
            raise ProxyProtocolError("not a PROXY header")
        if end is None:
            return len(data)
        del self._buffer[end:]
        return end - before

    def _version_1(self, buffer: bytes) -> int | None:
        end = buffer.find(b"\n", 0, MAXIMUM_V1)
        if end < 0:
            if len(buffer) >= MAXIMUM_V1:
                raise ProxyProtocolError("a version 1 header of more than 107 bytes")
            return None
        self.header = parse_line(buffer[: end + 1])
        return end + 1

    def _version_2(self, buffer: bytes) -> int | None:
        if len(buffer) < _V2_FIXED:
            return None
        version_command, family, length = struct.unpack_from("!BBH", buffer, 12)
        if version_command >> 4 != 2 or version_command & 0x0F > 1:
            raise ProxyProtocolError(f"unknown version or command 0x{version_command:02X}")
        end = _V2_FIXED + int(length)
        if len(buffer) < end:
            return None
        self.header = ProxyHeader() if version_command & 0x0F == 0 else parse_binary(family, buffer[_V2_FIXED:end])
        return end


def parse_line(line: bytes) -> ProxyHeader:
    """A version 1 header: the line with its end."""
    if not line.endswith(b"\r\n"):
        raise ProxyProtocolError("a version 1 header that does not end with CR LF")
    try:
        words = line[:-2].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise ProxyProtocolError("a version 1 header that is not ASCII") from None
    if words[1:2] == ["UNKNOWN"]:
        return ProxyHeader()
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ProxyProtocolError(f"a version 1 header of unknown form: {line[:-2]!r}")
    _, family, source, destination, source_port, destination_port = words
    parse = ipaddress.IPv4Address if family == "TCP4" else ipaddress.IPv6Address
    try:
        parse(destination)
        host = str(parse(source))
    except ValueError:
        raise ProxyProtocolError(f"no {family} address in {line[:-2]!r}") from None
    _port(destination_port)
    return ProxyHeader(host, _port(source_port))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise ProxyProtocolError(f"no port: {text!r}")
    return int(text)


def parse_binary(family: int, body: bytes) -> ProxyHeader:
    """What follows the fixed 16 bytes of a version 2 header with command PROXY."""
    if family >> 4 == 1:
        layout = "!4s4xH2x"
    elif family >> 4 == 2:
        layout = "!16s16xH2x"
    elif family >> 4 == 3:
        return ProxyHeader(common_name=_common_name(body[216:]))  # a Unix socket: 108 bytes for either end
    elif family == 0:
        return ProxyHeader()
    else:
        raise ProxyProtocolError(f"unknown address family 0x{family:02X}")
    size = struct.calcsize(layout)
    if len(body) < size:
        raise ProxyProtocolError("a version 2 header too short for its addresses")
    packed, port = struct.unpack_from(layout, body)
    return ProxyHeader(str(ipaddress.ip_address(packed)), port, _common_name(body[size:]))


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """Type, length, value; one after the other."""
    found: list[tuple[int, bytes]] = []
    position = 0
    while position < len(data):
        if position + 3 > len(data):
            raise ProxyProtocolError("a cut field in a version 2 header")
        kind, length = struct.unpack_from("!BH", data, position)
        position += 3
        if position + length > len(data):
            raise ProxyProtocolError("a field longer than its version 2 header")
        found.append((kind, data[position : position + length]))
        position += length
    return found


def _common_name(data: bytes) -> str | None:
    """The common name of a client certificate, where the proxy says it has verified one."""
    for kind, value in _fields(data):
        if kind != _TLV_SSL:
            continue
        if len(value) < 5:
            raise ProxyProtocolError("a cut TLS field in a version 2 header")
        if value[1:5] != b"\x00\x00\x00\x00":  # zero means verified
            return None
        for sub_kind, sub_value in _fields(value[5:]):
            if sub_kind == _TLV_SSL_COMMON_NAME:
                name = sub_value.decode("utf-8", "replace")
                if not is_sane_name(name):
                    raise ProxyProtocolError("a common name with control characters")
                return name
    return None
