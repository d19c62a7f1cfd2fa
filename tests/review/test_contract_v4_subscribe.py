"""The contract of `/api/v4`, read afresh: subscribing for a client, and unsubscribing."""

from __future__ import annotations

from typing import Any

import pytest
from api.operations import shows
from review.contract import KEPT, away
from review.contract_v4 import V4, quiet, received, version_4
from trio.testing import MockClock

SUBSCRIBE, UNSUBSCRIBE = "/mqtt/subscribe", "/mqtt/unsubscribe"
BAD_ID = "bad clientid: must be string"


async def held(v4: V4, name: str) -> set[tuple[str, int]]:
    return {(row["topic"], row["qos"]) for row in await v4.data(f"/subscriptions/{name}")}


@shows("POST /api/v4/mqtt/subscribe", "POST /api/v4/mqtt/unsubscribe")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_for_one_who_is_there(level: int, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1", level=level)
        await v4.send("kept/1", "kept", retain=True)
        await v4.done("POST", SUBSCRIBE, {"topic": "a/+", "qos": 1, "clientid": "c1"})
        await quiet(c1)  # no SUBACK either
        assert await held(v4, "c1") == {("a/+", 1)}
        await v4.send("a/b", "hello", qos=2)
        message = await received(c1)
        assert (message.topic_name, message.payload, message.qos) == ("a/b", b"hello", 1)
        await v4.done("POST", SUBSCRIBE, {"topic": "a/+", "clientid": "c1"})
        await quiet(c1)
        assert await held(v4, "c1") == {("a/+", 0)}
        await v4.done("POST", SUBSCRIBE, {"topic": "kept/#", "clientid": "c1"})
        message = await received(c1)
        assert (message.payload, message.retain) == (b"kept", True)
        await v4.done("POST", UNSUBSCRIBE, {"topic": "a/+", "clientid": "c1"})
        await v4.done("POST", UNSUBSCRIBE, {"topic": "never", "clientid": "c1"})
        await quiet(c1)
        assert await held(v4, "c1") == {("kept/#", 0)}
        await v4.send("a/b")
        await quiet(c1)


@shows("POST /api/v4/mqtt/subscribe")
async def test_several_filters(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1")
        for body, found in (
            ({"topics": "a,b/+", "qos": 2}, {("a", 2), ("b/+", 2)}),
            ({"topic": "a,b/+", "qos": 1}, {("a", 1), ("b/+", 1)}),
            ({"topic": "a", "topics": "b,c"}, {("a", 0)}),
            ({"topics": "a/#/b,good,,x+"}, {("good", 0)}),
            ({"topics": "$share/g/t/#,$queue/q", "qos": 1}, {("$share/g/t/#", 1), ("$share/$queue/q", 1)}),
        ):
            await v4.done("POST", SUBSCRIBE, {"clientid": "c1", **body})
            await c1.ping()
            assert await held(v4, "c1") == found
            for topic in ("a", "b/+", "good", "$share/g/t/#", "$queue/q"):
                await v4.done("POST", UNSUBSCRIBE, {"clientid": "c1", "topic": topic})
            await c1.ping()
            assert await held(v4, "c1") == set()


@shows("POST /api/v4/mqtt/subscribe", "POST /api/v4/mqtt/unsubscribe")
async def test_shared_between_two(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        one, two = await v4.live.connect("one"), await v4.live.connect("two")
        for name in ("one", "two"):
            await v4.done("POST", SUBSCRIBE, {"clientid": name, "topic": "$share/g/t", "qos": 1})
        for _ in range(10):
            await v4.send("t")
        await quiet(await v4.live.connect("other"))
        assert len(one.inbox) + len(two.inbox) == 10


@shows("POST /api/v4/mqtt/subscribe", "POST /api/v4/mqtt/unsubscribe")
async def test_for_one_who_is_away(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await away(v4.live, "c/1", "old")
        await v4.done("POST", SUBSCRIBE, {"clientid": "c/1", "topic": "new", "qos": 1})
        await v4.done("POST", UNSUBSCRIBE, {"clientid": "c/1", "topic": "old"})
        assert await held(v4, "c%2F1") == {("new", 1)}
        await v4.send("old", qos=1)
        await v4.send("new", qos=1)
        c1 = await v4.live.connect("c/1", clean_start=False, **KEPT)
        assert (await received(c1)).topic_name == "new"
        await quiet(c1)


@shows("POST /api/v4/mqtt/subscribe")
async def test_no_rules(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1")
        await v4.load()
        await v4.ask("POST", "/acl", {"topic": "#", "action": "sub", "access": "deny"})
        assert (await c1.subscribe("t")).reason_codes == [0x87]
        await v4.done("POST", SUBSCRIBE, {"clientid": "c1", "topic": "t"})
        await quiet(c1)
        assert await held(v4, "c1") == {("t", 0)}


@shows("POST /api/v4/mqtt/subscribe")
async def test_what_cannot_be_subscribed(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1")
        for wrong in ({}, {"clientid": 1}, {"clientid": None}, {"clientid": ["c1"]}):
            await v4.fails(108, BAD_ID, "POST", SUBSCRIBE, {"topic": "#/x", "qos": 9, **wrong})
        for topics in ({}, {"topic": ""}, {"topics": ""}, {"topic": "a/#/b"}, {"topic": "a+"}, {"topics": ",,"}):
            for name in ("c1", "nobody"):
                await v4.fails(115, "bad_topic", "POST", SUBSCRIBE, {"clientid": name, "qos": 9, **topics})
        for topic in (1, ["a"], "$share/g", "$share//a", "$share/g/", "$share/+/a", "$queue/"):
            await v4.fails(115, None, "POST", SUBSCRIBE, {"clientid": "c1", "topic": topic})
        for qos in (3, -1):
            for name in ("c1", "nobody"):
                await v4.fails(116, "bad_qos", "POST", SUBSCRIBE, {"clientid": name, "topic": "a", "qos": qos})
        odd: Any
        for odd in ("x", None, [], 1.5):
            await v4.fails((108, 116), None, "POST", SUBSCRIBE, {"clientid": "c1", "topic": "a", "qos": odd})
        await v4.fails(112, "channel_not_found", "POST", SUBSCRIBE, {"clientid": "nobody", "topic": "a"})
        await quiet(c1)
        assert await held(v4, "c1") == set()


@shows("POST /api/v4/mqtt/unsubscribe")
async def test_what_cannot_be_unsubscribed(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1")
        for name in ("a,b", "a", "b"):
            await c1.subscribe(name)
        await v4.done("POST", UNSUBSCRIBE, {"clientid": "c1", "topic": "a,b"})
        await c1.ping()
        assert await held(v4, "c1") == {("a", 0), ("b", 0)}
        await v4.fails(115, "bad_topic", "POST", UNSUBSCRIBE, {"clientid": "c1", "topics": "a,b"})
        for topics in ({}, {"topic": ""}, {"topic": "a/#/b"}, {"topic": "a+"}):
            await v4.fails(115, "bad_topic", "POST", UNSUBSCRIBE, {"clientid": "c1", **topics})
        for topic in (1, ["a"], "$share/g"):
            await v4.fails((108, 115), None, "POST", UNSUBSCRIBE, {"clientid": "c1", "topic": topic})
        for wrong in ({}, {"clientid": 1}, {"clientid": None}):
            await v4.fails(108, BAD_ID, "POST", UNSUBSCRIBE, {"topic": "a", **wrong})
        await v4.fails(112, "channel_not_found", "POST", UNSUBSCRIBE, {"clientid": "nobody", "topic": "a"})
        assert await held(v4, "c1") == {("a", 0), ("b", 0)}


@shows("POST /api/v4/mqtt/subscribe_batch", "POST /api/v4/mqtt/unsubscribe_batch")
async def test_batches(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1, c2 = await v4.live.connect("c1"), await v4.live.connect("c2")

        async def codes(path: str, body: list[Any], expected: list[Any]) -> None:
            answer = await v4.ask("POST", path, body)
            assert answer.keys() == {"code", "data"}
            assert answer["code"] == 0
            assert [row["code"] for row in answer["data"]] == [code for _, _, code in expected]
            for row, (name, topic, code) in zip(answer["data"], expected, strict=True):
                assert row == {"clientid": name, "topic": topic, "code": code}

        await codes(
            "/mqtt/subscribe_batch",
            [
                {"clientid": "c1", "topic": "a", "qos": 1},
                {"clientid": "nobody", "topic": "b"},
                {"topic": "c"},
                {"clientid": "c2", "topic": "d/+", "qos": 2},
                {"clientid": "c2", "topic": "a+"},
                {"clientid": "c2", "topic": "e", "qos": 3},
            ],
            [
                ("c1", "a", 0),
                ("nobody", "b", 112),
                ("undefined", "c", 108),
                ("c2", "d/+", 0),
                ("c2", "a+", 115),
                ("c2", "e", 116),
            ],
        )
        for client in (c1, c2):
            await quiet(client)
        assert (await held(v4, "c1"), await held(v4, "c2")) == ({("a", 1)}, {("d/+", 2)})
        await codes(
            "/mqtt/unsubscribe_batch",
            [
                {"clientid": "c2", "topic": "d/+"},
                {"clientid": "nobody", "topic": "b"},
                {"topic": "c"},
                {"clientid": "c1", "topic": "a"},
                {"clientid": "c1", "topic": ""},
            ],
            [("c2", "d/+", 0), ("nobody", "b", 112), ("undefined", "c", 108), ("c1", "a", 0), ("c1", "", 115)],
        )
        for client in (c1, c2):
            await client.ping()
        assert await held(v4, "c1") == await held(v4, "c2") == set()
        for path in ("/mqtt/subscribe_batch", "/mqtt/unsubscribe_batch"):
            assert await v4.ask("POST", path, []) == {"code": 0, "data": []}
            await v4.fails((107, 108), None, "POST", path, {"clientid": "c1", "topic": "a"})
            wrong: Any
            for wrong in ([1], ["t"], [[]]):
                answer = await v4.ask("POST", path, wrong)
                assert answer["code"] == 108 or [row["code"] for row in answer["data"]] == [108]
