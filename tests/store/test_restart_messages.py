"""Which messages a client gets, and gets again, when the broker was away: queue, inflight window, QoS 2 both ways."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from actors.flows import expect, numbers, one, payloads, rest, settle, take
from store.restart_world import WAYS, World, inbox, later, many, open_world, say, steps
from trio.testing import MockClock

from trio_broker.protocol.packets import Properties, PubComp, Publish, PubRec, PubRel
from trio_broker.testing import Client


@pytest.fixture(params=[way for way in WAYS if way[1] != "cancel"], ids="-".join)
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    async with open_world(request.param, tmp_path, monkeypatch) as world:
        yield world


# -- the queue


@pytest.mark.parametrize("level", [4, 5])
async def test_a_queue_comes_back_in_its_order(world: World, autojump_clock: MockClock, level: int) -> None:
    """QoS 1 and 2 mixed, from several publishers, before and after several restarts."""
    async with world.client("c", level=level) as client:
        await client.subscribe("#", 2)
    wanted: list[tuple[str, bytes, int]] = []
    for turn in range(4):
        for number in range(10):
            message = (f"t/{number % 3}", b"%d" % (turn * 10 + number), 1 + number % 2)
            wanted.append(message)
            await say(world, message[1], topic=message[0], qos=message[2])
        await world.restart()
    found = await later(world, "c", level=level)
    assert [(message.topic_name, message.payload, message.qos) for message in found] == wanted
    assert not any(message.dup for message in found)
    assert await later(world, "c", level=level) == []


async def test_the_properties_of_a_message_come_back(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-4, 3.3.2-15 to 3.3.2-18, 3.3.2-20] as they were, user properties in their order."""
    properties: Properties = {
        "payload_format_indicator": 1,
        "content_type": "text/plain; charset=utf-8",
        "response_topic": "answers/\u00e4",
        "correlation_data": bytes(range(256)),
        "user_property": [("b", "1"), ("a", ""), ("b", "1"), ("\u20ac", "\U0001f600")],
    }
    await world.subscriber("c", "t", 1, identifier=268_435_455)
    async with world.client("publisher") as publisher:
        await publisher.publish("t", b"\x00\xff", 1, properties=properties)
        await publisher.publish("t", b"", 1)
    await world.restart()
    await world.restart()
    first, second = await later(world, "c")
    assert dict(first.properties) == {**properties, "subscription_identifier": [268_435_455]}
    assert first.payload == b"\x00\xff"
    assert dict(second.properties) == {"subscription_identifier": [268_435_455]}
    assert second.payload == b""


async def test_the_expiry_is_less_by_the_time_away(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-5, 3.3.2-6] the time while no broker ran counts; what expired meanwhile is sent to nobody."""
    await world.subscriber("c", "t", 1)
    async with world.client("publisher") as publisher:
        for seconds in (100, 40, 1000):
            properties: Properties = {"message_expiry_interval": seconds}
            await publisher.publish("t", b"%d" % seconds, 1, properties=properties)
    await trio.sleep(20)
    await world.restart(away=30)
    await trio.sleep(10)
    found = await later(world, "c")
    assert [(message.payload, message.properties["message_expiry_interval"]) for message in found] == [
        (b"100", 40),
        (b"1000", 940),
    ]


async def test_no_message_lives_longer_than_it_was_given_when_the_clock_went_back(
    world: World, autojump_clock: MockClock
) -> None:
    """[MQTT-3.3.2-6] what is sent is never more than what the publisher said."""
    await world.subscriber("c", "t", 1)
    async with world.client("publisher") as publisher:
        await publisher.publish("t", b"x", 1, properties={"message_expiry_interval": 100})
    await settle()
    world.wall.ahead = -86_400
    await world.restart()
    (message,) = await later(world, "c")
    assert 0 < message.properties["message_expiry_interval"] <= 100


async def test_inflight_messages_are_sent_again_with_what_is_left_of_their_expiry(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.client("c", auto_ack=False) as client:
        await client.subscribe("t", 1)
        async with world.client("publisher") as publisher:
            await publisher.publish("t", b"x", 1, properties={"message_expiry_interval": 100})
        assert (await one(client)).properties["message_expiry_interval"] == 100
        await world.restart(away=30)
    (again,) = await later(world, "c")
    assert again.dup
    assert again.properties["message_expiry_interval"] == 70


async def test_the_retain_flag_comes_back(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-3.3.1-12, 3.3.1-13] only where the subscription keeps it."""
    await world.subscriber("as published", "t", 1, retain_as_published=True)
    await world.subscriber("other", "t", 1)
    await say(world, b"1", retain=True)
    await say(world, b"2")
    await world.restart()
    assert [message.retain for message in await later(world, "as published")] == [True, False]
    assert [message.retain for message in await later(world, "other")] == [False, False]


