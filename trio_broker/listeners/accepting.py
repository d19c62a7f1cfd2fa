"""The accept loop of listeners on real sockets.

Invariant: nothing that happens to one connection, and no shortage of the system, ends the loop; closing the
listening socket does.
"""

from __future__ import annotations

import errno
import logging
import math
import socket
from abc import abstractmethod

import trio
from attrs import define, evolve, field

from trio_broker.actors.gate import ConnectionInfo
from trio_broker.listeners.addresses import open_tcp_sockets, plain_host
from trio_broker.listeners.connection_rate import ConnectionRate
from trio_broker.listeners.listener import LOCAL_PEER, BoundAddress, Listener

BURST = 64
"""Connections accepted in one turn before other tasks run."""

SHORTAGE_PAUSE = 0.1
"""Seconds without accepting when the process or the system is out of file descriptors or memory."""

_SHORTAGE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# What Linux reports from accept() about a connection that died in the queue, or a firewall that forbids it.
_ONE_CONNECTION = {
    errno.ECONNABORTED,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EPROTO,
    errno.ETIMEDOUT,
}


@define(eq=False)
class SocketListener(Listener):
    """A listener on one or more listening sockets; by default TCP ones."""

    _sockets: list[socket.socket] = field(factory=list, init=False, repr=False)

    async def _open(self, again: BoundAddress | None) -> BoundAddress:
        address, options = self.config.address, self.config.tcp_options
        if again is not None and again.port is not None:
            # The port that was ours until now, also where any would do, and although connections to it may be left.
            address, options = evolve(address, port=again.port), evolve(options, reuseaddr=True)
        self._sockets, bound = await open_tcp_sockets(self.identifier, address, options)
        return bound

    def _close(self) -> None:
        for listening in self._sockets:
            trio.lowlevel.notify_closing(listening)
            listening.close()
        self._sockets = []

    async def _accept(self) -> None:
        async with trio.open_nursery() as loops:
            for listening in self._sockets:
                loops.start_soon(self._accept_loop, listening)

    async def _accept_loop(self, listening: socket.socket) -> None:
        local = listening.family == socket.AF_UNIX
        rate: ConnectionRate | None = None
        while listening.fileno() != -1:
            try:
                await trio.lowlevel.wait_readable(listening)
            except trio.ClosedResourceError:
                return
            for _ in range(BURST):
                try:
                    sock, address = accept(listening)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in _ONE_CONNECTION:
                        continue
                    if listening.fileno() == -1:
                        return
                    await self._shortage(error)
                    break
                if local:
                    self._arrived(sock)
                else:
                    self._arrived(sock, plain_host(address[0]), address[1])
                per_second = self.config.max_conn_rate
                if math.isinf(per_second):
                    rate = None
                    continue
                if rate is None or rate.per_second != per_second:
                    rate = ConnectionRate(per_second)
                if (pause := rate.pause(trio.current_time())) > 0:
                    with trio.move_on_after(pause):  # the system's backlog holds those who wait
                        await self._changed.wait()

    async def _shortage(self, error: OSError) -> None:
        if error.errno not in _SHORTAGE:
            raise error
        self.counters.accept_errors += 1
        self.log.log(
            logging.ERROR,
            "shortage",
            "listener %s: cannot accept: %s; trying again every %s s",
            self.identifier,
            error.strerror,
            SHORTAGE_PAUSE,
        )
        await trio.sleep(SHORTAGE_PAUSE)

    def _arrived(self, sock: socket.socket, host: str = LOCAL_PEER, port: int = 0) -> None:
        info = self._admit(host, port)
        if info is None:
            sock.close()
            return
        sock.setblocking(False)
        self._take(sock, info)

    @abstractmethod
    def _take(self, sock: socket.socket, info: ConnectionInfo) -> None:
        """Own a new connection: non-blocking, already counted. Must not wait."""


def accept(listening: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
    """`socket.accept`, apart so that a test can make it fail. Two system calls; the peer's address comes with it."""
    return listening.accept()
