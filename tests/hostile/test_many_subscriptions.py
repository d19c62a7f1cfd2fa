"""One client that subscribes without end: a limit it meets, memory that is bounded for each, and all of it given back.

Invariant: what a subscription costs is counted in the bytes Python allocated, not in time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import trio
from hostile.conftest import Sites
from hostile.site import MEGABYTE, Site, connected, frames, heard, measured
from robustness.scene import PATIENCE, connect_bytes
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import Disconnect, Packet, Properties, SubAck, Subscribe, SubscribeFilter
from trio_broker.testing import Client

LIMIT = 1000
BYTES_A_SUBSCRIPTION = 1000  # of short filters
BYTES_A_SHARE = 2000  # a group of its own, at the most
# A dict keeps its table until it grows the next time; nothing else may be left.
BYTES_LEFT = 40
KEPT: Properties = {"session_expiry_interval": 3600}


def subscribe(first: int, count: int, pattern: str = "{}", identifier: int = 1) -> Subscribe:
    """`count` filters, all different, that a million of others do not meet."""
    return Subscribe(identifier, [SubscribeFilter(pattern.format(at)) for at in range(first, first + count)])


def batches(total: int, size: int) -> Iterator[tuple[int, int]]:
    return ((first, min(size, total - first)) for first in range(0, total, size))


async def ask(client: Client, packet: Packet) -> SubAck:
    await client.send(packet)
    with trio.fail_after(6 * PATIENCE):
        return await client.expect(SubAck)


async def count_of(site: Site) -> int:
    return (await site.scene.running.broker.questions.stats())["subscriptions.count"]


@pytest.mark.parametrize(("level", "refusal", "total"), [(5, 0x97, 1_000_000), (4, 0x80, 100_000)])
async def test_a_million_filters_against_a_limit(level: int, refusal: int, total: int, site: Sites) -> None:
    """In packets as large as they may be; each is answered filter by filter, and the connection goes on."""
    async with site("tcp", mqtt={"max_subscriptions": LIMIT}) as it, connected(it, "tcp", "bad", level) as client:
        quiet = await count_of(it)
        said: Counter[int] = Counter()
        for number, (first, count) in enumerate(batches(total, 100_000), 1):
            answer = await ask(client, subscribe(first, count, identifier=number))
            assert len(answer.reason_codes) == count
            if first == 0:
                assert set(answer.reason_codes[:LIMIT]) == {0}
            said.update(answer.reason_codes)
            await it.round_trips()
        assert said == {0: LIMIT, refusal: total - LIMIT}
        assert await count_of(it) == quiet + LIMIT
        # A place that is given back can be taken again, and no other.
        await client.unsubscribe("7")
        again = await client.subscribe([SubscribeFilter("new"), SubscribeFilter("newer")])
        assert again.reason_codes == [0, refusal]
        # The old ones may be asked for again: they count once.
        assert (await client.subscribe("8", 1)).reason_codes == [1]


async def test_mqtt_3_1_cannot_say_no(site: Sites) -> None:
    """Its SUBACK has no code for it: the connection ends, and nothing of that SUBSCRIBE is kept."""
    async with site("tcp", mqtt={"max_subscriptions": LIMIT}) as it:
        quiet = await count_of(it)
        stream = await it.open("tcp")
        await stream.send_all(connect_bytes("bad", 3) + frames(subscribe(0, LIMIT + 1), level=3))
        assert len(await heard(stream, 3)) == 1  # CONNACK
        await stream.aclose()
        await it.unhurt()
        assert await count_of(it) == quiet


@pytest.mark.parametrize("pattern", ["s/{}", "s/{}/+", "s/+/{}/#", "$share/g/s/{}", "$share/{}/s"])
async def test_memory_for_each_is_bounded_and_given_back(pattern: str, site: Sites) -> None:
    total = 20_000
    async with site("tcp") as it:
        with measured() as memory:
            async with connected(it) as client:
                for number, (first, count) in enumerate(batches(total, 5000), 1):
                    answer = await ask(client, subscribe(first, count, pattern, number))
                    assert set(answer.reason_codes) == {0}
                    del answer
                await wait_all_tasks_blocked()
                memory.look()
                assert memory.grown < total * (BYTES_A_SHARE if "$share" in pattern else BYTES_A_SUBSCRIPTION)
                await it.round_trips()
            del client
            await it.unhurt()
        assert memory.grown < total * BYTES_LEFT


async def test_they_are_given_back_when_a_kept_session_expires(site: Sites, autojump_clock: MockClock) -> None:
    total = 10_000
    async with site(mqtt={"max_subscriptions": total}) as it:
        with measured() as memory:
            async with connected(it, properties=KEPT) as client:
                await ask(client, subscribe(0, total, "s/{}/+"))
            del client
            await wait_all_tasks_blocked()
            assert (await it.scene.running.broker.questions.stats())["sessions.count"] == 2
            await trio.sleep(3700)
            await it.unhurt()
        assert memory.grown < total * BYTES_LEFT


@pytest.mark.parametrize("level", [3, 4, 5])
async def test_the_same_filter_again_and_again_is_one(level: int, site: Sites) -> None:
    """In one SUBSCRIBE of the largest size, and with a limit of one."""
    count = 200_000
    async with site("tcp", mqtt={"max_subscriptions": 1}) as it, connected(it, "tcp", "bad", level) as client:
        quiet = await count_of(it)
        packet = Subscribe(1, [SubscribeFilter("a")] * count)
        assert len(encode(packet, level, "client")) < MEGABYTE
        answer = await ask(client, packet)
        assert Counter(answer.reason_codes) == {0: count}
        assert await count_of(it) == quiet + 1
        await it.round_trips()


async def test_one_subscribe_above_the_limit_of_packets(site: Sites) -> None:
    async with site("tcp") as it:
        stream = await it.open("tcp")
        data = frames(subscribe(0, 200_000))
        assert len(data) > MEGABYTE
        async with trio.open_nursery() as nursery:
            nursery.start_soon(blurt, stream, connect_bytes("bad") + data)
            *_, last = await heard(stream)
        assert isinstance(last, Disconnect)
        assert last.reason_code == 0x95
        await stream.aclose()


async def blurt(stream: trio.abc.SendStream, data: bytes) -> None:
    """Send it as far as the broker wants it."""
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        return


async def test_an_answer_that_the_client_does_not_want_so_large(site: Sites) -> None:
    """A SUBACK above its Maximum Packet Size cannot be left out and must not be sent [MQTT-3.1.2-24]."""
    async with site("tcp") as it:
        stream = await it.open("tcp")
        await stream.send_all(
            connect_bytes("bad", properties={"maximum_packet_size": 100}) + frames(subscribe(0, 1000))
        )
        packets = await heard(stream)
        assert not any(isinstance(packet, SubAck) for packet in packets)
        assert isinstance(packets[-1], Disconnect)
        assert packets[-1].reason_code == 0x95
        await stream.aclose()


@pytest.mark.parametrize("level", [4, 5])
async def test_ten_thousands_of_subscribes_in_a_row(level: int, site: Sites) -> None:
    """None of them is left without its answer, in their order, while many are on their way."""
    count = 30_000
    async with site("tcp", mqtt={"max_subscriptions": LIMIT}) as it:
        stream = await it.open("tcp")
        await stream.send_all(connect_bytes("bad", level))
        await stream.receive_some(65536)
        data = b"".join(
            encode(subscribe(at % (2 * LIMIT), 1, identifier=at % 65535 + 1), level, "client") for at in range(count)
        )
        decoder = Decoder(role="client", level=level)
        identifiers: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, data)
            with trio.fail_after(3 * PATIENCE):
                while len(identifiers) < count:
                    for packet in decoder.feed(bytes(await stream.receive_some(65536))):
                        assert isinstance(packet, SubAck)
                        identifiers.append(packet.packet_identifier)
        assert identifiers == [at % 65535 + 1 for at in range(count)]
        await it.round_trips()
        await stream.aclose()
