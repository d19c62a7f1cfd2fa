"""The contract of `/api/v2`, read afresh: subscriptions and routes, and how subscriptions are made."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio
from api.operations import shows
from review.contract import KEPT, NODE
from review.contract_v2 import (
    C_1,
    NODES,
    ROUTE,
    SUBSCRIPTION,
    both,
    done,
    got,
    missing,
    mistyped,
    nowhere,
    objects,
    part,
    refused,
    shaped,
    until,
)
from trio.testing import MockClock

SUBSCRIBE, UNSUBSCRIBE = "/mqtt/subscribe", "/mqtt/unsubscribe"
LONGEST = "ä" * 2048


def sub(topic: str, qos: int = 0, client_id: str = C_1) -> dict[str, Any]:
    return {"client_id": client_id, "topic": topic, "qos": qos}


async def has(v2: httpx.AsyncClient, *rows: dict[str, Any], client_id: str = C_1) -> None:
    """Wait until these are the subscriptions of the client."""

    async def check() -> bool:
        found = await objects(v2, f"/subscriptions/{part(client_id)}")
        return sorted(map(str, found)) == sorted(map(str, rows))

    for row in rows:
        shaped(row, SUBSCRIPTION)
    await until(check)


async def routes(v2: httpx.AsyncClient) -> set[str]:
    rows = (await got(v2, "/routes", page_size=1000))["objects"]
    for row in rows:
        shaped(row, ROUTE)
        assert row["node"] == NODE
    names = [row["topic"] for row in rows]
    assert len(set(names)) == len(names)
    return set(names)


@shows(
    "GET /api/v2/nodes/:node/subscriptions",
    "GET /api/v2/subscriptions/:client_id",
    "GET /api/v2/nodes/:node/subscriptions/:client_id",
    "GET /api/v2/routes",
    "GET /api/v2/routes/:topic",
)
async def test_the_subscription_of_the_document(autojump_clock: MockClock) -> None:
    topic = f"$client/{C_1}"
    row = {"client_id": C_1, "topic": topic, "qos": 1}
    async with both() as (live, v2):
        client = await live.connect(C_1, level=4)
        await client.subscribe(topic, 1)
        page = {"current_page": 1, "page_size": 20, "total_num": 1, "total_page": 1}
        assert await got(v2, f"{NODES}/subscriptions") == {**page, "objects": [row]}
        assert await objects(v2, f"/subscriptions/{C_1}") == [row]
        assert await objects(v2, f"{NODES}/subscriptions/{C_1}") == [row]
        route = {"topic": topic, "node": NODE}
        assert await got(v2, "/routes") == {**page, "objects": [route]}
        assert await objects(v2, f"/routes/{topic}") == [route]
        await client.subscribe("topic")
        assert await objects(v2, "/routes/topic") == [{"topic": "topic", "node": NODE}]
        assert await objects(v2, "/routes/other") == await objects(v2, "/subscriptions/other") == []


@shows("GET /api/v2/subscriptions/:client_id", "GET /api/v2/routes")
async def test_many_subscriptions(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect(C_1, level=5)
        rows = [sub(f"t/{index}", index % 3) for index in range(30)]
        rows += [sub("$share/g/s/+", 1), sub("#", 2), sub("+/a", 0)]
        for row in rows:
            await client.subscribe(row["topic"], row["qos"])
        await has(v2, *rows)
        await client.subscribe("#", 0)
        rows = [row if row["topic"] != "#" else sub("#", 0) for row in rows]
        await has(v2, *rows)
        found = await routes(v2)
        assert found >= {f"t/{index}" for index in range(30)} | {"#", "+/a"}
        assert len(found) == 33
        await client.unsubscribe("#", "t/0")
        assert len(await routes(v2)) == 31
        await client.disconnect()
        await trio.sleep(1)
        assert await routes(v2) == set()
        assert await objects(v2, f"/subscriptions/{C_1}") == []


TOPICS = ("a/b", "/a", "a//b", "a/+", "a/#", "#", "+", "a b", "ä/ö", "a?b=c", "a%2Fb", "100%", "a;b", "a/", "/", "$x/y")


@shows("GET /api/v2/routes/:topic")
@pytest.mark.parametrize("topic", TOPICS)
async def test_any_topic(topic: str, autojump_clock: MockClock) -> None:
    spellings = {part(topic)}
    if not topic.endswith("/"):
        spellings.add(part(topic).replace("%2F", "/").replace("%2B", "+"))
    async with both() as (live, v2):
        first, second = await live.connect("c1"), await live.connect("c2")
        for spelling in spellings:
            assert await objects(v2, f"/routes/{spelling}") == []
        await first.subscribe(topic)
        await second.subscribe(topic)
        for spelling in spellings:
            assert await objects(v2, f"/routes/{spelling}") == [{"topic": topic, "node": NODE}]
        for other in ("a", "a/x", "a/b/c", "b"):
            assert await objects(v2, f"/routes/{other}") == []


@shows("POST /api/v2/mqtt/subscribe", "POST /api/v2/mqtt/unsubscribe")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_a_subscription_is_made(level: int, autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect(C_1, level=level)
        done(await v2.post(SUBSCRIBE, json={"topic": "test", "qos": 1, "client_id": C_1}))
        await has(v2, sub("test", 1))
        done(await v2.post(SUBSCRIBE, json={"topic": "zero", "client_id": C_1}))
        for topic_filter in ("a/+", "b/#", LONGEST):
            done(await v2.post(SUBSCRIBE, json=sub(topic_filter, 2)))
        await has(v2, sub("test", 1), sub("zero"), sub("a/+", 2), sub("b/#", 2), sub(LONGEST, 2))
        for topic in ("test", "a/1", LONGEST):
            done(await v2.post("/mqtt/publish", json={"topic": topic, "payload": "x", "qos": 2}))
            with trio.fail_after(60):
                message = await client.receive()
            assert (message.topic_name, message.qos) == (topic, 1 if topic == "test" else 2)
        await client.ping()
        assert not client.inbox  # there was no SUBACK
        done(await v2.post(SUBSCRIBE, json=sub("test", 2)))
        await has(v2, sub("test", 2), sub("zero"), sub("a/+", 2), sub("b/#", 2), sub(LONGEST, 2))
        for topic_filter in ("test", "zero", LONGEST, "b/#"):
            done(await v2.post(UNSUBSCRIBE, json={"client_id": C_1, "topic": topic_filter}))
        await has(v2, sub("a/+", 2))
        await client.ping()
        assert not client.inbox


@shows("POST /api/v2/mqtt/subscribe")
@pytest.mark.parametrize("level", [4, 5])
async def test_for_a_session_that_is_away(level: int, autojump_clock: MockClock) -> None:
    options: dict[str, Any] = {"level": level, "clean_start": False, **(KEPT if level == 5 else {})}
    async with both() as (live, v2):
        client = await live.connect(C_1, **options)
        await client.disconnect()
        await trio.sleep(1)
        done(await v2.post(SUBSCRIBE, json=sub("a/+", 1)))
        await has(v2, sub("a/+", 1))
        done(await v2.post("/mqtt/publish", json={"topic": "a/b", "payload": "x", "qos": 1}))
        back = await live.connect(C_1, **options)
        with trio.fail_after(60):
            assert (await back.receive()).topic_name == "a/b"


@shows("POST /api/v2/mqtt/subscribe", "POST /api/v2/mqtt/unsubscribe")
async def test_subscriptions_that_are_refused(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect(C_1)
        for path in (SUBSCRIBE, UNSUBSCRIBE):
            for client_id in ("nobody", "a/b", "ä"):
                refused(await v2.post(path, json=sub("t", 1, client_id)), 102, f"Clientid: {client_id} not found")
            for topic in ("", "a/#/b", "a+", "a#", LONGEST + "x"):
                refused(await v2.post(path, json=sub(topic)), 102, f"validate topic: {topic} fail")
            missing(await v2.post(path, json={"topic": "t", "qos": "x"}))
        for qos in (3, -1, "1", True, 1.5, None, [1]):
            mistyped(await v2.post(SUBSCRIBE, json={"client_id": C_1, "topic": "t", "qos": qos}))
        refused(await v2.post(SUBSCRIBE, content=b'{"topic": "test", "client_id": "c",}'), 109, "Body not json")
        await client.ping()
        assert await objects(v2, f"/subscriptions/{C_1}") == []
        nowhere(await v2.get(SUBSCRIBE))


@shows("POST /api/v2/mqtt/unsubscribe")
async def test_there_was_no_such_subscription(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect(C_1)
        await client.subscribe("t")
        done(await v2.post(UNSUBSCRIBE, json={"client_id": C_1, "topic": "other"}))
        await has(v2, sub("t"))


@shows("POST /api/v2/mqtt/subscribe")
async def test_what_is_retained_comes(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        done(await v2.post("/mqtt/publish", json={"topic": "r", "payload": "old", "retain": True}))
        client = await live.connect(C_1, level=4)
        done(await v2.post(SUBSCRIBE, json=sub("r", 1)))
        with trio.fail_after(60):
            message = await client.receive()
        assert (message.topic_name, message.payload, message.retain) == ("r", b"old", True)
