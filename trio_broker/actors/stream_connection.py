"""A connection on a Trio stream (TLS, WebSocket, in-memory): a task reads, a task writes.

Invariant: `write` never waits; the writer task sends what has gathered since its last turn as one buffer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from trio_broker.actors.connection import Connection
from trio_broker.actors.gate import ConnectionInfo

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

log = logging.getLogger("trio_broker.connection")

BYTES_A_READ = 65536
# `send_timeout` is for so many bytes: a peer on a slow line takes something, if not all, in that time.
BYTES_A_SEND = 16384
CLOSE_TIMEOUT = 2.0


class StreamConnection(Connection):
    """`serve` runs it from the first byte to the last, in the task of whoever accepted the stream."""

    __slots__ = ("_bell", "_pending", "_pending_size", "_readable", "_scope", "congested", "finishing", "stream")

    def __init__(self, core: Core, info: ConnectionInfo, stream: trio.abc.Stream) -> None:
        super().__init__(core, info)
        self.stream = stream
        self.finishing = False
        self.congested = False
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._bell = trio.Event()
        self._readable: trio.Event | None = None
        self._scope = trio.CancelScope()

    async def serve(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write_all)
                    await self._read_all()
                    # The peer sends nothing more; what is left for it still goes out.
                    if not self.over:
                        self.lost("connection closed by peer", listening=True)
        except* Exception as faults:
            log.error("fault in the connection of %s", self.name, exc_info=faults)
            self.lost("internal error")
        finally:
            if not self.over:
                # Cancelled, alone or with all of the broker; in the latter case the session must not take it for an
                # end of the connection, as what it would lead to (a will) could not be carried out any more.
                self.core.sessions_nursery.start_soon(self._cut_off)
            try:
                with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
                    await self.stream.aclose()
            finally:
                self.core.door.leave(self)

    async def _cut_off(self) -> None:
        await trio.lowlevel.checkpoint()
        self.lost("cancelled")

    async def _read_all(self) -> None:
        core = self.core
        while True:
            if self._readable is not None:
                await self._readable.wait()
            try:
                data = await self.stream.receive_some(BYTES_A_READ)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self.lost(f"connection broken: {error}" if str(error) else "connection broken")
                return
            if not data:
                return
            if self.over:
                continue
            step = core.begin(core.clock.now())
            try:
                self.received(bytes(data), step)
            except Exception as error:  # noqa: BLE001 - it ends this connection, is logged, and stops nobody else
                step.out.clear()
                self.crash(error)
            if self.limit is not None:
                self.limit.charge(len(data), step.now)
            core.hand_on(step)
            if core.is_behind:
                await core.room()

    async def _write_all(self) -> None:
        timeout = self.info.send_timeout
        while True:
            await self._bell.wait()
            self._bell = trio.Event()
            while self._pending:
                data = b"".join(self._pending)
                self._pending.clear()
                size, self._pending_size = self._pending_size, 0
                try:
                    for start in range(0, size, BYTES_A_SEND):
                        with trio.move_on_after(timeout) as scope:
                            await self.stream.send_all(data[start : start + BYTES_A_SEND])
                        if scope.cancelled_caught:
                            self._give_up(f"took nothing for {timeout:g} s")
                            return
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    log.debug("send to %s failed: %s", self.name, error)
                    self._give_up("connection reset by peer")
                    return
                self.core.meter.bytes_sent += size
                if self.channel is not None:
                    stats = self.channel.session.stats
                    stats.send_oct += size
                    stats.send_cnt += 1
                if self.congested and self._pending_size <= self.info.high_watermark // 2:
                    self.congested = False
                    self.set_writable()
            if self.finishing:
                self._scope.cancel()
                return

    def _give_up(self, reason: str) -> None:
        """Nothing can be sent any more: there is nothing to stay for when the connection was over already."""
        if self.over:
            self._scope.cancel()
        else:
            self.lost(reason)

    def write(self, data: bytes) -> None:
        if self.finishing:
            return
        if self.trace is not None:
            self.trace.sent(data)
        self._pending.append(data)
        self._pending_size += len(data)
        self._bell.set()
        if not self.congested and self._pending_size > self.info.high_watermark:
            self.congested = True
            self.set_congested(self.channel.session if self.channel is not None else None)

    @property
    def is_congested(self) -> bool:
        return self.congested

    def pause(self) -> None:
        if self._readable is None:
            self._readable = trio.Event()

    def resume(self) -> None:
        if self._readable is not None:
            self._readable.set()
            self._readable = None

    def finish(self) -> None:
        """The writer sends what is left, then ends the connection."""
        self.finishing = True
        self.resume()
        self._bell.set()

    def leave(self) -> None:
        self.finish()

    def abort(self) -> None:
        self._scope.cancel()
