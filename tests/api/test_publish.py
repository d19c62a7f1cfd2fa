"""`POST /publish` and `/publish/bulk`."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from api.fake_questions import FakeQuestions

from trio_broker.actors.questions import NewMessage
from trio_broker.errors import ActorGone, AskTimeout

ID = {"id": "000611F460D57FA9F44500000D360002"}
NOBODY = {"reason_code": 16, "message": "no_matching_subscribers"}
FAILED = {"reason_code": 131, "message": "failed_to_dispatch"}
BAD_TOPIC = {"reason_code": 144, "message": "topic_name_invalid"}
TOO_LARGE = {"reason_code": 151, "message": "packet_too_large"}


@pytest.fixture
def subscriber(questions: FakeQuestions) -> FakeQuestions:
    questions.add("c1", "t/#")
    return questions


async def test_somebody_gets_it(api: httpx.AsyncClient, subscriber: FakeQuestions) -> None:
    answer = await api.post("/publish", json={"topic": "t/1", "payload": "hällo"})
    assert (answer.status_code, answer.json()) == (200, ID)
    assert subscriber.published == [NewMessage("t/1", "hällo".encode())]
    assert subscriber.published[0].client_id == "http_api"


async def test_nobody_gets_it(api: httpx.AsyncClient, subscriber: FakeQuestions) -> None:
    body = {"topic": "other", "payload": "", "retain": True, "clientid": "ignored", "qos": 1}
    answer = await api.post("/publish", json=body)
    assert (answer.status_code, answer.json()) == (202, NOBODY)
    assert subscriber.published == [NewMessage("other", b"", 1, True)]


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


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0b", "x" * 65_536])
async def test_topics_that_are_refused(api: httpx.AsyncClient, questions: FakeQuestions, topic: str) -> None:
    answer = await api.post("/publish", json={"topic": topic, "payload": ""})
    assert (answer.status_code, answer.json()) == (400, BAD_TOPIC)
    assert questions.published == []


@pytest.mark.parametrize("payload", ["x" * 1_048_576, "ü" * 524_288])
async def test_too_large(api: httpx.AsyncClient, questions: FakeQuestions, payload: str) -> None:
    answer = await api.post("/publish", json={"topic": "t", "payload": payload})
    assert (answer.status_code, answer.json()) == (400, TOO_LARGE)
    assert questions.published == []


async def test_large_properties_count(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    questions.max_packet_size = 1000
    body = {"topic": "t", "payload": "x" * 800, "properties": {"user_properties": {"a": "y" * 200}}}
    answer = await api.post("/publish", json=body)
    assert (answer.status_code, answer.json()) == (400, TOO_LARGE)


@pytest.mark.parametrize("payload", ["***", "YQ", "ü"])
async def test_not_base64(api: httpx.AsyncClient, payload: str) -> None:
    answer = await api.post("/publish", json={"topic": "t", "payload": payload, "payload_encoding": "base64"})
    assert answer.status_code == 400
    message = f'{{decode_base64_payload_failed,<<"{payload}">>}}'
    assert answer.json() == {"reason_code": 131, "message": message}


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


@pytest.mark.parametrize("fault", [ActorGone(), AskTimeout()])
async def test_it_could_not_be_dispatched(api: httpx.AsyncClient, questions: FakeQuestions, fault: Exception) -> None:
    questions.fault = fault
    message = {"topic": "t", "payload": "p"}
    answer = await api.post("/publish", json=message)
    assert (answer.status_code, answer.json()) == (503, FAILED)
    answer = await api.post("/publish/bulk", json=[message, message])
    assert (answer.status_code, answer.json()) == (503, [FAILED, FAILED])


async def test_bulk(api: httpx.AsyncClient, subscriber: FakeQuestions) -> None:
    matched, other = {"topic": "t/1", "payload": "1"}, {"topic": "x", "payload": "2"}
    answer = await api.post("/publish/bulk", json=[matched, matched])
    assert (answer.status_code, answer.json()) == (200, [ID, ID])
    answer = await api.post("/publish/bulk", json=[matched, other])
    assert (answer.status_code, answer.json()) == (202, [ID, NOBODY])
    assert [message.payload for message in subscriber.published] == [b"1", b"1", b"1", b"2"]


@pytest.mark.parametrize(
    ("bad", "body"),
    [
        ({"topic": "#", "payload": ""}, BAD_TOPIC),
        ({"topic": "t", "payload": "x" * 1_048_576}, TOO_LARGE),
    ],
)
async def test_of_a_bad_batch_nothing_is_published(
    api: httpx.AsyncClient, subscriber: FakeQuestions, bad: dict[str, Any], body: dict[str, Any]
) -> None:
    answer = await api.post("/publish/bulk", json=[{"topic": "t/1", "payload": ""}, bad])
    assert (answer.status_code, answer.json()) == (400, body)
    assert subscriber.published == []


@pytest.mark.parametrize("body", [{}, {"topic": "t", "payload": "p"}, [1], [{"topic": "t"}], [None]])
async def test_a_batch_of_another_shape(api: httpx.AsyncClient, body: Any) -> None:
    answer = await api.post("/publish/bulk", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


async def test_an_empty_batch(api: httpx.AsyncClient) -> None:
    answer = await api.post("/publish/bulk", json=[])
    assert (answer.status_code, answer.json()) == (400, {"reason_code": 131, "message": "empty_batch"})
