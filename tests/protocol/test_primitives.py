"""The data types of the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases.packet_strategies import STRINGS
from cases.wire import raw, text
from trio_broker.errors import ProtocolError
from trio_broker.protocol.primitives import (
    MAXIMUM_VARIABLE_BYTE_INTEGER,
    decode_binary,
    decode_byte,
    decode_string,
    decode_two_byte_integer,
    decode_variable_byte_integer,
    encode_binary,
    encode_packet_identifier,
    encode_string,
    encode_variable_byte_integer,
    frame,
)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, raw("00")),
        (127, raw("7F")),
        (128, raw("80 01")),
        (16_383, raw("FF 7F")),
        (16_384, raw("80 80 01")),
        (2_097_151, raw("FF FF 7F")),
        (2_097_152, raw("80 80 80 01")),
        (MAXIMUM_VARIABLE_BYTE_INTEGER, raw("FF FF FF 7F")),
    ],
)
def test_variable_byte_integers_at_their_limits(value: int, data: bytes) -> None:
    assert encode_variable_byte_integer(value) == data
    assert decode_variable_byte_integer(b"x" + data + b"x", 1, len(data) + 1) == (value, len(data) + 1)


@given(st.integers(0, MAXIMUM_VARIABLE_BYTE_INTEGER))
def test_variable_byte_integer_is_read_back(value: int) -> None:
    data = encode_variable_byte_integer(value)
    assert decode_variable_byte_integer(data, 0, len(data)) == (value, len(data))


@given(st.binary(max_size=6))
def test_variable_byte_integer_has_one_form_only(data: bytes) -> None:
    size = next((at + 1 for at, byte in enumerate(data) if byte < 0x80), 0)
    if 0 < size <= 4 and (size == 1 or data[size - 1]):
        value, position = decode_variable_byte_integer(data, 0, len(data))
        assert encode_variable_byte_integer(value) == data[:position] == data[:size]
    else:
        with pytest.raises(ProtocolError) as caught:
            decode_variable_byte_integer(data, 0, len(data))
        assert caught.value.reason_code == 0x81


@pytest.mark.parametrize("value", [-1, MAXIMUM_VARIABLE_BYTE_INTEGER + 1])
def test_variable_byte_integer_out_of_range(value: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        encode_variable_byte_integer(value)


@pytest.mark.parametrize(
    "wrong",
    [
        b"\0",
        b"\xff",
        b"\x80",
        b"\xc0\x80",  # U+0000, overlong
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xed\xa0\x80",  # U+D800
        b"\xed\xbf\xbf",  # U+DFFF
        b"\xed\xa0\xbd\xed\xb8\x80",  # a pair of surrogates
        b"\xf4\x90\x80\x80",  # U+110000
        b"\xf8\x88\x80\x80\x80",
        b"\xe2\x82",
        b"ok\0",
    ],
    ids=repr,
)
def test_strings_that_are_not_allowed(wrong: bytes) -> None:
    data = text(wrong)
    with pytest.raises(ProtocolError) as caught:
        decode_string(data, 0, len(data))
    assert caught.value.reason_code == 0x81


@pytest.mark.parametrize(
    "value", ["", "a", "\ufeff", "a\ufeffb", "\x01\x7f\x9f", "\ufffe\uffff", "\U0010ffff", "é" * 30_000]
)
def test_strings_that_are_allowed(value: str) -> None:
    data = text(value)
    assert decode_string(data, 0, len(data)) == (value, len(data))
    assert encode_string(value) == data


@given(STRINGS)
def test_string_is_read_back(value: str) -> None:
    data = encode_string(value)
    assert decode_string(data, 0, len(data)) == (value, len(data))


@pytest.mark.parametrize("value", ["\0", "a\0b", "\ud800", "x" * 65_536, "é" * 32_768])
def test_strings_that_cannot_be_sent(value: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_string(value)


def test_binary_data_holds_any_byte_and_65535_of_them() -> None:
    value = bytes(range(256)) * 255 + bytes(255)
    data = encode_binary(value)
    assert data == text(value)
    assert decode_binary(data, 0, len(data)) == (value, len(data))
    with pytest.raises(ValueError, match="65536"):
        encode_binary(value + b"x")


@pytest.mark.parametrize(
    ("decode", "data"),
    [
        (decode_byte, b"\1"),
        (decode_two_byte_integer, b"\1\2"),
        (decode_variable_byte_integer, b"\xff\xff\xff\x7f"),
        (decode_binary, text(b"abc")),
        (decode_string, text("abc")),
    ],
)
def test_nothing_is_read_beyond_the_end(decode: Callable[[bytes, int, int], object], data: bytes) -> None:
    # There are more bytes, but they belong to the next packet.
    for end in range(len(data)):
        with pytest.raises(ProtocolError) as caught:
            decode(data + b"\1\2\3", 0, end)
        assert caught.value.reason_code == 0x81


@pytest.mark.parametrize("value", [0, -1, 65_536])
def test_packet_identifiers_that_do_not_exist(value: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        encode_packet_identifier(value)


def test_frame_counts_its_body() -> None:
    assert frame(0x30, bytes(200)) == raw("30 C8 01") + bytes(200)
