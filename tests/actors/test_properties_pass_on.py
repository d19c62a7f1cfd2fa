"""Properties of a message: what goes through to subscribers unchanged, and what does not."""

from __future__ import annotations

import pytest
from actors.flows import SESSION, end_of, one, payloads, rest, settle
from trio.testing import MockClock

from trio_broker.protocol.packets import Properties, Publish
from trio_broker.testing import open_broker

EVERYTHING: Properties = {
    "payload_format_indicator": 1,
    "content_type": "application/json",
    "response_topic": "answers/\u00e4",
    "correlation_data": bytes(range(256)),
    "user_property": [("b", "2"), ("a", "1"), ("b", "3"), ("", ""), ("b", "2")],
}


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("name", sorted(EVERYTHING))
async def test_each_goes_through(autojump_clock: MockClock, name: str, qos: int) -> None:
    """[MQTT-3.3.2-4], [MQTT-3.3.2-15] to [MQTT-3.3.2-18], [MQTT-3.3.2-20]"""
    only: Properties = {name: EVERYTHING[name]}  # type: ignore[misc]
    async with open_broker() as running, running.client("c") as client:
        await client.subscribe("t", 2)
        await client.publish("t", b"x", qos, properties=only)
        assert (await one(client)).properties == only


async def test_all_together_and_late(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-18] also through the queue of a client that is away."""
    async with open_broker() as running:
        async with running.client("c", properties=SESSION) as client:
            await client.subscribe("t", 1, identifier=3)
        await settle()
        async with running.client("p") as publisher:
            await publisher.publish("t", b"x", 1, properties={**EVERYTHING, "topic_alias": 4})
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            assert (await one(client)).properties == {**EVERYTHING, "subscription_identifier": [3]}


async def test_problem_information_does_not_touch_messages(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-29] PUBLISH keeps its user properties where nothing else has any."""
    quiet: Properties = {"request_problem_information": 0}
    async with open_broker() as running, running.client("c", properties=quiet) as client:
        answer = await client.subscribe("t", 1)
        assert not {"reason_string", "user_property"} & set(answer.properties)
        acknowledged = await client.publish("t", b"x", 1, properties=EVERYTHING)
        assert acknowledged is not None
        assert not {"reason_string", "user_property"} & set(acknowledged.properties)
        assert (await one(client)).properties == EVERYTHING


@pytest.mark.parametrize("level", [3, 4])
async def test_older_versions_get_none(autojump_clock: MockClock, level: int) -> None:
    """A 3.1.1 subscriber gets the payload alone, and what it publishes has no properties."""
    async with open_broker() as running, running.client("old", level=level) as old, running.client("new") as new:
        for client in (old, new):
            await client.subscribe("t", 2)
        await new.publish("t", b"1", 2, properties=EVERYTHING)
        assert (await one(old)).properties == {}
        assert (await one(new)).properties == EVERYTHING
        await old.publish("t", b"2", 2)
        assert (await one(new)).properties == {}


@pytest.mark.parametrize("topic_name", ["a/+", "#", "a/#/b"])
async def test_wildcards_in_a_response_topic(autojump_clock: MockClock, topic_name: str) -> None:
    """[MQTT-3.3.2-14]"""
    async with open_broker() as running, running.client("c") as client:
        raw = topic_name.encode()
        properties = b"\x08" + len(raw).to_bytes(2, "big") + raw
        body = b"\x00\x01t" + bytes([len(properties)]) + properties
        await client.send_bytes(bytes([0x30, len(body)]) + body)
        assert (await end_of(client)).reason_code in (0x82, 0x90)


async def test_a_payload_format_that_does_not_exist(autojump_clock: MockClock) -> None:
    """Section 3.3.2.3.2: above 1 is a protocol error."""
    async with open_broker() as running, running.client("c") as client:
        await client.send_bytes(b"\x30\x06\x00\x01t\x02\x01\x02")
        assert (await end_of(client)).reason_code in (0x81, 0x82)


async def test_a_request_and_its_answer(autojump_clock: MockClock) -> None:
    """Section 4.10: response topic and correlation data are all that is needed."""
    async with open_broker() as running, running.client("server") as server, running.client("asker") as asker:
        await server.subscribe("questions", 1)
        await asker.subscribe("answers/asker", 1)
        request: Properties = {"response_topic": "answers/asker", "correlation_data": b"\x00\xff"}
        await asker.publish("questions", b"?", 1, properties=request)
        question = await one(server)
        reply: Properties = {"correlation_data": question.properties["correlation_data"]}
        await server.publish(question.properties["response_topic"], b"!", 1, properties=reply)
        answer = await one(asker)
        assert (answer.payload, answer.properties) == (b"!", {"correlation_data": b"\x00\xff"})


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 300_000])
async def test_payloads_of_every_size(autojump_clock: MockClock, size: int) -> None:
    """[MQTT-3.3.2-3] bytes are bytes, up to and around the borders of the remaining length."""
    payload = bytes(number * 7 % 256 for number in range(size))
    async with open_broker() as running, running.client("c") as client:
        await client.subscribe("t", 2)
        for qos in (0, 1, 2):
            await client.publish("t", payload, qos)
        assert payloads(await rest(client)) == [payload] * 3


async def test_wildcards_in_a_topic_name(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-2]"""
    async with open_broker() as running:
        for topic_name in ("a/+", "#"):
            async with running.client("c") as client:
                raw = topic_name.encode()
                body = len(raw).to_bytes(2, "big") + raw + b"\x00"
                await client.send_bytes(bytes([0x30, len(body)]) + body)
                assert (await end_of(client)).reason_code in (0x81, 0x82, 0x90)


async def test_a_topic_name_of_full_length(autojump_clock: MockClock) -> None:
    """[MQTT-4.7.3-3] 65,535 bytes."""
    topic_name = "\u00e9" * 32767 + "x"
    async with open_broker() as running, running.client("c") as client:
        await client.subscribe(topic_name, 1)
        await client.send(Publish(topic_name, b"x", 1, packet_identifier=1))
        assert (await one(client)).topic_name == topic_name