async def test_rest_shows_the_same_messages_after_a_restart(world: World, autojump_clock: MockClock) -> None:
    """Their ids, times, publishers and payloads; those inflight, too."""
    world.settings["max_inflight"] = 2
    await world.restart()
    async with world.client("c", auto_ack=False) as client:
        await client.subscribe("t", 2)
        async with world.client("publisher", username="user") as publisher:
            for payload in numbers(6):
                await publisher.publish("t", payload, 1 + int(payload) % 2)
                await trio.sleep(1)
        await settle()
        mqueue, inflight = await world.queue("c"), await world.inflight("c")
        assert [row.payload for row in inflight + mqueue] == numbers(6)
        assert {(row.from_client_id, row.from_username) for row in mqueue} == {("publisher", "user")}
        await world.restart(away=100)
    for _ in range(2):
        assert await world.queue("c") == mqueue
        assert await world.inflight("c") == inflight
        await world.restart()
    info = await world.broker.questions.client("c")
    assert info is not None
    assert (info.mqueue_len, info.inflight_count) == (4, 2)


async def test_what_was_queued_without_qos_is_not_kept(world: World, autojump_clock: MockClock) -> None:
    """QoS 0 waits in memory only; the others around it lose nothing."""
    await world.subscriber("c")
    for payload in numbers(6):
        await say(world, payload, qos=int(payload) % 3)
    assert [row.payload for row in await world.queue("c")] == numbers(6)
    await world.restart()
    assert sorted(payloads(await later(world, "c"))) == [b"1", b"2", b"4", b"5"]


async def test_a_message_of_many_sessions_is_kept_until_the_last_has_it(
    world: World, autojump_clock: MockClock
) -> None:
    """Also where some of them end, or take theirs, between restarts; then nothing of it is left."""
    names = [f"c{number}" for number in range(5)]
    for name in names:
        await world.subscriber(name, "t", 1)
    await say(world, b"x")
    await world.restart()
    await world.broker.questions.kick("c0")
    assert payloads(await later(world, "c1")) == [b"x"]
    await world.restart()
    await say(world, b"y")
    await world.restart()
    assert payloads(await later(world, "c2")) == [b"x", b"y"]
    async with world.client("c3", clean_start=True):
        await settle()
    await world.restart()
    assert payloads(await later(world, "c4")) == [b"x", b"y"]
    assert payloads(await later(world, "c1")) == [b"y"]
    for table in ("q", "msg"):
        assert await world.rows(table) == 0


# -- inflight


