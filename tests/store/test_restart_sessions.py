"""What a client finds of its session when the broker was away: the session, its subscriptions, its expiry, its will."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from actors.flows import one, payloads, rest, settle
from store.restart_world import LONG, NEVER, WAYS, World, later, open_world, say
from trio.testing import MockClock

from trio_broker.protocol.packets import Properties, Publish, SubscribeFilter, Will

DAY = 86_400.0


@pytest.fixture(params=WAYS, ids="-".join)
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    async with open_world(request.param, tmp_path, monkeypatch) as world:
        yield world


def expiring(seconds: int) -> Properties:
    return {"session_expiry_interval": seconds}


# -- the session


@pytest.mark.parametrize("level", [3, 4, 5])
async def test_a_session_is_present_after_every_restart(world: World, autojump_clock: MockClock, level: int) -> None:
    """[MQTT-3.2.2-3] also after several in a row, connected or not when the broker ended."""
    async with world.client("c", level=level) as client:
        assert client.session_present is False
    for connected in (False, True, True, False, False):
        await world.restart(away=10)
        async with world.client("c", level=level) as client:
            if level > 3:  # CONNACK of MQTT 3.1 does not say it
                assert client.session_present
            if connected:
                await world.restart()
    assert await world.has_session("c")


@pytest.mark.parametrize("level", [4, 5])
async def test_a_session_that_ends_with_its_connection_is_not_there(
    world: World, autojump_clock: MockClock, level: int
) -> None:
    """[MQTT-3.1.2-6] whether its client had left, or was there when the broker ended."""
    async with world.client("left", level=level, clean_start=True, properties={}) as client:
        await client.subscribe("t", 1)
    async with world.client("stayed", level=level, clean_start=True, properties={}) as client:
        await client.subscribe("t", 1)
        await world.restart()
    for name in ("left", "stayed"):
        assert not await world.has_session(name)
        async with world.client(name, level=level) as client:
            assert not client.session_present
    assert await world.broker.questions.topics() == []


async def test_what_rest_shows_of_a_session_stays(world: World, autojump_clock: MockClock) -> None:
    async with world.client("c", username="somebody") as client:
        await client.subscribe("t", 1)
        await trio.sleep(50)
    await settle()
    before = await world.broker.questions.client("c")
    await world.restart(away=100)
    await world.restart(away=100)
    after = await world.broker.questions.client("c")
    assert before is not None
    assert after is not None
    assert (after.username, after.created_at, after.disconnected_at, after.expiry_interval) == (
        "somebody",
        before.created_at,
        before.disconnected_at,
        LONG["session_expiry_interval"],
    )
    assert not after.connected
    assert after.subscriptions_count == 1
    page = await world.broker.questions.stats()
    assert (page["sessions.count"], page["subscriptions.count"]) == (1, 1)


async def test_a_kicked_session_is_gone(world: World, autojump_clock: MockClock) -> None:
    for connected in (False, True):
        async with world.client("c") as client:
            await client.subscribe("t", 1)
            if connected:
                await world.broker.questions.kick("c")
        if not connected:
            await settle()
            await world.broker.questions.kick("c")
        await world.restart()
        assert not await world.has_session("c")


async def test_a_clean_start_leaves_nothing_of_the_old_session(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-4] neither subscriptions nor messages, whether the old one was away or is taken over."""
    await world.subscriber("c", "old")
    await say(world, b"1", topic="old")
    async with world.client("c", clean_start=True) as first:
        await first.subscribe("older", 1)
        async with world.client("c", clean_start=True) as client:
            await client.subscribe("new", 1)
    await world.restart()
    assert await world.broker.questions.topics() == ["new"]
    assert await later(world, "c") == []


async def test_from_clean_to_kept_and_back(world: World, autojump_clock: MockClock) -> None:
    """By takeover each time; what counts at the restart is the last one."""
    async with world.client("c", clean_start=True, properties={}) as first:
        await first.subscribe("first", 1)
        async with world.client("c") as second:
            assert not second.session_present
            await second.subscribe("second", 1)
            await world.restart()
    assert await world.broker.questions.topics() == ["second"]
    async with world.client("c") as third:
        assert third.session_present
        async with world.client("c", properties={}) as fourth:  # resumed, and ends with this connection
            assert fourth.session_present
            await fourth.subscribe("fourth", 1)
            assert len(await world.broker.questions.topics()) == 2
            await world.restart()
    await settle()
    assert not await world.has_session("c")
    assert await world.broker.questions.topics() == []
    await world.restart()
    async with world.client("c") as client:
        assert not client.session_present


