"""What the tests of the contract of `/api/v2` have in common: names, formats, the four kinds of answers.

Invariant: nothing here looks at the broker but through MQTT and REST.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import trio
from api.live import Live, running
from api.older import older
from review.contract import NODE, words

from trio_broker.config import Config
from trio_broker.store.store import Store

C_1 = "C_1492145414740"
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
MEMORY = re.compile(r"(\d+\.\d\d[GMK]|\d+)")
LOAD = re.compile(r"\d+\.\d\d")
UPTIME = re.compile(r"(((\d+ days,)?\d+ hours, )?\d+ minutes, )?\d+ seconds")

METRICS = set(
    words("""
bytes/received bytes/sent packets/received packets/sent packets/connect packets/connack packets/publish/received
packets/publish/sent packets/puback/received packets/puback/sent packets/puback/missed packets/pubrec/received
packets/pubrec/sent packets/pubrec/missed packets/pubrel/received packets/pubrel/sent packets/pubrel/missed
packets/pubcomp/received packets/pubcomp/sent packets/pubcomp/missed packets/subscribe packets/suback
packets/unsubscribe packets/unsuback packets/pingreq packets/pingresp packets/disconnect messages/received
messages/sent messages/qos0/received messages/qos0/sent messages/qos1/received messages/qos1/sent
messages/qos2/received messages/qos2/sent messages/qos2/dropped messages/retained messages/dropped
""")
)
STATS = {
    f"{name}/{kind}"
    for name in words("clients sessions topics routes subscribers subscriptions retained")
    for kind in ("count", "max")
}
CLIENT = {
    "client_id": str,
    "username": str,
    "ipaddress": str,
    "port": int,
    "clean_sess": bool,
    "proto_ver": int,
    "keepalive": int,
    "connected_at": str,
}
FIGURES = words("max_inflight inflight_queue message_queue message_dropped awaiting_rel awaiting_ack awaiting_comp")
LATER_FIGURES = words(
    "subscriptions max_inflight inflight_len mqueue_len mqueue_dropped awaiting_rel_len deliver_msg enqueue_msg"
)
SESSION = {"client_id": str, "clean_sess": bool, "created_at": str} | dict.fromkeys((*FIGURES, *LATER_FIGURES), int)
SUBSCRIPTION = {"client_id": str, "topic": str, "qos": int}
ROUTE = {"topic": str, "node": str}
PAGE = {"current_page": int, "page_size": int, "total_num": int, "total_page": int, "objects": list}
NODES = f"/nodes/{NODE}"


@asynccontextmanager
async def both(
    config: Config | None = None, store: Store | None = None
) -> AsyncIterator[tuple[Live, httpx.AsyncClient]]:
    """A running broker and its `/api/v2`, asked by an administrator."""
    async with running(config, store) as live, older(live, "v2") as v2:
        yield live, v2


def part(text: str) -> str:
    """As one part of a path, with everything encoded."""
    return quote(text, safe="")


def shaped(row: Mapping[str, Any], shape: Mapping[str, type]) -> None:
    """The row has these keys, and no others, of just these types."""
    assert {key: type(value) for key, value in row.items()} == shape


def seconds(text: str) -> float:
    """A time as the API writes it, in the time zone of this process, since the epoch."""
    assert TIME.fullmatch(text)
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))


def result(answer: httpx.Response) -> Any:
    """What a success tells."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert body.keys() == {"code", "result"}, body
    assert body["code"] == 0
    assert type(body["code"]) is int
    return body["result"]


def done(answer: httpx.Response) -> None:
    assert result(answer) == []


def refused(answer: httpx.Response, code: int, message: str | None) -> None:
    """It is exactly this refusal; `message` is None where only the code is said."""
    assert answer.status_code == 200, (answer.status_code, answer.text)
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json() == ({"code": code} if message is None else {"code": code, "message": message})


def missing(answer: httpx.Response) -> None:
    refused(answer, 107, "params error")


def mistyped(answer: httpx.Response) -> None:
    refused(answer, 108, "params type error")


def nowhere(answer: httpx.Response) -> None:
    """404, and nothing else."""
    assert (answer.status_code, answer.content) == (404, b""), (answer.status_code, answer.text)
    assert answer.headers["content-type"].startswith("text/plain")


async def got(v2: httpx.AsyncClient, path: str, **query: Any) -> Any:
    return result(await v2.get(path, params=query or None))


async def objects(v2: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """The rows of a look-up, which has no pages."""
    found = await got(v2, path)
    assert found.keys() == {"objects"}
    rows: list[dict[str, Any]] = found["objects"]
    return rows


async def one(v2: httpx.AsyncClient, path: str) -> dict[str, Any]:
    (row,) = await objects(v2, path)
    return row


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait for it, for a minute."""
    for _ in range(600):
        if await check():
            return
        await trio.sleep(0.1)
    raise AssertionError("it never came to be")
