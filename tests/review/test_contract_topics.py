"""The REST contract, read afresh: topic metrics, topic rewrite and auto subscribe, alone and together."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio
from api.live import Live, running
from api.operations import shows
from review.contract import KEPT, TIME_MS, TIME_S, away, done, failed, got, post
from trio.testing import MockClock

from trio_broker.protocol.packets import Publish, Will
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import Client

METRICS, REWRITE, AUTO = "/mqtt/topic_metrics", "/mqtt/topic_rewrite", "/mqtt/auto_subscribe"
COUNTED = ["in", "out", *(f"qos{qos}.{way}" for qos in (0, 1, 2) for way in ("in", "out")), "dropped"]
FIGURES = {f"messages.{name}.{kind}" for name in COUNTED for kind in ("count", "rate")}


async def received(client: Client) -> Publish:
    with trio.fail_after(600):
        return await client.receive()


async def quiet(client: Client) -> None:
    await trio.sleep(5)
    await client.ping()
    assert not client.inbox


async def count(live: Live, topic: str) -> httpx.Response:
    return await live.api.post(METRICS, json={"topic": topic})


async def counts(live: Live, path: str) -> dict[str, int]:
    """The counts that are not 0."""
    metrics = (await got(live, f"{METRICS}/{path}"))["metrics"]
    return {name[9:-6]: value for name, value in metrics.items() if name.endswith(".count") and value}


async def set_to(live: Live, path: str, rows: Any) -> list[Any]:
    answer = await live.api.put(path, json=rows)
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()
    return found


def rule(source: str, re: str, dest: str, action: str = "all") -> dict[str, str]:
    return {"action": action, "source_topic": source, "re": re, "dest_topic": dest}


async def filters(live: Live, client_id: str) -> set[str]:
    return {row["topic"] for row in await got(live, f"/clients/{client_id}/subscriptions")}


@shows("GET /mqtt/topic_metrics", "POST /mqtt/topic_metrics", "GET /mqtt/topic_metrics/:topic")
async def test_topic_metrics(autojump_clock: MockClock) -> None:
    async with running() as live:
        assert await got(live, METRICS) == []
        answer = await count(live, "t/1")
        assert answer.status_code == 200
        body = answer.json()
        assert body.keys() == {"topic", "create_time", "metrics"}
        assert body["topic"] == "t/1"
        assert TIME_S.fullmatch(body["create_time"]) or TIME_MS.fullmatch(body["create_time"])
        assert body["metrics"].keys() == FIGURES
        assert len(FIGURES) == 18
        for name, value in body["metrics"].items():
            assert value == 0
            assert name.endswith("rate") or isinstance(value, int)
        assert await got(live, METRICS) == [body]
        assert await got(live, f"{METRICS}/t%2F1") == body
        sub = await live.connect("sub", level=3)
        await sub.subscribe("t/#", 1)
        pub = await live.connect("pub", level=4)
        for qos in (0, 1, 2, 2):
            await pub.publish("t/1", b"x", qos)
        await pub.publish("t/2", b"x", 1)
        for _ in range(5):
            await received(sub)
        assert await counts(live, "t%2F1") == {
            "in": 4,
            "out": 4,
            "qos0.in": 1,
            "qos0.out": 1,
            "qos1.in": 1,
            "qos1.out": 3,
            "qos2.in": 2,
        }
        await sub.unsubscribe("t/#")
        await post(live, "t/1")
        assert (await counts(live, "t%2F1"))["dropped"] == 1


@shows("POST /mqtt/topic_metrics")
async def test_what_cannot_be_counted(autojump_clock: MockClock) -> None:
    async with running() as live:
        await count(live, "t")
        failed(await count(live, "t"), 400, "BAD_TOPIC", "Topic already registered")
        for wild in ("#", "t/#", "+/t"):
            failed(await count(live, wild), 400, "BAD_TOPIC", "Wildcard topic is not supported")
        failed(await count(live, ""), 400, "BAD_REQUEST", "Topic can not be empty")
        for bad in ({}, {"topic": 1}, {"topic": "a", "more": 1}, {"topic": None}):
            failed(await live.api.post(METRICS, json=bad), 400, "BAD_REQUEST")
        for index in range(511):
            assert (await count(live, f"n/{index}")).status_code == 200
        failed(await count(live, "one more"), 409, "EXCEED_LIMIT", "Max topic metrics count is 512")
        done(await live.api.delete(f"{METRICS}/n%2F0"))
        assert (await count(live, "one more")).status_code == 200


@shows("PUT /mqtt/topic_metrics", "DELETE /mqtt/topic_metrics/:topic", "GET /mqtt/topic_metrics/:topic")
async def test_resetting_and_deleting(autojump_clock: MockClock) -> None:
    async with running() as live:
        for topic in ("a/b", "c"):
            await count(live, topic)
            await post(live, topic)
        answer = await live.api.put(METRICS, json={"action": "reset", "topic": "a/b"})
        assert (answer.status_code, answer.json()["topic"]) == (200, "a/b")
        assert await counts(live, "a%2Fb") == {}
        assert (await counts(live, "c"))["in"] == 1
        answer = await live.api.put(METRICS, json={"action": "reset"})
        assert (answer.status_code, {row["topic"] for row in answer.json()}) == (200, {"a/b", "c"})
        assert await counts(live, "c") == {}
        gone = {"action": "reset", "topic": "gone"}
        failed(await live.api.put(METRICS, json=gone), 404, "TOPIC_NOT_FOUND")
        for bad in ({}, {"action": "dance"}, {"topic": "c"}):
            failed(await live.api.put(METRICS, json=bad), 400, "BAD_REQUEST")
        done(await live.api.delete(f"{METRICS}/a%2Fb"))
        for call in (live.api.get, live.api.delete):
            failed(await call(f"{METRICS}/a%2Fb"), 404, "TOPIC_NOT_FOUND", "Topic not found")


@shows("GET /mqtt/topic_metrics")
async def test_registered_topics_are_kept(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        for topic in ("a/b", "ä/ö", "gone"):
            await count(live, topic)
        done(await live.api.delete(f"{METRICS}/gone"))
    async with running(store=store) as live:
        assert {row["topic"] for row in await got(live, METRICS)} == {"a/b", "ä/ö"}
        await post(live, "a/b")
        assert (await counts(live, "a%2Fb"))["in"] == 1


@shows("GET /mqtt/topic_rewrite", "PUT /mqtt/topic_rewrite")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_rewritten_messages_and_filters(level: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        assert await got(live, REWRITE) == []
        rules = [
            rule("x/#", "^x/y/(.+)$", "z/y/$1", "publish"),
            rule("s/#", "^s/(.+)/(.+)$", "$2/$1", "subscribe"),
            rule("me/#", "^me/(.+)$", "of/${clientid}/${username}/$1"),
        ]
        assert await set_to(live, REWRITE, rules) == rules
        assert await got(live, REWRITE) == rules
        sub = await live.connect("sub", level=level)
        for topic_filter in ("x/#", "z/#", "s/a/b", "b/a", "of/#"):
            await sub.subscribe(topic_filter, 1)
        pub = await live.connect("p", level=level, username="u")
        for topic in ("x/y/1", "x/1", "b/a", "me/1", "s/a/b"):
            await pub.publish(topic, topic.encode(), 1)
        topics = [(message := await received(sub)).topic_name for _ in range(4)]
        assert topics == ["z/y/1", "x/1", "b/a", "of/p/u/1"]
        assert message.payload == b"me/1"
        await quiet(sub)
        assert await filters(live, "sub") == {"x/#", "z/#", "b/a", "of/#"}
        await pub.subscribe("me/+/1")
        assert await filters(live, "p") == {"of/p/u/+/1"}
        await pub.unsubscribe("me/+/1")
        assert await filters(live, "p") == set()


@shows("PUT /mqtt/topic_rewrite")
async def test_the_last_rule_that_matches_decides(autojump_clock: MockClock) -> None:
    async with running() as live:
        sub = await live.connect("sub")
        await sub.subscribe("#")
        pub = await live.connect("p")

        async def becomes(*rules: dict[str, str]) -> str:
            await set_to(live, REWRITE, list(rules))
            await pub.publish("a/b")
            return (await received(sub)).topic_name

        first, second = rule("a/#", "^a/(.*)$", "first/$1"), rule("a/+", "^a/(.*)$", "second/$1")
        assert await becomes(first, second) == "second/b"
        assert await becomes(second, first) == "first/b"
        assert await becomes(first, rule("a/#", "^never$", "x")) == "a/b"  # matches by its filter, and so decides
        assert await becomes(first, rule("b/#", "a", "x")) == "first/b"
        assert await becomes(first, rule("a/#", ".*", "x", "subscribe")) == "first/b"  # not of the right action
        assert await becomes(first, rule("first/#", "first", "x")) == "first/b"  # no rule is applied to what came out
        assert await becomes() == "a/b"


@shows("PUT /mqtt/topic_rewrite")
async def test_rules_that_are_refused(autojump_clock: MockClock) -> None:
    good = rule("a/#", "a", "b")
    async with running() as live:
        await set_to(live, REWRITE, [good] * 19)
        for size in (20, 25):
            answer = await live.api.put(REWRITE, json=[good] * size)
            failed(answer, 413, "EXCEED_LIMIT", "Max rewrite rules count is 20")
        for bad in (
            rule("a", "a", "b/#", "publish"),
            rule("a", "a", "+/b", "all"),
            rule("a", "(", "b"),
            rule("a#", "a", "b"),
            {**good, "action": "dance"},
            {**good, "more": 1},
            {key: value for key, value in good.items() if key != "dest_topic"},
            {key: value for key, value in good.items() if key != "source_topic"},
            {key: value for key, value in good.items() if key != "re"},
            "text",
        ):
            failed(await live.api.put(REWRITE, json=[good, bad]), 400, "BAD_REQUEST")
        failed(await live.api.put(REWRITE, json=good), 400, "BAD_REQUEST")
        assert await got(live, REWRITE) == [good] * 19
        assert await set_to(live, REWRITE, [rule("a/#", "a", "b/#", "subscribe")])


@shows("PUT /mqtt/topic_rewrite", "POST /publish", "GET /mqtt/topic_metrics/:topic")
async def test_rewritten_everywhere(autojump_clock: MockClock) -> None:
    """Over REST, as a will, retained, shared, counted; and after a restart."""
    store = MemoryStore()
    async with running(store=store) as live:
        await set_to(live, REWRITE, [rule("old/#", "^old/(.*)$", "new/$1")])
        for topic in ("old/1", "new/1"):
            await count(live, topic)
        await away(live, "c1", "$share/g/old/+")
        assert await filters(live, "c1") == {"$share/g/new/+"}
        await post(live, "old/1", "kept", retain=True, qos=1)
        failed(await live.api.get("/mqtt/retainer/message/old%2F1"), 404, "NOT_FOUND")
        assert (await got(live, "/mqtt/retainer/message/new%2F1"))["topic"] == "new/1"
        assert await counts(live, "old%2F1") == {}
        assert await counts(live, "new%2F1") == {"in": 1, "qos1.in": 1, "out": 1, "qos1.out": 1}
    async with running(store=store) as live:
        c1 = await live.connect("c1", clean_start=False, **KEPT)
        assert (await received(c1)).topic_name == "new/1"
        dying = await live.connect("dying", will=Will("old/2", b"will"))
        await dying.drop()
        assert (await received(c1)).topic_name == "new/2"
        await c1.subscribe("old/1")
        message = await received(c1)
        assert (message.topic_name, message.retain) == ("new/1", True)


@shows("GET /mqtt/auto_subscribe", "PUT /mqtt/auto_subscribe")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_auto_subscribe(level: int, autojump_clock: MockClock) -> None:
    store = MemoryStore()
    rows = [
        {"topic": "/c/${clientid}", "qos": 0, "rh": 0, "rap": 0, "nl": 0},
        {"topic": "u/${username}/#", "qos": 2, "rh": 2, "rap": 1, "nl": 1},
        {"topic": "at/${host}/+", "qos": 1, "rh": 1, "rap": 0, "nl": 0},
    ]
    async with running(store=store) as live:
        assert await got(live, AUTO) == []
        there = await live.connect("there", username="u0", level=level)
        sent = [{"topic": "/c/${clientid}"}, rows[1], {"topic": "at/${host}/+", "qos": 1, "rh": 1, "nl": None}]
        assert await set_to(live, AUTO, sent) == rows
        assert await filters(live, "there") == set()  # applied at connection
        await there.ping()
        await post(live, "/c/c1", "early", retain=True)
        c1 = await live.connect("c1", username="u1", level=level)
        shown = {row["topic"]: row for row in await got(live, "/clients/c1/subscriptions")}
        assert shown.keys() == {"/c/c1", "u/u1/#", "at/127.0.0.1/+"}
        assert {key: shown["u/u1/#"][key] for key in ("qos", "rh", "rap", "nl")} == {
            "qos": 2,
            "rh": 2,
            "rap": 1,
            "nl": 1,
        }
        message = await received(c1)
        assert (message.topic_name, message.retain) == ("/c/c1", True)
        await post(live, "u/u1/x", "y", qos=2)
        assert (await received(c1)).qos == 2
        assert not c1.inbox
        await c1.unsubscribe("/c/c1")
        assert await filters(live, "c1") == {"u/u1/#", "at/127.0.0.1/+"}
    async with running(store=store) as live:
        assert await got(live, AUTO) == rows
        await live.connect("c2", username="u2", level=level)
        assert await filters(live, "c2") == {"/c/c2", "u/u2/#", "at/127.0.0.1/+"}
        assert await set_to(live, AUTO, []) == []
        await live.connect("c3", username="u2", level=level)
        assert await filters(live, "c3") == set()


@shows("PUT /mqtt/auto_subscribe")
async def test_auto_subscriptions_that_are_refused(autojump_clock: MockClock) -> None:
    async with running() as live:
        rows = [{"topic": f"t/{index}"} for index in range(21)]
        assert len(await set_to(live, AUTO, rows[:20])) == 20
        failed(await live.api.put(AUTO, json=rows), 409, "EXCEED_LIMIT")
        for bad in (
            {},
            {"topic": ""},
            {"topic": "a/#/b"},
            {"topic": "a", "qos": 3},
            {"topic": "a", "rh": 3},
            {"topic": "a", "rap": 2},
            {"topic": "a", "nl": -1},
            {"topic": "a", "more": 1},
        ):
            failed(await live.api.put(AUTO, json=[bad]), 400, "BAD_REQUEST")
        assert len(await got(live, AUTO)) == 20


@shows("PUT /mqtt/auto_subscribe", "POST /banned", "PUT /mqtt/topic_rewrite")
async def test_a_ban_auto_subscribe_and_a_rewrite(autojump_clock: MockClock) -> None:
    async with running() as live:
        await set_to(live, AUTO, [{"topic": "in/${clientid}", "qos": 1}, {"topic": "u/${username}"}])
        await set_to(live, REWRITE, [rule("in/+", "^in/(.+)$", "out/$1", "subscribe")])
        await away(live, "c1", username="u1")
        assert await filters(live, "c1") == {"out/c1", "u/u1"}
        await live.api.put(AUTO, json=[{"topic": "new"}])
        assert (await live.api.post("/banned", json={"as": "username", "who": "u1"})).status_code == 200
        banned = await live.connect("c1", username="u1", clean_start=False, **KEPT)
        assert banned.connack.reason_code == 0x8A
        assert await filters(live, "c1") == {"out/c1", "u/u1"}  # who is refused is subscribed to nothing
        back = await live.connect("c1", clean_start=False, **KEPT)
        assert back.session_present
        assert await filters(live, "c1") == {"out/c1", "u/u1", "new"}


@shows("PUT /mqtt/topic_metrics", "PUT /mqtt/topic_rewrite", "PUT /mqtt/auto_subscribe", "POST /mqtt/topic_metrics")
async def test_a_viewer_changes_nothing(autojump_clock: MockClock) -> None:
    async with running() as live:
        viewer = live.as_viewer()
        for path in (METRICS, REWRITE, AUTO):
            assert (await live.api.get(path, auth=viewer)).json() == []
            failed(await live.api.put(path, json=[], auth=viewer), 403, "UNAUTHORIZED_ROLE")
        failed(await live.api.post(METRICS, json={"topic": "t"}, auth=viewer), 403, "UNAUTHORIZED_ROLE")
        assert await got(live, METRICS) == []
