"""The older generations over a running broker: `older(live, "v4")` is an httpx client, as `live.api` is one of v5.

Invariant: nothing here waits for the wall clock.

    async with running() as live, older(live, "v4") as v4:     # an application's key; paths are below /api/v4
        answer = await v4.get("/clients")
    async with running() as live, older(live, "v2") as v2:     # the dashboard user `boss`; paths are below /api/v2
        answer = await v2.get("/management/nodes")

`user=True`: v4 as the dashboard user, who may manage applications and users.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from api.live import ADMIN, PASSWORD, Live

from trio_broker.api.app import make_older_app
from trio_broker.api.keys import Role

BOSS = ("boss", PASSWORD)
WATCHER = ("watcher", PASSWORD)
"""A dashboard user who is a viewer."""


@asynccontextmanager
async def older(live: Live, name: str, *, user: bool = False, cloud: bool = False) -> AsyncIterator[httpx.AsyncClient]:
    users = live.broker.questions.dashboard_users
    for username, role in ((BOSS[0], Role.ADMINISTRATOR), (WATCHER[0], Role.VIEWER)):
        if users.get(username) is None:
            await users.create(username, PASSWORD, role)
    app = make_older_app(name, live.broker.questions, started=lambda: True, cloud=cloud)
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    auth = ADMIN if name == "v4" and not user else BOSS
    async with httpx.AsyncClient(transport=transport, base_url=f"http://broker/api/{name}", auth=auth) as client:
        yield client
