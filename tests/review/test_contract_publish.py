"""The REST contract, read afresh: publishing, and messages that are retained."""

from __future__ import annotations

import base64
from datetime import datetime
from urllib.parse import quote

import pytest
import trio
from api.live import running
from api.operations import shows
from review.contract import MESSAGE_ID, TIME_MS, away, done, failed, got, post
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.mqtt import MqttConfig
from trio_broker.config.retainer import RetainerConfig

NOBODY = {"reason_code": 16, "message": "no_matching_subscribers"}
BAD_NAME = {"reason_code": 144, "message": "topic_name_invalid"}
GONE = "Viewed message doesn't exist"


def at(topic: str) -> str:
    return "/mqtt/retainer/message/" + quote(topic, safe="")


@shows("POST /publish")
async def test_all_properties_arrive(autojump_clock: MockClock) -> None:
    async with running() as live:
        new, old = await live.connect("new"), await live.connect("old", level=4)
        for client in (new, old):
            await client.subscribe("t", 2)
        properties = {
            "payload_format_indicator": 1,
            "message_expiry_interval": 100,
            "response_topic": "answers/1",
            "correlation_data": "c-ä",
            "user_properties": {"a": "1", "b": "zwei"},
            "content_type": "text/plain",
        }
        answer = await post(live, "t", "größe", qos=2, properties=properties, clientid="somebody")
        assert answer.status_code == 200
        assert answer.json().keys() == {"id"}
        assert MESSAGE_ID.fullmatch(answer.json()["id"])
        packet = await new.receive()
        assert (packet.payload, packet.qos, packet.retain) == ("größe".encode(), 2, False)
        user = packet.properties.pop("user_property")
        assert sorted(user) == [("a", "1"), ("b", "zwei")]
        assert packet.properties == {
            "payload_format_indicator": 1,
            "message_expiry_interval": 100,
            "response_topic": "answers/1",
            "correlation_data": "c-ä".encode(),
            "content_type": "text/plain",
        }
        packet = await old.receive()
        assert (packet.payload, packet.qos) == ("größe".encode(), 2)


