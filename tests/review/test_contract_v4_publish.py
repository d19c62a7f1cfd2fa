"""The contract of `/api/v4`, read afresh: publishing, one message or several."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from api.operations import shows
from review.contract import MESSAGE_ID, away, got
from review.contract_v4 import V4, quiet, received, version_4
from trio.testing import MockClock

from trio_broker.testing import Client

PUBLISH, BATCH = "/mqtt/publish", "/mqtt/publish_batch"


async def subscriber(v4: V4, *topic_filters: str, level: int = 5) -> Client:
    client = await v4.live.connect("sub", level=level)
    for topic_filter in topic_filters or ("#",):
        await client.subscribe(topic_filter, 2)
    return client


@shows("POST /api/v4/mqtt/publish")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_the_sample(level: int, autojump_clock: MockClock) -> None:
    sample = {"topic": "a/b/c", "payload": "Hello World", "qos": 1, "retain": False, "clientid": "example"}
    async with version_4() as v4:
        sub = await subscriber(v4, level=level)
        await v4.done("POST", PUBLISH, sample)
        message = await received(sub)
        assert (message.topic_name, message.payload, message.qos) == ("a/b/c", b"Hello World", 1)
        assert not message.retain
        await quiet(sub)
        for qos in (0, 1, 2):
            await v4.done("POST", PUBLISH, sample | {"qos": qos})
            assert (await received(sub)).qos == qos
        await v4.done("POST", PUBLISH, {"topic": "only"})
        message = await received(sub)
        assert (message.topic_name, message.payload, message.qos, message.retain) == ("only", b"", 0, False)
        await sub.disconnect()
        await v4.done("POST", PUBLISH, sample)  # nobody has to be there


@shows("POST /api/v4/mqtt/publish")
async def test_several_topics(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        sub = await subscriber(v4)

        async def reached(**fields: Any) -> list[str]:
            await v4.done("POST", PUBLISH, {"payload": "x", "qos": 1, **fields})
            await sub.ping()
            return sorted([(await received(sub)).topic_name for _ in range(len(sub.inbox))])

        assert await reached(topics="a,b/c") == ["a", "b/c"]
        assert await reached(topic="a,b/c") == ["a", "b/c"]
        assert await reached(topics="a, b") == [" b", "a"]
        assert await reached(topic="a", topics="b,c") == ["a"]
        assert await reached(topics="a,#,b,+/c,") == ["a", "b"]
        await v4.fails(115, "bad_topic", "POST", PUBLISH, {"topic": "#", "topics": "good"})
        await quiet(sub)


@shows("POST /api/v4/mqtt/publish")
@pytest.mark.parametrize(
    ("fields", "payload"),
    [
        ({"payload": "äöü"}, "äöü".encode()),
        ({"payload": {"a": [1, True, None]}}, b'{"a":[1,true,null]}'),
        ({"payload": [1, "x"]}, b'[1,"x"]'),
        ({"payload": 12}, b"12"),
        ({"payload": 1.5}, b"1.5"),
        ({"payload": None}, b"null"),
        ({"payload": True}, b"true"),
        ({"payload": "aGVsbG8="}, b"aGVsbG8="),
        ({"payload": "aGVsbG8=", "encoding": "plain"}, b"aGVsbG8="),
        ({"payload": "aGVsbG8=", "encoding": "base64"}, b"hello"),
        ({"payload": base64.b64encode(b"\xff\x00").decode(), "encoding": "base64"}, b"\xff\x00"),
        ({"payload": "aGVsbG8=", "encoding": "other"}, b"aGVsbG8="),
        ({"payload": "aGVsbG8=", "encoding": "BASE64"}, b"aGVsbG8="),
    ],
)
async def test_payloads(fields: dict[str, Any], payload: bytes, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        sub = await subscriber(v4)
        await v4.done("POST", PUBLISH, {"topic": "t", **fields})
        assert (await received(sub)).payload.replace(b" ", b"") == payload


@shows("POST /api/v4/mqtt/publish")
async def test_message_ids(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        sub = await subscriber(v4)
        for asked in (True, False, "x", 0, None):
            body = {"topic": "t", "payload": "x", "return": asked}
            answer = await v4.ask("POST", PUBLISH, body)
            assert answer.keys() == {"code", "data"}, asked
            assert answer["data"].keys() == {"msgid"}
            assert MESSAGE_ID.fullmatch(answer["data"]["msgid"])
        answer = await v4.ask("POST", PUBLISH, {"topics": "a,b,#", "return": True})
        assert (answer["code"], answer["data"].keys()) == (0, {"msgids"})
        assert len(set(answer["data"]["msgids"])) == 2
        for found in answer["data"]["msgids"]:
            assert MESSAGE_ID.fullmatch(found)
        answer = await v4.ask("POST", PUBLISH, {"topic": "a,b", "return": True})
        assert answer["data"].keys() == {"msgid"}
        await sub.ping()
        assert len(sub.inbox) == 9
        await v4.fails(115, "bad_topic", "POST", PUBLISH, {"topic": "#", "return": True})


@shows("POST /api/v4/mqtt/publish")
async def test_what_is_refused(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        sub = await subscriber(v4)
        for body in (
            {},
            {"topic": ""},
            {"topics": ""},
            {"topics": "#,a/+"},
            {"topic": "a/#"},
            {"topic": "x" * 65536},
            {"topic": ","},
        ):
            await v4.fails(115, "bad_topic", "POST", PUBLISH, {"payload": "x", **body})
        clientid: Any
        for clientid in (1, True, ["c"], {}):
            message = "bad clientid: must be string"
            await v4.fails(108, message, "POST", PUBLISH, {"topic": "t", "clientid": clientid})
        fields: Any
        for fields in (
            {"topic": 1},
            {"topic": ["a"]},
            {"payload": "%%%", "encoding": "base64"},
            {"payload": "aGVsbG8", "encoding": "base64"},
            {"properties": {"dance": 1}},
            {"properties": "x"},
            {"properties": {"user_properties": "x"}},
            {"properties": {"user_properties": {"a": []}}},
            {"user_properties": {"a": {}}},
            {"user_properties": {"a": None}},
        ):
            await v4.fails(108, "bad_params", "POST", PUBLISH, {"topic": "t", **fields})
        for qos in (3, -1):
            await v4.fails(116, None, "POST", PUBLISH, {"topic": "t", "qos": qos})
        wrong: Any
        for wrong in ("x", 1.5, [], None):
            await v4.fails((108, 116), None, "POST", PUBLISH, {"topic": "t", "qos": wrong})
        await quiet(sub)


@shows("POST /api/v4/mqtt/publish")
async def test_properties(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        sub = await subscriber(v4)
        properties = {
            "payload_format_indicator": 1,
            "message_expiry_interval": 100,
            "response_topic": "r/t",
            "correlation_data": "cd",
            "content_type": "text/plain",
            "user_properties": {"b": "2", "c": 3, "d": False},
        }
        body = {"topic": "t", "payload": "x", "properties": properties, "user_properties": {"a": "1", "e": 4}}
        await v4.done("POST", PUBLISH, body)
        found = dict((await received(sub)).properties)
        pairs = found.pop("user_property")
        assert pairs == [("a", "1"), ("e", "4"), ("b", "2"), ("c", "3"), ("d", "false")]
        found.pop("subscription_identifier", None)
        assert found == {name: properties[name] for name in properties if name != "user_properties"} | {
            "correlation_data": b"cd"
        }
        await v4.done("POST", PUBLISH, {"topic": "t", "properties": {}, "user_properties": {}})
        assert "user_property" not in (await received(sub)).properties
        await v4.done("POST", PUBLISH, {"topic": "t", "properties": {"subscription_identifier": 5}})
        await received(sub)


@shows("POST /api/v4/mqtt/publish")
async def test_an_expiry_and_who_is_away(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await away(v4.live, "c1", "t")
        await v4.send("t", "kept", qos=1)
        await v4.send("t", "not for QoS 0", qos=0)
        (row,) = await v4.data("/clients/c1")
        assert row["mqueue_len"] in (1, 2)
        c1 = await v4.live.connect("c1", clean_start=False)
        assert (await received(c1)).payload == b"kept"


@shows("POST /api/v4/mqtt/publish")
async def test_retained(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.send("yes", "kept", retain=True, qos=1)
        for other in ("true", 1, False, None, "yes"):
            await v4.done("POST", PUBLISH, {"topic": "no", "payload": "x", "retain": other})
        await v4.done("POST", PUBLISH, {"topic": "no", "payload": "x"}, retain="true")
        sub = await subscriber(v4)
        message = await received(sub)
        assert (message.topic_name, message.payload, message.retain) == ("yes", b"kept", True)
        await quiet(sub)
        await v4.send("yes", "", retain=True)
        again = await v4.live.connect("again")
        await again.subscribe("yes")
        await quiet(again)


@shows("POST /api/v4/mqtt/publish")
async def test_no_rules_and_the_sender(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        sub = await v4.live.connect("sub")
        await sub.subscribe("t", no_local=True)
        await v4.load()
        await v4.ask("POST", "/acl", {"topic": "#", "action": "pub", "access": "deny"})
        await v4.send("t", "1", clientid="other")
        assert (await received(sub)).payload == b"1"
        await v4.send("t", "2", clientid="sub")  # its own: not for one without local messages
        await quiet(sub)


@shows("POST /api/v4/mqtt/publish")
async def test_counted_and_merged(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        before = await got(v4.live, "/metrics", aggregate="true")
        for qos in (0, 1, 1, 2, 2, 2):
            await v4.send("t", qos=qos)
        after = await got(v4.live, "/metrics", aggregate="true")
        grown = {name: after[name] - before[name] for name in after if name.startswith("messages.")}
        assert grown["messages.received"] == 6
        assert [grown[f"messages.qos{qos}.received"] for qos in (0, 1, 2)] == [1, 2, 3]
        sub = await subscriber(v4)
        await v4.done("POST", PUBLISH, {"topic": "body", "payload": "x"}, topic="query", qos="1")
        message = await received(sub)
        assert (message.topic_name, message.payload, message.qos) == ("query", b"x", 1)


@shows("POST /api/v4/mqtt/publish_batch")
async def test_a_batch(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        sub = await subscriber(v4)
        body = [
            {"topic": "a/b", "payload": "1", "qos": 1},
            {"topic": "a/#", "payload": "2"},
            {"topic": "t", "clientid": 1},
            {"topics": "x,y", "payload": "3"},
            {"topic": "t", "encoding": "base64", "payload": "%"},
            {"payload": "4"},
            {"topic": "last", "payload": "5"},
        ]
        answer = await v4.ask("POST", BATCH, body)
        assert answer.keys() == {"code", "data"}
        assert answer["code"] == 0
        rows = answer["data"]
        assert [row["code"] for row in rows] == [0, 115, 108, 0, 108, 115, 0]
        assert [row.get("topic") for row in (rows[0], rows[1], rows[3], rows[6])] == ["a/b", "a/#", "x,y", "last"]
        assert rows[0] == {"topic": "a/b", "code": 0}
        assert rows[1] == {"topic": "a/#", "code": 115}
        assert rows[3] == {"topic": "x,y", "code": 0}
        assert rows[4] == {"code": 108, "message": "bad_params"}
        topics = [(message := await received(sub)).topic_name for _ in range(4)]
        assert topics == ["a/b", "x", "y", "last"]
        assert message.payload == b"5"
        await quiet(sub)
        assert await v4.ask("POST", BATCH, []) == {"code": 0, "data": []}
        answer = await v4.ask("POST", BATCH, [{"topic": "+"}, {}])
        assert (answer["code"], [row["code"] for row in answer["data"]]) == (0, [115, 115])
        answer = await v4.ask("POST", BATCH, [{"topic": "t", "qos": 3}])
        assert answer["code"] in (108, 116) or answer["data"][0]["code"] in (108, 116)
        await v4.fails((107, 108), None, "POST", BATCH, {"topic": "t"})
        wrong: Any
        for wrong in ([1], ["t"], [[]]):
            answer = await v4.ask("POST", BATCH, wrong)
            assert answer["code"] == 108 or [row["code"] for row in answer["data"]] == [108]
