"""SUBSCRIBE and UNSUBSCRIBE: answers, options, identifiers, overlapping filters, what matches."""

from __future__ import annotations

import pytest
from actors.flows import SESSION, end_of, one, payloads, rest, settle
from trio.testing import MockClock

from trio_broker.protocol.packets import SubAck, SubscribeFilter
from trio_broker.testing import Client, open_broker


@pytest.mark.parametrize("level", [4, 5])
async def test_a_code_for_each_filter(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-3.8.4-6], [MQTT-3.9.3-1], [MQTT-3.8.4-5]"""
    filters = [SubscribeFilter(f"t/{number}", number % 3) for number in range(7)]
    async with open_broker() as running, running.client("c", level=level) as client:
        assert (await client.subscribe(filters)).reason_codes == [0, 1, 2, 0, 1, 2, 0]


async def test_the_same_filter_twice_in_one_packet(autojump_clock: MockClock) -> None:
    """[MQTT-3.8.4-5] the last one wins, two codes."""
    async with open_broker() as running, running.client("c") as client:
        assert (await client.subscribe([SubscribeFilter("t", 2), SubscribeFilter("t", 0)])).reason_codes == [2, 0]
        await client.publish("t", b"x", 2)
        assert [message.qos for message in await rest(client)] == [0]


async def test_a_lower_qos_is_granted(autojump_clock: MockClock) -> None:
    """[MQTT-3.2.2-10] SUBSCRIBE with QoS 2 is accepted by a broker with a lower maximum."""
    async with open_broker(mqtt={"max_qos_allowed": 1}) as running, running.client("c") as client:
        codes = (await client.subscribe([SubscribeFilter(f"t{qos}", qos) for qos in (0, 1, 2)])).reason_codes
        assert codes[:2] == [0, 1]
        assert codes[2] in (1, 2)
        await client.send_bytes(b"\x34\x06\x00\x01t\x00\x01\x00")
        assert (await end_of(client)).reason_code == 0x9B


@pytest.mark.parametrize("level", [3, 4, 5])
async def test_one_copy_for_overlapping_filters(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4] with the highest QoS and all identifiers."""
    async with open_broker() as running, running.client("c", level=level) as client:
        for identifier, (topic_filter, qos) in enumerate([("a/#", 0), ("a/+", 2), ("#", 1), ("a/b", 0), ("b", 2)], 1):
            await client.subscribe(topic_filter, qos, identifier=identifier if level == 5 else None)
        await client.publish("a/b", b"x", 2)
        messages = await rest(client)
        if len(messages) == 1:
            assert messages[0].qos == 2
            if level == 5:
                assert sorted(messages[0].properties["subscription_identifier"]) == [1, 2, 3, 4]
        else:  # a copy for each is allowed too
            assert sorted(message.qos for message in messages) == [0, 0, 1, 2]


async def test_identifiers_only_of_those_that_have_one(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.4-3], [MQTT-3.3.4-4]"""
    async with open_broker() as running, running.client("c") as client:
        await client.subscribe("a/#")
        await client.publish("a/b")
        assert "subscription_identifier" not in (await one(client)).properties
        await client.subscribe("a/b", identifier=268_435_455)
        await client.publish("a/b")
        assert (await one(client)).properties["subscription_identifier"] == [268_435_455]


async def test_an_identifier_is_for_all_filters_of_a_packet(autojump_clock: MockClock) -> None:
    """Section 3.8.2.1.2; the same number twice on one message stands there twice or once."""
    async with open_broker() as running, running.client("c") as client:
        await client.subscribe([SubscribeFilter("a"), SubscribeFilter("b")], identifier=5)
        for topic_name in ("a", "b"):
            await client.publish(topic_name)
            assert (await one(client)).properties["subscription_identifier"] == [5]


@pytest.mark.parametrize("identifier", [b"\x0b\x00", b"\x0b\x01\x0b\x02"])
async def test_wrong_identifiers(autojump_clock: MockClock, identifier: bytes) -> None:
    """Section 3.8.2.1.2: 0, or two of them, is a protocol error."""
    body = b"\x00\x01" + bytes([len(identifier)]) + identifier + b"\x00\x01t\x00"
    async with open_broker() as running, running.client("c") as client:
        await client.send_bytes(bytes([0x82, len(body)]) + body)
        assert (await end_of(client)).reason_code == 0x82


async def test_an_identifier_in_a_clients_publish(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.4-6]"""
    async with open_broker() as running, running.client("c") as client:
        await client.send_bytes(b"\x30\x06\x00\x01t\x02\x0b\x01")
        assert (await end_of(client)).reason_code == 0x82


