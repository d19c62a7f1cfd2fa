"""Packets put together by hand for the tables of cases: independent of the encoder that they test."""

from __future__ import annotations


def text(value: str | bytes) -> bytes:
    """A string or binary data behind its two byte length."""
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


def integer(value: int) -> bytes:
    """A variable byte integer."""
    if value < 128:
        return bytes([value])
    return bytes([value % 128 + 128]) + integer(value // 128)


def section(*properties: bytes) -> bytes:
    """A property section."""
    joined = b"".join(properties)
    return integer(len(joined)) + joined


def packet(first: int, *parts: bytes) -> bytes:
    """A whole packet with the right remaining length."""
    body = b"".join(parts)
    return bytes([first]) + integer(len(body)) + body


def raw(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal)
