"""Requests with many filters, and clients who leave many behind, are worked off in parts; the order stays.

Invariant: what takes turns is counted in turns of a healthy client, not in seconds.
"""

from __future__ import annotations

import pytest
import trio
from actors.flows import SESSION, expect, joined, one, payloads, rest, settle, take
from trio.testing import MockClock

from trio_broker.protocol.packets import (
    Disconnect,
    PingReq,
    PingResp,
    Publish,
    SubAck,
    Subscribe,
    SubscribeFilter,
    UnsubAck,
    Unsubscribe,
)
from trio_broker.session.requests import FILTERS_A_STEP
from trio_broker.testing import RunningBroker, open_broker

MANY = 20 * FILTERS_A_STEP + 1


def filters(count: int = MANY, prefix: str = "f") -> list[SubscribeFilter]:
    return [SubscribeFilter(f"{prefix}/{number}", number % 3) for number in range(count)]


async def subscriptions_count(running: RunningBroker) -> int:
    return (await running.broker.questions.stats())["subscriptions.count"]


@pytest.mark.parametrize("count", [FILTERS_A_STEP, FILTERS_A_STEP + 1, 2 * FILTERS_A_STEP, MANY])
async def test_one_answer_with_all_codes(autojump_clock: MockClock, count: int) -> None:
    """[MQTT-3.8.4-5], [MQTT-3.10.4-6] in their order, whatever the number."""
    async with open_broker() as running, running.client("c") as client:
        await client.send(Subscribe(1, filters(count)))
        suback = await expect(client, SubAck)
        assert suback.reason_codes == [number % 3 for number in range(count)]
        assert await subscriptions_count(running) == count
        await running.broker.publish(f"f/{count - 1}", b"last")
        assert (await one(client)).payload == b"last"
        names = [f"f/{number}" for number in range(count)] + ["nothing"]
        await client.send(Unsubscribe(2, names))
        unsuback = await expect(client, UnsubAck)
        assert unsuback.reason_codes == [0] * count + [0x11]
        assert await subscriptions_count(running) == 0


async def test_what_comes_behind_it_waits(autojump_clock: MockClock) -> None:
    """Packets in the same segment, and those in the next, take effect after it, in their order."""
    async with open_broker() as running, running.client("c") as client:
        await client.send_bytes(
            joined(
                5,
                Subscribe(1, filters()),
                Publish(f"f/{MANY - 1}", b"first"),
                Subscribe(2, filters(prefix="g")),
                Publish(f"g/{MANY - 1}", b"second"),
            )
        )
        await client.send(Publish("g/0", b"third"))
        await expect(client, SubAck)
        assert payloads(await take(client, 1)) == [b"first"]
        await expect(client, SubAck)
        assert [message.payload for message in await rest(client)] == [b"second", b"third"]


async def test_disconnect_behind_it(autojump_clock: MockClock) -> None:
    async with open_broker() as running:
        async with running.client("c", properties=SESSION) as client:
            await client.send_bytes(joined(5, Subscribe(1, filters()), Disconnect(), Publish("f/1", b"ignored")))
            await client.wait_ended()
            await settle()
        assert await subscriptions_count(running) == MANY
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            assert client.session_present
            assert await rest(client) == []


async def test_others_have_their_turn(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("c") as client, running.client("other") as other:
        await client.send_bytes(joined(5, Subscribe(1, filters())))
        await other.ping()
        assert await subscriptions_count(running) < MANY, "it was worked off before the other client's ping"
        await expect(client, SubAck)
        assert await subscriptions_count(running) == MANY


async def test_who_is_gone_leaves_nothing(autojump_clock: MockClock) -> None:
    """The client breaks off in the middle; then another with as many subscriptions ends."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("f/#", 1)
        async with running.client("c") as client:
            await client.send_bytes(joined(5, Subscribe(1, filters())))
            await trio.lowlevel.checkpoint()
            await client.drop()
        await settle()
        async with running.client("d") as client:
            await client.send(Subscribe(1, filters()))
            await expect(client, SubAck)
        await settle()
        assert await subscriptions_count(running) == 1
        core = running.broker._core
        assert core is not None
        assert core.router.table.topics_count == 1
        await running.broker.publish("f/1", b"x", qos=1)
        assert payloads(await take(subscriber)) == [b"x"]


async def test_messages_flow_while_somebody_with_many_leaves(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("s") as subscriber, running.client("p") as publisher:
        await subscriber.subscribe("t", 1)
        async with running.client("c") as client:
            await client.send(Subscribe(1, [*filters(), SubscribeFilter("$share/g/t", 1)]))
            await expect(client, SubAck)
        core = running.broker._core
        assert core is not None
        for number in range(30):
            await publisher.publish("t", b"%d" % number, 1)
        assert payloads(await take(subscriber, 30)) == [b"%d" % number for number in range(30)]
        await settle()
        assert core.router.table.topics_count == 1


async def test_a_ping_behind_it_is_answered(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("c") as client:
        await client.send_bytes(joined(5, Unsubscribe(1, [f"f/{number}" for number in range(MANY)]), PingReq()))
        assert isinstance(await expect(client, PingResp), PingResp)
        await expect(client, UnsubAck)


async def test_a_filter_that_3_1_cannot_refuse(autojump_clock: MockClock) -> None:
    """In the last part: the connection ends, as it does for a short request."""
    async with open_broker(mqtt={"max_topic_levels": 3}) as running:
        async with running.client("c", level=3) as client:
            await client.send(Subscribe(1, [*filters(), SubscribeFilter("a/b/c/d/e", 0)]))
            await client.wait_ended()
        await settle()
        assert await subscriptions_count(running) == 0
