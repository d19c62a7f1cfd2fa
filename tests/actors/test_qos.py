"""QoS 0, 1 and 2: what a receiver and a sender owe each other while both are there."""

from __future__ import annotations

import pytest
import trio
from actors.flows import end_of, expect, joined, numbers, one, payloads, rest, settle, take
from trio.testing import MockClock

from trio_broker.protocol.packets import PubAck, PubComp, Publish, PubRec, PubRel
from trio_broker.testing import Client, RunningBroker, open_broker


async def inflight(running: RunningBroker, client_id: str) -> int:
    info = await running.broker.questions.client(client_id)
    assert info is not None
    return info.inflight_count


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
async def test_the_smaller_qos_counts(autojump_clock: MockClock, published: int, granted: int, level: int) -> None:
    """[MQTT-3.8.4-8], [MQTT-2.2.1-2], [MQTT-2.2.1-3], [MQTT-3.3.1-2]"""
    async with open_broker() as running, running.client("s", level=level) as subscriber:
        assert (await subscriber.subscribe("t", granted)).reason_codes == [granted]
        async with running.client("p", level=level) as publisher:
            answer = await publisher.publish("t", b"x", published)
            assert type(answer) is (type(None), PubAck, PubComp)[published]
            message = await one(subscriber)
            assert (message.qos, message.dup, message.retain) == (min(published, granted), False, False)
            assert (message.packet_identifier == 0) is (message.qos == 0)
            assert await rest(subscriber) == []
            assert await inflight(running, "s") == 0


@pytest.mark.parametrize("qos", [1, 2])
async def test_dup_is_not_passed_on(autojump_clock: MockClock, qos: int) -> None:
    """[MQTT-3.3.1-3]"""
    async with open_broker() as running, running.client("c") as client:
        await client.subscribe("t", 2)
        await client.publish("t", b"x", qos, dup=True)
        assert not (await one(client)).dup


@pytest.mark.parametrize("level", [4, 5])
async def test_receiving_qos_1_again(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-4.3.2-5] after PUBACK the same identifier is a new message, whatever DUP says."""
    async with open_broker() as running, running.client("c", level=level) as client:
        await client.subscribe("t")
        await client.publish("t", b"1", 1, packet_identifier=9)
        await client.publish("t", b"1", 1, packet_identifier=9, dup=True)
        assert payloads(await rest(client)) == [b"1", b"1"]


@pytest.mark.parametrize("level", [4, 5])
async def test_receiving_qos_2_once(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-4.3.3-10] each copy before PUBREL gets PUBREC and is not delivered; afterwards it is a new message."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("t", 2)
        async with running.client("p", level=level) as publisher:
            for copy in range(3):
                await publisher.send(Publish("t", b"1", 2, dup=copy > 0, packet_identifier=7))
                assert await expect(publisher, PubRec) == PubRec(7)
            for _ in range(2):
                await publisher.send(PubRel(7))
                answer = await expect(publisher, PubComp)
                assert answer.packet_identifier == 7
            assert payloads(await rest(subscriber)) == [b"1"]
            await publisher.publish("t", b"2", 2, packet_identifier=7)
            assert payloads(await rest(subscriber)) == [b"2"]


@pytest.mark.parametrize(("level", "code"), [(4, 0), (5, 0x92)])
async def test_unknown_identifiers(autojump_clock: MockClock, level: int, code: int) -> None:
    """[MQTT-4.3.3-11] PUBREL and PUBREC are answered, PUBACK and PUBCOMP ignored; the connection goes on."""
    async with open_broker() as running, running.client("c", level=level) as client:
        await client.send(PubRel(11))
        assert await expect(client, PubComp) == PubComp(11, code)
        await client.send(PubRec(12))
        assert await expect(client, PubRel) == PubRel(12, code)
        await client.send(PubAck(13))
        await client.send(PubComp(14))
        await client.ping()
        assert list(client.inbox) == []
        metrics = await running.broker.questions.metrics()
        for kind in ("puback", "pubrec", "pubrel", "pubcomp"):
            assert metrics[f"packets.{kind}.missed"] == 1


@pytest.mark.parametrize("level", [4, 5])
async def test_sending_qos_2(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-4.3.3-1] to [MQTT-4.3.3-6]; PUBREC twice gives PUBREL twice."""
    async with open_broker() as running, running.client("c", level=level, auto_ack=False) as client:
        await client.subscribe("t", 2)
        await client.publish("t", b"x", 2)
        message = await one(client)
        for _ in range(2):
            await client.send(PubRec(message.packet_identifier))
            assert await expect(client, PubRel) == PubRel(message.packet_identifier)
        assert await inflight(running, "c") == 1
        await client.send(PubComp(message.packet_identifier))
        await client.ping()
        assert await inflight(running, "c") == 0
        assert await rest(client) == []


