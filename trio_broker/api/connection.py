"""One connection of the web server: Hypercorn's, with what it lacks.

Invariant: whatever the peer does or leaves undone, `run` ends soon after the socket was closed, by either side.
"""

from __future__ import annotations

from typing import Any, Final, cast

import trio
from attrs import define
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr

from trio_broker.api.http1 import Http1

SLOWEST_SEND: Final = 30.0
"""Seconds a peer may take to read a piece of an answer."""


class Connection(TCPServer):
    """Hypercorn's connection, which speaks HTTP/1.1 and nothing else."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: ConnectionState,
        stream: PatientStream,
    ) -> None:
        # What TCPServer uses of a stream, `PatientStream` has; it is declared as the TLS one.
        super().__init__(app, config, context, state, cast(Any, stream))
        self._where = stream.socket
        self._secure = stream.secure

    async def run(self) -> None:
        try:
            with trio.CancelScope() as scope:
                async with TaskGroup() as self._task_group:
                    self.protocol = cast(
                        Any,
                        Http1(
                            self.app,
                            self.config,
                            self.context,
                            self._task_group,
                            ConnectionState(self.state),
                            self._secure,
                            parse_socket_addr(self._where.family, self._where.getpeername()),
                            parse_socket_addr(self._where.family, self._where.getsockname()),
                            self.protocol_send,
                        ),
                    )
                    await self.idle_task.restart(self._task_group, self._idle_timeout)
                    await self._read_data()
                    # The peer is gone: neither the idle timer nor a request under way has anything left to do.
                    scope.cancel()
        except OSError:
            pass  # the peer was gone before it could be asked who it is
        finally:
            await self._close()


@define(eq=False)
class PatientStream:
    """A stream whose sends have a deadline; what Hypercorn uses of a stream, and no more. `socket` is below it."""

    _stream: trio.abc.Stream
    socket: trio.socket.SocketType
    secure: bool = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes) -> None:
        try:
            with trio.fail_after(SLOWEST_SEND):
                await self._stream.send_all(data)
        except trio.TooSlowError:
            # Closed, so that whoever reads from it at the same time ends too.
            self.socket.close()
            raise trio.BrokenResourceError("the peer does not read") from None

    async def send_eof(self) -> None:
        if isinstance(self._stream, trio.abc.HalfCloseableStream):  # with TLS closing says it
            await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()
