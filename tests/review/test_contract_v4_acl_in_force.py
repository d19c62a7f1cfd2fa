"""The contract of `/api/v4`, read afresh: what access rules allow and deny real clients."""

from __future__ import annotations

from typing import Any

import pytest
from api.operations import shows
from review.contract_v4 import V4, version_4
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore
from trio_broker.testing import Client


async def add(v4: V4, topic: str, action: str, access: str, **who: str) -> None:
    answer = await v4.ask("POST", "/acl", {**who, "topic": topic, "action": action, "access": access})
    assert (answer["code"], answer["data"]["result"]) == (0, "ok")


async def may(client: Client, topic: str) -> str:
    """`p` when it may publish to this, `s` when it may subscribe."""
    answer = await client.publish(topic, b"x", 1)
    assert answer is not None
    found = "p" if answer.reason_code < 0x80 else ""
    (code,) = (await client.subscribe(topic)).reason_codes
    await client.unsubscribe(topic)
    return found + ("s" if code < 0x80 else "")


@shows("POST /api/v4/acl", "DELETE /api/v4/acl/clientid/:clientid/topic/:topic")
async def test_actions(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1", username="u1")
        await v4.load()
        assert await may(c1, "t") == "ps"
        for who, path in (
            ({"clientid": "c1"}, "/acl/clientid/c1"),
            ({"username": "u1"}, "/acl/username/u1"),
            ({}, "/acl/$all"),
        ):
            await add(v4, "t", "pub", "deny", **who)
            assert await may(c1, "t") == "s"
            assert await may(c1, "other") == "ps"
            await add(v4, "t", "sub", "deny", **who)
            assert await may(c1, "t") == ""
            await add(v4, "t", "pubsub", "allow", **who)
            assert await may(c1, "t") == "ps"
            await add(v4, "t", "pubsub", "deny", **who)
            assert await may(c1, "t") == ""
            await v4.done("DELETE", f"{path}/topic/t")
            assert await may(c1, "t") == "ps"


@shows("POST /api/v4/acl")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_what_a_client_sees_of_it(level: int, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1, sub = await v4.live.connect("c1", level=level), await v4.live.connect("sub")
        await sub.subscribe("#")
        await v4.load()
        await add(v4, "no/#", "pubsub", "deny", clientid="c1")
        for topic in ("no/1", "yes/1", "no"):
            for qos in (0, 1, 2):
                await c1.publish(topic, b"x", qos)
        await c1.ping()
        await sub.ping()
        assert [getattr(packet, "topic_name", None) for packet in sub.inbox] == ["yes/1"] * 3
        if level > 3:  # MQTT 3.1 has no way to say no
            (code,) = (await c1.subscribe("no/+")).reason_codes
            assert code >= 0x80
        await v4.send("no/2")
        await c1.ping()
        assert not c1.inbox


@shows("POST /api/v4/acl")
async def test_who_comes_first(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1", username="u1")
        c2 = await v4.live.connect("c2", username="u1")
        c3 = await v4.live.connect("c3", username="u3")
        c4 = await v4.live.connect("c4")
        await v4.load()
        await add(v4, "t", "pub", "allow", clientid="c1")
        await add(v4, "t", "pub", "deny", username="u1")
        await add(v4, "t", "pub", "allow")
        await add(v4, "s", "pub", "deny", clientid="c3")
        await add(v4, "s", "pub", "allow", username="u3")
        await add(v4, "s", "pub", "deny")
        await add(v4, "r", "sub", "allow", username="u3")
        await add(v4, "r", "sub", "deny")
        assert [await may(client, "t") for client in (c1, c2, c3, c4)] == ["ps", "s", "ps", "ps"]
        assert [await may(client, "s") for client in (c1, c2, c3, c4)] == ["s"] * 4
        assert [await may(client, "r") for client in (c1, c2, c3, c4)] == ["p", "p", "ps", "p"]


@shows("POST /api/v4/acl")
@pytest.mark.parametrize("who", [{"clientid": "c1"}, {"username": "u1"}, {}])
async def test_the_newest_decides(who: dict[str, Any], autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1", username="u1")
        await v4.load()
        await add(v4, "a/+", "pub", "deny", **who)
        await add(v4, "a/b", "pub", "allow", **who)
        assert await may(c1, "a/b") == "ps"
        await add(v4, "a/+", "pub", "deny", **who)  # again: it is the newest now
        assert await may(c1, "a/b") == "s"
        await add(v4, "#", "pubsub", "allow", **who)
        assert await may(c1, "a/b") == "ps"
        await add(v4, "a/#", "sub", "deny", **who)
        assert await may(c1, "a/b") == "p"
        assert await may(c1, "a") == "p"


@shows("POST /api/v4/acl")
async def test_filters_and_placeholders(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1, c2 = await v4.live.connect("c1", username="u1"), await v4.live.connect("c2")
        await v4.load()
        await add(v4, "#", "pubsub", "deny")
        await add(v4, "of/%c/+", "pubsub", "allow")
        await add(v4, "of/%u/#", "pubsub", "allow")
        await add(v4, "part/x%c", "pubsub", "allow")
        for topic, first, second in (
            ("of/c1/x", "ps", ""),
            ("of/c2/x", "", "ps"),
            ("of/u1/x/y", "ps", ""),
            ("of/c1", "", ""),
            ("of/c1/x/y", "", ""),
            ("part/xc1", "", ""),
            ("of/%c/x", "", ""),
            ("of/undefined/x", "", ""),
        ):
            assert (await may(c1, topic), await may(c2, topic)) == (first, second), topic


@shows("POST /api/v4/acl")
async def test_a_filter_that_asks_for_more(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1")
        await v4.load()
        await add(v4, "#", "sub", "deny")
        await add(v4, "a/+", "sub", "allow")
        for topic_filter, allowed in (("a/b", True), ("a/+", True), ("a/#", False), ("+/b", False), ("#", False)):
            (code,) = (await c1.subscribe(topic_filter)).reason_codes
            assert (code < 0x80) == allowed, topic_filter
        (code,) = (await c1.subscribe("$share/g/a/b")).reason_codes
        assert code < 0x80
        (code,) = (await c1.subscribe("$share/g/b")).reason_codes
        assert code >= 0x80


@shows("POST /api/v4/acl")
async def test_rules_are_kept(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with version_4(store) as v4:
        await v4.load()
        await v4.done("POST", "/auth_clientid", {"clientid": "c1", "password": "p"})
        await add(v4, "a", "pub", "deny", clientid="c1")
        await add(v4, "a", "sub", "allow", username="u1")
        await add(v4, "b", "pubsub", "deny")
        rows = [(await v4.page(f"/acl/{kind}"))[0] for kind in ("clientid", "username", "$all")]
    async with version_4(store) as v4:
        assert [(await v4.page(f"/acl/{kind}"))[0] for kind in ("clientid", "username", "$all")] == rows
        c1 = await v4.live.connect("c1", password=b"p", username="u1")
        assert [await may(c1, topic) for topic in ("a", "b", "c")] == ["s", "", "ps"]
