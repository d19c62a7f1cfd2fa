"""The listeners of the REST API: one for each generation, and for v5 one over TLS.

Invariant: all their addresses are taken before the first of them is served; what goes wrong on the way gives back all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Self

import trio
from attrs import define, field

from trio_broker.actors.questions import Questions
from trio_broker.api.app import WebApp, make_app, make_older_app
from trio_broker.api.context import DoorInfo
from trio_broker.api.generation import Generation
from trio_broker.api.server import open_sockets, serve
from trio_broker.config import Config
from trio_broker.config.bind import Bind
from trio_broker.config.listeners import SslOptions
from trio_broker.config.model import HttpConfig
from trio_broker.listeners.https import HttpsDoor
from trio_broker.listeners.tls_files import TlsFiles

__all__ = ["Door", "Doors", "open_doors"]


@define(eq=False)
class Door:
    """`address`: which of `Addresses` it is; `name`: where it is configured."""

    address: str
    name: str
    config: HttpConfig
    app: WebApp
    secure: HttpsDoor | None
    listeners: list[trio.SocketListener] = field(factory=list)
    bound: str = ""
    sockets: set[trio.socket.SocketType] = field(factory=set)
    """Of the connections there are."""

    @property
    def files(self) -> TlsFiles | None:
        """To be looked at again when they change."""
        return None if self.secure is None else self.secure.files

    async def open(self) -> None:
        """Raises ListenerError."""
        self.listeners = await open_sockets(self.config.bind, f"REST API {self.name}")
        host, port = self.listeners[0].socket.getsockname()[:2]
        self.bound = str(Bind(host, port))

    def info(self) -> DoorInfo:
        return DoorInfo(
            name=self.name.rpartition(".")[2],
            bind=self.bound,
            max_connections=self.config.max_connections,
            current_connections=len(self.sockets),
        )

    async def serve(
        self,
        until: Callable[[], Awaitable[object]],
        *,
        task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until `until` returns; `started` is given the address."""
        await serve(
            self.app,
            self.listeners,
            secure=None if self.secure is None else self.secure.secured,
            shutdown_trigger=until,
            max_connections=self.config.max_connections,
            sockets=self.sockets,
            task_status=task_status,
        )


class Doors:
    """Open them with `with`: where its block fails, their sockets are closed."""

    def __init__(self, doors: list[Door]) -> None:
        self._doors = doors

    def __iter__(self) -> Iterator[Door]:
        return iter(self._doors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.close()

    def infos(self) -> list[DoorInfo]:
        return [door.info() for door in self._doors]

    def close(self) -> None:
        for door in self._doors:
            for listener in door.listeners:
                listener.socket.close()


async def open_doors(config: Config, questions: Questions, started: Callable[[], bool]) -> Doors:
    """Their addresses are taken when this returns. Raises ListenerError.

    What `dashboard` says about CORS and `/api-docs` holds for all generations, also when it changes.
    """
    doors: list[Door] = []
    cors, api_docs = config.dashboard.cors, config.dashboard.swagger_support
    five = make_app(questions, started=started, cors=cors, api_docs=api_docs)
    if config.https is not None:
        key = "dashboard.listeners.https"
        doors.append(Door("api_https", key, config.https, five, _secure(key, config.https.ssl_options)))
    if config.http is not None:
        doors.append(Door("api", "dashboard.listeners.http", config.http, five, None))
    for name, older in config.older_apis.items():
        cloud = bool(getattr(older, "cloud", False))
        app = make_older_app(name, questions, started=started, cors=cors, api_docs=api_docs, cloud=cloud)
        key = f"api.{name}"
        doors.append(Door(f"api_{name}", key, older, app, _secure(key, older.ssl_options)))
    opened = Doors(doors)
    with opened:
        for door in opened:
            await door.open()
    generations = [door.app.generation for door in opened]
    for generation in generations:
        generation.api.doors = opened.infos
    _follow(questions, generations)
    return opened


def _secure(key: str, options: SslOptions | None) -> HttpsDoor | None:
    return None if options is None else HttpsDoor.open(key, options)


def _follow(questions: Questions, generations: list[Generation]) -> None:
    def follow_dashboard(before: Config, after: Config) -> None:
        for generation in generations:
            generation.cors, generation.api_docs = after.dashboard.cors, after.dashboard.swagger_support

    questions.settings.watch("dashboard", follow_dashboard)
