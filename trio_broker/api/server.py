"""Serving the application over HTTP: sockets of our own, Hypercorn's protocol on each connection.

Invariant: a connection can end in any way without touching another, and the server ends within its deadline, also
when a peer does not read. Hypercorn's own accept loop promises neither (an error in one connection ends the server; a
send has no deadline), so the loop here is Trio's, with Hypercorn's connection object in each handler.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, cast

import trio
from attrs import define, field
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
    ConnectionState,
    Framework,
    Scope,
)
from hypercorn.utils import wrap_app

from trio_broker.actors.throttle import ThrottledLog
from trio_broker.api.connection import Connection, PatientStream
from trio_broker.api.http1 import LONGEST_HEADERS
from trio_broker.config.bind import Bind, parse_bind
from trio_broker.errors import ListenerError

logger = logging.getLogger(__name__)

KEEP_ALIVE: Final = 60.0
"""Seconds a connection may be silent between two requests, or take for the headers of one."""

Secure = Callable[[trio.SocketStream], Awaitable[trio.abc.Stream | None]]
"""From an accepted connection to the stream that HTTP is spoken on; None when it came to nothing."""

LAST_PIECE: Final = 5.0
"""Seconds the end of an answer may take, whatever happens around it."""


async def serve(
    app: Framework,
    bind: str | Bind | Sequence[trio.SocketListener],
    *,
    secure: Secure | None = None,
    shutdown_trigger: Callable[[], Awaitable[object]] | None = None,
    drain: float = 3.0,
    max_connections: int = 1024,
    sockets: set[trio.socket.SocketType] | None = None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until `shutdown_trigger` returns, or for ever.

    `bind` is `"host:port"`, `"[::1]:port"` or a port (0 is a free one), or what `open_sockets` made of it. `secure`
    makes it HTTPS; `sockets` holds those of the connections there are.
    `task_status.started` is given the address that was bound. After the trigger nothing new is accepted, requests under
    way have `drain` seconds, then all connections are closed; cancellation closes them at once. Raises ListenerError
    where it cannot be bound.
    """
    listeners = await open_sockets(bind) if isinstance(bind, str | Bind) else list(bind)
    server = _Server(wrap_app(_finishing(app), 0, "asgi"), _config(drain), max_connections, secure)
    if sockets is not None:
        server.sockets = sockets
    async with trio.open_nursery() as connections:
        connections.start_soon(server.close_at_the_end)
        async with trio.open_nursery() as accepting:
            accept = partial(trio.serve_listeners, server.handle, listeners, handler_nursery=connections)
            await accepting.start(accept)
            task_status.started(_address(listeners[0]))
            if shutdown_trigger is None:
                await trio.sleep_forever()
            else:
                await shutdown_trigger()
            accepting.cancel_scope.cancel()
        await server.say_goodbye(drain)
        connections.cancel_scope.cancel()


async def open_sockets(bind: str | Bind, name: str = "REST API") -> list[trio.SocketListener]:
    """Who comes before they are served waits. Raises ListenerError, which says `name`."""
    try:
        where = parse_bind(bind) if isinstance(bind, str) else bind
        if where.path:
            raise ValueError("not host:port")
    except ValueError as error:
        raise ListenerError(f"{name}: {bind!s} is {error}") from None
    try:
        listeners = list(await trio.open_tcp_listeners(where.port, host=where.host))
    except OSError as error:
        raise ListenerError(f"{name}: cannot listen on {where}: {_why(error)}") from error
    if where.port == 0:
        # Several addresses of one name would get several free ports: one is enough, and it is the one reported.
        for listener in listeners[1:]:
            await listener.aclose()
        del listeners[1:]
    return listeners


def _finishing(app: Framework) -> ASGIFramework:
    """`app`, whose last piece of an answer is sent whole, also when the application is cancelled over it.

    With that piece Hypercorn tells the application that the exchange is over, Quart-Trio then cancels what it runs for
    it, and that would be the very task in which Hypercorn is about to close the connection or to start its idle timer.
    """

    async def finishing(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def send_whole(message: Any) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                with trio.move_on_after(LAST_PIECE, shield=True):
                    await send(message)
            else:
                await send(message)

        await cast(ASGIFramework, app)(scope, receive, send_whole)

    return finishing


def _why(error: OSError) -> str:
    # Trio binds several addresses and reports the one that failed as the cause, in words of its own.
    errors = [error, error.__cause__, *getattr(error.__cause__, "exceptions", ())]
    if any(isinstance(one, OSError) and one.errno == errno.EADDRINUSE for one in errors):
        return "the address is in use"
    return error.strerror or str(error)


def _address(listener: trio.SocketListener) -> tuple[str, int]:
    host, port = listener.socket.getsockname()[:2]
    return str(host), int(port)


def _config(drain: float) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logger
    config.include_server_header = False
    config.h11_max_incomplete_size = LONGEST_HEADERS
    config.keep_alive_timeout = KEEP_ALIVE
    config.graceful_timeout = drain
    return config


@define
class _Server:
    """The connections there are now."""

    app: AppWrapper
    config: Config
    max_connections: int
    secure: Secure | None = None
    sockets: set[trio.socket.SocketType] = field(factory=set)
    _turned_away: ThrottledLog = field(factory=lambda: ThrottledLog(logger), init=False)
    _context: WorkerContext = field(factory=lambda: WorkerContext(None), init=False)
    _empty: trio.Event = field(factory=trio.Event, init=False)

    async def handle(self, stream: trio.SocketStream) -> None:
        """One connection; no error leaves it."""
        if len(self.sockets) >= self.max_connections:
            text = "REST API: more than %d connections, one was turned away"
            self._turned_away.log(logging.WARNING, "full", text, self.max_connections)
            await stream.aclose()
            return
        self.sockets.add(stream.socket)
        try:
            spoken = stream if self.secure is None else await self.secure(stream)
            if spoken is not None:
                guarded = PatientStream(spoken, stream.socket, secure=self.secure is not None)
                await Connection(self.app, self.config, self._context, ConnectionState({}), guarded).run()
        except* Exception:
            logger.exception("REST API: a connection failed")
        finally:
            self.sockets.discard(stream.socket)
            stream.socket.close()
            if not self.sockets:
                self._empty.set()

    async def say_goodbye(self, drain: float) -> None:
        """Let idle connections go, and the others end their request within `drain` seconds."""
        await self._context.terminated.set()
        with trio.move_on_after(drain):
            while self.sockets:
                self._empty = trio.Event()
                await self._empty.wait()

    async def close_at_the_end(self) -> None:
        """On cancellation close all sockets: Hypercorn shields its sends from being cancelled."""
        try:
            await trio.sleep_forever()
        finally:
            for socket in self.sockets:
                socket.close()
