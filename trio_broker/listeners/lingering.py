"""A socket whose end destroys nothing that was sent.

Invariant: closing is over within `LINGER` seconds, and at once when the peer closes, too.
"""

from __future__ import annotations

import trio
from attrs import define

__all__ = ["LINGER", "LingeringStream"]

LINGER = 1.0
"""Seconds for the peer to read its last packet. Closing a socket with unread bytes in it resets the connection, and the
reset may overtake the DISCONNECT that says why [MQTT 5.0 section 4.13]."""
BYTES_A_READ = 65536


@define(eq=False)
class LingeringStream(trio.abc.Stream):
    """What is under a TLS stream: at its end the sending side is shut, and what still comes is read and forgotten."""

    _socket: trio.SocketStream
    _received: trio.Event | None = None  # there is one while somebody receives

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._socket.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._socket.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self._received = received = trio.Event()
        try:
            return bytes(await self._socket.receive_some(max_bytes))
        finally:
            self._received = None
            received.set()

    async def aclose(self) -> None:
        try:
            with trio.move_on_after(LINGER):
                await self._socket.send_eof()
                while True:
                    if self._received is not None:
                        await self._received.wait()  # a reader that has not noticed yet
                    elif not await self._socket.receive_some(BYTES_A_READ):
                        break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the peer was faster
        finally:
            await trio.aclose_forcefully(self._socket)
