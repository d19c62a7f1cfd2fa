"""Plain TCP: the fast path. An accepted socket goes to the gate in the same turn, without a task.

Invariant: between `accept` and the gate there is no wait, unless a PROXY header has to be read first.
"""

from __future__ import annotations

import socket

from attrs import define

from trio_broker.actors.gate import ConnectionInfo
from trio_broker.listeners.accepting import SocketListener
from trio_broker.listeners.proxied import meet_proxy


@define(eq=False)
class TcpListener(SocketListener):
    """`tcp:<name>`."""

    def _take(self, sock: socket.socket, info: ConnectionInfo) -> None:
        assert self._gate is not None
        if not self.config.proxy_protocol:
            self._gate.socket_accepted(sock, info)
            return
        assert self._nursery is not None
        self._nursery.start_soon(self._take_after_header, sock, info)

    async def _take_after_header(self, sock: socket.socket, info: ConnectionInfo) -> None:
        if not await meet_proxy(self, sock, info):
            return
        if self.dropped:  # in the very moment in which the header was complete
            sock.close()
            info.ended()
            return
        assert self._gate is not None
        self._gate.socket_accepted(sock, info)
