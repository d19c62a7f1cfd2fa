"""`POST /publish` and `/publish/bulk`."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import httpx
import pytest
from api.fake_questions import FakeQuestions
from api.live import running
from api.operations import shows

from trio_broker.actors.questions import NewMessage
from trio_broker.api.v5 import publish as resource
from trio_broker.errors import ActorGone, AskTimeout, StoreError
from trio_broker.store.memory import MemoryStore

ID = {"id": "000611F460D57FA9F44500000D360002"}
NOBODY = {"reason_code": 16, "message": "no_matching_subscribers"}
FAILED = {"reason_code": 131, "message": "failed_to_dispatch"}
BAD_TOPIC = {"reason_code": 144, "message": "topic_name_invalid"}
TOO_LARGE = {"reason_code": 151, "message": "packet_too_large"}


@pytest.fixture
def subscriber(questions: FakeQuestions) -> FakeQuestions:
    questions.add("c1", "t/#")
    return questions


@shows("POST /publish")
async def test_somebody_gets_it(api: httpx.AsyncClient, subscriber: FakeQuestions) -> None:
    answer = await api.post("/publish", json={"topic": "t/1", "payload": "hällo"})
    assert (answer.status_code, answer.json()) == (200, ID)
    assert subscriber.published == [NewMessage("t/1", "hällo".encode())]
    assert subscriber.published[0].client_id == "http_api"


@shows("POST /publish")
async def test_nobody_gets_it(api: httpx.AsyncClient, subscriber: FakeQuestions) -> None:
    body = {"topic": "other", "payload": "", "retain": True, "clientid": "ignored", "qos": 1}
    answer = await api.post("/publish", json=body)
    assert (answer.status_code, answer.json()) == (202, NOBODY)
    assert subscriber.published == [NewMessage("other", b"", 1, True)]


@shows("POST /publish")
async def test_binary_payload_and_properties(api: httpx.AsyncClient, subscriber: FakeQuestions) -> None:
    body = {
        "topic": "t/1",
        "payload": base64.b64encode(b"\x00\xff").decode(),
        "payload_encoding": "base64",
        "qos": 2,
        "properties": {
            "payload_format_indicator": 1,
            "message_expiry_interval": 60,
            "response_topic": "answer/here",
            "correlation_data": "abc",
            "user_properties": {"a": "1", "b": "2"},
            "content_type": "text/plain",
        },
    }
    answer = await api.post("/publish", json=body)
    assert answer.status_code == 200
    (message,) = subscriber.published
    assert (message.payload, message.qos) == (b"\x00\xff", 2)
    assert message.properties == {
        "payload_format_indicator": 1,
        "message_expiry_interval": 60,
        "response_topic": "answer/here",
        "correlation_data": b"abc",
        "user_property": [("a", "1"), ("b", "2")],
        "content_type": "text/plain",
    }


@shows("POST /publish")
@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0b", "x" * 65_536])
async def test_topics_that_are_refused(api: httpx.AsyncClient, questions: FakeQuestions, topic: str) -> None:
    answer = await api.post("/publish", json={"topic": topic, "payload": ""})
    assert (answer.status_code, answer.json()) == (400, BAD_TOPIC)
    assert questions.published == []


@shows("POST /publish")
@pytest.mark.parametrize("payload", ["x" * 1_048_576, "ü" * 524_288])
async def test_too_large(api: httpx.AsyncClient, questions: FakeQuestions, payload: str) -> None:
    answer = await api.post("/publish", json={"topic": "t", "payload": payload})
    assert (answer.status_code, answer.json()) == (400, TOO_LARGE)
    assert questions.published == []


@shows("POST /publish")
async def test_large_properties_count(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    questions.max_packet_size = 1000
    body = {"topic": "t", "payload": "x" * 800, "properties": {"user_properties": {"a": "y" * 200}}}
    answer = await api.post("/publish", json=body)
    assert (answer.status_code, answer.json()) == (400, TOO_LARGE)


@shows("POST /publish")
@pytest.mark.parametrize("payload", ["***", "YQ", "ü"])
async def test_not_base64(api: httpx.AsyncClient, payload: str) -> None:
    answer = await api.post("/publish", json={"topic": "t", "payload": payload, "payload_encoding": "base64"})
    assert answer.status_code == 400
    message = f'{{decode_base64_payload_failed,<<"{payload}">>}}'
    assert answer.json() == {"reason_code": 131, "message": message}


@shows("POST /publish")
@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"topic": None}, "root.topic"),
        ({"payload": None}, "root.payload"),
        ({"payload": 1}, "root.payload"),
        ({"payload": {"a": 1}}, "root.payload"),
        ({"qos": 3}, "root.qos"),
        ({"qos": -1}, "root.qos"),
        ({"retain": "perhaps"}, "root.retain"),
        ({"payload_encoding": "hex"}, "root.payload_encoding"),
        ({"more": 1}, "root"),
        ({"properties": {"more": 1}}, "root.properties"),
        ({"properties": {"payload_format_indicator": 2}}, "root.properties.payload_format_indicator"),
        ({"properties": {"message_expiry_interval": -1}}, "root.properties.message_expiry_interval"),
        ({"properties": {"message_expiry_interval": 2**32}}, "root.properties.message_expiry_interval"),
        ({"properties": {"response_topic": "a/#"}}, "root.properties.response_topic"),
        ({"properties": {"content_type": "a\0"}}, "root.properties.content_type"),
        ({"properties": {"correlation_data": "x" * 65_536}}, "root.properties.correlation_data"),
        ({"properties": {"user_properties": {"a": "x" * 65_536}}}, "root.properties.user_properties"),
        ({"properties": {"user_properties": {"a": 1}}}, "root.properties.user_properties"),
        ({"properties": {"user_properties": []}}, "root.properties.user_properties"),
        ({"properties": []}, "root.properties"),
    ],
)
async def test_bodies_that_are_refused(
    api: httpx.AsyncClient, questions: FakeQuestions, change: dict[str, Any], path: str
) -> None:
    answer = await api.post("/publish", json={"topic": "t", "payload": "p"} | change)
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
    assert json.loads(answer.json()["message"])["path"] == path
    assert questions.published == []


@shows("POST /publish", "POST /publish/bulk")
@pytest.mark.parametrize("fault", [ActorGone(), AskTimeout(), StoreError("full")])
async def test_it_could_not_be_dispatched(api: httpx.AsyncClient, questions: FakeQuestions, fault: Exception) -> None:
    questions.fault = fault
    message = {"topic": "t", "payload": "p"}
    answer = await api.post("/publish", json=message)
    assert (answer.status_code, answer.json()) == (503, FAILED)
    answer = await api.post("/publish/bulk", json=[message, message])
    assert (answer.status_code, answer.json()) == (503, [FAILED, FAILED])


@shows("POST /publish/bulk")
async def test_bulk(api: httpx.AsyncClient, subscriber: FakeQuestions) -> None:
    matched, other = {"topic": "t/1", "payload": "1"}, {"topic": "x", "payload": "2"}
    answer = await api.post("/publish/bulk", json=[matched, matched])
    assert (answer.status_code, answer.json()) == (200, [ID, ID])
    answer = await api.post("/publish/bulk", json=[matched, other])
    assert (answer.status_code, answer.json()) == (202, [ID, NOBODY])
    assert [message.payload for message in subscriber.published] == [b"1", b"1", b"1", b"2"]


@shows("POST /publish/bulk")
@pytest.mark.parametrize(
    ("bad", "body"),
    [
        ({"topic": "#", "payload": ""}, BAD_TOPIC),
        ({"topic": "t", "payload": "x" * 1_048_576}, TOO_LARGE),
        (
            {"topic": "t", "payload": "*", "payload_encoding": "base64"},
            {"reason_code": 131, "message": '{decode_base64_payload_failed,<<"*">>}'},
        ),
    ],
)
async def test_of_a_bad_batch_nothing_is_published(
    api: httpx.AsyncClient, subscriber: FakeQuestions, bad: dict[str, Any], body: dict[str, Any]
) -> None:
    answer = await api.post("/publish/bulk", json=[{"topic": "t/1", "payload": ""}, bad])
    assert (answer.status_code, answer.json()) == (400, body)
    assert subscriber.published == []


@shows("POST /publish/bulk")
@pytest.mark.parametrize("body", [{}, {"topic": "t", "payload": "p"}, [1], [{"topic": "t"}], [None]])
async def test_a_batch_of_another_shape(api: httpx.AsyncClient, body: Any) -> None:
    answer = await api.post("/publish/bulk", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


@shows("POST /publish/bulk")
async def test_an_empty_batch(api: httpx.AsyncClient) -> None:
    answer = await api.post("/publish/bulk", json=[])
    assert (answer.status_code, answer.json()) == (400, {"reason_code": 131, "message": "empty_batch"})


@shows("POST /publish/bulk")
async def test_the_place_of_what_is_wrong_in_a_batch_is_told(api: httpx.AsyncClient, subscriber: FakeQuestions) -> None:
    good = {"topic": "t/1", "payload": ""}
    for bad, path in (
        ({"topic": "t/1", "payload": "", "qos": 3}, "root.2.qos"),
        ({"topic": "t/1"}, "root.2.payload"),
        (good | {"more": 1}, "root.2"),
        (good | {"properties": {"response_topic": "#"}}, "root.2.properties.response_topic"),
    ):
        answer = await api.post("/publish/bulk", json=[good, bad])
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert json.loads(answer.json()["message"])["path"] == path
    assert subscriber.published == []


@shows("POST /publish/bulk")
async def test_a_long_batch_is_published_in_turns(
    api: httpx.AsyncClient, subscriber: FakeQuestions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store fails in the middle, what was published is told from what was not."""
    monkeypatch.setattr(resource, "TURN", 2)
    turns: list[list[str]] = []
    original = FakeQuestions.publish

    async def publish(self: FakeQuestions, messages: Any) -> Any:
        turns.append([message.payload.decode() for message in messages])
        if len(turns) == 5:
            raise StoreError("full")
        return await original(self, messages)

    monkeypatch.setattr(FakeQuestions, "publish", publish)
    batch = [{"topic": "x" if number == 3 else "t/1", "payload": str(number)} for number in range(5)]
    answer = await api.post("/publish/bulk", json=batch)
    assert (answer.status_code, answer.json()) == (202, [ID, ID, ID, NOBODY, ID])
    assert turns == [["0", "1"], ["2", "3"], ["4"]]
    answer = await api.post("/publish/bulk", json=batch)
    assert (answer.status_code, answer.json()) == (503, [ID, ID, FAILED, FAILED, FAILED])


