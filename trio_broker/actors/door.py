"""The door of the core: where listeners hand in their connections.

Invariant: every connection stands here under its listener until its transport is closed.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import trio

from trio_broker.actors.connection import Connection
from trio_broker.actors.gate import ConnectionInfo
from trio_broker.actors.rate_limit import use_rates
from trio_broker.actors.socket_connection import SocketConnection
from trio_broker.actors.stream_connection import StreamConnection
from trio_broker.protocol.reason_codes import ReasonCode

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

log = logging.getLogger("trio_broker.connection")

# Connections that are given other rates before others have their turn.
STRIDE = 256


class Door:
    """The Gate of `trio_broker.actors.gate`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._connections: dict[str, set[Connection]] = {}
        self._left = trio.Event()

    def socket_accepted(self, sock: socket.socket, info: ConnectionInfo) -> None:
        poller = self._core.poller
        if poller is None:
            # No epoll on this platform: a reader task does the same.
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            self._core.sessions_nursery.start_soon(self.serve_stream, stream, info)
            return
        connection = SocketConnection(self._core, info, sock, poller)
        self._enter(connection)
        poller.watch(connection)

    async def serve_stream(self, stream: trio.abc.Stream, info: ConnectionInfo) -> None:
        connection = StreamConnection(self._core, info, stream)
        self._enter(connection)
        await connection.serve()

    def _enter(self, connection: Connection) -> None:
        connections = self._connections.get(connection.info.listener)
        if connections is None:
            connections = self._connections[connection.info.listener] = set()
        connections.add(connection)

    def leave(self, connection: Connection) -> None:
        """The connection is over and its transport closed."""
        self._connections[connection.info.listener].discard(connection)
        self._left.set()

    async def empty(self) -> None:
        """Return when nobody is connected any more, not even to read the last packet."""
        while any(self._connections.values()):
            self._left = trio.Event()
            await self._left.wait()

    def abort_all(self) -> None:
        """Close what is left, whatever state it is in: the broker has ended."""
        for connections in self._connections.values():
            for connection in list(connections):
                connection.abort()

    def connections(self) -> list[Connection]:
        """All there are now."""
        return [connection for connections in self._connections.values() for connection in connections]

    def drop_listener(self, listener: str) -> None:
        for connection in list(self._connections.get(listener, ())):
            connection.fail(ReasonCode.ADMINISTRATIVE_ACTION, "its listener was stopped")

    async def use_rates(self, listener: str, messages_rate: float, bytes_rate: float) -> None:
        for number, connection in enumerate(list(self._connections.get(listener, ())), 1):
            use_rates(connection, messages_rate, bytes_rate)
            if number % STRIDE == 0:
                await trio.lowlevel.checkpoint()

    def close_strangers(self) -> None:
        """The broker ends: connections without a session have nothing to wait for."""
        for connections in self._connections.values():
            for connection in list(connections):
                if connection.actor is None:
                    connection.close()
