"""What the tests of listeners over REST have in common.

Invariant: every address is a free port of 127.0.0.1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import trio
from api.live import Live, running
from listeners.fake_gate import until

from trio_broker.config import Config, Layers, ListenerConfig, NodeConfig
from trio_broker.store.store import Store
from trio_broker.testing import Client, open_client

ANYWHERE = "127.0.0.1:0"
DEFAULT = {"tcp": {"default": ListenerConfig(bind=ANYWHERE)}}


@asynccontextmanager
async def with_listener(
    store: Store | None = None, *, data_dir: str = "", layers: Layers | None = None, ignore_stored: bool = False
) -> AsyncIterator[Live]:
    """A broker whose file has `tcp:default` on a free port, or says what `layers` say."""
    config = Config(listeners=DEFAULT, node=NodeConfig(data_dir=data_dir)) if layers is None else layers.config()
    with trio.fail_after(60):
        async with running(config, store, layers=layers, ignore_stored=ignore_stored) as live:
            yield live


async def shown(live: Live, id: str) -> dict[str, Any]:
    answer = await live.api.get(f"/listeners/{id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def put(live: Live, id: str, **changes: Any) -> httpx.Response:
    return await live.api.put(f"/listeners/{id}", json={"type": id.partition(":")[0], "id": id, **changes})


async def address_of(live: Live, id: str = "tcp:default") -> tuple[str, int]:
    return address((await shown(live, id))["bind"])


def address(bind: str) -> tuple[str, int]:
    host, _, port = bind.rpartition(":")
    return host, int(port)


async def client_at(live: Live, id: str = "tcp:default", **options: Any) -> AbstractAsyncContextManager[Client]:
    """A client over the socket of a listener."""
    return open_client(await address_of(live, id), **options)


async def is_closed(where: tuple[str, int]) -> bool:
    """Does nobody listen there?"""
    try:
        stream = await trio.open_tcp_stream(*where)
    except OSError:
        return True
    await stream.aclose()
    return False


async def ended(client: Client) -> int | None:
    """Why the broker ended it."""
    await until(lambda: client.disconnected is not None)
    assert client.disconnected is not None
    return client.disconnected.reason_code
