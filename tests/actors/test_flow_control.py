"""Flow control: windows in both directions, bounded queues, packets too large, readers too slow."""

from __future__ import annotations

import pytest
import trio
from actors.flows import SESSION, end_of, expect, joined, numbers, payloads, rest, settle, take
from trio.testing import MockClock

from trio_broker.protocol.packets import (
    Connect,
    Properties,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscribeFilter,
)
from trio_broker.session.info import SessionInfo
from trio_broker.testing import RunningBroker, open_broker


async def info(running: RunningBroker, client_id: str) -> SessionInfo:
    found = await running.broker.questions.client(client_id)
    assert found is not None
    return found


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("maximum", [1, 3])
async def test_the_clients_receive_maximum(autojump_clock: MockClock, maximum: int, qos: int) -> None:
    """[MQTT-3.3.4-9], [MQTT-4.9.0-1], [MQTT-4.9.0-2] the window is refilled, one for one."""
    async with open_broker() as running, running.client("p") as publisher:
        async with running.client("c", properties={"receive_maximum": maximum}, auto_ack=False) as client:
            await client.subscribe("t", qos)
            for payload in numbers(10):
                await publisher.publish("t", payload, qos)
            received = await rest(client)
            assert payloads(received) == numbers(maximum)
            assert (await info(running, "c")).inflight_count == maximum
            for number in range(maximum, 10):
                client.acknowledge(received[number - maximum])
                new = await rest(client)
                assert payloads(new) == [b"%d" % number]
                received += new


async def test_pubrec_makes_no_room_pubcomp_does(autojump_clock: MockClock) -> None:
    """[MQTT-4.9.0-1] a QoS 2 message counts until PUBCOMP."""
    async with open_broker() as running:
        async with running.client("c", properties={"receive_maximum": 1}, auto_ack=False) as client:
            await client.subscribe("t", 2)
            for payload in numbers(2):
                await running.broker.publish("t", payload, qos=2)
            (first,) = await rest(client)
            await client.send(PubRec(first.packet_identifier))
            await expect(client, PubRel)
            assert await rest(client) == []
            await client.send(PubComp(first.packet_identifier))
            assert payloads(await rest(client)) == [b"1"]


async def test_an_error_in_pubrec_makes_room(autojump_clock: MockClock) -> None:
    """[MQTT-4.9.0-1]"""
    async with open_broker() as running:
        async with running.client("c", properties={"receive_maximum": 1}, auto_ack=False) as client:
            await client.subscribe("t", 2)
            for payload in numbers(2):
                await running.broker.publish("t", payload, qos=2)
            (first,) = await rest(client)
            await client.send(PubRec(first.packet_identifier, 0x97))
            assert payloads(await rest(client)) == [b"1"]


async def test_everything_else_goes_on(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.4-10], [MQTT-4.9.0-3] with no quota left QoS 0, SUBSCRIBE, PINGREQ and PUBLISH in go on."""
    async with open_broker() as running, running.client("s") as other:
        await other.subscribe("u", 2)
        async with running.client("c", properties={"receive_maximum": 1}, auto_ack=False) as client:
            await client.subscribe("t", 2)
            for qos in (1, 1, 2, 0, 0):
                await running.broker.publish("t", b"%d" % qos, qos=qos)
            assert payloads(await rest(client)) == [b"1", b"0", b"0"]
            await client.ping()
            assert (await client.subscribe("v", 1)).reason_codes == [1]
            assert (await client.unsubscribe("v")).reason_codes == [0]
            for qos in (0, 1, 2):
                await client.publish("u", b"%d" % qos, qos)
            assert payloads(await rest(other)) == numbers(3)


@pytest.mark.parametrize("level", [3, 4, 5])
async def test_the_brokers_own_window(autojump_clock: MockClock, level: int) -> None:
    """`max_inflight` holds for every version, also where a client would take more."""
    async with open_broker(mqtt={"max_inflight": 4}) as running:
        async with running.client("c", level=level, auto_ack=False) as client:
            await client.subscribe("t", 1)
            for payload in numbers(10):
                await running.broker.publish("t", payload, qos=1)
            assert payloads(await rest(client)) == numbers(4)
            seen = await info(running, "c")
            assert (seen.inflight_count, seen.inflight_max, seen.mqueue_len) == (4, 4, 6)


@pytest.mark.parametrize("subscribed", [True, False])
async def test_the_servers_receive_maximum(autojump_clock: MockClock, subscribed: bool) -> None:
    """[MQTT-3.3.4-7] one open QoS 2 message too many is 0x93, also when nobody gets it; a DUP copy is none more."""
    async with open_broker(mqtt={"max_awaiting_rel": 3}) as running, running.client("c") as client:
        assert client.connack.properties["receive_maximum"] == 3
        if subscribed:
            await client.subscribe("t", 2)
        for identifier in (1, 2, 3, 1, 2, 3):
            await client.send(Publish("t", b"", 2, packet_identifier=identifier))
        await client.ping()
        assert (await info(running, "c")).awaiting_rel_count == 3
        await client.send(PubRel(2))
        await client.send(Publish("t", b"", 2, packet_identifier=9))
        await client.ping()
        await client.send(Publish("t", b"", 2, packet_identifier=10))
        assert (await end_of(client)).reason_code == 0x93


async def test_as_many_as_were_announced(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.4-7] a client that keeps to the announced maximum is never refused, whatever the mixture."""
    async with open_broker(mqtt={"max_awaiting_rel": 10}) as running, running.client("c") as client:
        for _ in range(20):
            batch = [Publish("t", b"", 1 + number % 2, packet_identifier=number + 1) for number in range(10)]
            await client.send_bytes(joined(5, *batch))
            await settle()
            answers = list(client.inbox)
            client.inbox.clear()
            assert len(answers) == 10
            releases = [PubRel(packet.packet_identifier) for packet in answers if isinstance(packet, PubRec)]
            await client.send_bytes(joined(5, *releases))
            await settle()
            assert len(client.inbox) == 5
            client.inbox.clear()


