"""The data types of the wire: integers, strings and binary data [MQTT 5.0 section 1.5].

Invariant: a decode function takes `(data, position, end)`, never looks at or beyond `end`, gives `(value, next
position)`, and raises nothing but `ProtocolError`; an encode function raises nothing but `ValueError`.
"""

from __future__ import annotations

from typing import Final

from trio_broker.errors import ProtocolError
from trio_broker.protocol.reason_codes import ReasonCode

MAXIMUM_VARIABLE_BYTE_INTEGER: Final = 268_435_455
MAXIMUM_STRING_SIZE: Final = 65_535


def malformed(message: str) -> ProtocolError:
    """The error for bytes that cannot be read (0x81)."""
    return ProtocolError(ReasonCode.MALFORMED_PACKET, message)


def broken_rule(message: str) -> ProtocolError:
    """The error for bytes that can be read and say something that is not allowed (0x82)."""
    return ProtocolError(ReasonCode.PROTOCOL_ERROR, message)


def decode_byte(data: bytes, position: int, end: int) -> tuple[int, int]:
    if position >= end:
        raise malformed("the packet ends where a byte is due")
    return data[position], position + 1


def decode_two_byte_integer(data: bytes, position: int, end: int) -> tuple[int, int]:
    after = position + 2
    if after > end:
        raise malformed("the packet ends within a two byte integer")
    return data[position] << 8 | data[position + 1], after


def decode_variable_byte_integer(data: bytes, position: int, end: int) -> tuple[int, int]:
    """One to four bytes, seven bits each, lowest first, in the shortest form [MQTT-1.5.5-1]."""
    if position < end and data[position] < 0x80:
        return data[position], position + 1
    value = shift = 0
    while shift < 28:
        if position >= end:
            raise malformed("the packet ends within a variable byte integer")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if not byte and shift:
                raise malformed("a variable byte integer is longer than it need be")
            return value, position
        shift += 7
    raise malformed("a variable byte integer has more than four bytes")


def decode_string(data: bytes, position: int, end: int) -> tuple[str, int]:
    """A string of UTF-8 behind its two byte length [MQTT-1.5.4-1, 1.5.4-2, 1.5.4-3]."""
    raw, position = decode_binary(data, position, end)
    return string_of(raw), position


def string_of(raw: bytes) -> str:
    """The string that `raw` encodes: strict UTF-8, U+FEFF kept, no U+0000 [MQTT-1.5.4-1, 1.5.4-2, 1.5.4-3]."""
    try:
        # The strict codec refuses surrogates and overlong forms by itself.
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed(f"a string is not UTF-8: {error.reason}") from None
    if "\0" in text:
        raise malformed("a string has a U+0000 in it")
    return text


def decode_binary(data: bytes, position: int, end: int) -> tuple[bytes, int]:
    """Up to 65,535 bytes behind their two byte length."""
    start = position + 2
    if start > end:
        raise malformed("the packet ends within a length")
    after = start + (data[position] << 8 | data[position + 1])
    if after > end:
        raise malformed("a length reaches beyond the end of the packet")
    return data[start:after], after


def encode_variable_byte_integer(value: int) -> bytes:
    if 0 <= value < 0x80:
        return value.to_bytes(1, "big")
    if not 0 <= value <= MAXIMUM_VARIABLE_BYTE_INTEGER:
        raise ValueError(f"{value} does not fit into a variable byte integer")
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_string(text: str) -> bytes:
    if "\0" in text:
        raise ValueError("a string with U+0000 cannot be sent")
    return encode_binary(text.encode("utf-8"))  # UnicodeEncodeError, for surrogates, is a ValueError


def encode_binary(data: bytes) -> bytes:
    if len(data) > MAXIMUM_STRING_SIZE:
        raise ValueError(f"{len(data)} bytes are more than a string or binary data can hold")
    return len(data).to_bytes(2, "big") + data


def encode_packet_identifier(packet_identifier: int) -> bytes:
    if not 0 < packet_identifier <= 0xFFFF:
        raise ValueError(f"{packet_identifier} is no packet identifier")
    return packet_identifier.to_bytes(2, "big")


def frame(first_byte: int, body: bytes) -> bytes:
    """A whole packet: its first byte, the remaining length, the body."""
    return first_byte.to_bytes(1, "big") + encode_variable_byte_integer(len(body)) + body
