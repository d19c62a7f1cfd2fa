"""What belongs to a session that has ended must not reach the next one of the same client identifier."""

from __future__ import annotations

import trio
from actors.flows import joined, numbers, payloads, rest, settle
from trio.testing import MockClock

from trio_broker.protocol.packets import Connect, Properties, Subscribe, SubscribeFilter
from trio_broker.testing import open_broker, open_client

LONG: Properties = {"session_expiry_interval": 1000}


async def test_messages_for_the_old_session_do_not_reach_a_clean_one(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-4] a message is on its way to the old session while a clean start takes its place."""
    async with open_broker() as running, running.client("p") as publisher:
        for _ in range(40):
            async with (
                running.client("c") as old,
                open_client(running.broker, client_id="c", connect=False) as new,
            ):
                await old.subscribe("t", 0)
                await settle()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(new.send, Connect("c"))
                    nursery.start_soon(publisher.publish, "t", b"not for you")
                await settle()
                assert [type(packet).__name__ for packet in new.inbox] == ["ConnAck"]


async def test_an_old_subscription_does_not_reach_a_clean_session(autojump_clock: MockClock) -> None:
    """The same for a SUBSCRIBE that is on its way through the router: neither its SUBACK nor its retained messages."""
    async with open_broker() as running, running.client("p") as publisher:
        for number in range(250):
            await publisher.publish(f"r/{number}", b"x", retain=True)
        for _ in range(20):
            async with (
                running.client("c", properties=LONG) as old,
                open_client(running.broker, client_id="c", connect=False) as new,
            ):
                await settle()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(old.send, Subscribe(1, [SubscribeFilter("r/#", 1)]))
                    nursery.start_soon(new.send, Connect("c"))
                await settle()
                assert [type(packet).__name__ for packet in new.inbox] == ["ConnAck"]
                assert await running.broker.questions.topics() == []


async def test_retained_messages_end_with_their_session(autojump_clock: MockClock) -> None:
    """Pages that wait for room belong to the session that asked for them, also those still with the retainer."""
    async with open_broker(mqtt={"max_mqueue_len": 200, "max_inflight": 1}) as running:
        async with running.client("p") as publisher:
            for number in range(1000):
                await publisher.publish(f"r/{number}", b"x", 1, retain=True)
        async with running.client("c", properties=LONG, auto_ack=False) as client:
            await client.subscribe("r/#", 1)
            await settle()
        async with running.client("c", auto_ack=False) as client:
            assert not client.session_present
            assert await rest(client) == []
            # And the feed of the new session is in order: what is retained for it comes, all of it.
            await client.subscribe("r/1", 1)
            assert payloads(await rest(client)) == [b"x"]


async def test_no_retained_messages_after_unsubscribe(autojump_clock: MockClock) -> None:
    """[MQTT-3.10.4-2] what was not yet begun to be delivered when UNSUBACK left is not sent any more."""
    async with open_broker(mqtt={"max_mqueue_len": 10, "max_inflight": 2}) as running:
        async with running.client("c", auto_ack=False) as client:
            for number in range(500):
                await client.publish(f"r/{number}", b"x", 1, retain=True)
            await client.subscribe("r/#", 1)
            await client.unsubscribe("r/#")
            received = await rest(client, ack=True)
            assert len(received) <= 20  # what was in the window and in the queue
            await client.subscribe("r/#", 1)
            assert len(await rest(client, ack=True)) == 500


async def test_a_shared_member_that_begins_anew_counts_as_connected(autojump_clock: MockClock) -> None:
    """A clean start after a session that was away: members that are there are preferred, and it is one of them."""
    async with open_broker() as running, running.client("p") as publisher:
        async with running.client("c", properties=LONG):
            pass
        await settle()
        async with running.client("c") as client, running.client("away", properties=LONG) as away:
            for each in (client, away):
                await each.subscribe("$share/g/t", 1)
            await away.drop()
            await settle()
            for payload in numbers(4):
                await publisher.publish("t", payload, 1)
            assert payloads(await rest(client)) == numbers(4)


async def test_a_deaf_takeover_leaves_the_session_to_the_next(autojump_clock: MockClock) -> None:
    """A connection that ends while its CONNECT is looked at takes nothing from the session."""
    async with open_broker() as running, running.client("p") as publisher:
        async with running.client("c", properties=LONG) as client:
            await client.subscribe("t", 1)
        async with open_client(running.broker, client_id="c", connect=False) as hasty:
            await hasty.send_bytes(joined(5, Connect("c", clean_start=False, properties=LONG)))
            await hasty.drop()
        await settle()
        await publisher.publish("t", b"1", 1)
        async with running.client("c", clean_start=False, properties=LONG) as client:
            assert client.session_present
            assert payloads(await rest(client)) == [b"1"]