async def test_a_session_ended_by_its_disconnect_is_gone(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-3.14.2-2] the interval of DISCONNECT counts, also a longer one."""
    for name, seconds in (("ends", 0), ("longer", 1000)):
        async with world.client(name, properties=expiring(100)) as client:
            await client.disconnect(properties=expiring(seconds))
    await world.restart(away=500)
    assert not await world.has_session("ends")
    assert await world.has_session("longer")


# -- subscriptions


async def test_subscriptions_come_back_with_their_options_and_in_their_order(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.client("c") as client:
        await client.subscribe("a", 1)
        await client.subscribe(
            "b/+", 2, no_local=True, retain_as_published=True, retain_handling=2, identifier=268_435_455
        )
        await client.subscribe("gone", 1)
        await client.subscribe([SubscribeFilter("c/#", 0, retain_handling=1), SubscribeFilter("$share/g/d", 2)])
        await client.subscribe("a", 2, identifier=3)  # takes the place of the first
        await client.unsubscribe("gone")
    await settle()
    before = await world.broker.questions.client_subscriptions("c")
    everywhere = await world.broker.questions.subscriptions()
    assert before is not None
    assert [row.topic_filter for row in before] == ["a", "b/+", "c/#", "$share/g/d"]
    for _ in range(3):
        await world.restart()
        assert await world.broker.questions.client_subscriptions("c") == before
        assert await world.broker.questions.subscriptions() == everywhere


async def test_a_filter_that_was_subscribed_anew_is_the_last(world: World, autojump_clock: MockClock) -> None:
    async with world.client("c") as client:
        for topic_filter in ("a", "b", "c"):
            await client.subscribe(topic_filter, 1)
        await client.unsubscribe("a")
        await client.subscribe("a", 1)
    await settle()
    before = await world.broker.questions.client_subscriptions("c")
    assert before is not None
    assert [row.topic_filter for row in before] == ["b", "c", "a"]
    await world.restart()
    assert await world.broker.questions.client_subscriptions("c") == before


async def test_the_options_of_subscriptions_have_their_effect(world: World, autojump_clock: MockClock) -> None:
    """No local, retain as published, and the identifiers of all filters that match; no retained messages again."""
    await say(world, b"kept", retain=True)
    await world.subscriber("c", "t", 1, no_local=True, identifier=1)
    await world.subscriber("c", "t/#", 2, retain_as_published=True, identifier=2)
    await world.subscriber("c", "own", 1, no_local=True)
    assert payloads(await later(world, "c")) == [b"kept", b"kept"]
    await world.restart()
    async with world.client("c") as client:
        assert await rest(client) == []
        await client.publish("own", b"own", 1)
        await say(world, b"x", qos=2, retain=True)
        found = await rest(client)
        assert [(message.payload, message.qos, message.retain) for message in found] == [(b"x", 2, True)]
        assert sorted(found[0].properties["subscription_identifier"]) == [1, 2]


async def test_members_of_a_group_are_away_until_they_are_back_and_then_take_turns(
    world: World, autojump_clock: MockClock
) -> None:
    """[MQTT 5.0 section 4.8.2] who is connected is preferred; afterwards it is round-robin."""
    for name in ("one", "two"):
        await world.subscriber(name, "$share/g/t", 1)
    async with world.client("away") as client:
        await client.subscribe("$share/g/t", 1)
        await world.restart()
    async with world.client("one") as first:
        await say(world, b"1", b"2", b"3")
        assert payloads(await rest(first)) == [b"1", b"2", b"3"]
        async with world.client("two") as second:
            await say(world, *(b"%d" % number for number in range(10)))
            assert len(await rest(first)) == len(await rest(second)) == 5
    await settle()
    assert await later(world, "away") == []


async def test_a_group_of_members_that_are_all_away_loses_nothing(world: World, autojump_clock: MockClock) -> None:
    for name in ("one", "two"):
        await world.subscriber(name, "$share/g/t", 1)
    await world.restart()
    await say(world, *(b"%d" % number for number in range(10)))
    await world.restart()
    found = [payloads(await later(world, name)) for name in ("one", "two")]
    assert sorted(found[0] + found[1]) == [b"%d" % number for number in range(10)]


# -- session expiry


async def test_a_session_expires_by_the_wall_clock_from_its_disconnect_on(
    world: World, autojump_clock: MockClock
) -> None:
    """The time while no broker runs counts as any other."""
    await world.subscriber("c", properties=expiring(100))
    await trio.sleep(40)
    await world.restart(away=50)
    assert await world.has_session("c")
    await trio.sleep(5)
    await world.restart()
    assert await world.has_session("c")
    await trio.sleep(6)
    assert not await world.has_session("c")


async def test_a_session_that_expired_meanwhile_is_gone(world: World, autojump_clock: MockClock) -> None:
    await world.subscriber("c", properties=expiring(100))
    await say(world, b"x")
    await trio.sleep(40)
    await world.restart(away=61)
    async with world.client("c") as client:
        assert not client.session_present
        assert await rest(client) == []
    await settle()
    assert await world.broker.questions.topics() == []
    for table in ("sub", "q", "msg"):
        assert await world.rows(table) == 0
    await world.restart()
    assert await world.broker.questions.topics() == []


async def test_the_absence_of_who_was_connected_begins_with_the_restart(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.client("c", properties=expiring(100)):
        await trio.sleep(1000)
        await world.restart(away=1000)
    await trio.sleep(60)
    await world.restart(away=30)
    assert await world.has_session("c")
    await trio.sleep(11)
    assert not await world.has_session("c")


async def test_a_session_that_never_expires_is_there_after_years(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-23] 0xFFFFFFFF."""
    await world.subscriber("c", properties=expiring(NEVER))
    async with world.client("connected", properties=expiring(NEVER)):
        await world.restart(away=200 * 365 * DAY)
    await world.restart()
    await trio.sleep(200 * 365 * DAY)
    async with world.client("c") as client:
        assert client.session_present
    assert await world.has_session("connected")


