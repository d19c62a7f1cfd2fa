"""A broker that is to be hurt, a bystander who must not notice, and what is looked at afterwards.

Invariant: nothing here waits for the clock; what is waited for is that the broker's tasks have nothing left to do.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from attrs import define, field, frozen
from trio.testing import wait_all_tasks_blocked

from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import ConnAck, Connect, Packet, Will
from trio_broker.testing import Client, RunningBroker, open_broker, open_client

# What is waited for takes milliseconds; after so long (seconds) it never comes.
PATIENCE = 10.0
# Looks at the broker until it must be as before; between two of them all tasks have come to rest.
LOOKS = 1000
CUSHION = 0.001

WILL = Will("will", b"gone")
"""A will that the bystander hears."""


@frozen
class Footprint:
    """How much of everything a broker holds: what must be the same before and after a bad peer."""

    tasks: int
    sockets: int
    gauges: dict[str, int]


async def footprint_of(running: RunningBroker) -> Footprint:
    stats = await running.broker.questions.stats()
    sockets = sum(info.current_connections for info in await running.broker.questions.listeners())
    return Footprint(
        trio.lowlevel.current_statistics().tasks_living,
        sockets,
        {name: value for name, value in stats.items() if name.endswith(".count")},
    )


@define(eq=False)
class Scene:
    """`bystander` is connected in memory and subscribed; `quiet` is the footprint of a broker with it alone."""

    running: RunningBroker
    bystander: Client
    caplog: pytest.LogCaptureFixture
    quiet: Footprint = field(init=False)
    _marked: int = field(init=False, default=0)
    _metrics: dict[str, int] = field(init=False, factory=dict)
    _exchanges: int = field(init=False, default=0)

    async def exchange(self) -> None:
        """The bystander publishes and receives, with each QoS."""
        for qos in (0, 1, 2):
            self._exchanges += 1
            payload = str(self._exchanges).encode()
            with trio.fail_after(PATIENCE):
                await self.bystander.publish("bystander", payload, qos)
                message = await self.bystander.receive()
            assert (message.topic_name, message.payload, message.qos) == ("bystander", payload, qos)

    async def will(self) -> bytes:
        """The payload of the next will; one that nobody waits for makes the next `exchange` fail."""
        with trio.fail_after(PATIENCE):
            message = await self.bystander.receive()
        assert message.topic_name == "will"
        return message.payload

    async def mark(self) -> None:
        """From here on lines of the log and counters count."""
        await wait_all_tasks_blocked()
        self._metrics = await self.running.broker.questions.metrics()
        self._marked = len(self.caplog.records)

    async def settled(self) -> None:
        """The broker is as it was with the bystander alone."""
        for _ in range(LOOKS):
            await wait_all_tasks_blocked(CUSHION)
            now = await footprint_of(self.running)
            if now == self.quiet:
                return
        raise AssertionError(f"not as before: {now}, and it was {self.quiet}")

    def lines(self, level: int = logging.INFO) -> list[logging.LogRecord]:
        """What the broker has logged since `mark`, at `level` and above."""
        records = self.caplog.records[self._marked :]
        return [record for record in records if record.name.startswith("trio_broker") and record.levelno >= level]

    def one_line(self) -> str:
        """The only line since `mark`: INFO or WARNING, and no traceback."""
        lines = self.lines()
        assert len(lines) == 1, [record.getMessage() for record in lines]
        (line,) = lines
        assert line.levelno in (logging.INFO, logging.WARNING)
        assert line.exc_info is None
        assert line.stack_info is None
        text = line.getMessage()
        assert "Traceback" not in text
        assert "\n" not in text
        return text

    async def counted(self) -> dict[str, int]:
        """The counters that have grown since `mark`, those of bytes left out, and by how much."""
        metrics = await self.running.broker.questions.metrics()
        grown = {name: value - self._metrics[name] for name, value in metrics.items()}
        return {name: value for name, value in grown.items() if value and not name.startswith("bytes.")}

    async def unhurt(self) -> str:
        """One line, one counter at least, everything as before, and the bystander goes on. Gives the line."""
        await self.settled()
        line = self.one_line()
        assert await self.counted(), "no counter has grown"
        await self.exchange()
        return line


@asynccontextmanager
async def open_scene(
    caplog: pytest.LogCaptureFixture, *, faults: bool = False, **overrides: Any
) -> AsyncIterator[Scene]:
    """A broker (`overrides` as for `open_broker`) and its bystander; the log is held to be free of errors at the end.

    `faults=True`: errors in the log are expected and left to the test.
    """
    caplog.set_level(logging.INFO, "trio_broker")
    async with open_broker(**overrides) as running, open_client(running.broker, client_id="bystander") as bystander:
        await bystander.subscribe("bystander", 2)
        await bystander.subscribe("will")
        scene = Scene(running, bystander, caplog)
        await scene.exchange()
        await wait_all_tasks_blocked()
        scene.quiet = await footprint_of(running)
        await scene.mark()
        yield scene
        await scene.exchange()
    if not faults:
        assert_no_errors(caplog)


def assert_no_errors(caplog: pytest.LogCaptureFixture) -> None:
    wrong = [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]
    assert wrong == []


# -- peers that know no MQTT, only bytes


def connect_bytes(client_id: str = "bad", level: int = 5, clean_start: bool = True, **fields: Any) -> bytes:
    """A CONNECT; `fields` are those of the packet."""
    return encode(attrs.evolve(Connect(client_id, level, clean_start), **fields), level, "client")


def decoded(data: bytes | bytearray, level: int = 5) -> list[Packet]:
    """What a broker has said; it must be MQTT to the last byte."""
    decoder = Decoder(role="client", level=level)
    packets = decoder.feed(bytes(data))
    assert decoder.error is None, data
    assert decoder.pending == 0, data
    return packets


async def read_to_end(stream: trio.abc.ReceiveStream, patience: float = PATIENCE) -> bytes:
    """Everything until the end of the stream; a reset is an error here."""
    data = bytearray()
    with trio.fail_after(patience):
        while piece := await stream.receive_some(65536):
            data += piece
    return bytes(data)


async def connect_tcp(running: RunningBroker, **sizes: int) -> trio.SocketStream:
    """A TCP connection; `rcvbuf` bounds what the system holds for us while we do not read."""
    sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if "rcvbuf" in sizes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, sizes["rcvbuf"])
    await sock.connect((running.host, running.port))
    return trio.SocketStream(sock)


async def shake_hands(stream: trio.abc.Stream, client_id: str = "bad", level: int = 5, **fields: Any) -> ConnAck:
    """CONNECT and its CONNACK, which must be all there is to read."""
    await stream.send_all(connect_bytes(client_id, level, **fields))
    decoder = Decoder(role="client", level=level)
    packets: list[Packet] = []
    with trio.fail_after(PATIENCE):
        while not packets:
            data = await stream.receive_some(4096)
            assert data, "the broker closed instead of answering CONNECT"
            packets += decoder.feed(bytes(data))
    assert decoder.error is None
    assert decoder.pending == 0
    (connack,) = packets
    assert isinstance(connack, ConnAck)
    return connack


async def reset(stream: trio.SocketStream) -> None:
    """Close with a RST, as a crashed machine or an impatient firewall does."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Returns when it holds; fails when it still does not after the broker has come to rest often enough."""
    for _ in range(LOOKS):
        if await holds():
            return
        await wait_all_tasks_blocked(CUSHION)
    assert await holds()
