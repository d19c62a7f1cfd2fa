"""What leaves only after the commit: acknowledgements of what outlives a connection, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from actors.flows import expect, numbers, one, payloads, rest, settle, take
from store.failure_store import Gate
from store.restart_world import World, inbox, later, open_world, say, steps
from trio.testing import MockClock

from trio_broker.protocol.packets import (
    ConnAck,
    Connect,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscribeFilter,
    UnsubAck,
    Unsubscribe,
)
from trio_broker.store.sqlite import SqliteStore

LEVELS = pytest.mark.parametrize("level", [4, 5])


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with open_world(("sqlite", "kill"), tmp_path, monkeypatch) as world:
        yield world


@pytest.fixture
def gate(world: World, monkeypatch: pytest.MonkeyPatch) -> Gate:
    assert isinstance(world.store, SqliteStore)
    return Gate(world.store, monkeypatch)


def publish(identifier: int, payload: bytes = b"x", qos: int = 1, topic: str = "t", retain: bool = False) -> Publish:
    return Publish(topic, payload, qos, retain, False, identifier)


# -- what waits


@LEVELS
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_message_for_a_kept_session_is_acknowledged_after_the_commit(
    world: World, gate: Gate, autojump_clock: MockClock, level: int, qos: int
) -> None:
    """PUBACK and PUBREC, in the order of the messages; a publisher without a session of its own waits as well."""
    await world.subscriber("c", "t", qos)
    async with world.client("p", clean_start=True, properties={}, level=level) as client:
        gate.shut()
        for number in (3, 1, 2):
            await client.send(publish(number, qos=qos))
            assert await inbox(client) == []
        await gate.open()
        wanted = PubAck if qos == 1 else PubRec
        assert await inbox(client) == [wanted(3), wanted(1), wanted(2)]


@LEVELS
async def test_the_message_of_an_acknowledgement_survives_a_kill(
    world: World, gate: Gate, autojump_clock: MockClock, level: int
) -> None:
    """And what was not acknowledged is not there, but comes again from its publisher."""
    await world.subscriber("c", "t", 2)
    async with world.client("p", level=level) as client:
        await client.send(publish(1, b"1", 2))
        await expect(client, PubRec)
        gate.shut()
        await client.send(publish(2, b"2", 2))
        assert await inbox(client) == []
        await world.restart()
    async with world.client("p", level=level) as client:
        for number in (1, 2):
            await client.send(Publish("t", b"%d" % number, 2, False, True, number))
            await expect(client, PubRec)
    assert payloads(await later(world, "c")) == [b"1", b"2"]


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_retained_message_is_acknowledged_after_the_commit(
    world: World, gate: Gate, autojump_clock: MockClock, qos: int
) -> None:
    """Also where nobody is subscribed, and where it deletes what was retained."""
    async with world.client("p", clean_start=True, properties={}) as client:
        gate.shut()
        await client.send(publish(1, b"x", qos, retain=True))
        await client.send(publish(2, b"", qos, retain=True))
        assert await inbox(client) == []
        await gate.open()
        assert [step[1] for step in steps(await inbox(client))] == [1, 2]


async def test_a_message_for_a_group_waits_where_its_member_is_kept(
    world: World, gate: Gate, autojump_clock: MockClock
) -> None:
    await world.subscriber("c", "$share/g/t", 1)
    async with world.client("p", clean_start=True, properties={}) as client:
        gate.shut()
        await client.send(publish(1))
        assert await inbox(client) == []
        await gate.open()
        assert await inbox(client) == [PubAck(1)]


@LEVELS
async def test_qos_2_of_a_kept_publisher_waits_with_its_identifier(
    world: World, gate: Gate, autojump_clock: MockClock, level: int
) -> None:
    """PUBREC and PUBCOMP, although nobody is subscribed; a PUBLISH that comes again is answered no earlier."""
    async with world.client("p", level=level) as client:
        gate.shut()
        await client.send(publish(1, qos=2))
        await client.send(Publish("t", b"x", 2, False, True, 1))
        assert await inbox(client) == []
        await gate.open()
        assert [step[:2] for step in steps(await inbox(client))] == [("PUBREC", 1), ("PUBREC", 1)]
        gate.shut()
        await client.send(PubRel(1))
        assert await inbox(client) == []
        await gate.open()
        assert await inbox(client) == [PubComp(1)]


@LEVELS
async def test_qos_2_to_a_kept_subscriber_waits_at_each_step(
    world: World, gate: Gate, autojump_clock: MockClock, level: int
) -> None:
    """PUBLISH for the identifier that it uses, PUBREL for the PUBREC that it answers."""
    async with world.client("c", level=level, auto_ack=False) as client:
        await client.subscribe("t", 2)
        async with world.client("p", clean_start=True, properties={}) as publisher:
            gate.shut()
            for number in (1, 2):
                await publisher.send(publish(number, b"%d" % number, 2))
            assert await inbox(client) == []
            await gate.open()
            first, second = (packet for packet in await inbox(client) if isinstance(packet, Publish))
            assert payloads([first, second]) == [b"1", b"2"]
        gate.shut()
        await client.send(PubRec(second.packet_identifier))
        await client.send(PubRec(first.packet_identifier))
        assert await inbox(client) == []
        await gate.open()
        assert await inbox(client) == [PubRel(second.packet_identifier), PubRel(first.packet_identifier)]


@LEVELS
async def test_suback_and_unsuback_of_a_kept_session_wait(
    world: World, gate: Gate, autojump_clock: MockClock, level: int
) -> None:
    """And those of retained messages, which follow SUBACK."""
    await say(world, b"kept", retain=True)
    async with world.client("c", level=level) as client:
        gate.shut()
        await client.send(Subscribe(1, [SubscribeFilter("u", 1)]))
        await client.send(Subscribe(2, [SubscribeFilter("v", 2), SubscribeFilter("w", 0)]))
        await client.send(Unsubscribe(3, ["v"]))
        assert await inbox(client) == []
        await gate.open()
        found = await inbox(client)
        assert [type(packet) for packet in found] == [SubAck, SubAck, UnsubAck]
    await world.restart()
    assert sorted(await world.broker.questions.topics()) == ["u", "w"]


def connect(level: int, clean_start: bool, kept: bool) -> Connect:
    properties = {"session_expiry_interval": 1000} if kept and level == 5 else {}
    return Connect("c", level, clean_start, properties=properties)  # type: ignore[arg-type]


@LEVELS
@pytest.mark.parametrize(
    ("was_there", "clean_start", "kept"),
    [(False, False, True), (True, False, True), (True, True, False)],
    ids=["new", "resumed", "discarded"],
)
async def test_connack_of_a_kept_session_waits(
    world: World, gate: Gate, autojump_clock: MockClock, level: int, was_there: bool, clean_start: bool, kept: bool
) -> None:
    """Also where it says that there is no session any more."""
    if was_there:
        await world.subscriber("c", "t", 1)
        await say(world, b"1")
    gate.shut()
    async with world.client("c", connect=False, level=level) as client:
        await client.send(connect(level, clean_start, kept))
        assert await inbox(client) == []
        await gate.open()
        packets = await inbox(client)
        assert isinstance(packets[0], ConnAck)
        assert packets[0].reason_code == 0
        assert packets[0].session_present is (was_there and not clean_start)
        messages = [packet for packet in packets[1:] if isinstance(packet, Publish)]
        assert payloads(messages) == ([b"1"] if was_there and not clean_start else [])


async def test_each_commit_frees_what_waited_for_it(world: World, gate: Gate, autojump_clock: MockClock) -> None:
    """And not what came after it had begun."""
    await world.subscriber("c", "t", 1)
    async with world.client("p") as first, world.client("q", clean_start=True, properties={}) as second:
        gate.shut()
        await first.send(publish(1))
        await settle()
        await first.send(publish(2))
        await second.send(publish(3))
        assert await inbox(first) == await inbox(second) == []
        await gate.step()
        assert await inbox(first) == [PubAck(1)]
        assert await inbox(second) == []
        await gate.step()
        assert await inbox(first) == [PubAck(2)]
        assert await inbox(second) == [PubAck(3)]


async def test_rest_waits_for_the_commit(world: World, gate: Gate, autojump_clock: MockClock) -> None:
    """Of a message that a session keeps, and of a retained message that is deleted."""
    await world.subscriber("c", "t", 1)
    done: list[str] = []

    async def send() -> None:
        await world.broker.publish("t", b"x", qos=1)
        done.append("published")

    async def delete() -> None:
        await world.broker.questions.delete_retained(None)
        done.append("deleted")

    await say(world, b"x", topic="u", retain=True)
    gate.shut()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(delete)
        await settle()
        assert done == []
        await world.broker.publish("t", b"x", qos=0)
        await world.broker.publish("nobody", b"x", qos=1)
        await gate.open()
    assert sorted(done) == ["deleted", "published"]


# -- what does not wait


@LEVELS
async def test_what_concerns_no_kept_session_is_answered_at_once(
    world: World, gate: Gate, autojump_clock: MockClock, level: int
) -> None:
    """While the store has more than enough to do for others."""
    await world.subscriber("c", "other", 1)
    async with world.client("busy") as busy:
        gate.shut()
        await busy.send(publish(1, topic="other"))
        await settle()
        assert gate.waiting
        with trio.fail_after(5):
            async with world.client("s", clean_start=True, properties={}, level=level) as subscriber:
                await subscriber.subscribe("t", 2)
                async with world.client("p", clean_start=True, properties={}, level=level) as publisher:
                    for qos in range(3):
                        await publisher.publish("t", b"%d" % qos, qos)
                    await publisher.ping()
                assert payloads(await take(subscriber, 3)) == numbers(3)
                await settle()
                await subscriber.unsubscribe("t")
        assert await inbox(busy) == []
        await gate.open()
        assert await inbox(busy) == [PubAck(1)]


async def test_qos_0_waits_for_nobody(world: World, gate: Gate, autojump_clock: MockClock) -> None:
    """From and to kept sessions, and to a subscription that grants no more."""
    async with world.client("c") as subscriber, world.client("p") as publisher:
        await subscriber.subscribe([SubscribeFilter("t", 2), SubscribeFilter("u", 0)])
        gate.shut()
        await publisher.publish("t", b"1")
        assert (await one(subscriber)).payload == b"1"
        await publisher.send(publish(1, b"2", topic="u"))
        assert (await expect(publisher, PubAck)).packet_identifier == 1
        assert (await one(subscriber)).payload == b"2"
        await gate.open()


@LEVELS
@pytest.mark.parametrize("qos", [1, 2])
async def test_acknowledgements_keep_the_order_of_the_messages(
    world: World, gate: Gate, autojump_clock: MockClock, level: int, qos: int
) -> None:
    """[MQTT-4.6.0-2, 4.6.0-3] where what is stored and what is not take turns, in one piece or one by one."""
    await world.subscriber("c", "kept", qos)
    async with (
        world.client("s", clean_start=True, properties={}) as free,
        world.client("p", clean_start=True, properties={}, level=level) as client,
    ):
        await free.subscribe("free", qos)
        gate.shut()
        for number, topic in enumerate(["free", "kept", "free", "free", "kept", "nobody", "kept", "free"], 1):
            await client.send(publish(number, qos=qos, topic=topic))
            if number % 3:
                await settle()
        assert [step[1] for step in steps(await inbox(client))] == [1]
        assert len(await rest(free)) == 4
        await gate.step()
        await gate.open()
        assert [step[1] for step in steps(await inbox(client))] == [2, 3, 4, 5, 6, 7, 8]


# -- who leaves meanwhile


async def test_who_leaves_while_others_wait_disturbs_nobody(
    world: World, gate: Gate, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A publisher, a subscriber within QoS 2, one who subscribes, and one who has no CONNACK yet."""
    await world.subscriber("c", "t", 2)
    async with world.client("stays") as stays, world.client("also") as also:
        await also.subscribe("t", 2)
        gate.shut()
        async with world.client("p1", clean_start=True, properties={}) as leaves:
            await leaves.send(publish(1, b"1", 2))
            await settle()
            await leaves.drop()
        await stays.send(publish(1, b"2", 2))
        async with world.client("new", connect=False) as leaves:
            await leaves.send(Connect("new", properties={"session_expiry_interval": 100}))
            await settle()
            await leaves.drop()
        await also.send(Subscribe(9, [SubscribeFilter("u", 1)]))
        await settle()
        await also.drop()
        await settle()
        await gate.open()
        assert await inbox(stays) == [PubRec(1)]
    await world.restart()
    assert payloads(await later(world, "c")) == [b"1", b"2"]
    assert payloads(await later(world, "also")) == [b"1", b"2"]
    assert "u" in await world.broker.questions.topics()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_session_taken_over_while_its_connack_waits(
    world: World, gate: Gate, autojump_clock: MockClock
) -> None:
    """The last one who came has the session; the one before hears so, or is closed."""
    await world.subscriber("c", "t", 1)
    await say(world, b"1")
    gate.shut()
    async with world.client("c", connect=False) as first, world.client("c", connect=False) as second:
        for client in (first, second):
            await client.send(Connect("c", clean_start=False, properties={"session_expiry_interval": 100}))
            await settle()
        assert await inbox(second) == []
        await gate.open()
        assert first.disconnected is not None
        assert [type(packet) for packet in await inbox(second)] == [ConnAck, Publish]
    await world.restart()
    assert payloads(await later(world, "c")) == [b"1"]


async def test_who_comes_back_while_commits_wait_gets_everything_once(
    world: World, gate: Gate, autojump_clock: MockClock
) -> None:
    """QoS 2 that was held for the connection before."""
    async with world.client("c", auto_ack=False) as client:
        await client.subscribe("t", 2)
        async with world.client("p", clean_start=True, properties={}) as publisher:
            gate.shut()
            for number in (1, 2, 3):
                await publisher.send(publish(number, b"%d" % number, 2))
            await settle()
            await client.drop()
            await settle()
            async with world.client("c", connect=False) as again:
                await again.send(Connect("c", clean_start=False, properties={"session_expiry_interval": 100}))
                assert await inbox(again) == []
                await gate.open()
                packets = await inbox(again)
                assert isinstance(packets[0], ConnAck)
                assert [step[2] for step in steps(packets[1:])] == [b"1", b"2", b"3"]
            assert [step[1] for step in steps(await inbox(publisher))] == [1, 2, 3]