async def test_what_was_not_acknowledged_comes_again(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-4.4.0-1, 3.3.1-1] first, with DUP and the same identifiers, in the same order."""
    async with world.client("c", auto_ack=False) as client:
        await client.subscribe("t", 2)
        for payload in numbers(6):
            await say(world, payload, qos=1 + int(payload) % 2)
        first = await rest(client)
        assert [message.dup for message in first] == [False] * 6
        client.acknowledge(first[2])
        await world.restart()
    await say(world, b"6")
    for _ in range(2):
        async with world.client("c", auto_ack=False) as client:
            again = await rest(client)
            await world.restart()
    wanted = [message for message in first if message is not first[2]]
    assert payloads(again) == [*payloads(wanted), b"6"]
    assert [message.packet_identifier for message in again[:-1]] == [message.packet_identifier for message in wanted]
    assert again[-1].packet_identifier not in [message.packet_identifier for message in wanted]
    assert [message.dup for message in again] == [True] * 6  # the last was sent before, too
    assert [message.qos for message in again] == [1, 2, 2, 1, 2, 1]


async def test_a_message_is_new_the_first_time_also_after_a_restart(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-3.3.1-2] DUP 0; its identifier is none of those in use."""
    async with world.client("c", auto_ack=False) as client:
        await client.subscribe("t", 2)
        await say(world, *numbers(3), qos=2)
        first = await rest(client)
        await world.restart()
    async with world.client("c", auto_ack=False) as client:
        assert len(await rest(client)) == 3
        await say(world, b"new", qos=2)
        new = await one(client)
    assert not new.dup
    assert new.packet_identifier not in [message.packet_identifier for message in first]


async def test_after_pubrec_pubrel_comes_again_and_never_the_message(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-4.3.3-7, 4.4.0-1] until PUBCOMP."""
    async with world.client("c", auto_ack=False) as client:
        await client.subscribe("t", 2)
        await say(world, b"1", b"2", b"3", qos=2)
        one_, two, three = await rest(client)
        for message in (one_, two):
            await client.send(PubRec(message.packet_identifier))
        assert steps(await inbox(client)) == [
            ("PUBREL", one_.packet_identifier, 0),
            ("PUBREL", two.packet_identifier, 0),
        ]
        await client.send(PubComp(one_.packet_identifier))
        await world.restart()
    for _ in range(2):
        async with world.client("c", auto_ack=False) as client:
            assert steps(await inbox(client)) == [
                ("PUBREL", two.packet_identifier, 0),
                ("PUBLISH DUP", three.packet_identifier, b"3"),
            ]
            await world.restart()
    async with world.client("c", auto_ack=False) as client:
        await inbox(client)
        await client.send(PubComp(two.packet_identifier))
        await client.send(PubRec(three.packet_identifier))
        assert steps(await inbox(client)) == [("PUBREL", three.packet_identifier, 0)]
        await client.send(PubComp(three.packet_identifier))
        await world.restart()
    assert await later(world, "c") == []
    assert await world.rows("q") == await world.rows("msg") == 0


async def test_a_refusing_pubrec_is_the_end_of_the_message(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-4.4.0-2] also after the restart."""
    async with world.client("c", auto_ack=False) as client:
        await client.subscribe("t", 2)
        await say(world, b"1", qos=2)
        message = await one(client)
        await client.send(PubRec(message.packet_identifier, 0x97))
        await world.restart()
    assert await later(world, "c") == []


async def test_the_window_after_a_restart_is_that_of_the_new_connection(
    world: World, autojump_clock: MockClock
) -> None:
    """[MQTT-3.3.4-9] a smaller receive maximum than before holds back what was inflight."""
    async with world.client("c", auto_ack=False) as client:
        await client.subscribe("t", 2)
        await say(world, *numbers(10))
        assert len(await rest(client)) == 10
        await world.restart()
    small: Properties = {"session_expiry_interval": 1000, "receive_maximum": 3}
    async with world.client("c", auto_ack=False, properties=small) as client:
        found = await rest(client)
        assert payloads(found) == numbers(3)
        for message in found:
            client.acknowledge(message)
        assert payloads(await rest(client)) == numbers(3, 3)
    assert payloads(await later(world, "c")) == numbers(7, 3)


async def test_acknowledged_messages_do_not_come_again(world: World, autojump_clock: MockClock) -> None:
    async with world.client("c") as client:
        await client.subscribe("t", 2)
        for payload in numbers(10):
            await say(world, payload, qos=1 + int(payload) % 2)
        assert payloads(await rest(client)) == numbers(10)
        await world.restart()
    assert await later(world, "c") == []
    assert await world.rows("q") == await world.rows("msg") == 0


# -- QoS 2 from the client


def publish(identifier: int, payload: bytes, dup: bool = False) -> Publish:
    return Publish("t", payload, 2, False, dup, identifier)


