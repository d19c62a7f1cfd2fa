"""A web service for tests: it keeps what it was asked, and answers as it was told, over memory or over sockets.

Invariant: over memory nothing waits for the machine, so that a mock clock can be used; names have the addresses that
`names` gives them.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes

import h11
import httpcore
import pytest
import trio
from attrs import define, field
from trio.testing import memory_stream_pair

from trio_broker.actors.outbound_network import CheckedNetwork


@define
class Asked:
    """One request as it came in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> list[bytes]:
        """Segments, not escaped any more."""
        return [unquote_to_bytes(part) for part in self.target.partition("?")[0].split("/")[1:]]

    @property
    def query(self) -> list[tuple[bytes, bytes]]:
        return pairs(self.target.partition("?")[2])

    @property
    def form(self) -> list[tuple[bytes, bytes]]:
        return pairs(self.body.decode())

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def pairs(text: str) -> list[tuple[bytes, bytes]]:
    parts = [part.partition("=") for part in text.split("&")] if text else []
    return [(unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in parts]


@define
class Reply:
    status: int = 200
    body: bytes | Iterable[bytes] = b""
    content_type: str | None = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def says(**said: Any) -> Reply:
    """`{"result": ...}` and the like."""
    return Reply(body=json.dumps(said).encode())


@define
class Web:
    answer: Callable[[Asked], Awaitable[Reply]]
    asked: list[Asked] = field(factory=list)
    streams: list[trio.abc.Stream] = field(factory=list)
    connections: int = 0
    """That were opened until now."""
    under_way: int = 0
    most_under_way: int = 0
    gone: int = 0
    """Answers that nobody waited for any more."""

    instead: Callable[[trio.abc.Stream], Awaitable[None]] | None = None
    """Takes the connections, where they are not to be answered in HTTP."""

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1_048_576)
        self.streams.append(stream)
        try:
            if self.instead is not None:
                await self.instead(stream)
                return
            while connection.our_state is not h11.MUST_CLOSE:
                if connection.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                    connection.start_next_cycle()
                asked = await self._request(connection, stream)
                if asked is None:
                    return
                self.asked.append(asked)
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                try:
                    reply = await self._unless_gone(asked, stream)
                finally:
                    self.under_way -= 1
                if reply is None:
                    self.gone += 1
                    return
                await self._send(connection, stream, reply)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _request(self, connection: h11.Connection, stream: trio.abc.Stream) -> Asked | None:
        head: h11.Request | None = None
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(65536)))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
                return Asked(head.method.decode(), head.target.decode(), headers, body)
            else:
                return None

    async def _unless_gone(self, asked: Asked, stream: trio.abc.Stream) -> Reply | None:
        """The answer, unless the peer closes the connection before it is there."""
        reply: Reply | None = None
        async with trio.open_nursery() as nursery:

            async def answer() -> None:
                nonlocal reply
                reply = await self.answer(asked)
                nursery.cancel_scope.cancel()

            nursery.start_soon(answer)
            assert not await stream.receive_some(65536)
            nursery.cancel_scope.cancel()
        return reply

    async def _send(self, connection: h11.Connection, stream: trio.abc.Stream, reply: Reply) -> None:
        headers = list(reply.headers)
        if reply.content_type is not None:
            headers.append(("Content-Type", reply.content_type))
        parts: Iterable[bytes] = reply.body if not isinstance(reply.body, bytes) else [reply.body]
        if isinstance(reply.body, bytes) and reply.status != 204:
            headers.append(("Content-Length", str(len(reply.body))))
        out = connection.send(h11.Response(status_code=reply.status, headers=headers))
        for part in parts if reply.status != 204 else ():
            await stream.send_all((out or b"") + (connection.send(h11.Data(part)) or b""))
            out = b""
        await stream.send_all((out or b"") + (connection.send(h11.EndOfMessage()) or b""))


class _Pipe(httpcore.AsyncNetworkStream):
    """What httpcore reads and writes, over a stream in memory."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        try:
            return bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError(error) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        try:
            await self._stream.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.WriteError(error) from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return None


@asynccontextmanager
async def in_memory(
    web: Web, names: Mapping[str, str | list[str]] | None = None, opened: list[tuple[str, int]] | None = None
) -> AsyncIterator[None]:
    """All connections of the broker's HTTP clients lead to `web`; `opened` gets their addresses."""
    known = names or {}
    really = CheckedNetwork.look_up

    async def look_up(self: CheckedNetwork, host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        if host[0].isdigit() or ":" in host:
            return await really(self, host, port)
        found = known.get(host, "192.0.2.1")
        return [found] if isinstance(found, str) else found

    async def open_one(self: CheckedNetwork, address: str, port: int) -> httpcore.AsyncNetworkStream:
        await trio.lowlevel.checkpoint()
        if opened is not None:
            opened.append((address, port))
        if closed:
            raise httpcore.ConnectError(ConnectionRefusedError(111, "Connection refused"))
        ours, theirs = memory_stream_pair()
        nursery.start_soon(web.serve, theirs)
        return _Pipe(ours)

    closed: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckedNetwork, "look_up", look_up)
        patch.setattr(CheckedNetwork, "open", open_one)
        async with trio.open_nursery() as nursery:
            web_closed[id(web)] = closed
            try:
                yield
            finally:
                del web_closed[id(web)]
                nursery.cancel_scope.cancel()


web_closed: dict[int, list[bool]] = {}


@contextmanager
def unreachable(web: Web) -> Iterator[None]:
    """Within the block its port is closed."""
    closed = web_closed[id(web)]
    closed.append(True)
    yield
    closed.clear()


@asynccontextmanager
async def over_sockets(web: Web, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port on 127.0.0.1."""
    async with trio.open_nursery() as nursery:
        serve: Any = partial(trio.serve_tcp, web.serve, 0)
        if context is not None:
            serve = partial(trio.serve_ssl_over_tcp, _shy(web.serve), 0, context, https_compatible=True)
        listeners = await nursery.start(partial(serve, host="127.0.0.1"))
        yield socket_of(listeners[0]).getsockname()[1]
        nursery.cancel_scope.cancel()


def socket_of(listener: Any) -> Any:
    return getattr(listener, "transport_listener", listener).socket


def _shy(serve: Callable[[trio.abc.Stream], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """A handshake that fails is the client's affair."""

    async def handler(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            return
        await serve(stream)

    return handler
