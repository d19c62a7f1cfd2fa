"""Retained messages and documents when the broker was away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from actors.flows import payloads, rest, settle
from store.restart_world import WAYS, World, open_world, say
from trio.testing import MockClock

from trio_broker.protocol.packets import Properties
from trio_broker.store.operations import DeleteDocument, PutDocument


@pytest.fixture(params=WAYS, ids="-".join)
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    async with open_world(request.param, tmp_path, monkeypatch) as world:
        yield world


async def retained(world: World, topic_filter: str = "#") -> dict[str, bytes]:
    """What a new subscription gets."""
    async with world.client("look", clean_start=True, properties={}) as client:
        await client.subscribe(topic_filter, 2)
        found = await rest(client)
    assert all(message.retain for message in found)
    assert len({message.topic_name for message in found}) == len(found)
    return {message.topic_name: message.payload for message in found}


async def test_retained_messages_are_set_replaced_and_deleted(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-3.3.1-5 to 3.3.1-7] in one life of the broker or over several."""
    await say(world, b"1", topic="a", qos=0, retain=True)
    await say(world, b"1", topic="b", qos=1, retain=True)
    await say(world, b"1", topic="c/d", qos=2, retain=True)
    await say(world, b"1", topic="e", retain=True)
    await say(world, b"2", topic="e", retain=True)
    await say(world, b"1", topic="f", retain=True)
    await say(world, b"", topic="f", retain=True)
    await say(world, b"", topic="never", retain=True)
    await say(world, b"not kept", topic="a")
    await world.restart()
    assert await retained(world) == {"a": b"1", "b": b"1", "c/d": b"1", "e": b"2"}
    await say(world, b"", topic="b", retain=True)
    await say(world, b"2", topic="c/d", retain=True)
    await say(world, b"3", topic="f", qos=2, retain=True)
    await say(world, b"", topic="e", retain=True)
    await say(world, b"3", topic="e", retain=True)
    await world.restart()
    assert await retained(world) == {"a": b"1", "c/d": b"2", "e": b"3", "f": b"3"}
    await world.restart()
    assert (await world.broker.questions.stats())["retained.count"] == 4
    assert await world.rows("retained") == 4


async def test_rest_shows_the_same_retained_messages(world: World, autojump_clock: MockClock) -> None:
    async with world.client("publisher", username="user") as publisher:
        for topic in ("b", "a", "c"):
            await publisher.publish(topic, topic.encode(), 1, True)
            await trio.sleep(1)
    before = await world.broker.questions.retained(None, 0, 10)
    assert [row.topic_name for row in before[0]] == ["b", "a", "c"]
    one = await world.broker.questions.retained_message("a")
    await world.restart(away=100)
    assert await world.broker.questions.retained(None, 0, 10) == before
    assert await world.broker.questions.retained_message("a") == one


async def test_the_properties_of_a_retained_message_come_back(world: World, autojump_clock: MockClock) -> None:
    """With its QoS, and its expiry less by the time away."""
    properties: Properties = {
        "payload_format_indicator": 1,
        "message_expiry_interval": 100,
        "content_type": "c",
        "response_topic": "r",
        "correlation_data": b"\x00",
        "user_property": [("a", "1"), ("a", "0")],
    }
    async with world.client("publisher") as publisher:
        await publisher.publish("t", b"x", 2, True, properties)
    await world.restart(away=30)
    async with world.client("look") as client:
        await client.subscribe("t", 2)
        (message,) = await rest(client)
    assert (message.payload, message.qos, message.retain) == (b"x", 2, True)
    assert dict(message.properties) == {**properties, "message_expiry_interval": 70}


async def test_retained_messages_expire_while_no_broker_runs(world: World, autojump_clock: MockClock) -> None:
    async with world.client("publisher") as publisher:
        for seconds in (50, 150):
            expiry: Properties = {"message_expiry_interval": seconds}
            await publisher.publish(f"t/{seconds}", b"x", 1, True, expiry)
    await world.restart(away=51)
    assert await retained(world) == {"t/150": b"x"}
    assert await world.rows("retained") == 1
    await trio.sleep(100)
    assert await retained(world) == {}
    await world.restart()
    assert await retained(world) == {}


async def test_what_was_deleted_over_rest_stays_deleted(world: World, autojump_clock: MockClock) -> None:
    """One topic, those of a filter, all of them; and a topic may be set again."""
    topics = ("a", "b/1", "b/2", "c", "d")
    for topic in topics:
        await say(world, b"1", topic=topic, retain=True)
    assert await world.broker.questions.delete_retained("a") == 1
    assert await world.broker.questions.delete_retained("b/+") == 2
    await say(world, b"2", topic="a", retain=True)
    await world.restart()
    assert await retained(world) == {"a": b"2", "c": b"1", "d": b"1"}
    assert await world.broker.questions.delete_retained("c") == 1
    await world.restart()
    assert await retained(world) == {"a": b"2", "d": b"1"}
    assert await world.broker.questions.delete_retained(None) == 2
    await say(world, b"2", topic="d", retain=True)
    await world.restart()
    assert await retained(world) == {"d": b"2"}


async def test_the_last_message_of_a_burst_is_the_one_that_stays(world: World, autojump_clock: MockClock) -> None:
    """Also where all of them come in one piece."""
    async with world.client("publisher") as publisher:
        for payload in (b"1", b"", b"2", b"3"):
            await publisher.publish("t", payload, 0, True)
        for payload in (b"1", b""):
            await publisher.publish("u", payload, 0, True)
        await publisher.ping()
    await world.restart()
    assert await retained(world) == {"t": b"3"}


async def test_a_retained_message_from_before_the_clock_went_back_is_replaced(
    world: World, autojump_clock: MockClock
) -> None:
    """What is newer is decided by the order of arrival, not by the wall clock."""
    await say(world, b"1", topic="t", retain=True)
    await say(world, b"1", topic="u", retain=True)
    world.wall.ahead = -86_400
    await world.restart()
    await say(world, b"2", topic="t", retain=True)
    await say(world, b"", topic="u", retain=True)
    await world.restart()
    assert await retained(world) == {"t": b"2"}


async def test_a_new_session_gets_retained_messages_and_a_resumed_one_does_not(
    world: World, autojump_clock: MockClock
) -> None:
    """[MQTT-3.3.1-10, 3.3.1-11] retain handling 1 after a restart: the subscription is there already."""
    await say(world, b"x", retain=True)
    async with world.client("c") as client:
        await client.subscribe("t", 1, retain_handling=1)
        assert payloads(await rest(client)) == [b"x"]
        await world.restart()
    async with world.client("c") as client:
        await client.subscribe("t", 1, retain_handling=1)
        assert await rest(client) == []
        await client.subscribe("t", 1, retain_handling=0)
        assert payloads(await rest(client)) == [b"x"]


async def test_documents_come_back(world: World, autojump_clock: MockClock) -> None:
    """The last body of each; what was deleted is gone."""
    body = json.dumps({"who": "\u00e4\U0001f600"})
    world.store.write(PutDocument("banned", "a", "{}"), PutDocument("banned", "b", "{}"))
    await settle()
    await world.store.write(PutDocument("banned", "a", body), PutDocument("api_key", "a", "[]")).wait()
    await world.store.write(DeleteDocument("banned", "b"), DeleteDocument("banned", "never")).wait()
    for _ in range(2):
        await world.restart()
        found = [kept for kept in await world.kept() if isinstance(kept, PutDocument)]
        assert sorted(found, key=lambda kept: kept.kind) == [
            PutDocument("api_key", "a", "[]"),
            PutDocument("banned", "a", body),
        ]
