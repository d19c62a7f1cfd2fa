"""A gate that echoes, and what the listener tests need around it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define, evolve, field

from trio_broker.actors.gate import ConnectionInfo
from trio_broker.config.listeners import ListenerConfig
from trio_broker.listeners import BoundAddress, Listener, make_listener


@define(eq=False)
class EchoGate:
    """Sends everything back until the peer closes or says `bye`; remembers who came."""

    nursery: trio.Nursery
    infos: list[ConnectionInfo] = field(factory=list)
    sockets: list[socket.socket] = field(factory=list)
    broken: list[Exception] = field(factory=list)
    fault: Exception | None = None
    rates: dict[str, tuple[float, float]] = field(factory=dict)

    def socket_accepted(self, sock: socket.socket, info: ConnectionInfo) -> None:
        assert not sock.getblocking()
        self.sockets.append(sock)
        self.nursery.start_soon(self.serve_stream, trio.SocketStream(trio.socket.from_stdlib_socket(sock)), info)

    async def serve_stream(self, stream: trio.abc.Stream, info: ConnectionInfo) -> None:
        self.infos.append(info)
        if self.fault is not None:
            raise self.fault
        try:
            async with stream:
                while (data := await stream.receive_some()) not in (b"", b"bye"):
                    await stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.broken.append(error)
        finally:
            info.ended()

    def drop_listener(self, listener: str) -> None:
        raise NotImplementedError("a listener never drops its connections itself")

    async def use_rates(self, listener: str, messages_rate: float, bytes_rate: float) -> None:
        self.rates[listener] = (messages_rate, bytes_rate)


def listener_config(kind: str, **changes: Any) -> ListenerConfig:
    """On a free loopback port; `changes` are fields of the class."""
    bind = "" if kind == "memory" else "127.0.0.1:0"
    return evolve(ListenerConfig(bind=bind, kind=kind), **changes)


@define(eq=False)
class Running:
    listener: Listener
    gate: EchoGate
    bound: BoundAddress
    nursery: trio.Nursery

    async def connect(self) -> trio.SocketStream:
        assert self.bound.port is not None
        return await trio.open_tcp_stream(self.bound.host, self.bound.port)


@asynccontextmanager
async def running(config: ListenerConfig) -> AsyncIterator[Running]:
    """The listener of `config` with an echo gate; everything ends with the block."""
    async with trio.open_nursery() as nursery:
        gate = EchoGate(nursery)
        listener = make_listener(config)
        bound: BoundAddress = await nursery.start(listener.run, gate)
        yield Running(listener, gate, bound, nursery)
        nursery.cancel_scope.cancel()


async def echoed(stream: trio.abc.Stream, data: bytes = b"hello") -> bytes:
    """What comes back for `data`, all of it."""
    await stream.send_all(data)
    return await read_exactly(stream, len(data))


async def read_exactly(stream: trio.abc.Stream, size: int) -> bytes:
    received = b""
    while len(received) < size:
        chunk = await stream.receive_some(size - len(received))
        assert chunk, "the connection ended too early"
        received += chunk
    return received


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything up to EOF; a reset counts as the end."""
    received = b""
    with contextlib.suppress(trio.BrokenResourceError):
        while chunk := await stream.receive_some():
            received += chunk
    return received


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until the condition holds; a test that waits in vain is ended after ten seconds."""
    with trio.fail_after(10):
        while not condition():
            await trio.lowlevel.checkpoint()
