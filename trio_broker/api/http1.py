"""HTTP/1.1 as the REST API speaks it: Hypercorn's, and stricter about where a request begins and ends.

Invariant: a request that somebody in front of us may read in another way than we do is refused, and its connection
closed: whoever hides a request in another one (request smuggling) finds no two readings to play with.
"""

from __future__ import annotations

import re
from typing import Any, Final

import h11
from h11._receivebuffer import ReceiveBuffer
from hypercorn.protocol.h11 import H11Protocol

LONGEST_HEADERS: Final = 32 * 1024
"""Bytes of a request line and its headers."""
MOST_HEADERS: Final = 100

_BARE_LINE_END = re.compile(rb"(?<!\r)\n")
_FOLDED = re.compile(rb"\n[ \t]")
_TOO_MUCH = 431


class Http1(H11Protocol):
    """HTTP/1.1 that stays what it is: an upgrade is not taken up, to whatever [RFC 9110 section 7.8]."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connection = StrictConnection(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)

    async def _check_protocol(self, event: h11.Request) -> None:
        pass

    async def _create_stream(self, request: h11.Request) -> None:
        # Hypercorn would speak WebSocket, and wait without end for what a half-made handshake lacks.
        if any(name == b"upgrade" for name, _ in request.headers):
            request = h11.Request(
                method=request.method,
                target=request.target,
                headers=[field for field in request.headers.raw_items() if field[0].lower() != b"upgrade"],
                http_version=request.http_version,
            )
        await super()._create_stream(request)


class StrictConnection(h11.Connection):
    """h11 takes what RFC 9112 lets a server take out of kindness; this one takes what it asks clients to send."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._lines = self._receive_buffer = _Lines()

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            fault = _fault(self._lines.taken, event)
            if fault is not None:
                raise h11.RemoteProtocolError(fault[1], error_status_hint=fault[0])
        return event


class _Lines(ReceiveBuffer):
    """What came and was not read yet. All that consists of lines is taken from here: heads, chunks, trailers."""

    taken = b""
    """The last lines as they came, with the empty one: h11 makes one of several headers that are alike."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        data = bytes(self)
        lines = super().maybe_extract_lines()
        self.taken = data if lines is None else data[: len(data) - len(self)]
        if _BARE_LINE_END.search(self.taken):
            raise h11.LocalProtocolError("a line ends with LF alone")  # h11 makes it the peer's fault
        if _FOLDED.search(self.taken):
            raise h11.LocalProtocolError("a line is folded")
        return lines

    def maybe_extract_next_line(self) -> bytearray | None:
        line = super().maybe_extract_next_line()
        if line is not None and b"\r" in line[:-2]:
            raise h11.LocalProtocolError("a chunk begins with a line that has CR in it")
        return line


def _fault(head: bytes, event: h11.Request) -> tuple[int, str] | None:
    """The status to refuse it with, and why."""
    lines = head.split(b"\r\n")
    if len(head) > LONGEST_HEADERS or len(lines) > MOST_HEADERS + 3:  # request line, empty line, end
        return _TOO_MUCH, "its head is too large"
    if event.http_version not in (b"1.0", b"1.1"):
        return 505, "its version is not spoken here"
    names = [line.partition(b":")[0].lower() for line in lines[1:]]
    if names.count(b"content-length") + names.count(b"transfer-encoding") > 1:
        return 400, "its length is said more than once"
    if any(name == b"content-length" and b"," in value for name, value in zip(names, lines[1:], strict=True)):
        return 400, "its length is a list"
    if b"transfer-encoding" in names and event.http_version < b"1.1":
        return 400, "Transfer-Encoding came with HTTP/1.0"
    return None
