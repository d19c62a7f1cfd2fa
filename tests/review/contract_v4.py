"""What the tests of the contract of `/api/v4` have in common: asking, and what answers look like.

Invariant: nothing here looks at the broker but through MQTT and REST.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import trio
from api.live import Live, running
from api.older import older
from attrs import define
from review.contract import NODE, words

from trio_broker.protocol.packets import Publish
from trio_broker.store.store import Store
from trio_broker.testing import Client

DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")

CLIENT_INTS = words("""
proto_ver port keepalive expiry_interval subscriptions_cnt max_subscriptions inflight max_inflight mqueue_len max_mqueue
mqueue_dropped awaiting_rel max_awaiting_rel recv_oct send_oct recv_cnt send_cnt recv_pkt send_pkt recv_msg send_msg
recv_msg.qos0 recv_msg.qos1 recv_msg.qos2 recv_msg.dropped send_msg.qos0 send_msg.qos1 send_msg.qos2 send_msg.dropped
send_msg.dropped.expired send_msg.dropped.queue_full send_msg.dropped.too_large mailbox_len heap_size reductions
""")
CLIENT_FLAGS = words("connected clean_start is_bridge")
CLIENT_DATES = words("connected_at created_at")
CLIENT_TEXTS = words("node clientid username proto_name ip_address zone mountpoint")
CLIENT_KEYS = {*CLIENT_INTS, *CLIENT_FLAGS, *CLIENT_DATES, *CLIENT_TEXTS}


@define(eq=False)
class V4:
    """A broker, and its `/api/v4`."""

    live: Live
    api: httpx.AsyncClient

    async def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The JSON of an answer of status 200."""
        more: dict[str, Any] = {} if body is None else {"json": body}
        if query:
            more["params"] = query
        answer = await self.api.request(method, path, **more)
        assert answer.status_code == 200, (method, path, body, answer.status_code, answer.text)
        assert answer.headers["content-type"].startswith("application/json")
        found = answer.json()
        assert isinstance(found["code"], int), found
        return found

    async def data(self, path: str, **query: Any) -> Any:
        """What a GET without pages gives."""
        found = await self.ask("GET", path, **query)
        assert found.keys() == {"code", "data"}, found
        assert found["code"] == 0
        return found["data"]

    async def page(self, path: str, **query: Any) -> tuple[list[Any], dict[str, Any]]:
        found = await self.ask("GET", path, **query)
        assert found.keys() == {"code", "data", "meta"}, found
        assert found["code"] == 0
        return found["data"], found["meta"]

    async def listed(self, path: str, key: Any = "clientid", **query: Any) -> list[Any]:
        rows, _ = await self.page(path, **query)
        return sorted(row[key] for row in rows)

    async def done(self, method: str, path: str, body: Any = None, **query: Any) -> None:
        assert await self.ask(method, path, body, **query) == {"code": 0}, (method, path, body)

    async def fails(
        self, code: int | tuple[int, ...], message: str | None, method: str, path: str, body: Any = None, **query: Any
    ) -> str:
        """It is refused with this code, or one of them; gives the message."""
        found = await self.ask(method, path, body, **query)
        assert found.keys() == {"code", "message"}, (method, path, body, found)
        assert found["code"] in (code if isinstance(code, tuple) else (code,)), (method, path, body, found)
        assert isinstance(found["message"], str)
        if message is not None:
            assert found["message"] == message
        return found["message"]

    async def missing(self, method: str, path: str, body: Any = None) -> None:
        answer = await self.api.request(method, path, json=body)
        assert (answer.status_code, answer.text) == (404, "Not found."), (method, path, answer.text)
        assert answer.headers["content-type"].startswith("text/plain")

    async def load(self, plugin: str = "emqx_auth_mnesia") -> None:
        await self.done("PUT", f"/nodes/{NODE}/plugins/{plugin}/load")

    async def send(self, topic: str, payload: Any = "x", **fields: Any) -> None:
        await self.done("POST", "/mqtt/publish", {"topic": topic, "payload": payload, **fields})


@asynccontextmanager
async def version_4(store: Store | None = None, **options: Any) -> AsyncIterator[V4]:
    async with running(store=store) as live, older(live, "v4", **options) as api:
        yield V4(live, api)


def meta(count: int, page: int = 1, limit: int = 10000, hasnext: bool | None = None) -> dict[str, Any]:
    """`hasnext` None: there is none in it."""
    return {"page": page, "limit": limit, "count": count} | ({} if hasnext is None else {"hasnext": hasnext})


def is_client(row: dict[str, Any]) -> None:
    """It has the keys of a client, of their types."""
    assert row.keys() == CLIENT_KEYS | (set() if row["connected"] else {"disconnected_at"})
    for key in CLIENT_INTS:
        assert type(row[key]) is int, key
        assert row[key] >= 0, key
    for key in CLIENT_FLAGS:
        assert type(row[key]) is bool, key
    for key in CLIENT_TEXTS:
        assert type(row[key]) is str, key
    for key in CLIENT_DATES if row["connected"] else (*CLIENT_DATES, "disconnected_at"):
        assert DATE.fullmatch(row[key]), key


async def received(client: Client) -> Publish:
    with trio.fail_after(600):
        return await client.receive()


async def quiet(client: Client) -> None:
    await trio.sleep(5)
    await client.ping()
    assert not client.inbox
