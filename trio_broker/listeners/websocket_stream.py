"""A WebSocket connection as the stream of bytes MQTT is [MQTT-6.0.0-2].

Invariant: what comes out raises Trio's stream exceptions only, and closing is over within `close_timeout`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import trio
from attrs import define, field
from trio_websocket import CloseReason, ConnectionClosed

log = logging.getLogger("trio_broker.listeners.websocket")

CLOSE_TIMEOUT = 2.0
"""Seconds for the peer to answer our close frame."""

RECEIVE_SIZE = 65_536
MAX_PARTS = 20_000
"""Fragments of one message. The library keeps them until the message is whole, and the limit of a message counts what
is in them only: empty ones would be kept without end. 16 MB in segments of a network are less than so many."""

CLOSE_FRAME = b"\x88"
"""The first byte of one."""

_ORDINARY = (1000, 1001, 1005)
_PEERS_FAULT = (1002, 1007)


class WebSocketMessages(Protocol):
    """The part of `trio_websocket.WebSocketConnection` that is used."""

    @property
    def closed(self) -> CloseReason | None: ...
    async def get_message(self) -> str | bytes: ...
    async def send_message(self, message: str | bytes) -> None: ...
    async def aclose(self, code: int = 1000, reason: str | None = None) -> None: ...


@define(eq=False)
class WebSocketStream(trio.abc.Stream):
    """Each `send_all` is one binary message; messages and MQTT packets need not line up either way."""

    _messages: WebSocketMessages
    _transport: Transport | None = None
    close_timeout: float = CLOSE_TIMEOUT
    _unread: bytes = field(default=b"", init=False)
    _closed: bool = field(default=False, init=False)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this WebSocket is closed")
        try:
            await self._messages.send_message(bytes(data))
        except ConnectionClosed as closed:
            raise self._ended(closed) from closed

    async def wait_send_all_might_not_block(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this WebSocket is closed")
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The bytes of one message, or what `max_bytes` left of it; b"" after the peer's close frame."""
        if self._closed:
            raise trio.ClosedResourceError("this WebSocket is closed")
        if self._unread:
            await trio.lowlevel.checkpoint()
            return self._split(self._unread, max_bytes)
        while True:
            try:
                message = await self._messages.get_message()
            except ConnectionClosed as closed:
                if closed.reason is not None and closed.reason.code in _ORDINARY and not self._closed:
                    return b""
                raise self._ended(closed) from closed
            if isinstance(message, str):
                # Binary frames only, any other ends the connection [MQTT-6.0.0-1].
                await self.aclose(1003, "MQTT is sent in binary frames")
                raise trio.BrokenResourceError("the peer sent a text frame")
            if message:  # an empty one is allowed and must not look like the end
                return self._split(message, max_bytes)

    def _split(self, data: bytes, max_bytes: int | None) -> bytes:
        if max_bytes is None:
            max_bytes = len(data)
        self._unread = data[max_bytes:]
        return data[:max_bytes]

    def _ended(self, closed: ConnectionClosed) -> Exception:
        if self._closed:
            return trio.ClosedResourceError("this WebSocket was closed here")
        return trio.BrokenResourceError(f"the WebSocket is gone: {closed.reason}")

    async def aclose(self, code: int = 1000, reason: str | None = None) -> None:
        """Send a close frame and wait for its answer, `close_timeout` seconds at most."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        transport = self._transport
        try:
            if transport is None or not transport.ended:
                with trio.move_on_after(self.close_timeout):
                    await self._messages.aclose(code, reason)
                    if transport is not None:
                        await transport.drain()
        except ConnectionClosed:
            return
        finally:
            if transport is not None:
                await trio.aclose_forcefully(transport)


@define(eq=False)
class Transport(trio.abc.Stream):
    """The stream below a WebSocket. It does what the library leaves out: it tells when the peer has gone before its
    handshake, and says good-bye to one that breaks the framing."""

    _stream: trio.abc.Stream
    on_end: Callable[[], object] | None = None
    messages: WebSocketMessages | None = None
    """Once the handshake is done."""
    ended: bool = field(default=False, init=False)
    _receive_turn: trio.Lock = field(factory=trio.Lock, init=False)
    _send_turn: trio.Lock = field(factory=trio.Lock, init=False)
    _close_sent: bool = field(default=False, init=False)
    _failed: bool = field(default=False, init=False)

    def _end(self) -> None:
        self.ended = True
        if self.on_end is not None:
            self.on_end()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        async with self._send_turn:
            if self._failed:
                raise trio.BrokenResourceError("the peer broke the framing")
            if data[:1] == CLOSE_FRAME:  # the library sends frame by frame
                self._close_sent = True
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._end()
                raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self.messages is not None and len(getattr(self.messages, "_message_parts", ())) > MAX_PARTS:
            log.info("WebSocket closed: a message in more than %d fragments", MAX_PARTS)
            self._end()
            raise trio.BrokenResourceError("a message in too many fragments")
        async with self._receive_turn:
            try:
                data = bytes(await self._stream.receive_some(max_bytes))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._end()
                raise
        if not data:
            self._end()
        return data

    async def drain(self) -> None:
        """Read until the peer closes. Closing with bytes unread would reset the connection, and with it our close
        frame (1009, where the library stops reading) before the peer has seen it."""
        while not self.ended:
            try:
                await self.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async def aclose(self) -> None:
        if not self.ended:
            await self._say_why()
        self._end()
        await self._stream.aclose()

    async def _say_why(self) -> None:
        """RFC 6455, 7.1.7: an endpoint that fails the connection sends a close frame with the code."""
        reason = None if self.messages is None else self.messages.closed
        if reason is None or reason.code not in _PEERS_FAULT or self._close_sent:
            return
        frame = CLOSE_FRAME + b"\x02" + reason.code.to_bytes(2, "big")
        with trio.move_on_after(CLOSE_TIMEOUT), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with self._send_turn:  # a send that is under way must not be cut in two
                self._failed = True
                await self._stream.send_all(frame)