@shows("POST /publish")
async def test_defaults_and_encodings(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("#", 2)
        for fields, payload in [
            ({"payload": "AP8="}, b"AP8="),
            ({"payload": "AP8=", "payload_encoding": "plain"}, b"AP8="),
            ({"payload": "AP8=", "payload_encoding": "base64"}, b"\x00\xff"),
            ({"payload": "", "payload_encoding": "base64"}, b""),
            ({"payload": ""}, b""),
        ]:
            answer = await live.api.post("/publish", json={"topic": "t", **fields})
            assert answer.status_code == 200, answer.text
            packet = await client.receive()
            assert (packet.payload, packet.qos, packet.retain) == (payload, 0, False)


@shows("POST /publish", "POST /publish/bulk")
async def test_ids_differ(autojump_clock: MockClock) -> None:
    async with running() as live:
        await away(live, "c1", "#")
        body = [{"topic": f"t/{index}", "payload": "x"} for index in range(50)]
        answer = await live.api.post("/publish/bulk", json=body)
        assert answer.status_code == 200
        assert len({item["id"] for item in answer.json()}) == 50
        rows = (await got(live, "/clients/c1/mqueue_messages"))["data"]
        assert [row["topic"] for row in rows] == [each["topic"] for each in body]
        assert [row["msgid"] for row in rows] == [item["id"] for item in answer.json()]


@shows("POST /publish")
async def test_nobody_is_subscribed(autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await post(live, "t")
        assert (answer.status_code, answer.json()) == (202, NOBODY)
        answer = await post(live, "t", "kept", retain=True)
        assert (answer.status_code, answer.json()) == (202, NOBODY)
        assert (await live.api.get(at("t"))).status_code == 200
        client = await live.connect("c1")
        await client.subscribe("$share/g/t", 1)
        assert (await post(live, "t")).status_code == 200
        await client.unsubscribe("$share/g/t")
        assert (await post(live, "t")).status_code == 202
        await away(live, "c2", "t")
        assert (await post(live, "t")).status_code == 200


@shows("POST /publish", "POST /publish/bulk")
async def test_delayed(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("t")
        answer = await post(live, "$delayed/5/t", "later")
        assert (answer.status_code, answer.json()) == (202, NOBODY)
        with trio.move_on_after(4):
            await client.receive()
            raise AssertionError("too early")
        with trio.fail_after(5):
            assert (await client.receive()).payload == b"later"


@shows("POST /publish", "POST /publish/bulk")
@pytest.mark.parametrize("topic", ["", "a/#", "+", "a/+/b", "#"])
async def test_topics_that_are_none(topic: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("#")
        answer = await post(live, topic)
        assert (answer.status_code, answer.json()) == (400, BAD_NAME)
        body = [{"topic": "ok", "payload": "1"}, {"topic": topic, "payload": "2"}, {"topic": "ok", "payload": "3"}]
        answer = await live.api.post("/publish/bulk", json=body)
        assert (answer.status_code, answer.json()) == (400, BAD_NAME)
        await client.ping()
        assert not client.inbox


@shows("POST /publish")
async def test_too_large(autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await post(live, "t", "x" * 1_048_577)
        assert (answer.status_code, answer.json()) == (400, {"reason_code": 151, "message": "packet_too_large"})
    async with running(Config(mqtt=MqttConfig(max_packet_size=1024))) as live:
        assert (await post(live, "t", "x" * 900)).status_code == 202
        assert (await post(live, "t", "x" * 1100)).status_code == 400


@shows("POST /publish")
@pytest.mark.parametrize("payload", ["?", "abc", "größe", "AP8"])
async def test_no_base64(payload: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await post(live, "t", payload, payload_encoding="base64")
        assert answer.status_code == 400
        assert answer.json().keys() == {"reason_code", "message"}
        assert answer.json()["reason_code"] == 131
        assert answer.json()["message"].startswith("{decode_base64_payload_failed,")


@shows("POST /publish/bulk")
async def test_many(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("a", 1)
        body = [{"topic": "a", "payload": "1"}, {"topic": "b", "payload": "2"}, {"topic": "a", "payload": "3"}]
        answer = await live.api.post("/publish/bulk", json=body)
        assert answer.status_code == 202
        first, second, third = answer.json()
        assert second == NOBODY
        assert first.keys() == third.keys() == {"id"}
        assert [(await client.receive()).payload for _ in range(2)] == [b"1", b"3"]
        answer = await live.api.post("/publish/bulk", json=[])
        assert (answer.status_code, answer.json()) == (400, {"reason_code": 131, "message": "empty_batch"})
        failed(await live.api.post("/publish/bulk", json=body[0]), 400, "BAD_REQUEST")


@shows("GET /mqtt/retainer/messages", "GET /mqtt/retainer/message/:topic")
async def test_what_is_retained(autojump_clock: MockClock) -> None:
    async with running() as live:
        assert await got(live, "/mqtt/retainer/messages") == {
            "data": [],
            "meta": {"page": 1, "limit": 100, "count": 0, "hasnext": False},
        }
        named, nameless = await live.connect("c1", username="u1"), await live.connect("c2")
        await named.publish("t/z", b"\x00\xff", 1, retain=True)
        await trio.sleep(1)
        await nameless.publish("t/a", b"", 0, retain=True)  # deletes what is not there
        await nameless.publish("t/a", b"2", 0, retain=True)
        await trio.sleep(1)
        identifier = (await post(live, "$priv/b", "3", qos=2, retain=True)).json().get("id")
        assert identifier is None  # nobody is subscribed
        await trio.sleep(1)
        await named.publish("t/first", b"4", 2, retain=True)
        answer = await got(live, "/mqtt/retainer/messages")
        assert answer["meta"] == {"page": 1, "limit": 100, "count": 4, "hasnext": False}
        rows = answer["data"]
        assert [row["topic"] for row in rows] == ["t/z", "t/a", "$priv/b", "t/first"]
        for row in rows:
            assert row.keys() == {"msgid", "topic", "qos", "publish_at", "from_clientid", "from_username"}
            assert MESSAGE_ID.fullmatch(row["msgid"])
            assert TIME_MS.fullmatch(row["publish_at"])
        senders = [("c1", "u1"), ("c2", "undefined"), ("http_api", "undefined"), ("c1", "u1")]
        assert [(row["from_clientid"], row["from_username"]) for row in rows] == senders
        assert [row["qos"] for row in rows] == [1, 0, 2, 2]
        times = [datetime.fromisoformat(row["publish_at"]) for row in rows]
        assert times == sorted(times)
        for row, payload in zip(rows, (b"\x00\xff", b"2", b"3", b"4"), strict=True):
            assert await got(live, at(row["topic"])) == row | {"payload": base64.b64encode(payload).decode()}


@shows("GET /mqtt/retainer/messages")
async def test_a_message_that_takes_the_place_of_another_is_the_newest(autojump_clock: MockClock) -> None:
    async with running() as live:
        for topic in ("a", "b", "a"):
            await post(live, topic, retain=True)
            await trio.sleep(1)
        answer = await got(live, "/mqtt/retainer/messages")
        assert [row["topic"] for row in answer["data"]] == ["b", "a"]
        assert answer["meta"]["count"] == 2
        await post(live, "b", "", retain=True)
        answer = await got(live, "/mqtt/retainer/messages")
        assert [row["topic"] for row in answer["data"]] == ["a"]
        assert answer["meta"]["count"] == 1


@shows("GET /mqtt/retainer/messages")
@pytest.mark.parametrize(
    ("topic", "found"),
    [
        ("#", "a a/b a/c b/c"),
        ("a/#", "a a/b a/c"),
        ("a/+", "a/b a/c"),
        ("+/c", "a/c b/c"),
        ("a/b", "a/b"),
        ("$x/#", "$x/a"),
        ("nothing", ""),
    ],
)
async def test_retained_by_filter(topic: str, found: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        for each in ("a", "a/b", "a/c", "b/c", "$x/a"):
            await post(live, each, retain=True)
        answer = await got(live, "/mqtt/retainer/messages", topic=topic)
        assert [row["topic"] for row in answer["data"]] == found.split()
        assert answer["meta"] == {"page": 1, "limit": 100, "hasnext": False}
        seen = []
        for page in range(1, 6):
            answer = await got(live, "/mqtt/retainer/messages", topic=topic, page=page, limit=2)
            seen += [row["topic"] for row in answer["data"]]
            assert answer["meta"].keys() == {"page", "limit", "hasnext"}
            if not answer["meta"]["hasnext"]:
                break
        assert seen == found.split()


@shows("GET /mqtt/retainer/messages", "GET /mqtt/retainer/message/:topic", "DELETE /mqtt/retainer/message/:topic")
async def test_expired_messages_are_left_out(autojump_clock: MockClock) -> None:
    async with running() as live:
        await post(live, "a", retain=True, properties={"message_expiry_interval": 10})
        await post(live, "b", retain=True)
        await trio.sleep(9)
        assert len((await got(live, "/mqtt/retainer/messages"))["data"]) == 2
        await trio.sleep(2)
        assert [row["topic"] for row in (await got(live, "/mqtt/retainer/messages"))["data"]] == ["b"]
        assert (await got(live, "/mqtt/retainer/messages?topic=a"))["data"] == []
        failed(await live.api.get(at("a")), 404, "NOT_FOUND", GONE)
        failed(await live.api.delete(at("a")), 404, "NOT_FOUND", GONE)


@shows("GET /mqtt/retainer/message/:topic", "DELETE /mqtt/retainer/message/:topic", "DELETE /mqtt/retainer/messages")
async def test_looking_up_and_deleting(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("#", 1, retain_handling=2)
        for each in ("a/b", "a/c", "b c/ä", "d", "e"):
            await post(live, each, "x", retain=True)
            await client.receive()
        assert (await got(live, at("a/+")))["topic"] in ("a/b", "a/c")
        assert (await got(live, at("b c/ä")))["topic"] == "b c/ä"
        for topic in ("nothing", "a/b/c", "x/#"):
            failed(await live.api.get(at(topic)), 404, "NOT_FOUND", GONE)
            failed(await live.api.delete(at(topic)), 404, "NOT_FOUND", GONE)
        done(await live.api.delete(at("a/#")))
        failed(await live.api.delete(at("a/#")), 404, "NOT_FOUND", GONE)
        done(await live.api.delete(at("d")))
        rows = (await got(live, "/mqtt/retainer/messages"))["data"]
        assert [row["topic"] for row in rows] == ["b c/ä", "e"]
        done(await live.api.delete("/mqtt/retainer/messages"))
        done(await live.api.delete("/mqtt/retainer/messages"))
        assert (await got(live, "/mqtt/retainer/messages"))["meta"]["count"] == 0
        await client.ping()
        assert not client.inbox
        late = await live.connect("late")
        await late.subscribe("#", 1)
        await late.ping()
        assert not late.inbox


@shows("GET /mqtt/retainer/message/:topic")
async def test_a_payload_of_more_than_a_mebibyte_is_left_out(autojump_clock: MockClock) -> None:
    size = 4 * 1024 * 1024
    config = Config(mqtt=MqttConfig(max_packet_size=size), retainer=RetainerConfig(max_payload_size=size))
    async with running(config) as live:
        await post(live, "fits", "x" * 1_048_576, retain=True)
        await post(live, "more", "x" * 1_048_577, retain=True)
        assert len((await got(live, at("fits")))["payload"]) > 1_048_576
        assert "payload" not in await got(live, at("more"))
