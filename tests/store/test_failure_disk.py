"""What clients see while the store cannot be written, and when it can be again."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
import trio
from actors.flows import end_of, expect, joined, numbers, one, payloads, rest, settle
from store.failure_store import FULL, IO, Disk, break_disk
from store.restart_world import World, inbox, later, open_world, say, steps
from trio.testing import MockClock

from trio_broker.errors import StoreError
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
    Will,
)
from trio_broker.store.sqlite import SqliteStore

ERRORS = pytest.mark.parametrize("error", [FULL, IO], ids=["full", "io"])
QUOTA_EXCEEDED = 0x97


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with open_world(("sqlite", "close"), tmp_path, monkeypatch) as world:
        yield world


@pytest.fixture
def disk(world: World, monkeypatch: pytest.MonkeyPatch) -> Disk:
    assert isinstance(world.store, SqliteStore)
    return Disk(world.store, monkeypatch)


def publish(identifier: int, payload: bytes = b"x", qos: int = 1, topic: str = "t", dup: bool = False) -> Publish:
    return Publish(topic, payload, qos, False, dup, identifier)


# -- publishers


@ERRORS
@pytest.mark.parametrize("qos", [1, 2])
async def test_what_would_have_to_be_kept_is_refused(
    world: World, disk: Disk, autojump_clock: MockClock, error: apsw.Error, qos: int
) -> None:
    """PUBACK and PUBREC say 0x97, and nobody gets the message; afterwards the same identifier is a new message."""
    await world.subscriber("c", "t", 2)
    async with world.client("here", clean_start=True, properties={}) as here, world.client("p") as client:
        await here.subscribe("t", 2)
        await break_disk(world, disk, error)
        for payload in (b"1", b"2"):
            await client.send(publish(7, payload, qos))
            refusal = PubAck if qos == 1 else PubRec
            assert await inbox(client) == [refusal(7, QUOTA_EXCEEDED)]
        await disk.mend()
        assert await rest(here) == []
        answer = await client.publish("t", b"3", qos, packet_identifier=7)
        assert answer is not None
        assert answer.reason_code == 0
        assert payloads(await rest(here)) == [b"3"]
    await world.restart()
    assert payloads(await later(world, "c")) == [b"3"]


async def test_each_kind_of_what_has_to_be_kept(world: World, disk: Disk, autojump_clock: MockClock) -> None:
    """Retained messages, those for a member of a group, and QoS 2 identifiers of a kept publisher."""
    await world.subscriber("c", "$share/g/group", 1)
    async with world.client("p") as kept, world.client("q", clean_start=True, properties={}) as clean:
        await break_disk(world, disk)
        for client in (kept, clean):
            for qos in (1, 2):
                answer = await client.publish("retained", b"x", qos, retain=True)
                assert answer is not None
                assert answer.reason_code == QUOTA_EXCEEDED
        answer = await clean.publish("group", b"x", 1)
        assert answer is not None
        assert answer.reason_code == QUOTA_EXCEEDED
        answer = await kept.publish("nobody", b"x", 2)
        assert isinstance(answer, PubRec)
        assert answer.reason_code == QUOTA_EXCEEDED
    assert await world.broker.questions.retained_message("retained") is None
    await disk.mend()


@pytest.mark.parametrize("level", [4, 5])
async def test_what_concerns_only_clean_sessions_succeeds(
    world: World, disk: Disk, autojump_clock: MockClock, level: int
) -> None:
    """And QoS 0, whoever it is for; QoS 1 of a kept publisher, too."""
    async with world.client("c") as kept, world.client("p1") as publisher:
        await kept.subscribe("t0", 2)
        await break_disk(world, disk)
        async with (
            world.client("s", clean_start=True, properties={}, level=level) as subscriber,
            world.client("p", clean_start=True, properties={}, level=level) as client,
        ):
            await subscriber.subscribe("#", 2)
            for qos in range(3):
                answer = await client.publish(f"t{qos}", b"x", qos)
                assert answer is None or answer.reason_code == 0
            answer = await publisher.publish("u", b"x", 1)
            assert answer is not None
            assert answer.reason_code == 0
            assert len(await rest(subscriber)) == 4
            assert len(await rest(kept)) == 1
            await subscriber.unsubscribe("#")
    await disk.mend()


@pytest.mark.parametrize("level", [3, 4])
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_client_of_3_x_gets_no_acknowledgement(
    world: World, disk: Disk, autojump_clock: MockClock, level: int, qos: int
) -> None:
    """There is no way to refuse: its connection ends; what it sends again after recovery is delivered once."""
    await world.subscriber("c", "t", 2)
    async with world.client("p", level=level) as client:
        await break_disk(world, disk)
        await client.send_bytes(joined(level, publish(1, b"1", qos), publish(2, b"2", qos)))
        await end_of(client)
        assert list(client.inbox) == []
    await disk.mend()
    async with world.client("p", level=level) as client:
        for number in (1, 2):
            await client.send(publish(number, b"%d" % number, qos, dup=True))
            await expect(client, PubAck if qos == 1 else PubRec)
    assert payloads(await later(world, "c")) == [b"1", b"2"]


@ERRORS
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("level", [4, 5])
async def test_what_was_taken_before_is_acknowledged_after_recovery(
    world: World, disk: Disk, autojump_clock: MockClock, level: int, qos: int, error: apsw.Error
) -> None:
    """Without a restart, in order; nothing of it is lost or doubled, also over a restart."""
    await world.subscriber("c", "t", 2)
    async with world.client("s", auto_ack=False) as subscriber, world.client("p", level=level) as client:
        await subscriber.subscribe("t", 2)
        disk.error = error
        wanted = numbers(3, 1)
        await client.send_bytes(joined(level, *(publish(number, b"%d" % number, qos) for number in (1, 2, 3))))
        await trio.sleep(100)
        assert await inbox(client) == []
        assert disk.tries > 2
        await disk.mend()
        assert [step[1:] for step in steps(await inbox(client))] == [(1, 0), (2, 0), (3, 0)]
        found = await rest(subscriber, ack=True)
        assert payloads(found) == wanted
        assert not any(message.dup for message in found)
        await settle()
    await world.restart()
    assert payloads(await later(world, "c")) == wanted
    assert await later(world, "s") == []


async def test_what_collected_before_the_failure_showed_is_acknowledged_in_order(
    world: World, disk: Disk, autojump_clock: MockClock
) -> None:
    """All that one connection sent in one piece with the message at which the disk failed."""
    await world.subscriber("c", "t", 2)
    async with world.client("p") as client:
        disk.error = FULL
        await client.send_bytes(joined(5, *(publish(number) for number in (1, 2, 3))))
        assert await inbox(client) == []
        await client.send(publish(4))
        assert await inbox(client) == []  # or it would overtake the answers to those before [MQTT-4.6.0-2]
        await disk.mend()
        assert steps(await inbox(client)) == [
            ("PUBACK", 1, 0),
            ("PUBACK", 2, 0),
            ("PUBACK", 3, 0),
            ("PUBACK", 4, QUOTA_EXCEEDED),
        ]
    assert len(await later(world, "c")) == 3


async def test_qos_2_that_began_before_the_failure_is_completed_after_it(
    world: World, disk: Disk, autojump_clock: MockClock
) -> None:
    """PUBCOMP waits; a PUBLISH that comes again is answered no earlier than its identifier is durable."""
    await world.subscriber("c", "t", 2)
    async with world.client("p") as client:
        for number in (1, 2):
            await client.send(publish(number, b"%d" % number, 2))
            await expect(client, PubRec)
        await break_disk(world, disk)
        await client.send(PubRel(1))
        assert await inbox(client) == []
        await disk.mend()
        assert await inbox(client) == [PubComp(1)]
        await world.restart()
    async with world.client("p") as client:
        await client.send(publish(1, b"3", 2))
        await client.send(publish(2, b"2", 2, dup=True))
        assert await inbox(client) == [PubRec(1), PubRec(2)]
    assert payloads(await later(world, "c")) == [b"1", b"2", b"3"]


# -- subscribers and sessions


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize("was_there", [False, True])
async def test_a_kept_session_is_refused(
    world: World, disk: Disk, autojump_clock: MockClock, level: int, was_there: bool
) -> None:
    """CONNACK with 0x88, or return code 3; afterwards it is let in, with all that is its own."""
    if was_there:
        await world.subscriber("c", "t", 1)
        await say(world, b"1")
    await break_disk(world, disk)
    properties = {"session_expiry_interval": 100} if level == 5 else {}
    async with world.client("c", connect=False, level=level) as client:
        packet = Connect("c", level, False, properties=properties)  # type: ignore[arg-type]
        answer = await client.connect(packet)
        assert answer.reason_code in ((0x88,) if level == 5 else (3, 0x88))
        assert not answer.session_present
        await end_of(client)
    await disk.mend()
    async with world.client("c", level=level) as client:
        if level > 3:
            assert client.session_present is was_there
        assert payloads(await rest(client)) == ([b"1"] if was_there else [])


@pytest.mark.parametrize("level", [3, 4, 5])
async def test_the_return_code_on_the_wire(world: World, disk: Disk, autojump_clock: MockClock, level: int) -> None:
    """[MQTT-3.2.2-5] "server unavailable", and the connection is closed."""
    await break_disk(world, disk)
    name = b"\x00\x06MQIsdp" if level == 3 else b"\x00\x04MQTT"
    properties = b"\x05\x11\x00\x00\x0e\x10" if level == 5 else b""
    body = name + bytes((level, 0, 0, 0)) + properties + b"\x00\x01c"
    answer = b""
    async with await world.broker.connect_stream() as stream:
        await stream.send_all(bytes((0x10, len(body))) + body)
        with trio.fail_after(5):
            while chunk := await stream.receive_some():
                answer += chunk
    assert answer == (b"\x20\x03\x00\x88\x00" if level == 5 else b"\x20\x02\x00\x03")
    await disk.mend()


@pytest.mark.parametrize("level", [3, 4, 5])
async def test_a_clean_session_is_let_in(world: World, disk: Disk, autojump_clock: MockClock, level: int) -> None:
    await break_disk(world, disk)
    with trio.fail_after(5):
        async with world.client("c", clean_start=True, properties={}, level=level) as client:
            assert client.connack.reason_code == 0
            await client.subscribe("t", 1)
    await disk.mend()
    assert not await world.has_session("c")


async def test_a_refused_connect_touches_no_session(world: World, disk: Disk, autojump_clock: MockClock) -> None:
    """[MQTT-3.1.4-2] who is connected stays so."""
    async with world.client("c") as client:
        await break_disk(world, disk)
        async with world.client("c") as other:
            assert other.connack.reason_code == 0x88
        await client.ping()
        assert client.disconnected is None
    await disk.mend()


async def test_kept_sessions_that_are_connected_stay_so(world: World, disk: Disk, autojump_clock: MockClock) -> None:
    """What they change meanwhile is durable in the end: acknowledgements, subscriptions, their absence."""
    async with world.client("c", auto_ack=False) as client:
        await client.subscribe("t", 2)
        await say(world, b"1")
        await say(world, b"2", qos=2)
        await say(world, b"3")
        first, second, _ = await rest(client)
        await break_disk(world, disk)
        client.acknowledge(first)
        await client.send(PubRec(second.packet_identifier))
        await client.send(Subscribe(9, [SubscribeFilter("u", 1)]))
        await client.ping()
        assert await inbox(client) == []
        await disk.mend()
        assert [type(packet) for packet in await inbox(client)] == [PubRel, SubAck]
        await world.restart()
    async with world.client("c", auto_ack=False) as client:
        assert [step[0] for step in steps(await inbox(client))] == ["PUBREL", "PUBLISH DUP"]
    assert sorted(await world.broker.questions.topics()) == ["t", "u"]


async def test_wills_and_ends_of_sessions_meanwhile(world: World, disk: Disk, autojump_clock: MockClock) -> None:
    """A will that is published reaches those who are there at once, the others in the end; once."""
    await world.subscriber("c", "w", 1)
    await world.subscriber("expires", "t", 1, properties={"session_expiry_interval": 10})
    async with (
        world.client("here", clean_start=True, properties={}) as here,
        world.client("dying", will=Will("w", b"will", 1)) as dying,
    ):
        await here.subscribe("w", 1)
        await break_disk(world, disk)
        await dying.drop()
        assert payloads(await rest(here)) == [b"will"]
        await trio.sleep(20)
        assert not await world.has_session("expires")
    await disk.mend()
    await world.restart()
    assert payloads(await later(world, "c")) == [b"will"]
    assert not await world.has_session("expires")
    assert await world.has_session("dying")
    assert await world.rows("q") == await world.rows("msg") == 0


# -- the program and the operator


async def test_publishing_from_inside_fails(world: World, disk: Disk, autojump_clock: MockClock) -> None:
    """Of what would have to be kept; nothing of it is delivered. The rest goes on."""
    await world.subscriber("c", "t", 1)
    async with world.client("here", clean_start=True, properties={}) as here:
        await here.subscribe([SubscribeFilter("t", 1), SubscribeFilter("u", 1)])
        await break_disk(world, disk)
        for qos in (1, 2):
            with pytest.raises(StoreError):
                await world.broker.publish("t", b"x", qos=qos)
        with pytest.raises(StoreError):
            await world.broker.publish("v", b"x", qos=1, retain=True)
        assert await rest(here) == []
        assert (await world.broker.publish("u", b"1", qos=1)).matched == 1
        assert (await one(here)).payload == b"1"
        await disk.mend()
        assert (await world.broker.publish("t", b"2", qos=1)).matched == 2
        assert (await one(here)).payload == b"2"
    assert payloads(await later(world, "c")) == [b"2"]


@ERRORS
async def test_a_failure_says_so_once_at_its_beginning_and_once_at_its_end(
    world: World, disk: Disk, autojump_clock: MockClock, error: apsw.Error, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log and as an alarm, however long it lasts, whoever comes meanwhile."""
    caplog.set_level(logging.WARNING, "trio_broker.store")

    def lines() -> list[tuple[str, bool]]:
        records = [record for record in caplog.records if record.name == "trio_broker.store"]
        return [(record.levelname, str(error) in record.getMessage()) for record in records]

    await world.subscriber("c", "t", 1)
    for turn in (1, 2):
        await break_disk(world, disk, error)
        async with world.client("p", clean_start=True, properties={}) as client:
            for _ in range(3):
                await client.publish("t", b"x", 1)
                await trio.sleep(100)
        assert len(lines()) == 2 * turn - 1
        active, _ = await world.broker.questions.alarms(True)
        assert len(active) == 1
        await disk.mend()
        assert lines() == [("ERROR", True), ("WARNING", False)] * turn
        assert (await world.broker.questions.alarms(True))[0] == []
        assert len((await world.broker.questions.alarms(False))[0]) == turn


