"""A connection on a plain TCP or Unix socket, read by the poller and written without waiting.

Invariant: bytes reach the peer in the order of `write`; a task exists for writing only while the kernel's buffer
is full.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import trio

from trio_broker.actors.connection import Connection
from trio_broker.actors.gate import ConnectionInfo

if TYPE_CHECKING:
    from trio_broker.actors.core import Core
    from trio_broker.actors.poller import Poller

log = logging.getLogger("trio_broker.connection")

# A peer that was told goodbye gets this many seconds to read it before the socket is closed [MQTT 5.0 section 4.13].
LINGER = 1.0


class SocketConnection(Connection):
    """The socket is non-blocking and registered with the poller under its descriptor."""

    __slots__ = ("congested", "descriptor", "finishing", "flushing", "pending", "poller", "reading", "sock")

    def __init__(self, core: Core, info: ConnectionInfo, sock: socket.socket, poller: Poller) -> None:
        super().__init__(core, info)
        self.sock = sock
        self.descriptor = sock.fileno()
        self.poller = poller
        self.pending = b""
        self.flushing = False
        self.finishing = False
        self.congested = False
        self.reading = True

    def write(self, data: bytes) -> None:
        if self.descriptor < 0 or self.finishing:
            return
        if self.trace is not None:
            self.trace.sent(data)
        if self.flushing:
            self.pending += data
            self._check_congestion()
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            # The reader sees the end of this socket, too; it ends the connection in its own turn.
            log.debug("send to %s failed: %s", self.name, error)
            return
        # As `_count`, on the hottest way out.
        self.core.meter.bytes_sent += sent
        channel = self.channel
        if channel is not None:
            stats = channel.session.stats
            stats.send_oct += sent
            stats.send_cnt += 1
        else:
            self.early_sent += sent
        if sent < len(data):
            self.pending = data[sent:]
            self.flushing = True
            self.core.sessions_nursery.start_soon(self._flush)
            self._check_congestion()

    def _count(self, sent: int) -> None:
        self.core.meter.bytes_sent += sent
        if self.channel is not None:
            stats = self.channel.session.stats
            stats.send_oct += sent
            stats.send_cnt += 1
        else:
            self.early_sent += sent

    def _check_congestion(self) -> None:
        if not self.congested and len(self.pending) > self.info.high_watermark:
            self.congested = True
            self.set_congested(self.channel.session if self.channel is not None else None)

    async def _flush(self) -> None:
        """Write what is kept as the peer takes it; a peer that takes nothing for `send_timeout` is cut."""
        timeout = self.info.send_timeout
        try:
            while self.pending and self.descriptor >= 0:
                with trio.move_on_after(timeout) as scope:
                    await trio.lowlevel.wait_writable(self.sock)
                if scope.cancelled_caught:
                    self.lost(f"took nothing for {timeout:g} s")
                    return
                if self.descriptor < 0:
                    return
                try:
                    sent = self.sock.send(self.pending)
                except BlockingIOError:
                    continue
                self._count(sent)
                self.pending = self.pending[sent:]
                if self.congested and len(self.pending) <= self.info.high_watermark // 2:
                    self.congested = False
                    self.set_writable()
        except (OSError, trio.ClosedResourceError) as error:
            log.debug("send to %s failed: %s", self.name, error)
            self.pending = b""
            self.lost("connection reset by peer")
        finally:
            self.flushing = False
        if self.finishing:
            self._shut_down()

    @property
    def is_congested(self) -> bool:
        return self.congested

    def pause(self) -> None:
        if self.reading and self.descriptor >= 0:
            self.reading = False
            self.poller.forget(self)

    def resume(self) -> None:
        if not self.reading and self.descriptor >= 0:
            self.reading = True
            self.poller.watch(self)

    def finish(self) -> None:
        """What is kept goes out first; then the sending side is shut and the peer has a moment to read."""
        if self.descriptor < 0:
            return
        self.finishing = True
        self.resume()
        self.timer = self.core.timers.at(self.core.clock.now() + LINGER, self.abort)
        if not self.flushing:
            self._shut_down()

    def _shut_down(self) -> None:
        if self.descriptor < 0:
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            log.debug("shutting down %s: %s", self.name, error)
            self.abort()

    def leave(self) -> None:
        if self.flushing:
            self.finish()
        else:
            self.abort()

    def abort(self) -> None:
        if self.descriptor < 0:
            return
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.poller.drop(self)
        self.core.door.leave(self)
        self.descriptor = -1
        if self.flushing:
            trio.lowlevel.notify_closing(self.sock)
        self.sock.close()
