"""Packets written down as a reader of the standard sees them: hexadecimal, texts, and lengths that fill in themselves.

Invariant: independent of the broker's encoder and decoder, so that both cannot be wrong in the same way.

    10                 a byte; `0a1B` two
    "a/b"              a UTF-8 string with its two bytes of length; \\n, \\xNN, \\uNNNN as in Python
    'abc'              these characters, without a length
    [ ... ]            what is inside, behind its length as a variable byte integer
    { ... }            what is inside, behind its length in two bytes
    'x' * 5            the token before, five times in all

A CONNECT of version 5 with a keep alive of 60 seconds and client identifier "c": `10 ["MQTT" 05 02 003c [] "c"]`.
"""

from __future__ import annotations

import ast
import re

__all__ = ["bytes_of", "shown", "variable_byte_integer"]

TOKEN = re.compile(
    r"""\s*(?:
    (?P<hex>(?:[0-9a-fA-F]{2})+) | (?P<string>"(?:[^"\\]|\\.)*") | (?P<raw>'(?:[^'\\]|\\.)*')
    | (?P<open>[\[{]) | (?P<close>[\]}]) | \*\s*(?P<times>\d+)
)""",
    re.VERBOSE,
)


def variable_byte_integer(value: int) -> bytes:
    encoded = bytearray()
    while True:
        value, low = divmod(value, 128)
        encoded.append(low | 0x80 if value else low)
        if not value:
            return bytes(encoded)


def bytes_of(text: str) -> bytes:
    """The bytes that `text` stands for. ValueError where it is not understood."""
    stack: list[tuple[str, list[bytes]]] = [("", [])]
    position = 0
    text = text.rstrip()
    while position < len(text):
        found = TOKEN.match(text, position)
        if found is None:
            raise ValueError(f"not understood: {text[position:]!r}")
        position = found.end()
        parts = stack[-1][1]
        kind, token = found.lastgroup, found[found.lastgroup or 0]
        if kind == "hex":
            parts.append(bytes.fromhex(token))
        elif kind == "string":
            encoded = ast.literal_eval(token).encode("utf-8", "surrogatepass")
            parts.append(len(encoded).to_bytes(2, "big") + encoded)
        elif kind == "raw":
            parts.append(ast.literal_eval(token).encode("utf-8", "surrogatepass"))
        elif kind == "times":
            parts[-1] *= int(token)
        elif kind == "open":
            stack.append((token, []))
        else:
            opened, inside = stack.pop()
            if not stack or opened + token not in ("[]", "{}"):
                raise ValueError(f"{token} closes nothing: {text!r}")
            content = b"".join(inside)
            length = variable_byte_integer(len(content)) if token == "]" else len(content).to_bytes(2, "big")
            stack[-1][1].append(length + content)
    if len(stack) > 1:
        raise ValueError(f"{stack[-1][0]} is never closed: {text!r}")
    return b"".join(stack[0][1])


def shown(data: bytes) -> str:
    """For a message: hexadecimal, and the characters that can be read."""
    return f"{data.hex(' ')}  ({''.join(chr(byte) if 32 <= byte < 127 else '.' for byte in data)})"
