"""The notation for packets."""

from __future__ import annotations

import pytest
from conformance.bytes_of import bytes_of, variable_byte_integer


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        ("c000", b"\xc0\x00"),
        ("c0 00", b"\xc0\x00"),
        ('"a/b"', b"\x00\x03a/b"),
        ('"ü"', b"\x00\x02\xc3\xbc"),
        (r'"\ud800"', b"\x00\x03\xed\xa0\x80"),
        (r"'\x00a'", b"\x00a"),
        ("30 [\"t\" 'x']", b"\x30\x04\x00\x01tx"),
        ("10 [[] {0102} [[]]]", b"\x10\x07\x00\x00\x02\x01\x02\x01\x00"),
        ("['x' * 200]", b"\xc8\x01" + b"x" * 200),
        ("00 * 3", b"\x00\x00\x00"),
    ],
)
def test_what_a_text_stands_for(text: str, data: bytes) -> None:
    assert bytes_of(text) == data


@pytest.mark.parametrize("text", ["0", "[", "]", "[}", "{]", "zz", '"open'])
def test_what_is_not_understood(text: str) -> None:
    with pytest.raises(ValueError, match=r"not understood|never closed|closes nothing"):
        bytes_of(text)


def test_lengths() -> None:
    assert [variable_byte_integer(number).hex() for number in (0, 127, 128, 16_383, 16_384, 268_435_455)] == [
        "00", "7f", "8001", "ff7f", "808001", "ffffff7f",
    ]  # fmt: skip
