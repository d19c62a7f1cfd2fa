"""What a publisher may expect of its acknowledgements and limits; each of these was wrong once."""

from __future__ import annotations

import pytest
import trio
from actors.flows import SESSION, end_of, expect, joined, payloads, rest, settle
from trio.testing import MockClock

from trio_broker.broker import Broker
from trio_broker.config import Config
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import Packet, Properties, PubAck, PubComp, Publish, PubRec, PubRel
from trio_broker.testing import open_broker, open_client


class NoSecrets:
    """Nobody may publish to `secret`, nor subscribe to what lies below it."""

    def authorize(self, client: Origin, action: str, topic: str) -> bool:
        return not topic.startswith("secret")


@pytest.mark.parametrize("level", [3, 4])
@pytest.mark.parametrize("qos", [1, 2])
async def test_3x_knows_no_receive_maximum(autojump_clock: MockClock, level: int, qos: int) -> None:
    """A limit that could not be announced is none: a 3.x client may send as much ahead as it likes [MQTT-3.3.4-7]."""
    async with open_broker(mqtt={"max_awaiting_rel": 3}) as running, running.client("s") as subscriber:
        await subscriber.subscribe("t", 2)
        async with running.client("c", level=level) as client:
            batch = [Publish("t", b"%d" % number, qos, packet_identifier=number) for number in range(1, 301)]
            await client.send_bytes(joined(level, *batch))
            await settle()
            assert client.disconnected is None
            kind = PubAck if qos == 1 else PubRec
            assert [getattr(packet, "packet_identifier", 0) for packet in client.inbox] == list(range(1, 301))
            assert {type(packet) for packet in client.inbox} == {kind}
        assert len(await rest(subscriber)) == 300


async def test_5_is_still_held_to_what_was_announced(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.4-7]"""
    async with open_broker(mqtt={"max_awaiting_rel": 3}) as running, running.client("c") as client:
        await client.send_bytes(joined(5, *(Publish("t", b"", 1, packet_identifier=number) for number in range(1, 9))))
        assert (await end_of(client)).reason_code == 0x93


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("qos", [1, 2])
async def test_acknowledgements_of_refused_messages_keep_the_order(
    autojump_clock: MockClock, level: int, qos: int
) -> None:
    """[MQTT-4.6.0-2], [MQTT-4.6.0-3] in the order of the PUBLISHes, also where one of them is not allowed."""
    broker = Broker(Config(), authorizer=NoSecrets())
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        async with open_client(broker, client_id="c", level=level) as client:
            topics = ["a", "secret", "b", "secret", "secret", "c"]
            batch = [Publish(topic, b"", qos, packet_identifier=number) for number, topic in enumerate(topics, 1)]
            await client.send_bytes(joined(level, *batch))
            await settle()
            answers: list[Packet] = list(client.inbox)
            assert [getattr(packet, "packet_identifier", 0) for packet in answers] == [1, 2, 3, 4, 5, 6]
            if level == 5:
                codes = [getattr(packet, "reason_code", 0) for packet in answers]
                assert codes == [0x10, 0x87, 0x10, 0x87, 0x87, 0x10]
        broker.close()


async def test_a_copy_is_acknowledged_behind_what_came_before_it(autojump_clock: MockClock) -> None:
    """[MQTT-4.6.0-3] PUBREC for a copy of an open message does not overtake others, nor that message's own."""
    async with open_broker() as running, running.client("c", level=4) as client:
        batch = [Publish("t", b"", 2, packet_identifier=number) for number in (1, 2)]
        await client.send_bytes(joined(4, *batch, Publish("t", b"", 2, False, True, 1)))
        await settle()
        assert [getattr(packet, "packet_identifier", 0) for packet in client.inbox] == [1, 2, 1]


@pytest.mark.parametrize("wait", [299, 100_000])
async def test_a_client_that_is_away_does_not_lose_its_open_identifiers(autojump_clock: MockClock, wait: float) -> None:
    """[MQTT-4.3.3-10] PUBLISH, connection lost, back much later, the same again with DUP: delivered once.

    `await_rel_timeout` is for clients that could release a message and do not; one that is away cannot.
    """
    never: Properties = {"session_expiry_interval": 0xFFFFFFFF}
    async with open_broker(mqtt={"await_rel_timeout": "300s"}) as running, running.client("s") as subscriber:
        await subscriber.subscribe("t", 2)
        async with running.client("c", properties=never) as client:
            await client.send(Publish("t", b"once", 2, packet_identifier=7))
            await expect(client, PubRec)
            await client.drop()
        await trio.sleep(wait)
        async with running.client("c", clean_start=False, properties=never) as client:
            await client.send(Publish("t", b"once", 2, False, True, 7))
            await expect(client, PubRec)
            await trio.sleep(2)
            await client.send(PubRel(7))
            assert (await expect(client, PubComp)).reason_code == 0
        assert payloads(await rest(subscriber)) == [b"once"]


async def test_a_client_that_is_there_still_loses_them(autojump_clock: MockClock) -> None:
    """`await_rel_timeout` counts from the moment the client was back."""
    async with open_broker(mqtt={"await_rel_timeout": "300s"}) as running:
        async with running.client("c", properties=SESSION) as client:
            await client.send(Publish("t", b"once", 2, packet_identifier=7))
            await expect(client, PubRec)
            await client.drop()
        await trio.sleep(1000)
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            await client.ping()
            await trio.sleep(299)
            seen = await running.broker.questions.client("c")
            assert seen is not None
            assert seen.awaiting_rel_count == 1
            await trio.sleep(2)
            seen = await running.broker.questions.client("c")
            assert seen is not None
            assert seen.awaiting_rel_count == 0