@pytest.mark.parametrize(("qos", "answer"), [(1, PubRec), (2, PubAck), (1, PubComp)])
async def test_the_wrong_answer_for_the_qos(
    autojump_clock: MockClock, qos: int, answer: type[PubRec | PubAck | PubComp]
) -> None:
    """PUBREC for QoS 1, PUBACK for QoS 2: protocol errors (section 4.3); PUBCOMP in the wrong phase frees nothing."""
    async with open_broker() as running, running.client("c", auto_ack=False) as client:
        await client.subscribe("t", qos)
        await client.publish("t", b"x", qos)
        message = await one(client)
        await client.send(answer(message.packet_identifier))
        if answer is PubComp:
            await settle()
            assert client.disconnected is not None or await inflight(running, "c") == 1
        else:
            assert (await end_of(client)).reason_code == 0x82


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_refusal_ends_the_message(autojump_clock: MockClock, qos: int) -> None:
    """[MQTT-4.4.0-2], [MQTT-4.3.3-9] PUBACK or PUBREC with an error: no PUBREL, the window has room again."""
    async with open_broker(mqtt={"max_inflight": 1}) as running, running.client("c", auto_ack=False) as client:
        await client.subscribe("t", qos)
        for payload in numbers(2):
            await client.publish("t", payload, qos)
        first = await one(client)
        await client.send((PubAck if qos == 1 else PubRec)(first.packet_identifier, 0x83))
        assert (await one(client)).payload == b"1"
        await settle()
        assert list(client.inbox) == []
        assert await inflight(running, "c") == 1


@pytest.mark.parametrize("qos", [1, 2])
async def test_acknowledgements_in_order(autojump_clock: MockClock, qos: int) -> None:
    """[MQTT-4.6.0-2], [MQTT-4.6.0-3] PUBACK and PUBREC in the order of PUBLISH."""
    identifiers = [5, 3, 99, 1, 65535, 42, 2]
    packets = [Publish(f"t/{identifier % 2}", b"", qos, packet_identifier=identifier) for identifier in identifiers]
    async with open_broker() as running, running.client("s") as subscriber, running.client("c") as client:
        await subscriber.subscribe("t/1", 1)
        await client.send_bytes(joined(5, *packets[:4]))
        await client.send_bytes(joined(5, *packets[4:]))
        kind: type[PubAck | PubRec] = PubAck if qos == 1 else PubRec
        answers = [await expect(client, kind) for _ in identifiers]
        assert [answer.packet_identifier for answer in answers] == identifiers
        if qos == 2:
            await client.send_bytes(joined(5, *(PubRel(identifier) for identifier in reversed(identifiers))))
            ends = [await expect(client, PubComp) for _ in identifiers]
            assert [end.packet_identifier for end in ends] == identifiers[::-1]


async def test_a_copy_is_answered_in_its_turn(autojump_clock: MockClock) -> None:
    """[MQTT-4.6.0-3] PUBREC of a message sent again does not overtake those before it."""
    async with open_broker() as running, running.client("s") as subscriber, running.client("c") as client:
        await subscriber.subscribe("t", 2)
        await client.send(Publish("t", b"1", 2, packet_identifier=1))
        await expect(client, PubRec)
        packets = [Publish("t", b"%d" % number, 2, dup=number == 1, packet_identifier=number) for number in (2, 1, 3)]
        await client.send_bytes(joined(5, *packets))
        assert [(await expect(client, PubRec)).packet_identifier for _ in packets] == [2, 1, 3]