async def test_subscribing_again_replaces(autojump_clock: MockClock) -> None:
    """[MQTT-3.8.4-3] options and identifier are those of the new one; without an identifier the old one is gone."""
    async with open_broker() as running, running.client("c") as client:
        await client.subscribe("t", 2, identifier=1, retain_as_published=True)
        await client.subscribe("t", 1, identifier=2)
        await client.publish("t", b"x", 2, retain=True)
        message = await one(client)
        assert (message.qos, message.retain, message.properties) == (1, False, {"subscription_identifier": [2]})
        await client.subscribe("t", 1, retain_handling=2)
        await client.publish("t", b"x", 1)
        assert (await one(client)).properties == {}
        subscriptions = await running.broker.questions.client_subscriptions("c")
        assert subscriptions is not None
        assert len(subscriptions) == 1


async def test_identifiers_wait_with_the_message(autojump_clock: MockClock) -> None:
    """Section 3.8.2.1.2: identifiers are part of the session, and of what was queued."""
    async with open_broker() as running:
        async with running.client("c", properties=SESSION) as client:
            await client.subscribe("t", 1, identifier=9)
        await settle()
        await running.broker.publish("t", b"1", qos=1)
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            await running.broker.publish("t", b"2", qos=1)
            messages = await rest(client)
            assert payloads(messages) == [b"1", b"2"]
            assert [message.properties["subscription_identifier"] for message in messages] == [[9], [9]]


async def test_no_local(autojump_clock: MockClock) -> None:
    """[MQTT-3.8.3-3] not to the client identifier that published it, on another connection neither."""
    async with open_broker() as running:
        async with running.client("c", properties=SESSION) as client, running.client("other") as other:
            await client.subscribe("t", 1, no_local=True)
            await other.subscribe("t", 1, no_local=True)
            await client.publish("t", b"mine", 1)
            assert payloads(await rest(client)) == []
            assert payloads(await rest(other)) == [b"mine"]
            await other.publish("t", b"its", 1)
            assert payloads(await rest(client)) == [b"its"]
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            await client.publish("t", b"mine", 1)
            assert await rest(client) == []


async def test_no_local_and_a_filter_without_it(autojump_clock: MockClock) -> None:
    """[MQTT-3.8.3-3] counts for its own filter only."""
    async with open_broker() as running, running.client("c") as client:
        await client.subscribe("t", 1, no_local=True, identifier=1)
        await client.subscribe("#", 0, identifier=2)
        await client.publish("t", b"x", 1)
        messages = await rest(client)
        assert [(message.qos, message.properties) for message in messages] == [(0, {"subscription_identifier": [2]})]


async def test_no_local_on_a_shared_one(autojump_clock: MockClock) -> None:
    """[MQTT-3.8.3-4]"""
    async with open_broker() as running, running.client("c") as client:
        await client.send_bytes(b"\x82\x10\x00\x01\x00\x00\x0a$share/g/t\x04")
        assert (await end_of(client)).reason_code == 0x82


@pytest.mark.parametrize(("level", "codes"), [(3, []), (4, []), (5, [0, 17, 0, 17])])
async def test_unsubscribe(autojump_clock: MockClock, level: int, codes: list[int]) -> None:
    """[MQTT-3.10.4-1] to [MQTT-3.10.4-6], [MQTT-3.11.3-1]: exact filters, always answered, nothing more comes."""
    async with open_broker() as running, running.client("c", level=level) as client:
        await client.subscribe([SubscribeFilter("a"), SubscribeFilter("b/+"), SubscribeFilter("A")])
        assert (await client.unsubscribe("a", "b/c", "b/+", "a")).reason_codes == codes
        for topic_name in ("a", "b/c", "A"):
            await client.publish(topic_name, topic_name.encode())
        assert payloads(await rest(client)) == [b"A"]
        assert await running.broker.questions.topics() == ["A"]


