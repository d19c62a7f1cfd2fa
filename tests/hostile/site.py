"""A broker with every kind of door, neighbours who go on using them, and peers who use them badly.

Invariant: a neighbour's round trip goes through the broker (QoS 1, acknowledged both ways) over the door that is under
attack; the footprint that must come back is that of the broker with its neighbours alone.
"""

from __future__ import annotations

import gc
import socket
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
from attrs import define, field
from listeners.certificates import Certificates
from listeners.raw_websocket import BINARY, CLOSE, frame, read_frame, upgraded
from robustness.scene import PATIENCE, Scene, footprint_of, open_scene
from trio.testing import wait_all_tasks_blocked

from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import Packet
from trio_broker.testing import Client, open_client

__all__ = ["DOORS", "Measure", "Site", "WebSocketBytes", "connected", "frames", "heard", "measured", "open_site"]

DOORS = ("tcp", "ssl", "ws", "wss")
MEGABYTE = 1_048_576


@define(eq=False)
class WebSocketBytes(trio.abc.Stream):
    """MQTT's bytes in binary frames made by hand; `stream` may be used beside it, to lie."""

    stream: trio.abc.Stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(frame(BINARY, bytes(data)))

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """One frame, whatever `max_bytes` says; b"" at a close frame and at the end."""
        try:
            opcode, payload = await read_frame(self.stream)
        except AssertionError:
            return b""  # it ended
        return b"" if opcode == CLOSE else payload

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self.stream)


@define(eq=False)
class Site:
    """`scene` watches the broker; a neighbour is connected through each of the doors the test is about."""

    scene: Scene
    certificates: Certificates
    neighbours: list[Client] = field(factory=list)
    _trips: int = 0

    async def raw(self, door: str, *, rcvbuf: int = 0) -> trio.SocketStream:
        """A TCP connection to a door, with nothing said yet; `rcvbuf` bounds what the system holds for us."""
        sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if rcvbuf:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        await sock.connect(self.scene.running.listeners[f"{door}:default"])
        return trio.SocketStream(sock)

    def secured(self, stream: trio.SocketStream) -> trio.SSLStream[trio.SocketStream]:
        return trio.SSLStream(stream, self.certificates.client_context(), server_hostname="127.0.0.1")

    async def open(self, door: str, *, rcvbuf: int = 0) -> trio.abc.Stream:
        """A stream of MQTT bytes through a door: its handshakes are done."""
        stream: trio.abc.Stream = await self.raw(door, rcvbuf=rcvbuf)
        if door in ("ssl", "wss"):
            assert isinstance(stream, trio.SocketStream)
            tls = self.secured(stream)
            await tls.do_handshake()
            stream = tls
        if door in ("ws", "wss"):
            await upgraded(stream)
            return WebSocketBytes(stream)
        return stream

    async def round_trips(self) -> None:
        """Each neighbour publishes with QoS 1 and gets it back."""
        for neighbour in self.neighbours:
            self._trips += 1
            payload = str(self._trips).encode()
            topic = f"neighbour/{neighbour.client_id}"
            with trio.fail_after(PATIENCE):
                await neighbour.publish(topic, payload, 1)
                message = await neighbour.receive()
            assert (message.topic_name, message.payload, message.qos) == (topic, payload, 1)

    async def unhurt(self) -> None:
        """Nothing is left of the attack, and everybody else goes on."""
        await self.scene.settled()
        await self.round_trips()
        await self.scene.exchange()


@asynccontextmanager
async def open_site(
    caplog: pytest.LogCaptureFixture, certificates: Certificates, *doors: str, **overrides: Any
) -> AsyncIterator[Site]:
    """A broker with these doors, and a neighbour at each; `listener` (an override) is for each of the doors.

    At the end the neighbours must still be there and get answers, and the log must be free of errors.
    """
    options: dict[str, Any] = {"bind": "127.0.0.1:0", **overrides.pop("listener", {})}
    listeners = {door: {"default": dict(options)} for door in {"tcp", *doors}}
    for door in {"tcp", "ssl"} & set(listeners):
        listeners[door]["default"].pop("websocket", None)
    for door in {"ssl", "wss"} & set(listeners):
        files = certificates.options
        secure = {"certfile": files.certfile, "keyfile": files.keyfile, **options.get("ssl_options", {})}
        listeners[door]["default"]["ssl_options"] = secure
    async with open_scene(caplog, listeners=listeners, **overrides) as scene, AsyncExitStack() as stack:
        site = Site(scene, certificates)
        for door in doors:
            stream = await site.open(door)
            client = await stack.enter_async_context(open_client(stream, client_id=f"neighbour-{door}"))
            await client.subscribe(f"neighbour/{client.client_id}", 1)
            site.neighbours.append(client)
        await site.round_trips()
        await wait_all_tasks_blocked()
        scene.quiet = await footprint_of(scene.running)
        await scene.mark()
        yield site
        await site.unhurt()


@asynccontextmanager
async def connected(
    site: Site, door: str = "tcp", client_id: str = "bad", level: int = 5, **fields: Any
) -> AsyncIterator[Client]:
    """A client through a door whose CONNECT was accepted; it acknowledges nothing by itself."""
    stream = await site.open(door)
    async with open_client(stream, client_id=client_id, level=level, auto_ack=False, **fields) as client:
        yield client


async def heard(stream: trio.abc.Stream, level: int = 5) -> list[Packet]:
    """Everything until the broker ends it, or the connection breaks; it must be MQTT to the last byte."""
    decoder = Decoder(role="client", level=level, max_packet_size=16 * MEGABYTE)
    packets: list[Packet] = []
    with trio.fail_after(PATIENCE):
        try:
            while data := await stream.receive_some(65536):
                packets += decoder.feed(bytes(data))
        except trio.BrokenResourceError:
            return packets
    assert decoder.error is None
    return packets


def frames(*packets: Packet, level: int = 5) -> bytes:
    return b"".join(encode(packet, level, "client") for packet in packets)


@define
class Measure:
    """Bytes that Python has allocated: `grown` since the beginning of the block, `most` at any time within it.

    What only cycles hold is let go of before a look; that there are none is for `test_given_back` to show.
    """

    grown: int = 0
    most: int = 0

    def look(self) -> None:
        gc.collect()
        now, most = tracemalloc.get_traced_memory()
        self.grown, self.most = now - self._before, most - self._before

    _before: int = 0


@contextmanager
def measured() -> Iterator[Measure]:
    """Look as often as you like; the last look is at the end."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        measure = Measure(before=before)
        yield measure
        measure.look()
    finally:
        tracemalloc.stop()