@pytest.mark.parametrize("level", [4, 5])
async def test_a_message_that_comes_again_after_pubrec_is_not_delivered_again(
    world: World, autojump_clock: MockClock, level: int
) -> None:
    """[MQTT-4.3.3-10] over restarts; after PUBCOMP the identifier stands for a new message [MQTT-4.3.3-12]."""
    await world.subscriber("c")
    async with world.client("p", level=level) as client:
        await client.send(publish(7, b"first"))
        assert (await expect(client, PubRec)).reason_code == 0
        await world.restart()
    for _ in range(2):
        async with world.client("p", level=level) as client:
            assert client.session_present
            await client.send(publish(7, b"first", dup=True))
            assert (await expect(client, PubRec)).reason_code == 0
            await world.restart()
    async with world.client("p", level=level) as client:
        await client.send(PubRel(7))
        assert (await expect(client, PubComp)).reason_code == 0
        await world.restart()
    async with world.client("p", level=level) as client:
        await client.send(publish(7, b"second"))
        await expect(client, PubRec)
        await client.send(PubRel(7))
        await expect(client, PubComp)
    assert payloads(await later(world, "c")) == [b"first", b"second"]


async def test_pubrel_is_answered_after_a_restart(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-4.3.3-11] once as known; then, if PUBCOMP was lost, as not found, which ends it, too."""
    async with world.client("p") as client:
        await client.send(publish(1, b"x"))
        await expect(client, PubRec)
        await world.restart()
    async with world.client("p") as client:
        await client.send(PubRel(1))
        assert (await expect(client, PubComp)).reason_code == 0
        await world.restart()
    async with world.client("p") as client:
        await client.send(PubRel(1))
        assert (await expect(client, PubComp)).reason_code == 0x92
    info = await world.broker.questions.client("p")
    assert info is not None
    assert info.awaiting_rel_count == 0
    assert await world.rows("received") == 0


async def test_identifiers_between_publish_and_pubrel_are_no_business_of_a_new_session(
    world: World, autojump_clock: MockClock
) -> None:
    await world.subscriber("c")
    async with world.client("p") as client:
        await client.send(publish(1, b"x"))
        await expect(client, PubRec)
        await world.restart()
    async with world.client("p", clean_start=True) as client:
        await client.send(publish(1, b"y"))
        await expect(client, PubRec)
        await world.restart()
    async with world.client("p") as client:
        await client.send(publish(1, b"y", dup=True))
        await expect(client, PubRec)
    assert payloads(await later(world, "c")) == [b"x", b"y"]


# -- all of it together


async def some(client: Client, dice: random.Random, got: list[bytes]) -> None:
    """Take some of what there is; messages that were taken are acknowledged."""
    await settle()
    waiting = sum(isinstance(packet, Publish) for packet in client.inbox)
    got += payloads(await take(client, dice.randint(0, waiting)))
    await settle()


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_lost_or_doubled_over_many_restarts(
    world: World, autojump_clock: MockClock, seed: int
) -> None:
    """QoS 2 exactly once and in order, QoS 1 at least once, with clients that come, go, and stay."""
    dice = random.Random(seed)
    world.settings["max_inflight"] = 5
    await world.restart()
    for qos in (1, 2):
        await world.subscriber(f"q{qos}", f"t{qos}", qos)
    got: dict[int, list[bytes]] = {1: [], 2: []}
    count = 0
    for _ in range(12):
        async with world.client("q1") as first, world.client("q2") as second:
            for _ in range(3):
                size = dice.randint(0, 8)
                for qos in (1, 2):
                    await many(world, size, start=count, qos=qos, topic=f"t{qos}")
                count += size
                await some(first, dice, got[1])
                await some(second, dice, got[2])
            if dice.random() < 0.5:
                await world.restart()
        await world.restart()
    got[1] += payloads(await later(world, "q1"))
    got[2] += payloads(await later(world, "q2"))
    assert got[2] == numbers(count)
    assert list(dict.fromkeys(got[1])) == numbers(count)
    assert await world.rows("q") == await world.rows("msg") == 0