async def attempt(client: Client, topic_filter: str) -> int | None:
    """The code of SUBACK, None where the connection ended instead."""
    raw = topic_filter.encode()
    properties = b"\x00" if client.level == 5 else b""
    body = b"\x00\x63" + properties + len(raw).to_bytes(2, "big") + raw + b"\x00"
    await client.send_bytes(bytes([0x82, len(body)]) + body)
    await settle()
    packet = client.inbox.popleft() if client.inbox else None
    return packet.reason_codes[0] if isinstance(packet, SubAck) else None


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize("topic_filter", ["a/#/b", "a#", "a+/b", "#/", "##", "+a", "", "a/b+/c", "$share/g/a#"])
async def test_filters_that_are_not_valid(autojump_clock: MockClock, topic_filter: str, level: int) -> None:
    """[MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1]: refused with a code or by closing, never stored."""
    if topic_filter.startswith("$share") and level < 5:
        topic_filter = "a#/b"
    async with open_broker() as running, running.client("c", level=level) as client:
        code = await attempt(client, topic_filter)
        assert code in ((None, 0x8F) if level == 5 else (None, 0x80) if level == 4 else (None,))
        assert await running.broker.questions.topics() == []


@pytest.mark.parametrize("topic_filter", ["$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/#/a"])
async def test_shared_filters_that_are_not_valid(autojump_clock: MockClock, topic_filter: str) -> None:
    """[MQTT-4.8.2-1], [MQTT-4.8.2-2]"""
    async with open_broker() as running, running.client("c") as client:
        assert await attempt(client, topic_filter) in (None, 0x8F)
        assert await running.broker.questions.topics() == []


@pytest.mark.parametrize(
    ("key", "topic_filter", "code"),
    [("wildcard_subscription", "a/+", 0xA2), ("shared_subscription", "$share/g/a", 0x9E)],
)
@pytest.mark.parametrize("level", [4, 5])
async def test_what_the_broker_does_not_offer(
    autojump_clock: MockClock, level: int, key: str, topic_filter: str, code: int
) -> None:
    """[MQTT-3.8.3-2] of 3.1.1, sections 3.2.2.3.11 and 3.2.2.3.13 of 5.0"""
    async with open_broker(mqtt={key: False}) as running, running.client("c", level=level) as client:
        answer = await attempt(client, topic_filter)
        assert answer in ((None, code) if level == 5 else (None, 0x80))
        assert await running.broker.questions.topics() == []


@pytest.mark.parametrize(
    ("topic_filter", "topic_name", "matches"),
    [
        ("+", "a", True),
        ("+", "a/b", False),
        ("+/+", "/a", True),
        ("/+", "a", False),
        ("a/+", "a/", True),
        ("a/+", "a", False),
        ("#", "/", True),
        ("#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "ab", False),
        ("a/b", "a/B", False),
        ("a b", "a b", True),
        ("a b", "a  b", False),
        ("+/b/#", "a/b", True),
        ("#", "$x", False),
        ("+/x", "$x/x", False),
        ("$x/#", "$x/y/z", True),
        ("$x/#", "$x", True),
        ("$x/+", "$x/y", True),
        ("a/$x", "a/$x", True),
        ("+/+", "a/$x", True),
        ("\u00e9", "e\u0301", False),
        ("\ufeffa", "\ufeffa", True),
        ("a//+", "a//b", True),
        ("a/+/b", "a//b", True),
    ],
)
async def test_what_matches(autojump_clock: MockClock, topic_filter: str, topic_name: str, matches: bool) -> None:
    """[MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.2-1], [MQTT-4.7.3-4], [MQTT-1.5.4-3]"""
    async with open_broker() as running, running.client("c") as client:
        await client.subscribe(topic_filter)
        await client.publish(topic_name)
        assert [message.topic_name for message in await rest(client)] == ([topic_name] if matches else [])


@pytest.mark.parametrize("level", [4, 5])
async def test_a_quota_of_subscriptions(autojump_clock: MockClock, level: int) -> None:
    """Section 3.9.3: 0x97 (3.1.1: 0x80), the others stand, and replacing one is no new one."""
    filters = [SubscribeFilter("a"), SubscribeFilter("b"), SubscribeFilter("c")]
    refused = 0x97 if level == 5 else 0x80
    async with open_broker(mqtt={"max_subscriptions": 2}) as running, running.client("c", level=level) as client:
        assert (await client.subscribe(filters)).reason_codes == [0, 0, refused]
        assert (await client.subscribe("a", 1)).reason_codes == [1]
        await client.unsubscribe("b")
        assert (await client.subscribe("c", 1)).reason_codes == [1]
        assert sorted(await running.broker.questions.topics()) == ["a", "c"]
