"""The poller: one task reads every ready plain socket and hands the router one batch for all of them.

Invariant: a turn reads a bounded number of sockets, a bounded number of bytes from each, then lets others run; a fault
while one socket is handled ends that connection alone.
"""

from __future__ import annotations

import logging
import select
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from trio_broker.actors.socket_connection import SocketConnection

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

log = logging.getLogger("trio_broker.poller")

SOCKETS_A_TURN = 64
BYTES_A_READ = 65536
# Seconds after which the rest of the ready sockets has to wait until others had their turn: what was read may be 64 KB
# of packets of two bytes.
LONGEST_TURN = 0.01


class Poller:
    """Owns an epoll whose descriptor Trio waits on."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._epoll = select.epoll()
        self._connections: dict[int, SocketConnection] = {}

    def watch(self, connection: SocketConnection) -> None:
        """Read this connection's socket from now on."""
        self._connections[connection.descriptor] = connection
        self._epoll.register(connection.descriptor, select.EPOLLIN)

    def forget(self, connection: SocketConnection) -> None:
        """Do not read it for a while; its descriptor stays open."""
        if self._connections.pop(connection.descriptor, None) is not None:
            self._epoll.unregister(connection.descriptor)

    def drop(self, connection: SocketConnection) -> None:
        """Its descriptor is about to be closed, which takes it out of the epoll."""
        self._connections.pop(connection.descriptor, None)

    @staticmethod
    def is_available() -> bool:
        """Has this platform an epoll?"""
        return hasattr(select, "epoll")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        core = self.core
        poll = self._epoll.poll
        descriptor = self._epoll.fileno()
        try:
            task_status.started()
            while True:
                await trio.lowlevel.wait_readable(descriptor)
                events = poll(0, SOCKETS_A_TURN)
                while events:
                    events = self._read(events) or poll(0, SOCKETS_A_TURN)
                    if core.is_behind:
                        await core.room()
                    elif events:
                        await trio.lowlevel.checkpoint()
        finally:
            # Sessions are not told: what the end of a connection leads to (a will) cannot be carried out any more.
            for connection in list(self._connections.values()):
                connection.abort()
            self._epoll.close()

    def _read(self, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """One turn: read these sockets and hand on what they sent. Returns those for whom there was no time."""
        core = self.core
        connections = self._connections
        step = core.begin(trio.current_time())
        end = perf_counter() + LONGEST_TURN
        left: list[tuple[int, int]] = []
        # In the order in which they became ready: who says goodbye and comes again does so in this order.
        for number, (ready, _) in enumerate(events, 1):
            connection = connections.get(ready)
            if connection is None:
                continue
            try:
                data = connection.sock.recv(BYTES_A_READ)
            except BlockingIOError:
                continue
            except OSError as error:
                self._end(connection, error.strerror or str(error))
                continue
            if not data:
                self._end(connection, "connection closed by peer")
                continue
            if connection.over:
                continue  # it lingers only until the peer has read why
            try:
                connection.received(data, step)
            except Exception as error:  # noqa: BLE001 - it ends this connection, is logged, and stops nobody else
                step.out.clear()
                connection.crash(error)
            if connection.limit is not None:
                connection.limit.charge(len(data), step.now)
            if not number % 8 and perf_counter() > end:
                left = events[number:]
                break
        core.hand_on(step)
        return left

    @staticmethod
    def _end(connection: SocketConnection, reason: str) -> None:
        if connection.over:
            connection.abort()
        else:
            connection.lost(reason)