# -- with a broker


@shows("POST /publish")
async def test_a_subscriber_gets_all_of_it(autojump_clock: object) -> None:
    async with running() as live:
        c1 = await live.connect("c1")
        await c1.subscribe("t/#", qos=2)
        properties = {
            "payload_format_indicator": 1,
            "message_expiry_interval": 60,
            "response_topic": "answer/here",
            "correlation_data": "äb",
            "user_properties": {"a": "1", "b": ""},
            "content_type": "text/plain",
        }
        body = {"topic": "t/1", "payload": "hällo", "qos": 2, "clientid": "somebody", "properties": properties}
        answer = await live.api.post("/publish", json=body)
        assert answer.status_code == 200
        assert re.fullmatch("[0-9A-F]{32}", answer.json()["id"])
        message = await c1.receive()
        assert (message.topic_name, message.payload, message.qos, message.retain) == ("t/1", "hällo".encode(), 2, False)
        assert message.properties == {
            "payload_format_indicator": 1,
            "message_expiry_interval": 60,
            "response_topic": "answer/here",
            "correlation_data": "äb".encode(),
            "user_property": [("a", "1"), ("b", "")],
            "content_type": "text/plain",
        }


@shows("POST /publish", "POST /publish/bulk")
async def test_who_counts_as_a_subscriber(autojump_clock: object) -> None:
    """Persistent sessions without a connection, and groups; a retained message alone does not."""
    async with running() as live:
        away = await live.connect("away", properties={"session_expiry_interval": 3600})
        await away.subscribe("q/#", qos=1)
        await away.disconnect()
        await (await live.connect("c1")).subscribe("$share/g/s/#")
        batch = [{"topic": topic, "payload": topic, "qos": 1} for topic in ("q/1", "s/1")]
        answers = [await live.api.post("/publish", json=message) for message in batch]
        assert [answer.status_code for answer in answers] == [200, 200]
        answer = await live.api.post("/publish/bulk", json=batch)
        assert answer.status_code == 200
        ids = [one.json()["id"] for one in answers] + [one["id"] for one in answer.json()]
        assert ids == sorted(set(ids))
        queue = (await live.api.get("/clients/away/mqueue_messages")).json()["data"]
        assert [(row["topic"], row["msgid"]) for row in queue] == [("q/1", ids[0]), ("q/1", ids[2])]
        assert {(row["from_clientid"], row["from_username"]) for row in queue} == {("http_api", "undefined")}
        answer = await live.api.post("/publish", json={"topic": "r", "payload": "kept", "retain": True})
        assert (answer.status_code, answer.json()) == (202, NOBODY)
        retained = (await live.api.get("/mqtt/retainer/message/r")).json()
        assert (retained["payload"], retained["from_clientid"]) == ("a2VwdA==", "http_api")


