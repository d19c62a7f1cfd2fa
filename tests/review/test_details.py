"""Smaller things that were wrong once."""

from __future__ import annotations

import gc
import weakref
from random import Random

import pytest
import trio
from actors.flows import end_of, joined, payloads, rest, settle, take
from trio.testing import MockClock

from trio_broker.access.authentication import Credentials, Verdict
from trio_broker.actors.messages import NextPage
from trio_broker.broker import Broker
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import (
    Connect,
    Properties,
    Publish,
    PubRec,
    SubAck,
    Subscribe,
    SubscribeFilter,
    UnsubAck,
    Unsubscribe,
    Will,
)
from trio_broker.routing.shared_group import SharedGroup
from trio_broker.routing.subscription import Subscription
from trio_broker.testing import RunningBroker, open_broker, open_client


class Slow:
    """An authenticator that takes its time."""

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        await trio.sleep(3)
        return Verdict()


LONG: Properties = {"session_expiry_interval": 1000}


class NoSecrets:
    """Nobody may subscribe to what lies below `secret`."""

    def authorize(self, client: Origin, action: str, topic: str) -> bool:
        return not topic.startswith("secret")


async def test_a_share_is_no_way_around_the_authorizer(autojump_clock: MockClock) -> None:
    """`$share/g/secret/#` needs what `secret/#` needs, as in EMQX."""
    broker = Broker(authorizer=NoSecrets())
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        async with open_client(broker, client_id="c") as client:
            filters = [SubscribeFilter(each, 1) for each in ("secret/#", "$share/g/secret/#", "$share/secret/a")]
            assert (await client.subscribe(filters)).reason_codes == [0x87, 0x87, 1]
        broker.close()


async def test_a_refused_subscribe_of_3_1_changes_nothing(autojump_clock: MockClock) -> None:
    """3.1 cannot say no, so the connection ends: what stood before the refused filter is not subscribed either."""
    async with open_broker(mqtt={"max_topic_levels": 3}) as running:
        async with running.client("c", level=3, clean_start=False) as client:
            await client.send(Subscribe(1, [SubscribeFilter("a", 1), SubscribeFilter("a/b/c/d/e", 1)]))
            await end_of(client)
        await settle()
        assert await running.broker.questions.client_subscriptions("c") == []
        assert await running.broker.questions.topics() == []


async def test_the_quota_of_subscriptions_within_one_subscribe(autojump_clock: MockClock) -> None:
    """`max_subscriptions` counts those of the same SUBSCRIBE, a filter that is replaced once."""
    async with open_broker(mqtt={"max_subscriptions": 2}) as running, running.client("c") as client:
        filters = [SubscribeFilter(each, 1) for each in ("a", "b", "a", "c")]
        assert (await client.subscribe(filters)).reason_codes == [1, 1, 1, 0x97]
        assert (await client.subscribe("b", 2)).reason_codes == [2]


@pytest.mark.parametrize(("client_id", "assigned"), [("", True), ("mine", False)])
async def test_only_who_has_no_name_is_given_one(autojump_clock: MockClock, client_id: str, assigned: bool) -> None:
    """[MQTT-3.2.2-16] also where the user name takes the place of the client identifier."""
    async with open_broker(mqtt={"use_username_as_clientid": True}) as running:
        async with running.client(client_id, username="user") as client:
            assert ("assigned_client_identifier" in client.connack.properties) is assigned
            assert await running.broker.questions.client("user") is not None


async def test_the_length_of_a_client_identifier_is_in_bytes(autojump_clock: MockClock) -> None:
    async with open_broker(mqtt={"max_clientid_len": 30}) as running:
        for client_id, code in (("x" * 30, 0), ("\u00e4" * 15, 0), ("\u00e4" * 16, 0x85)):
            async with running.client(client_id) as client:
                assert client.connack.reason_code == code