async def test_pubrel_in_the_order_of_pubrec(autojump_clock: MockClock) -> None:
    """[MQTT-4.6.0-4]"""
    async with open_broker() as running, running.client("c", auto_ack=False) as client:
        await client.subscribe("t", 2)
        for payload in numbers(5):
            await client.publish("t", payload, 2)
        received = [message.packet_identifier for message in await take(client, 5)]
        order = [received[index] for index in (3, 0, 4, 1, 2)]
        await client.send_bytes(joined(5, *(PubRec(identifier) for identifier in order)))
        assert [(await expect(client, PubRel)).packet_identifier for _ in order] == order


async def test_identifiers_are_not_given_twice(autojump_clock: MockClock) -> None:
    """[MQTT-2.2.1-4] also when they wrap around with old ones still open."""
    async with open_broker(mqtt={"max_inflight": 60, "max_mqueue_len": 0}) as running:
        async with running.client("c", auto_ack=False) as client, running.client("p") as publisher:
            await client.subscribe("t", 1)
            await publisher.publish("t", b"kept", 1)
            kept = (await one(client)).packet_identifier
            packets = [Publish("t", b"", 1, packet_identifier=number + 1) for number in range(50)]
            for _ in range(1400):  # 70,000 identifiers
                await publisher.send_bytes(joined(5, *packets))
                await settle()
                publisher.inbox.clear()
                for message in await rest(client, ack=True):
                    assert message.packet_identifier != kept
            assert await inflight(running, "c") == 1


async def test_all_65535_identifiers_of_a_client(autojump_clock: MockClock) -> None:
    """[MQTT-2.2.1-3] 1 to 65535 are good, 0 is none."""
    async with open_broker() as running, running.client("c") as client:
        for identifier in (1, 255, 256, 65535):
            answer = await client.publish("t", b"", 2, packet_identifier=identifier)
            assert isinstance(answer, PubComp)
            assert answer.packet_identifier == identifier
        await client.send_bytes(b"\x32\x06\x00\x01t\x00\x00\x00")
        assert (await end_of(client)).reason_code in (0x81, 0x82)


async def test_sent_again_only_after_a_reconnect(autojump_clock: MockClock) -> None:
    """[MQTT-4.4.0-1] an hour without PUBACK: version 5 clients get nothing twice on one connection."""
    async with open_broker() as running, running.client("c", auto_ack=False) as client:
        await client.subscribe("t", 2)
        await client.publish("t", b"1", 1)
        await client.publish("t", b"2", 2)
        await take(client, 2)
        await trio.sleep(3600)
        assert list(client.inbox) == []


async def test_pubrel_that_never_comes(autojump_clock: MockClock) -> None:
    """`await_rel_timeout` gives the identifier up and counts it; a later PUBREL finds nothing."""
    async with open_broker(mqtt={"await_rel_timeout": "300s"}) as running, running.client("c") as client:
        await client.send(Publish("t", b"x", 2, packet_identifier=5))
        await expect(client, PubRec)
        await trio.sleep(290)
        info = await running.broker.questions.client("c")
        assert info is not None
        assert info.awaiting_rel_count == 1
        await trio.sleep(60)
        info = await running.broker.questions.client("c")
        assert info is not None
        assert info.awaiting_rel_count == 0
        metrics = await running.broker.questions.metrics()
        assert metrics["messages.dropped.await_pubrel_timeout"] == 1
        await client.send(PubRel(5))
        assert await expect(client, PubComp) == PubComp(5, 0x92)


async def publish_many(publisher: Client, qos: int, count: int) -> None:
    for payload in numbers(count):
        await publisher.publish("t", payload, qos)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_thousand_messages_each_once(autojump_clock: MockClock, qos: int) -> None:
    """[MQTT-4.5.0-1] through a window of 32, none lost, none twice, in order [MQTT-4.6.0-5]."""
    async with open_broker() as running, running.client("s") as subscriber, running.client("p") as publisher:
        await subscriber.subscribe("t", qos)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_many, publisher, qos, 1000)
            assert payloads(await take(subscriber, 1000)) == numbers(1000)
        assert await rest(subscriber) == []