async def test_the_queue_drops_the_oldest(autojump_clock: MockClock) -> None:
    """`max_mqueue_len` while the window is full: the newest stay, each one dropped is counted."""
    async with open_broker(mqtt={"max_inflight": 2, "max_mqueue_len": 5}) as running:
        async with running.client("c", auto_ack=False) as client:
            await client.subscribe("t", 1)
            for payload in numbers(20):
                await running.broker.publish("t", payload, qos=1)
            await settle()
            seen = await info(running, "c")
            assert (seen.mqueue_len, seen.mqueue_max, seen.mqueue_dropped) == (5, 5, 13)
            assert seen.stats["send_msg.dropped.queue_full"] == 13
            metrics = await running.broker.questions.metrics()
            assert metrics["delivery.dropped.queue_full"] == metrics["delivery.dropped"] == 13
            received = await rest(client, ack=True)
            assert payloads(received) == [b"0", b"1", *numbers(5, start=15)]


async def test_the_queue_of_a_client_that_is_away(autojump_clock: MockClock) -> None:
    """`max_mqueue_len` for a session without connection."""
    async with open_broker(mqtt={"max_mqueue_len": 5}) as running:
        async with running.client("c", properties=SESSION) as client:
            await client.subscribe("t", 1)
        await settle()
        for payload in numbers(20):
            await running.broker.publish("t", payload, qos=1)
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            assert payloads(await rest(client)) == numbers(5, start=15)
        assert (await running.broker.questions.metrics())["delivery.dropped.queue_full"] == 15


@pytest.mark.parametrize(("stored", "received"), [(True, [b"0", b"1", b"2"]), (False, [b"1", b"2"])])
async def test_qos_0_for_a_client_that_is_away(autojump_clock: MockClock, stored: bool, received: list[bytes]) -> None:
    """`mqueue_store_qos0` [MQTT-3.1.2-5] of 3.1.1: QoS 0 is optional, QoS 1 and 2 are not."""
    async with open_broker(mqtt={"mqueue_store_qos0": stored}) as running:
        async with running.client("c", properties=SESSION) as client:
            await client.subscribe("t", 2)
        await settle()
        for qos in (0, 1, 2):
            await running.broker.publish("t", b"%d" % qos, qos=qos)
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            assert payloads(await rest(client)) == received


async def test_no_limit(autojump_clock: MockClock) -> None:
    """`max_mqueue_len = 0` is no limit."""
    async with open_broker(mqtt={"max_mqueue_len": 0, "max_inflight": 1}) as running:
        async with running.client("c", properties=SESSION) as client:
            await client.subscribe("t", 1)
        await settle()
        for payload in numbers(3000):
            await running.broker.publish("t", payload, qos=1)
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            assert payloads(await rest(client)) == numbers(3000)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_too_large_for_one_client(autojump_clock: MockClock, qos: int) -> None:
    """[MQTT-3.1.2-24], [MQTT-3.1.2-25] skipped for it, counted, and no hole in its window."""
    small: Properties = {"maximum_packet_size": 50, "receive_maximum": 1}
    async with open_broker() as running, running.client("large") as large:
        async with running.client("small", properties=small) as client:
            for each in (client, large):
                await each.subscribe("t", qos)
            # Header 2, topic 3, identifier 2 (QoS 1 and 2), properties 1: 50 bytes with what is left.
            fits, too_large = b"x" * (42 if qos else 44), b"x" * (43 if qos else 45)
            for payload in (b"1", too_large, b"2", fits, too_large, b"3"):
                await running.broker.publish("t", payload, qos=qos)
            assert payloads(await rest(client)) == [b"1", b"2", fits, b"3"]
            assert len(await rest(large)) == 6
            assert (await running.broker.questions.metrics())["delivery.dropped.too_large"] == 2
            seen = await info(running, "small")
            assert (seen.inflight_count, seen.stats["send_msg.dropped.too_large"]) == (0, 2)


