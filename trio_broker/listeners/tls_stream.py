"""TLS as MQTT uses it: a polite end that nobody waits for.

Invariant: closing sends close_notify if that is possible at once or soon, and is over within a second either way.
"""

from __future__ import annotations

import ssl

import trio
from attrs import define

from trio_broker.listeners.lingering import LingeringStream

CLOSE_TIMEOUT = 1.0
"""Seconds for a peer that does not read to make room for close_notify."""


@define(eq=False)
class TlsStream(trio.abc.Stream):
    """Over a Trio SSL stream whose handshake is done."""

    _tls: trio.SSLStream[LingeringStream]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._tls.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._tls.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return bytes(await self._tls.receive_some(max_bytes))
        except trio.BrokenResourceError as broken:
            # A device that just drops the connection: MQTT packets carry their length, so a cut is noticed there.
            if is_eof(broken.__cause__):
                return b""
            raise

    async def aclose(self) -> None:
        with trio.move_on_after(CLOSE_TIMEOUT):
            await self._tls.aclose()


def server_side(transport: trio.SocketStream, context: ssl.SSLContext) -> trio.SSLStream[LingeringStream]:
    """The server's end of a TLS connection; the handshake is still to be done."""
    return trio.SSLStream(LingeringStream(transport), context, server_side=True)


def is_eof(error: BaseException | None) -> bool:
    """The peer closed without close_notify."""
    return isinstance(error, ssl.SSLEOFError) or (
        isinstance(error, ssl.SSLError) and error.reason == "UNEXPECTED_EOF_WHILE_READING"
    )