@pytest.mark.parametrize("kind", [SubAck, UnsubAck])
async def test_an_answer_too_large_for_the_client(autojump_clock: MockClock, kind: type) -> None:
    """[MQTT-3.1.2-24] a SUBACK or UNSUBACK cannot be left out nor cut: the connection ends."""
    async with open_broker() as running:
        async with running.client("c", properties={"maximum_packet_size": 30}) as client:
            filters = [SubscribeFilter(f"{number}", 0) for number in range(50)]
            for filter_ in filters[:20]:
                await client.subscribe([filter_])
            if kind is SubAck:
                await client.send(Subscribe(9, filters))
            else:
                await client.send(Unsubscribe(9, [each.topic_filter for each in filters]))
            assert (await end_of(client)).reason_code == 0x95
            assert not any(isinstance(packet, kind) for packet in client.inbox)


async def test_handshakes_left_open_do_not_add_up(autojump_clock: MockClock) -> None:
    """`max_inflight` bounds the window over reconnects, too: who never sends PUBCOMP gets nothing more."""
    async with open_broker(mqtt={"max_inflight": 2, "max_mqueue_len": 5}) as running:
        async with running.client("c", properties=LONG, auto_ack=False) as client:
            await client.subscribe("t", 2)
        for _ in range(4):
            async with running.client("c", clean_start=False, properties=LONG, auto_ack=False) as client:
                for _ in range(4):
                    await running.broker.publish("t", b"x", qos=2)
                for received in await rest(client):
                    await client.send(PubRec(received.packet_identifier))
                await settle()
                info = await running.broker.questions.client("c")
                assert info is not None
                assert info.inflight_count == 2


async def test_upgraded_retained_messages(autojump_clock: MockClock) -> None:
    """`upgrade_qos` holds for retained messages as for others."""
    async with open_broker(mqtt={"upgrade_qos": True}) as running, running.client("c") as client:
        await client.publish("t", b"x", 0, retain=True)
        await client.subscribe("t", 2)
        assert [message.qos for message in await rest(client)] == [2]


async def test_a_subscription_of_the_program_that_was_cancelled_leaves_nothing(autojump_clock: MockClock) -> None:
    """Cancelled while the router was busy: it must not go on filling a buffer nobody reads."""
    async with open_broker() as running:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with running.broker.subscribe("t"):
                raise AssertionError("it was cancelled")
        for _ in range(5):
            async with trio.open_nursery() as nursery:

                async def begin() -> None:
                    async with running.broker.subscribe("t"):
                        await trio.sleep_forever()

                nursery.start_soon(begin)
                for _ in range(2):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        await settle()
        assert await running.broker.questions.topics() == []
        assert running.broker._core is not None
        assert not running.broker._core.subscribers


async def test_two_tasks_read_from_one_subscription(autojump_clock: MockClock) -> None:
    """Each message goes to one of them."""
    async with open_broker() as running:
        heard: list[bytes] = []
        async with trio.open_nursery() as nursery, running.broker.subscribe("t") as messages:

            async def listen() -> None:
                async for message in messages:
                    heard.append(message.payload)

            nursery.start_soon(listen)
            nursery.start_soon(listen)
            await settle()
            for number in range(5):
                await running.broker.publish("t", b"%d" % number)
            await settle()
        # Both end with the subscription.
        assert sorted(heard) == [b"0", b"1", b"2", b"3", b"4"]


def busy_retainer(running: RunningBroker) -> list[object]:
    """Its mailbox is full when the next page is asked for, three times; these go into the list."""
    core = running.broker._core
    assert core is not None
    tell = core.retainer.tell
    refused: list[object] = []

    def busy(message: object) -> None:
        if isinstance(message, NextPage) and len(refused) < 3:
            refused.append(message)
            raise trio.WouldBlock
        tell(message)

    core.retainer.tell = busy  # type: ignore[method-assign]
    return refused


async def test_retained_messages_for_the_program_while_the_retainer_is_busy(autojump_clock: MockClock) -> None:
    """Its mailbox is full at the moment when the next page should be asked for: nothing is lost."""
    async with open_broker() as running:
        for number in range(300):
            await running.broker.publish(f"r/{number}", b"x", retain=True)
        refusals = busy_retainer(running)
        async with running.broker.subscribe("r/#") as messages:
            count = 0
            with trio.move_on_after(5):
                async for _ in messages:
                    count += 1
            assert count == 300
        assert len(refusals) == 3