async def test_too_large_after_it_had_been_open(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-25] the client comes back and takes less: what does not fit counts as delivered."""
    small: Properties = {**SESSION, "maximum_packet_size": 50}
    async with open_broker() as running:
        async with running.client("c", properties=SESSION, auto_ack=False) as client:
            await client.subscribe("t", 1)
            for payload in (b"1", b"x" * 100, b"2"):
                await client.publish("t", payload, 1)
            await take(client, 3)
        async with running.client("c", clean_start=False, properties=small) as client:
            assert payloads(await rest(client)) == [b"1", b"2"]
            assert (await info(running, "c")).inflight_count == 0


async def test_too_large_for_the_broker(autojump_clock: MockClock) -> None:
    """Section 3.2.2.3.6: 0x95, before the rest of the packet has come."""
    async with open_broker(mqtt={"max_packet_size": 100}) as running:
        async with running.client("c") as client:
            await client.publish("t", b"x" * 94)  # 100 bytes in all
            await client.ping()
            await client.send_bytes(b"\x30\xff\xff\xff\x7f\x00\x01t")
            assert (await end_of(client)).reason_code == 0x95
        async with running.client("c") as client:
            await client.send(Publish("t", b"x" * 95))
            assert (await end_of(client)).reason_code == 0x95


async def test_a_reader_that_stops(autojump_clock: MockClock) -> None:
    """Nobody waits for a slow one: a subscriber that never reads disturbs neither others nor the publisher."""
    async with open_broker() as running, running.client("p") as publisher, running.client("good") as good:
        await good.subscribe("t", 1)
        async with await running.broker.connect_stream() as stream:
            subscribe = Subscribe(1, [SubscribeFilter("t", 1), SubscribeFilter("u")])
            await stream.send_all(joined(5, Connect("stuck", properties=SESSION), subscribe))
            await settle()
            for payload in numbers(300):
                with trio.fail_after(5):
                    await publisher.publish("t", payload, 1)
                await publisher.publish("u", b"x" * 10_000)
            assert payloads(await rest(good)) == numbers(300)
            seen = await info(running, "stuck")
            assert (seen.connected, seen.inflight_count) == (True, 32)
            assert seen.mqueue_len <= 1000
        await settle()
        seen = await info(running, "stuck")
        assert not seen.connected


async def test_a_crowd_of_acknowledgements(autojump_clock: MockClock) -> None:
    """[MQTT-4.9.0-3] thousands of useless acknowledgements at quota 0 disturb nothing."""
    async with open_broker() as running:
        async with running.client("c", properties={"receive_maximum": 1}, auto_ack=False) as client:
            await client.subscribe("t", 1)
            for payload in numbers(3):
                await running.broker.publish("t", payload, qos=1)
            (first,) = await rest(client)
            others = [PubAck(identifier) for identifier in range(1, 3000) if identifier != first.packet_identifier]
            await client.send_bytes(joined(5, *others))
            assert await rest(client) == []
            client.acknowledge(first)
            assert payloads(await rest(client)) == [b"1"]
            await client.send(Subscribe(77, [SubscribeFilter("x")]))
            assert (await expect(client, SubAck)).packet_identifier == 77


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("retain", [False, True])
async def test_what_is_too_much_reaches_nobody(autojump_clock: MockClock, qos: int, retain: bool) -> None:
    """[MQTT-3.3.4-7] 0x93 for the sender, and nothing for a session that is being given retained messages."""
    async with open_broker(mqtt={"max_awaiting_rel": 1}) as running, running.client("p") as publisher:
        for number in range(50):
            await publisher.publish(f"t/{number}", b"kept", 1, retain=True)
        async with running.client("s", properties={"receive_maximum": 1}, auto_ack=False) as subscriber:
            await subscriber.subscribe("t/#", 1)
            async with running.client("c") as client:
                await client.send_bytes(
                    joined(
                        5,
                        Publish("t/0", b"open", 2, packet_identifier=1),
                        *[Publish("t/1", b"too much", qos, retain, packet_identifier=at) for at in (2, 3)],
                    )
                )
                assert (await end_of(client)).reason_code == 0x93
            seen = await take(subscriber, 1, ack=True)
            while more := await rest(subscriber, ack=True):
                seen += more
            assert "too much" not in {message.payload.decode() for message in seen}
            assert len(seen) == 51
            assert await subscriber.ping() is not None