@shows("POST /publish", "POST /publish/bulk")
async def test_what_was_answered_is_there_after_a_restart(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        away = await live.connect("away", properties={"session_expiry_interval": 3600})
        await away.subscribe("q/#", qos=1)
        await away.disconnect()
        batch = [{"topic": "q/1", "payload": str(number), "qos": 1, "retain": True} for number in range(3)]
        assert (await live.api.post("/publish/bulk", json=batch)).status_code == 200
    async with running(store=store) as live:
        queue = (await live.api.get("/clients/away/mqueue_messages?payload=plain")).json()["data"]
        assert [row["payload"] for row in queue] == ["0", "1", "2"]
        assert (await live.api.get("/mqtt/retainer/message/q%2F1")).json()["payload"] == "Mg=="


@shows("POST /publish", "POST /publish/bulk")
async def test_a_store_that_cannot_be_written(autojump_clock: object) -> None:
    """What would have to be kept is not dispatched, and of its batch nothing; all is when the store is well again."""
    store = MemoryStore()
    async with running(store=store) as live:
        c1 = await live.connect("c1")
        await c1.subscribe("t/#", qos=1)
        away = await live.connect("away", properties={"session_expiry_interval": 3600})
        await away.subscribe("q/#", qos=1)
        await away.disconnect()
        kept = {"topic": "q/1", "payload": "kept", "qos": 1}
        retained = {"topic": "t/1", "payload": "retained", "qos": 1, "retain": True}
        plain = {"topic": "t/1", "payload": "plain"}
        store.failure = "disk full"
        for message in (kept, retained):
            answer = await live.api.post("/publish", json=message)
            assert (answer.status_code, answer.json()) == (503, FAILED)
        answer = await live.api.post("/publish/bulk", json=[plain, kept, plain])
        assert (answer.status_code, answer.json()) == (503, [FAILED] * 3)
        assert (await live.api.post("/publish", json=plain | {"payload": "first"})).status_code == 200
        assert (await c1.receive()).payload == b"first"
        store.failure = None
        answer = await live.api.post("/publish/bulk", json=[plain, kept, retained])
        assert answer.status_code == 200
        assert [(await c1.receive()).payload for _ in range(2)] == [b"plain", b"retained"]