async def test_retained_messages_for_a_client_while_the_retainer_is_busy(autojump_clock: MockClock) -> None:
    """The same for a client that says nothing more, so that only time can help."""
    async with open_broker() as running, running.client("c") as client:
        for number in range(300):
            await running.broker.publish(f"r/{number}", b"x", retain=True)
        refusals = busy_retainer(running)
        await client.subscribe("r/#")
        assert len(await take(client, 300)) == 300
        assert len(refusals) == 3


async def test_the_end_waits_for_a_busy_router(autojump_clock: MockClock) -> None:
    """However long the router needs at a shutdown (within `shutdown_timeout`), that is no failure of the broker."""
    broker = Broker()
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        core = broker._core
        assert core is not None
        put = core.router.put

        async def slowly(message: object) -> None:
            await trio.sleep(8)
            await put(message)

        core.router.put = slowly  # type: ignore[method-assign]
        broker.close()


async def test_no_one_is_let_in_while_it_ends(autojump_clock: MockClock) -> None:
    """The authenticators say yes when the broker is already shutting down: no session begins, the client is told."""

    broker = Broker(authenticators=[Slow()])
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        core = broker._core
        assert core is not None
        async with open_client(broker, client_id="c", connect=False) as client:
            await client.send(Connect("c"))
            await settle()
            broker.close()
            core.manager._closing = True
            await trio.sleep(10)
            assert [type(packet).__name__ for packet in client.inbox] in (["ConnAck"], [])
            assert not [packet for packet in client.inbox if getattr(packet, "reason_code", 0) == 0]


async def test_a_subscribe_with_more_filters_than_the_mailbox_holds(autojump_clock: MockClock) -> None:
    """The retained messages of 12,000 filters come in as many pages; none of them is lost [MQTT-3.3.1-9]."""
    async with open_broker() as running, running.client("p") as publisher, running.client("c") as client:
        topics = [f"r/{number}" for number in range(12_000)]
        batch = joined(5, *(Publish(topic, b"x", retain=True) for topic in topics))
        await publisher.send_bytes(batch)
        await publisher.ping()
        await client.send(Subscribe(1, [SubscribeFilter(topic) for topic in topics]))
        assert [message.topic_name for message in await rest(client)] == topics


async def test_order_and_number_of_a_big_subscribe(autojump_clock: MockClock) -> None:
    """More filters with a retained message each than the queue holds: all are sent [MQTT-3.3.1-9]."""
    async with open_broker(mqtt={"max_mqueue_len": 20, "max_inflight": 2}) as running, running.client("c") as client:
        for number in range(300):
            await running.broker.publish(f"r/{number}", b"%d" % number, qos=1, retain=True)
        filters = [SubscribeFilter(f"r/{number}", 1) for number in range(300)]
        await client.subscribe(filters)
        assert payloads(await rest(client)) == [b"%d" % number for number in range(300)]


def test_a_sticky_group_forgets_who_left() -> None:
    """What stuck to a member must not keep it, and all that hangs on it, in memory."""

    class Member:
        client_id = "m"

    group: SharedGroup[Member] = SharedGroup("g", "t", "sticky", Random(1))
    members = [Member(), Member()]
    for member in members:
        group.add(member, Subscription("$share/g/t", "t", "g"))
    for number in range(20):
        group.pick(f"p{number}", "t")
    watched = [weakref.ref(member) for member in members]
    group.discard(members.pop())
    del member
    gc.collect()
    assert [reference() is None for reference in watched] == [False, True]
    delivery = group.pick("p1", "t")
    assert delivery is not None
    assert delivery.recipient is members[0]


async def test_a_password_is_not_kept(autojump_clock: MockClock) -> None:
    """Once it was looked at, nothing in the broker holds it; nor the will once it went out."""
    secret, last_words = b"a secret that was never said before", b"last words that were never said before"
    async with open_broker() as running:
        async with running.client(
            "c", username="u", password=secret, properties=LONG, will=Will("w", last_words)
        ) as client:
            await settle()
            actor = await running.broker.questions._actor("c")
            assert actor is not None
            assert actor.connection is not None
            assert actor.connection.connect is not None
            assert actor.connection.connect.password is None
            await client.drop()
        await settle()
        assert actor.will is None
