"""A WebSocket client that can also be wrong: requests and frames by hand (RFC 6455)."""

from __future__ import annotations

import struct

import trio
from attrs import define
from listeners.fake_gate import read_exactly

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def request(path: str = "/mqtt", protocols: str | None = "mqtt", **headers: str) -> bytes:
    """An upgrade request; `headers` replace or add (with _ for -), an empty one is left out."""
    fields = {
        "host": "127.0.0.1",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
        "sec-websocket-protocol": protocols or "",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    first = (0x80 if fin else 0) | opcode
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, mask_bit | len(payload))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", first, mask_bit | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, mask_bit | 127, len(payload))
    if not masked:
        return head + payload
    mask = b"\x11\x22\x33\x44"
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


@define
class Response:
    status: int
    headers: dict[str, str]
    body: bytes


async def read_response(stream: trio.abc.Stream) -> Response:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await read_exactly(stream, 1)
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await read_exactly(stream, int(headers.get("content-length", "0")))
    return Response(int(first.split(" ")[1]), headers, body)


async def read_frame(stream: trio.abc.Stream) -> tuple[int, bytes]:
    """Opcode and payload; the server's frames are whole and not masked."""
    first, second = await read_exactly(stream, 2)
    assert first & 0xF0 == 0x80, "compressed or cut"
    assert not second & 0x80, "masked"
    size = second
    if size == 126:
        (size,) = struct.unpack("!H", await read_exactly(stream, 2))
    elif size == 127:
        (size,) = struct.unpack("!Q", await read_exactly(stream, 8))
    return first & 0x0F, await read_exactly(stream, size)


async def read_close(stream: trio.abc.Stream) -> int:
    """The code of the close frame that comes next."""
    opcode, payload = await read_frame(stream)
    assert opcode == CLOSE
    (code,) = struct.unpack_from("!H", payload)
    return int(code)


async def upgraded(stream: trio.abc.Stream, upgrade: bytes = b"") -> Response:
    await stream.send_all(upgrade or request())
    response = await read_response(stream)
    assert response.status == 101, response
    return response
