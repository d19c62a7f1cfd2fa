"""`/mqtt/publish` and `/mqtt/publish_batch` of EMQX 4."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from actors.flows import payloads, rest
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.config import Config, MqttConfig

BAD_PARAMS = {"code": 108, "message": "bad_params"}
BAD_TOPIC = {"code": 115, "message": "bad_topic"}
BAD_QOS = {"code": 116, "message": "bad_qos"}
DONE = {"code": 0}
ID = re.compile(r"[0-9A-F]{32}")


async def sent(v4: httpx.AsyncClient, body: Any, path: str = "/mqtt/publish") -> Any:
    answer = await v4.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def topics(live: Live) -> list[str]:
    rows = (await live.api.get("/mqtt/retainer/messages")).json()["data"]
    return sorted(row["topic"] for row in rows)


@shows("POST /api/v4/mqtt/publish")
async def test_the_sample(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        reader = await live.connect("reader")
        await reader.subscribe("a/b/c", qos=2)
        body = {"topic": "a/b/c", "payload": "Hello World", "qos": 1, "retain": False, "clientid": "example"}
        assert await sent(v4, body) == DONE
        (message,) = await rest(reader)
        assert (message.topic_name, message.payload, message.qos, message.retain) == ("a/b/c", b"Hello World", 1, False)
        metrics = (await live.api.get("/metrics")).json()[0]
        assert (metrics["messages.received"], metrics["messages.qos1.received"]) == (1, 1)


@shows("POST /api/v4/mqtt/publish")
async def test_the_client_it_is_from(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert await sent(v4, {"topic": "a", "payload": "1", "retain": True, "clientid": "example"}) == DONE
        assert await sent(v4, {"topic": "b", "payload": "1", "retain": True}) == DONE
        for topic, client_id in (("a", "example"), ("b", "http_api")):
            shown = (await live.api.get(f"/mqtt/retainer/message/{topic}")).json()
            assert shown["from_clientid"] == client_id
        for wrong in (1, None, True, ["c"], "x" * 65_536, "ü" * 32_768, "a\0b"):
            expected = {"code": 108, "message": "bad clientid: must be string"}
            assert await sent(v4, {"topic": "a", "clientid": wrong}) == expected


@shows("POST /api/v4/mqtt/publish")
@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"topic": "a,b/c"}, ["a", "b/c"]),
        ({"topics": "a,b/c"}, ["a", "b/c"]),
        ({"topic": "a", "topics": "b,c"}, ["a"]),
        ({"topics": "a, b"}, [" b", "a"]),
        ({"topics": "a,,b/#,c/+,d"}, ["a", "d"]),
    ],
)
async def test_several_topics(autojump_clock: MockClock, body: dict[str, str], wanted: list[str]) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert await sent(v4, {**body, "payload": "x", "retain": True}) == DONE
        assert await topics(live) == wanted


@shows("POST /api/v4/mqtt/publish")
@pytest.mark.parametrize(
    "body", [{}, {"topic": ""}, {"topic": "a/#"}, {"topics": "+,,#"}, {"topic": "x" * 65_536}, {"topic": "a\0b"}]
)
async def test_no_topic(autojump_clock: MockClock, body: dict[str, str]) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert await sent(v4, {**body, "payload": "x"}) == BAD_TOPIC


@shows("POST /api/v4/mqtt/publish")
@pytest.mark.parametrize(
    ("said", "payload"),
    [
        ({"payload": "hällo"}, "hällo".encode()),
        ({"payload": ""}, b""),
        ({}, b""),
        ({"payload": None}, b"null"),
        ({"payload": 1.5}, b"1.5"),
        ({"payload": True}, b"true"),
        ({"payload": {"a": [1, "x"]}}, b'{"a":[1,"x"]}'),
        ({"payload": "AP8=", "encoding": "base64"}, b"\x00\xff"),
        ({"payload": "AP8=", "encoding": "plain"}, b"AP8="),
        ({"payload": "AP8=", "encoding": "hex"}, b"AP8="),
        ({"payload": 1234, "encoding": "base64"}, b"\xd7m\xf8"),
    ],
)
async def test_payloads(autojump_clock: MockClock, said: dict[str, Any], payload: bytes) -> None:
    async with running() as live, older(live, "v4") as v4:
        reader = await live.connect("reader")
        await reader.subscribe("t")
        assert await sent(v4, {"topic": "t", **said}) == DONE
        assert payloads(await rest(reader)) == [payload]


@shows("POST /api/v4/mqtt/publish")
@pytest.mark.parametrize(("retain", "kept"), [(True, ["t"]), (False, []), ("true", []), (1, [])])
async def test_only_true_retains(autojump_clock: MockClock, retain: Any, kept: list[str]) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert await sent(v4, {"topic": "t", "payload": "x", "retain": retain}) == DONE
        assert await topics(live) == kept


@shows("POST /api/v4/mqtt/publish")
@pytest.mark.parametrize("qos", [3, -1, 1.5, "3", "x", True, None, []])
async def test_what_is_no_qos(autojump_clock: MockClock, qos: Any) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert await sent(v4, {"topic": "t", "qos": qos, "retain": True, "payload": "x"}) == BAD_QOS
        assert await topics(live) == []


@shows("POST /api/v4/mqtt/publish")
async def test_properties(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        reader = await live.connect("reader")
        await reader.subscribe("t")
        body = {
            "topic": "t",
            "user_properties": {"first": "1", "n": 2, "": "x"},
            "properties": {
                "payload_format_indicator": 1,
                "message_expiry_interval": 60,
                "response_topic": "answer/here",
                "correlation_data": "abc",
                "user_properties": {"first": "again", "yes": True, "half": 0.5},
                "subscription_identifier": 7,
                "content_type": "text/plain",
            },
        }
        assert await sent(v4, body) == DONE
        (message,) = await rest(reader)
        assert message.properties == {
            "payload_format_indicator": 1,
            "message_expiry_interval": 60,
            "response_topic": "answer/here",
            "correlation_data": b"abc",
            "user_property": [
                ("first", "1"),
                ("n", "2"),
                ("", "x"),
                ("first", "again"),
                ("yes", "true"),
                ("half", "0.5"),
            ],
            "content_type": "text/plain",
        }


@shows("POST /api/v4/mqtt/publish")
@pytest.mark.parametrize(
    "said",
    [
        {"topic": 1},
        {"topic": None},
        {"topic": ["a"]},
        {"topic": "a," * 1000},
        {"payload": "***", "encoding": "base64"},
        {"payload": "YQ", "encoding": "base64"},
        {"properties": "x"},
        {"properties": 1},
        {"properties": {"mystery": 1}},
        {"properties": {"payload_format_indicator": 2}},
        {"properties": {"message_expiry_interval": -1}},
        {"properties": {"response_topic": "a/#"}},
        {"properties": {"user_properties": {"a": None}}},
        {"properties": {"user_properties": []}},
        {"properties": {"subscription_identifier": "x"}},
        {"user_properties": {"a": {}}},
        {"user_properties": {"a": "\0"}},
        {"user_properties": "x"},
    ],
)
async def test_bad_parameters(autojump_clock: MockClock, said: dict[str, Any]) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert await sent(v4, {"topic": "t", "payload": "x", **said}) == BAD_PARAMS
        assert await sent(v4, {"topics": 1}) == BAD_PARAMS


@shows("POST /api/v4/mqtt/publish")
async def test_as_many_topics_as_there_may_be(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        answer = await sent(v4, {"topics": ",".join(["t"] * 1000), "return": 1})
        assert len(answer["data"]["msgids"]) == 1000


@shows("POST /api/v4/mqtt/publish")
async def test_what_is_larger_than_a_packet_may_be(autojump_clock: MockClock) -> None:
    async with running(Config(mqtt=MqttConfig(max_packet_size=1000))) as live, older(live, "v4") as v4:
        assert await sent(v4, {"topic": "t", "payload": "x" * 900}) == DONE
        assert await sent(v4, {"topic": "t", "payload": "x" * 1000}) == BAD_PARAMS
        assert await sent(v4, {"topic": "t," + "ü" * 400, "payload": "x" * 300}) == BAD_PARAMS
        assert await sent(v4, {"topic": "t", "user_properties": {"a": "x" * 1000}}) == BAD_PARAMS


@shows("POST /api/v4/mqtt/publish")
async def test_message_ids(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        one = await sent(v4, {"topic": "a,b", "return": False})
        assert one.keys() == {"code", "data"}
        assert one["data"].keys() == {"msgid"}
        assert ID.fullmatch(one["data"]["msgid"])
        two = await sent(v4, {"topics": "a,b,#", "return": 1})
        assert [bool(ID.fullmatch(text)) for text in two["data"]["msgids"]] == [True, True]
        assert len({one["data"]["msgid"], *two["data"]["msgids"]}) == 3


@shows("POST /api/v4/mqtt/publish")
async def test_parameters_in_the_query(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        reader = await live.connect("reader")
        await reader.subscribe("#", qos=2)
        answer = await v4.post("/mqtt/publish?topic=a&qos=2&payload=from%20the%20query", json={"topic": "b", "qos": 0})
        assert answer.json() == DONE
        (message,) = await rest(reader)
        assert (message.topic_name, message.payload, message.qos) == ("a", b"from the query", 2)


@shows("POST /api/v4/mqtt/publish_batch")
async def test_a_batch(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        reader = await live.connect("reader")
        await reader.subscribe("#", qos=1)
        batch: list[Any] = [
            {"topic": "a/b", "payload": "1", "qos": 1},
            {"topic": "a/#"},
            {"topic": 1},
            {"topics": "c,d", "payload": "2"},
            {"topic": "a/b", "qos": 3},
            {"topic": "a/b", "clientid": 1},
            {"payload": "x"},
            "a/b",
            None,
            ["topic"],
            {"topics": "a," * 1000},
            {"topic": "e", "payload": "3"},
        ]
        assert await sent(v4, batch, "/mqtt/publish_batch") == {
            "code": 0,
            "data": [
                {"topic": "a/b", "code": 0},
                {"topic": "a/#", "code": 115},
                BAD_PARAMS,
                {"topic": "c,d", "code": 0},
                {"topic": "a/b", "code": 116},
                {"topic": "a/b", "code": 108},
                {"topic": "", "code": 115},
                BAD_PARAMS,
                BAD_PARAMS,
                BAD_PARAMS,
                BAD_PARAMS,
                {"topic": "e", "code": 0},
            ],
        }
        messages = await rest(reader)
        assert [message.topic_name for message in messages] == ["a/b", "c", "d", "e"]
        assert payloads(messages) == [b"1", b"2", b"2", b"3"]


@shows("POST /api/v4/mqtt/publish_batch")
async def test_a_long_batch_keeps_its_order(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_broker.api.v4.publish.TURN", 3)
    async with running() as live, older(live, "v4") as v4:
        reader = await live.connect("reader")
        await reader.subscribe("#")
        batch = [{"topic": f"t/{number},u/{number}"} for number in range(8)]
        answer = await sent(v4, batch, "/mqtt/publish_batch")
        assert [row["code"] for row in answer["data"]] == [0] * 8
        expected = [f"{kind}/{number}" for number in range(8) for kind in "tu"]
        assert [message.topic_name for message in await rest(reader)] == expected
        assert len((await sent(v4, {"topics": ",".join("abcdefg"), "return": 1}))["data"]["msgids"]) == 7


@shows("POST /api/v4/mqtt/publish", "POST /api/v4/mqtt/publish_batch")
async def test_arrays_and_objects_in_the_wrong_place(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert await sent(v4, [], "/mqtt/publish_batch") == {"code": 0, "data": []}
        assert await sent(v4, {"topic": "t"}, "/mqtt/publish_batch") == BAD_PARAMS
        assert await sent(v4, [{"topic": "t"}]) == BAD_PARAMS
        answer = await v4.post("/mqtt/publish", content=b"{")
        assert (answer.status_code, answer.json()) == (400, {"code": 109, "message": "Bad Request"})
