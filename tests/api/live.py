"""A running broker under the REST API, without a socket: `live.api` is an httpx client, `live.connect` brings clients.

Invariant: nothing here waits for the wall clock, so that it runs on a mock clock too.

In a test: `from api.live import Live, running` and

    async with running() as live:                          # Config() and keyword changes, a MemoryStore that keeps
        c1 = await live.connect("c1", username="u1")       # an MQTT client in memory (trio_broker.testing.Client)
        answer = await live.api.get("/clients/c1")         # paths are below /api/v5, as an administrator

    store = MemoryStore()                                  # two blocks `running(store=store)` one after the other:
                                                           # the second broker has what the first one kept
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import trio
from attrs import define, field

from trio_broker.api.app import make_app
from trio_broker.api.keys import Role
from trio_broker.broker import Broker
from trio_broker.config import Config, Layers
from trio_broker.store.memory import MemoryStore
from trio_broker.store.store import Store
from trio_broker.testing import Client, open_client

ADMIN = ("admin-key", "admin:secret")
VIEWER = ("viewer-key", "viewer-secret")
PASSWORD = "correct horse 1"


class Bearer(httpx.Auth):
    """A token, for `auth=` of a request."""

    def __init__(self, token: str) -> None:
        self.token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self.token}"
        yield request


@define(eq=False)
class Live:
    broker: Broker
    api: httpx.AsyncClient
    _stack: AsyncExitStack = field(repr=False)

    async def connect(self, client_id: str, **options: Any) -> Client:
        """A connected client; `options` as `trio_broker.testing.open_client` has them."""
        return await self._stack.enter_async_context(open_client(self.broker, client_id=client_id, **options))

    def as_viewer(self) -> httpx.Auth:
        return httpx.BasicAuth(*VIEWER)

    async def log_in(self, username: str = "boss", role: Role = Role.ADMINISTRATOR) -> Bearer:
        """As a dashboard user, who is made where there is none of that name; for `auth=` of requests."""
        users = self.broker.questions.dashboard_users
        if users.get(username) is None:
            await users.create(username, PASSWORD, role)
        answer = await self.api.request("POST", "/login", json={"username": username, "password": PASSWORD}, auth=None)
        assert answer.status_code == 200, answer.text
        return Bearer(answer.json()["token"])


@asynccontextmanager
async def running(
    config: Config | None = None,
    store: Store | None = None,
    *,
    layers: Layers | None = None,
    ignore_stored: bool = False,
) -> AsyncIterator[Live]:
    """One broker until the block ends (gracefully). Give the same `store` again, and the next one has what it kept."""
    broker = Broker(config, store=MemoryStore() if store is None else store, layers=layers, ignore_stored=ignore_stored)
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        broker.questions.api_keys.add(*ADMIN, Role.ADMINISTRATOR)
        broker.questions.api_keys.add(*VIEWER, Role.VIEWER)
        app = make_app(broker.questions, started=lambda: True)
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://broker/api/v5", auth=ADMIN) as api,
            AsyncExitStack() as stack,
        ):
            yield Live(broker, api, stack)
        broker.close()
