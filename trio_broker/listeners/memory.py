"""MQTT without a network: for the program that embeds the broker, and for tests on a mock clock.

Invariant: the two ends of a pair share nothing but two bounded channels of bytes.
"""

from __future__ import annotations

import operator

import trio
from attrs import define, field

from trio_broker.errors import ListenerError
from trio_broker.listeners.listener import LOCAL_PEER, BoundAddress, Listener

CHUNKS = 16
"""Chunks on their way in one direction before a sender waits."""

CHUNK_SIZE = 65_536


@define(eq=False)
class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a pair. Like a socket stream: back-pressure, EOF when the other end is closed."""

    _outgoing: trio.MemorySendChannel[bytes]
    _incoming: trio.MemoryReceiveChannel[bytes]
    _unread: bytes = field(default=b"", init=False)
    _sending: bool = field(default=False, init=False)
    _receiving: bool = field(default=False, init=False)
    _eof_sent: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self._closed or self._eof_sent:
            raise trio.ClosedResourceError("this end is closed")
        self._sending = True
        try:
            if not data:
                await trio.lowlevel.checkpoint()
            view = memoryview(data)
            for start in range(0, len(view), CHUNK_SIZE):
                await self._outgoing.send(bytes(view[start : start + CHUNK_SIZE]))
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self._closed:
            raise trio.ClosedResourceError("this end is closed")
        await trio.lowlevel.checkpoint()  # "might": there is no way to wait for room in a channel without filling it

    async def send_eof(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self._closed:
            raise trio.ClosedResourceError("this end is closed")
        self._eof_sent = True
        self._outgoing.close()
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be positive")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        self._receiving = True
        try:
            if self._unread and not self._closed:
                await trio.lowlevel.checkpoint()
                data = self._unread
            else:
                data = await self._incoming.receive()
        except trio.EndOfChannel:
            await trio.lowlevel.checkpoint()
            return b""
        finally:
            self._receiving = False
        if max_bytes is None:
            max_bytes = len(data)
        data, self._unread = data[:max_bytes], data[max_bytes:]
        return data

    def close(self) -> None:
        """As `aclose`, without a checkpoint."""
        self._closed = True
        self._outgoing.close()
        self._incoming.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


def memory_pair() -> tuple[MemoryStream, MemoryStream]:
    """Two ends; what is sent into one comes out of the other."""
    left_out, right_in = trio.open_memory_channel[bytes](CHUNKS)
    right_out, left_in = trio.open_memory_channel[bytes](CHUNKS)
    return MemoryStream(left_out, left_in), MemoryStream(right_out, right_in)


@define(eq=False)
class MemoryListener(Listener):
    """`memory:<name>`."""

    _closed: trio.Event = field(factory=trio.Event, init=False, repr=False)

    def connect(self) -> MemoryStream:
        """The client end of a new connection, served from now on by a task of this listener.

        Where `max_connections` is reached it is closed by the other end at once, as over a network.
        Raises ListenerError when the listener is not running.
        """
        if not self.running or self._nursery is None:
            raise ListenerError(f"listener {self.identifier}: is not running")
        client, server = memory_pair()
        info = self._admit(LOCAL_PEER, 0)
        if info is None:
            server.close()
        else:
            self._nursery.start_soon(self._serve_stream, server, info)
        return client

    async def _open(self, again: BoundAddress | None) -> BoundAddress:
        self._closed = trio.Event()
        return BoundAddress(self.identifier)

    async def _accept(self) -> None:
        await self._closed.wait()

    def _close(self) -> None:
        self._closed.set()
