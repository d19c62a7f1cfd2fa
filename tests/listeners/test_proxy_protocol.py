"""PROXY headers as bytes: tables, and any bytes at all."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.listeners.proxy_protocol import (
    SIGNATURE_V2,
    ProxyHeader,
    ProxyHeaderParser,
    ProxyProtocolError,
)


def version_2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE_V2 + bytes([0x20 | command, family]) + struct.pack("!H", len(body)) + body


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


IPV4 = socket.inet_aton("203.0.113.7") + socket.inet_aton("10.0.0.1") + struct.pack("!HH", 40000, 1883)
IPV6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "::1")
    + struct.pack("!HH", 40001, 1883)
)
VERIFIED = tlv(0x20, b"\x07\x00\x00\x00\x00" + tlv(0x21, b"TLSv1.3") + tlv(0x22, "möbel".encode()))
NOT_VERIFIED = tlv(0x20, b"\x07\x00\x00\x00\x01" + tlv(0x22, b"forged"))

GOOD = [
    (b"PROXY TCP4 203.0.113.7 10.0.0.1 40000 1883\r\n", ProxyHeader("203.0.113.7", 40000)),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ProxyHeader("255.255.255.255", 65535)),
    (b"PROXY TCP6 2001:db8::7 ::1 40001 1883\r\n", ProxyHeader("2001:db8::7", 40001)),
    (
        b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
        ProxyHeader("ffff:" * 7 + "ffff", 65535),
    ),
    (b"PROXY UNKNOWN\r\n", ProxyHeader()),
    (b"PROXY UNKNOWN ff:: ff:: 1 2\r\n", ProxyHeader()),
    (version_2(1, 0x11, IPV4), ProxyHeader("203.0.113.7", 40000)),
    (version_2(1, 0x21, IPV6), ProxyHeader("2001:db8::7", 40001)),
    (version_2(1, 0x11, IPV4 + tlv(0x04, b"\0\0\0")), ProxyHeader("203.0.113.7", 40000)),
    (version_2(1, 0x11, IPV4 + tlv(0x02, b"host") + VERIFIED), ProxyHeader("203.0.113.7", 40000, "möbel")),
    (version_2(1, 0x11, IPV4 + NOT_VERIFIED), ProxyHeader("203.0.113.7", 40000)),
    (version_2(1, 0x11, IPV4 + tlv(0x20, b"\x01\x00\x00\x00\x00")), ProxyHeader("203.0.113.7", 40000)),
    (version_2(1, 0x31, b"\0" * 216 + VERIFIED), ProxyHeader(common_name="möbel")),
    (version_2(1, 0x00, b""), ProxyHeader()),
    (version_2(0, 0x00, b""), ProxyHeader()),
    (version_2(0, 0x11, b"whatever"), ProxyHeader()),
]

BAD = [
    (b"\x10\x0d\x00\x04MQTT", "not a PROXY header"),
    (b"GET / HTTP/1.1\r\n", "not a PROXY header"),
    (b"PROXZ", "not a PROXY header"),
    (b"\r\n\r\n\x01", "not a PROXY header"),
    (b"PROXY TCP4 203.0.113.7 10.0.0.1 40000 1883\n", "CR LF"),
    (b"PROXY TCP4 203.0.113.7 10.0.0.1 40000\r\n", "unknown form"),
    (b"PROXY UDP4 203.0.113.7 10.0.0.1 40000 1883\r\n", "unknown form"),
    (b"PROXY TCP4 2001:db8::7 10.0.0.1 40000 1883\r\n", "no TCP4 address"),
    (b"PROXY TCP4 203.0.113.7 nowhere 40000 1883\r\n", "no TCP4 address"),
    (b"PROXY TCP6 203.0.113.7 10.0.0.1 40000 1883\r\n", "no TCP6 address"),
    (b"PROXY TCP4 203.0.113.7 10.0.0.1 65536 1883\r\n", "no port"),
    (b"PROXY TCP4 203.0.113.7 10.0.0.1 40000 -1\r\n", "no port"),
    (b"PROXY TCP4 203.0.113.7 10.0.0.1 40000 \xff\r\n", "not ASCII"),
    (b"PROXY " + b"x" * 101, "more than 107"),
    (SIGNATURE_V2 + b"\x31\x11\x00\x00", "unknown version or command"),
    (SIGNATURE_V2 + b"\x22\x11\x00\x00", "unknown version or command"),
    (version_2(1, 0x11, IPV4[:-1]), "too short"),
    (version_2(1, 0x41, IPV4), "unknown address family"),
    (version_2(1, 0x11, IPV4 + b"\x20\x00"), "cut field"),
    (version_2(1, 0x11, IPV4 + b"\x20\x00\x05abc"), "longer than"),
    (version_2(1, 0x11, IPV4 + tlv(0x20, b"\x01\0\0")), "cut TLS field"),
]

FOLLOWING = b"\x10\x0c\x00\x04MQTT\r\n"


@pytest.mark.parametrize(("data", "expected"), GOOD)
def test_a_header_and_nothing_behind_it_is_taken(data: bytes, expected: ProxyHeader) -> None:
    parser = ProxyHeaderParser()
    assert parser.feed(data + FOLLOWING) == len(data)
    assert parser.header == expected
    assert parser.feed(FOLLOWING) == 0


@pytest.mark.parametrize(("data", "expected"), GOOD)
def test_a_header_may_come_byte_by_byte(data: bytes, expected: ProxyHeader) -> None:
    parser = ProxyHeaderParser()
    for position in range(len(data)):
        assert parser.header is None
        assert parser.feed(data[position : position + 1]) == 1
    assert parser.header == expected


@pytest.mark.parametrize(("data", "words"), BAD)
def test_anything_else_is_an_error_that_says_what(data: bytes, words: str) -> None:
    with pytest.raises(ProxyProtocolError, match=words):
        ProxyHeaderParser().feed(data)


beginnings = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE_V2, *(data for data, _ in GOOD)])


@given(beginning=beginnings, rest=st.binary(max_size=300), cut=st.integers(0, 300))
def test_any_bytes_give_a_header_an_error_or_a_wish_for_more(beginning: bytes, rest: bytes, cut: int) -> None:
    data = beginning + rest

    def outcome(*chunks: bytes) -> tuple[ProxyHeader | None, int] | str:
        parser = ProxyHeaderParser()
        taken = 0
        try:
            for chunk in chunks:
                taken += parser.feed(chunk)
        except ProxyProtocolError as error:
            return str(error)
        return parser.header, taken

    whole = outcome(data)
    assert outcome(data[:cut], data[cut:]) == whole
    if not isinstance(whole, str) and whole[0] is None:
        assert whole[1] == len(data)  # everything was header so far
