"""QoS 2 messages that are never released: as many as were announced, then 0x93; what waits is bounded and given back.

Invariant: what the broker has answered is what it has taken, message by message.
"""

from __future__ import annotations

import pytest
import trio
from hostile.conftest import Sites
from hostile.site import DOORS, connected, frames, heard, measured
from robustness.scene import PATIENCE, connect_bytes, shake_hands
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import ConnAck, Disconnect, Properties, PubAck, PubComp, Publish, PubRec, PubRel

KEPT: Properties = {"session_expiry_interval": 3600}
ALL = 65_535
BYTES_EACH = 250


def publishes(first: int, count: int, qos: int = 2, topic: str = "flood", level: int = 5) -> bytes:
    return b"".join(
        encode(Publish(topic, b"x", qos, packet_identifier=at), level, "client") for at in range(first, first + count)
    )


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("limit", [1, 100])
async def test_the_one_too_many(door: str, limit: int, site: Sites) -> None:
    """[MQTT-3.3.4-7, 3.3.4-9]; each of those before it was taken and is answered, or nothing is said of it."""
    async with site(door, mqtt={"max_awaiting_rel": limit}) as it:
        stream = await it.open(door)
        connack = await shake_hands(stream, "bad")
        assert connack.properties.get("receive_maximum") == limit
        await stream.send_all(publishes(1, limit))
        decoder = Decoder(role="client", level=5)
        taken = 0
        with trio.fail_after(PATIENCE):
            while taken < limit:
                taken += len(decoder.feed(bytes(await stream.receive_some(65536))))
        await it.round_trips()
        await stream.send_all(publishes(limit + 1, 500))
        (last,) = await heard(stream)
        assert isinstance(last, Disconnect)
        assert last.reason_code == 0x93
        await trio.aclose_forcefully(stream)


async def test_qos_1_and_2_count_together(site: Sites) -> None:
    async with site("tcp", mqtt={"max_awaiting_rel": 10}) as it:
        stream = await it.open("tcp")
        await stream.send_all(connect_bytes("bad") + publishes(1, 9) + publishes(100, 5, qos=1))
        connack, *answers, last = await heard(stream)
        assert isinstance(connack, ConnAck)
        assert isinstance(last, Disconnect)
        assert last.reason_code == 0x93
        assert sum(isinstance(answer, PubAck) for answer in answers) <= 1
        assert sum(isinstance(answer, PubRec) for answer in answers) <= 9
        await stream.aclose()


@pytest.mark.parametrize("level", [3, 4])
async def test_below_5_there_are_as_many_as_identifiers(level: int, site: Sites) -> None:
    """No limit can be announced there: 65,535 wait, each is delivered once, and they cost what is said here."""
    async with site("tcp", mqtt={"max_mqueue_len": 0}) as it, connected(it, "tcp", "bad", level) as client:
        with measured() as memory:
            for first in range(1, ALL, 4369):
                await client.send_bytes(publishes(first, 4369, level=level))
                with trio.fail_after(PATIENCE):
                    for at in range(4369):
                        assert (await client.expect(PubRec)).packet_identifier == first + at
                await it.round_trips()
            memory.look()
            assert memory.grown < ALL * BYTES_EACH
            # All of them again: copies, none of which costs anything.
            await client.send_bytes(publishes(1, 5000, level=level))
            for at in range(5000):
                assert (await client.expect(PubRec)).packet_identifier == at + 1
        metrics = await it.scene.running.broker.questions.metrics()
        assert metrics["messages.publish"] < ALL + 1000


async def test_a_copy_is_not_delivered_again(site: Sites) -> None:
    """The same identifier ten thousand times: one message, ten thousand PUBRECs [MQTT-4.3.3-10]."""
    async with site("tcp") as it, connected(it, "tcp", "witness") as witness, connected(it) as client:
        await witness.subscribe("flood", 0)
        packet = Publish("flood", b"x", 2, dup=True, packet_identifier=7)
        await client.send_bytes(frames(*[packet] * 10_000))
        with trio.fail_after(3 * PATIENCE):
            for _ in range(10_000):
                assert (await client.expect(PubRec)).packet_identifier == 7
        await client.send(PubRel(7))
        assert (await client.expect(PubComp)).reason_code == 0
        await client.publish("flood", b"end")
        assert [(await witness.receive()).payload for _ in range(2)] == [b"x", b"end"]


async def test_releases_of_nothing(site: Sites) -> None:
    """PUBREL for what was never published: 0x92, and no state."""
    async with site("tcp") as it, connected(it) as client:
        with measured() as memory:
            await client.send_bytes(frames(*[PubRel(at % ALL + 1) for at in range(20_000)]))
            with trio.fail_after(3 * PATIENCE):
                for _ in range(20_000):
                    assert (await client.expect(PubComp)).reason_code == 0x92
        assert memory.grown < 300_000


async def test_what_waits_in_a_kept_session_is_bounded_over_connections(site: Sites, autojump_clock: MockClock) -> None:
    """Another connection does not open another hundred places; when the session expires, nothing is left."""
    async with site(mqtt={"max_awaiting_rel": 100}) as it:
        for number in range(5):
            stream = await it.scene.running.broker.connect_stream()
            await shake_hands(stream, "bad", clean_start=number == 0, properties=KEPT)
            await stream.send_all(publishes(1 + 100 * number, 100))
            if number == 0:
                await wait_all_tasks_blocked()
                assert len(await stream.receive_some(65536)) == 100 * 5  # PUBREC with "no subscribers"
            else:
                (last,) = await heard(stream)
                assert isinstance(last, Disconnect)
                assert last.reason_code == 0x93
            await stream.aclose()
            await wait_all_tasks_blocked()
        await trio.sleep(3700)
        await it.unhurt()