async def test_a_session_is_not_kept_longer_than_its_interval_when_the_clock_went_back(
    world: World, autojump_clock: MockClock
) -> None:
    await world.subscriber("c", properties=expiring(100))
    world.wall.ahead = -DAY
    await world.restart()
    await trio.sleep(99)
    assert await world.has_session("c")
    await trio.sleep(2)
    assert not await world.has_session("c")


async def test_message_ids_and_stamps_never_go_back_with_the_clock(world: World, autojump_clock: MockClock) -> None:
    """REST pages through a queue by them."""
    await world.subscriber("c")
    await say(world, b"1", b"2")
    world.wall.ahead = -DAY
    await world.restart()
    await say(world, b"3", b"4")
    rows = await world.queue("c")
    assert [row.payload for row in rows] == [b"1", b"2", b"3", b"4"]
    for key in ("message_id", "inserted_at_ns"):
        keys = [getattr(row, key) for row in rows]
        assert keys == sorted(set(keys))


# -- wills


def will_of(delay: int | None = None, payload: bytes = b"will", qos: int = 2, retain: bool = False) -> Will:
    return Will("w", payload, qos, retain, {} if delay is None else {"will_delay_interval": delay})


async def drop_out(world: World, will: Will, expiry: int = 100_000) -> None:
    """A client that is there when the broker ends."""
    async with world.client("dying", will=will, properties=expiring(expiry)):
        await world.restart()


@pytest.mark.parametrize("level", [4, 5])
async def test_the_will_of_who_was_connected_is_published_after_the_restart(
    world: World, autojump_clock: MockClock, level: int
) -> None:
    """[MQTT-3.1.2-8] its connection ended without DISCONNECT; once, however many restarts there are."""
    await world.subscriber("heir", "w")
    async with world.client("dying", will=will_of(), level=level):
        await world.restart()
    await settle()
    await world.restart()
    await world.restart()
    assert payloads(await later(world, "heir")) == [b"will"]
    await world.restart()
    assert await later(world, "heir") == []


