"""What the tests of the contract of `/api/v4` have in common: a broker with its clients, the forms of an answer.

Invariant: nothing here looks at the broker but through MQTT and REST.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from api.live import Live, running
from api.older import older
from attrs import define

NODE = "trio_broker@127.0.0.1"
UNKNOWN = "never_seen@127.0.0.1"
DATETIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
UPTIME = re.compile(r"(((\d+ days, )?\d+ hours, )?\d+ minutes, )?\d+ seconds")
MEMORY = re.compile(r"\d+\.\d\d[KMG]")
LOAD = re.compile(r"\d+\.\d\d")


@define
class Doors:
    """One broker, as an application (8081) and as a dashboard user (18083) see it."""

    live: Live
    app: httpx.AsyncClient
    user: httpx.AsyncClient


@asynccontextmanager
async def doors(*args: Any, **options: Any) -> AsyncIterator[Doors]:
    async with (
        running(*args, **options) as live,
        older(live, "v4") as app,
        older(live, "v4", user=True) as user,
    ):
        yield Doors(live, app, user)


def body(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer with status 200."""
    assert answer.status_code == 200, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert isinstance(found, dict)
    return found


def data(answer: httpx.Response) -> Any:
    """It went well, and has data but no meta."""
    found = body(answer)
    assert found.keys() == {"code", "data"}, found
    assert type(found["code"]) is int
    assert found["code"] == 0
    return found["data"]


def done(answer: httpx.Response) -> None:
    """It went well, and there is nothing to tell."""
    assert body(answer) == {"code": 0}


def refused(answer: httpx.Response, code: Any, message: str | None = None) -> str:
    """Status 200, a code, and a message; gives the message."""
    found = body(answer)
    assert found.keys() == {"code", "message"}, found
    assert isinstance(found["message"], str)
    if message is not None:
        assert found["message"] == message
    allowed = code if isinstance(code, tuple) else (code,)
    assert found["code"] in allowed, found
    return found["message"]


def not_found(answer: httpx.Response) -> None:
    """404: no such path, method or node."""
    assert (answer.status_code, answer.text) == (404, "Not found."), answer.text
    assert answer.headers["content-type"].startswith("text/plain")


def unauthorized(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.text) == (401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"] == 'Basic Realm="minirest-server"'


async def got(api: httpx.AsyncClient, path: str, **query: Any) -> Any:
    """The data of a GET that succeeds."""
    return data(await api.get(path, params=query or None))


async def of_node(api: httpx.AsyncClient, path: str, key: str) -> Any:
    """What the one node has, in a list by node."""
    [row] = await got(api, path)
    assert row.keys() == {"node", key}
    assert row["node"] == NODE
    return row[key]


async def both(api: httpx.AsyncClient, path: str, key: str) -> Any:
    """The same for the cluster and for the node."""
    whole = await of_node(api, path, key)
    assert await got(api, f"/nodes/{NODE}{path}") == whole
    return whole
