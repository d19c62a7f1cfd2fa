"""A peer that sends and expects bytes, over TCP or WebSocket, in one piece or byte by byte.

Invariant: nothing here knows what the bytes mean, but for a ping that tells silence from slowness.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import define, field
from conformance.bytes_of import bytes_of, shown
from listeners.raw_websocket import BINARY, CLOSE, frame, read_frame, read_response, request

from trio_broker.testing import RunningBroker

__all__ = ["TRANSPORTS", "Peer", "Server"]

TRANSPORTS = ("tcp", "tcp-bytes", "websocket", "websocket-bytes")
PATIENCE = 10.0  # seconds; only a failing test waits that long


@define(eq=False)
class Peer:
    """One connection. The texts are those of `bytes_of`."""

    stream: trio.SocketStream
    transport: str
    got: bytearray = field(factory=bytearray)
    is_over: bool = False

    async def send(self, text: str | bytes) -> None:
        data = bytes_of(text) if isinstance(text, str) else text
        pieces = [data[i : i + 1] for i in range(len(data))] if self.transport.endswith("bytes") else [data]
        for piece in pieces:
            try:
                await self.stream.send_all(frame(BINARY, piece) if self.transport.startswith("websocket") else piece)
            except trio.BrokenResourceError:
                return  # the broker has heard enough; what it said is still to be read
            await trio.lowlevel.checkpoint()

    async def expect(self, text: str | bytes) -> None:
        """Exactly these bytes come next."""
        wanted = bytes_of(text) if isinstance(text, str) else text
        await self._read(len(wanted))
        got = bytes(self.got[: len(wanted)])
        assert got == wanted, f"\nexpected {shown(wanted)}\ngot      {shown(bytes(self.got))}"
        del self.got[: len(wanted)]

    async def expect_any_order(self, *texts: str) -> None:
        """These packets come next, in whatever order."""
        left = [bytes_of(text) for text in texts]
        while left:
            packet = await self.packet()
            assert packet in left, f"not expected: {shown(packet)}\nstill expected: {[shown(one) for one in left]}"
            left.remove(packet)

    async def packet(self) -> bytes:
        """The next whole packet, whatever it is. AssertionError when the connection ends before."""
        size, position, shift = 0, 1, 0
        while True:
            await self._read(position + 1)
            assert len(self.got) > position, f"the connection ended after {shown(bytes(self.got))}"
            size |= (self.got[position] & 0x7F) << shift
            if self.got[position] < 0x80:
                break
            position, shift = position + 1, shift + 7
        end = position + 1 + size
        await self._read(end)
        assert len(self.got) >= end, f"the connection ended after {shown(bytes(self.got))}"
        packet = bytes(self.got[:end])
        del self.got[:end]
        return packet

    async def expect_nothing(self) -> None:
        """The broker has nothing to say: what comes next is the answer to a ping."""
        await self.send("c000")
        await self.expect("d000")

    async def expect_end(self, text: str | bytes = b"") -> None:
        """These bytes, then the end of the connection, and nothing else."""
        wanted = bytes_of(text) if isinstance(text, str) else text
        await self._read(1 << 20)
        assert bytes(self.got) == wanted, f"\nexpected {shown(wanted)} and the end\ngot      {shown(bytes(self.got))}"
        assert self.is_over

    async def break_off(self) -> None:
        """End without a word."""
        await trio.aclose_forcefully(self.stream)

    async def _read(self, count: int) -> None:
        """Until there are so many bytes, or the end."""
        with trio.move_on_after(PATIENCE) as scope:
            while len(self.got) < count and not self.is_over:
                self.got += await self._more()
        assert not scope.cancelled_caught, f"nothing more within {PATIENCE:g} s after {shown(bytes(self.got))}"

    async def _more(self) -> bytes:
        try:
            if not self.transport.startswith("websocket"):
                data = await self.stream.receive_some()
                self.is_over = not data
                return bytes(data)
            opcode, payload = await read_frame(self.stream)
        except (trio.BrokenResourceError, EOFError):
            self.is_over = True
            return b""
        if opcode == CLOSE:
            self.is_over = True
            return b""
        assert opcode == BINARY, f"a frame of kind {opcode}"
        return payload


@define(eq=False)
class Server:
    """The broker of a test, and how this test's peers talk to it."""

    running: RunningBroker
    transport: str
    peers: list[Peer] = field(factory=list)

    async def peer(self) -> Peer:
        """A connection that has said nothing."""
        kind = "ws:default" if self.transport.startswith("websocket") else "tcp:default"
        stream = await trio.open_tcp_stream(*self.running.listeners[kind])
        if kind == "ws:default":
            await stream.send_all(request())
            assert (await read_response(stream)).status == 101
        peer = Peer(stream, self.transport)
        self.peers.append(peer)
        return peer

    async def connected(
        self, client_id: str, level: int = 5, *, clean: bool = True, properties: str = "", keep_alive: int = 0
    ) -> Peer:
        """A connection whose CONNECT was accepted; `properties` is a text for CONNECT's.

        CONNACK is left out of what the test sees. `session_present` of it: use `connack`.
        """
        peer, _ = await self.connack(client_id, level, clean=clean, properties=properties, keep_alive=keep_alive)
        return peer

    async def connack(
        self, client_id: str, level: int = 5, *, clean: bool = True, properties: str = "", keep_alive: int = 0
    ) -> tuple[Peer, bytes]:
        """As `connected`, with the CONNACK packet."""
        peer = await self.peer()
        name = '"MQIsdp"' if level == 3 else '"MQTT"'
        section = f"[{properties}]" if level == 5 else ""
        flags = "02" if clean else "00"
        await peer.send(f'10 [{name} {level:02x} {flags} {keep_alive:04x} {section} "{client_id}"]')
        packet = await peer.packet()
        assert packet[0] == 0x20, f"no CONNACK: {shown(packet)}"
        assert packet[3] == 0, f"refused: {shown(packet)}"
        return peer, packet

    async def subscriber(self, filters: str, client_id: str = "subscriber", level: int = 5, qos: int = 0) -> Peer:
        """A client with this subscription, which has seen SUBACK."""
        peer = await self.connected(client_id, level)
        section = "[]" if level == 5 else ""
        await peer.send(f'82 [fffe {section} "{filters}" {qos:02x}]')
        await peer.expect(f"90 [fffe {section} {qos:02x}]")
        return peer


@asynccontextmanager
async def closing(server: Server) -> AsyncIterator[Server]:
    try:
        yield server
    finally:
        for peer in server.peers:
            await trio.aclose_forcefully(peer.stream)