async def test_a_will_is_published_as_it_was_meant(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-14] with its QoS, RETAIN and properties; its expiry begins with its publication."""
    properties: Properties = {
        "will_delay_interval": 50,
        "message_expiry_interval": 30,
        "content_type": "text/plain",
        "response_topic": "r",
        "correlation_data": b"\x00\xff",
        "payload_format_indicator": 1,
        "user_property": [("a", "1"), ("a", "2")],
    }
    async with world.client("dying", will=Will("w", b"will", 1, True, properties), username="user"):
        await world.restart(away=1000)
    await trio.sleep(51)
    row = await world.broker.questions.retained_message("w")
    assert row is not None
    assert (row.from_client_id, row.from_username, row.qos) == ("dying", "user", 1)
    async with world.client("heir") as client:
        await client.subscribe("w", 2)
        message = await one(client)
    wanted = {**properties, "message_expiry_interval": 29}
    del wanted["will_delay_interval"]
    assert message == Publish("w", b"will", 1, True, False, message.packet_identifier, message.properties)
    assert dict(message.properties) == wanted


async def test_a_delayed_will_waits_after_the_restart(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-3.1.3-9] for who was connected the delay begins with the restart."""
    await world.subscriber("heir", "w")
    await drop_out(world, will_of(10))
    await trio.sleep(9)
    assert await world.queue("heir") == []
    await trio.sleep(2)
    assert [row.payload for row in await world.queue("heir")] == [b"will"]


async def test_who_is_back_before_the_delay_has_no_will_published(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-3.1.3-9]"""
    await world.subscriber("heir", "w")
    await drop_out(world, will_of(10))
    await trio.sleep(9)
    async with world.client("dying") as client:
        assert client.session_present
        await trio.sleep(100)
        await world.restart()  # this connection had no will
    await trio.sleep(100)
    assert await later(world, "heir") == []


async def test_the_delay_of_a_will_runs_while_no_broker_does(world: World, autojump_clock: MockClock) -> None:
    await world.subscriber("heir", "w")
    async with world.client("dying", will=will_of(100)) as client:
        await client.drop()
    await trio.sleep(40)
    await world.restart(away=50)
    assert await world.queue("heir") == []
    await trio.sleep(11)
    assert len(await world.queue("heir")) == 1
    await world.restart(away=1000)
    assert payloads(await later(world, "heir")) == [b"will"]


async def test_a_will_is_not_later_than_its_delay_when_the_clock_went_back(
    world: World, autojump_clock: MockClock
) -> None:
    await world.subscriber("heir", "w")
    async with world.client("dying", will=will_of(100)) as client:
        await client.drop()
    await settle()
    world.wall.ahead = -DAY
    await world.restart()
    await trio.sleep(101)
    assert payloads(await later(world, "heir")) == [b"will"]


async def test_the_end_of_a_session_publishes_its_will(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-8] where the delay is longer than the session; also when that expired while no broker ran."""
    await world.subscriber("heir", "w")
    await drop_out(world, will_of(1000), expiry=100)
    await trio.sleep(99)
    assert await world.queue("heir") == []
    await world.restart(away=2)
    assert payloads(await later(world, "heir")) == [b"will"]
    assert not await world.has_session("dying")


async def test_who_said_goodbye_has_no_will_published(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-3.14.4-3]"""
    await world.subscriber("heir", "w")
    async with world.client("c", will=will_of()):
        await settle()
    await world.restart()
    await trio.sleep(100)
    assert await later(world, "heir") == []


async def test_a_new_connection_replaces_the_will(world: World, autojump_clock: MockClock) -> None:
    await world.subscriber("heir", "w")
    async with world.client("c", will=will_of(payload=b"old", delay=1000)) as client:
        await client.drop()
    async with world.client("c", will=will_of(payload=b"new")):
        await world.restart()
    await trio.sleep(2000)
    assert payloads(await later(world, "heir")) == [b"new"]


async def test_a_will_that_was_published_is_not_published_again(world: World, autojump_clock: MockClock) -> None:
    """Its publication and the note of it are durable together."""
    await world.subscriber("heir", "w")
    async with world.client("c", will=will_of()) as client:
        await client.drop()
    await settle()
    assert len(await world.queue("heir")) == 1
    await world.restart()
    await world.restart()
    assert payloads(await later(world, "heir")) == [b"will"]


async def test_the_will_of_a_session_without_a_future_is_kept_for_others(
    world: World, autojump_clock: MockClock
) -> None:
    """The graceful end publishes it, as nobody else will; a crash takes it with the session."""
    await world.subscriber("heir", "w")
    async with world.client("c", will=will_of(), properties={}):
        await world.restart()
    found = payloads(await later(world, "heir"))
    assert found == [b"will"] if world.way[1] == "close" else found in ([], [b"will"])
