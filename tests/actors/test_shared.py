"""Shared subscriptions: one copy for each group, whoever is there."""

from __future__ import annotations

from collections import Counter

import pytest
from actors.flows import SESSION, numbers, one, payloads, rest, settle, take
from trio.testing import MockClock

from trio_broker.protocol.packets import Properties, PubAck, PubRec
from trio_broker.testing import open_broker

STRATEGIES = ["random", "round_robin", "round_robin_per_group", "sticky", "local", "hash_topic", "hash_clientid"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_each_message_to_one_of_them(autojump_clock: MockClock, qos: int, strategy: str) -> None:
    """Section 4.8.2: each message to one member, none lost."""
    config = {"shared_subscription_strategy": strategy}
    async with open_broker(mqtt=config) as running, running.client("a") as a, running.client("b") as b:
        async with running.client("c") as c:
            members = (a, b, c)
            for member in members:
                assert (await member.subscribe("$share/g/t/+", qos)).reason_codes == [qos]
            for payload in numbers(60):
                await running.broker.publish(f"t/{int(payload) % 7}", payload, qos=qos)
            received = [payloads(await rest(member)) for member in members]
            everything = [payload for each in received for payload in each]
            assert sorted(everything, key=int) == numbers(60)
            if strategy.startswith("round_robin"):
                assert [len(each) for each in received] == [20, 20, 20]
            if strategy in ("sticky", "hash_clientid"):
                assert sorted(len(each) for each in received) == [0, 0, 60]


async def test_groups_are_independent(autojump_clock: MockClock) -> None:
    """Section 4.8.2: other names and other filters are other groups; ordinary subscriptions are none of them."""
    filters = ["$share/g/t", "$share/h/t", "$share/g/#", "$share/g/+", "t"]
    async with open_broker() as running, running.client("p") as publisher:
        counts: Counter[str] = Counter()
        async with running.client("0") as c0, running.client("1") as c1, running.client("2") as c2:
            async with running.client("3") as c3, running.client("4") as c4:
                clients = (c0, c1, c2, c3, c4)
                for client, topic_filter in zip(clients, filters, strict=True):
                    await client.subscribe(topic_filter, 1)
                for payload in numbers(5):
                    await publisher.publish("t", payload, 1)
                for client, topic_filter in zip(clients, filters, strict=True):
                    counts[topic_filter] += len(await rest(client))
        assert counts == dict.fromkeys(filters, 5)


async def test_both_the_group_and_ones_own(autojump_clock: MockClock) -> None:
    """Section 4.8.2: a member with an overlapping subscription of its own gets both copies."""
    async with open_broker() as running, running.client("c") as client:
        await client.subscribe("$share/g/t", 1, identifier=1)
        await client.subscribe("t", 1, identifier=2)
        await client.publish("t", b"x", 1)
        messages = await rest(client)
        identifiers = [message.properties["subscription_identifier"] for message in messages]
        assert sorted(identifiers) == [[1], [2]]


@pytest.mark.parametrize("handling", [0, 1, 2])
async def test_no_retained_messages(autojump_clock: MockClock, handling: int) -> None:
    """Section 3.8.3.1: none for a shared subscription, whatever retain handling says."""
    async with open_broker() as running, running.client("c") as client:
        await client.publish("t", b"x", 1, retain=True)
        await client.subscribe("$share/g/t", 1, retain_handling=handling)
        assert await rest(client) == []


async def test_those_who_are_there_come_first(autojump_clock: MockClock) -> None:
    """Section 4.8.2: no message waits for a member that is away while another one is there."""
    async with open_broker() as running, running.client("here") as here:
        async with running.client("away", properties=SESSION) as away:
            await away.subscribe("$share/g/t", 1)
        await here.subscribe("$share/g/t", 1)
        await settle()
        for payload in numbers(10):
            await running.broker.publish("t", payload, qos=1)
        assert payloads(await rest(here)) == numbers(10)
        async with running.client("away", clean_start=False, properties=SESSION) as away:
            assert await rest(away) == []


async def test_if_all_are_away_it_waits_once(autojump_clock: MockClock) -> None:
    """[MQTT-4.5.0-1] for a group: one of the sessions keeps it."""
    async with open_broker() as running:
        for client_id in ("a", "b"):
            async with running.client(client_id, properties=SESSION) as client:
                await client.subscribe("$share/g/t", 1)
        await settle()
        for payload in numbers(10):
            await running.broker.publish("t", payload, qos=1)
        received: list[bytes] = []
        for client_id in ("a", "b"):
            async with running.client(client_id, clean_start=False, properties=SESSION) as client:
                received += payloads(await rest(client))
        assert sorted(received) == numbers(10)


async def test_each_its_own_qos(autojump_clock: MockClock) -> None:
    """[MQTT-4.8.2-3]"""
    async with open_broker() as running, running.client("a") as a, running.client("b") as b:
        await a.subscribe("$share/g/t", 0)
        await b.subscribe("$share/g/t", 2)
        for payload in numbers(10):
            await running.broker.publish("t", payload, qos=1)
        assert {message.qos for message in await rest(a)} == {0}
        assert {message.qos for message in await rest(b)} == {1}


async def test_leaving(autojump_clock: MockClock) -> None:
    """Section 4.8.2 after UNSUBSCRIBE, or the end of the session, the rest of the group gets everything."""
    async with open_broker() as running, running.client("a") as a, running.client("b") as b:
        async with running.client("c") as c:
            for member in (a, b, c):
                await member.subscribe("$share/g/t", 1)
        await settle()
        assert (await b.unsubscribe("t")).reason_codes == [17]
        assert (await b.unsubscribe("$share/g/t")).reason_codes == [0]
        for payload in numbers(6):
            await running.broker.publish("t", payload, qos=1)
        assert payloads(await rest(a)) == numbers(6)
        assert await rest(b) == []
        assert await running.broker.questions.topics() == ["$share/g/t"]


async def test_unsubscribing_keeps_the_other_apart(autojump_clock: MockClock) -> None:
    """[MQTT-3.10.4-1] `t` and `$share/g/t` are two subscriptions."""
    async with open_broker() as running, running.client("c") as client:
        await client.subscribe("$share/g/t", 1)
        await client.subscribe("t", 1)
        await client.unsubscribe("t")
        await client.publish("t", b"x", 1)
        assert len(await rest(client)) == 1
        await client.unsubscribe("$share/g/t")
        await client.publish("t", b"x", 1)
        assert await rest(client) == []


async def test_a_full_window_does_not_block_the_group(autojump_clock: MockClock) -> None:
    """Section 4.8.2: what goes to others goes on while one member acknowledges nothing."""
    slow: Properties = {"receive_maximum": 1}
    async with open_broker() as running, running.client("slow", properties=slow, auto_ack=False) as a:
        async with running.client("quick") as b:
            await a.subscribe("$share/g/t", 1)
            await b.subscribe("$share/g/t", 1)
            for payload in numbers(20):
                await running.broker.publish("t", payload, qos=1)
            quick = payloads(await rest(b))
            assert len(quick) >= 10
            received = payloads(await rest(a, ack=True)) + quick
            assert sorted(received) == sorted(numbers(20))


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_refusal_drops_it(autojump_clock: MockClock, qos: int) -> None:
    """[MQTT-4.8.2-6] PUBACK or PUBREC with an error: nobody else gets it."""
    async with open_broker() as running, running.client("a", auto_ack=False) as a:
        await a.subscribe("$share/g/t", qos)
        await running.broker.publish("t", b"x", qos=qos)
        message = await one(a)
        async with running.client("b") as b:
            await b.subscribe("$share/g/t", qos)
            await a.send((PubAck if qos == 1 else PubRec)(message.packet_identifier, 0x83))
            assert await rest(b) == []
            assert await rest(a) == []


async def test_qos_2_begun_is_finished_with_the_member(autojump_clock: MockClock) -> None:
    """[MQTT-4.8.2-4] when it comes back; [MQTT-4.8.2-5] when it does not, nobody gets it."""
    async with open_broker() as running:
        async with running.client("a", properties=SESSION, auto_ack=False) as a:
            await a.subscribe("$share/g/t", 2)
            for payload in numbers(2):
                await running.broker.publish("t", payload, qos=2)
            await take(a, 2)
            await a.drop()
        async with running.client("b") as b:
            await b.subscribe("$share/g/t", 2)
            assert await rest(b) == []
            async with running.client("a", clean_start=False, properties=SESSION, auto_ack=False) as a:
                first = await one(a, ack=True)
                assert (first.payload, first.dup) == (b"0", True)
                await settle()
                await a.disconnect(0, {"session_expiry_interval": 0})
            assert await rest(b) == []


async def test_no_local_does_not_apply(autojump_clock: MockClock) -> None:
    """[MQTT-3.8.3-4] a member gets what it published itself."""
    async with open_broker() as running, running.client("c") as client:
        await client.subscribe("$share/g/t", 1)
        await client.publish("t", b"x", 1)
        assert payloads(await rest(client)) == [b"x"]


async def test_it_comes_back_with_the_session(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-5] the membership is part of the session; retain 0 as for any live message."""
    async with open_broker() as running:
        async with running.client("c", properties=SESSION) as client:
            await client.subscribe("$share/g/t", 1)
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            await running.broker.publish("t", b"x", qos=1, retain=True)
            messages = await rest(client)
            assert [(message.payload, message.retain) for message in messages] == [(b"x", False)]


async def test_the_gauges(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("a") as a, running.client("b") as b:
        await a.subscribe("$share/g/t", 1)
        await b.subscribe("$share/g/t", 1)
        await b.subscribe("t", 1)
        stats = await running.broker.questions.stats()
        assert stats["subscriptions.shared.count"] == 2
        assert stats["subscriptions.count"] == 3