async def test_the_connection_to_the_file_is_a_new_one_after_a_failure(
    world: World, disk: Disk, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the old one believes is not to be trusted; while it cannot be opened the failure goes on."""
    assert isinstance(world.store, SqliteStore)
    database = world.store._database
    original = database.reopen
    tries = 0

    def reopen() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise apsw.CantOpenError("unable to open database file")
        original()

    monkeypatch.setattr(database, "reopen", reopen)
    await world.subscriber("c", "t", 1)
    async with world.client("p") as client:
        await break_disk(world, disk)
        disk.error = None
        await trio.sleep(0.05)
        assert world.store.failure is not None
        await trio.sleep(30)
        assert world.store.failure is None
        assert tries == 4
        assert await client.publish("t", b"x", 1) is not None
    await world.restart()
    assert payloads(await later(world, "c")) == [b"x"]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_graceful_end_while_the_disk_is_full(
    world: World, disk: Disk, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, waits: bool
) -> None:
    """It comes to an end in its time; what was acknowledged is there, and nobody was told more than that."""
    world.settings["idle_timeout"] = "10m"
    await world.subscriber("c", "t", 1)
    async with world.client("p") as client, world.client("new", connect=False) as new:
        await client.publish("t", b"1", 1)
        disk.error = FULL
        await client.send(publish(9, b"2"))
        if waits:
            await new.send(Connect("new", properties={"session_expiry_interval": 100}))
        await settle()
        begun = trio.current_time()
        await world.end()
        assert trio.current_time() - begun < world.broker.config.shutdown_timeout
        assert PubAck(9) not in await inbox(client)
        assert not any(isinstance(packet, ConnAck) and packet.reason_code == 0 for packet in await inbox(new))
    await world.start()
    assert b"1" in payloads(await later(world, "c"))
    assert any(record.levelname == "ERROR" for record in caplog.records)
