"""EMQ 2's `/mqtt`: publish, subscribe and unsubscribe from outside."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from actors.flows import one, payloads, rest, settle
from api.live import running
from api.older import WATCHER, older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.mqtt import MqttConfig
from trio_broker.protocol.message import Message
from trio_broker.store.memory import MemoryStore

SAMPLE = "C_1492145414740"
DONE = {"code": 0, "result": []}
MISSING = {"code": 107, "message": "params error"}
WRONG_TYPE = {"code": 108, "message": "params type error"}
NOT_JSON = {"code": 109, "message": "Body not json"}


async def post(v2: httpx.AsyncClient, action: str, body: Any) -> Any:
    """The answer's body; `body` may be bytes, as they are to be sent."""
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = await v2.post(f"/mqtt/{action}", **sent)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
    return answer.json()


def bad_topic(topic: str) -> dict[str, Any]:
    return {"code": 102, "message": f"validate topic: {topic} fail"}


# -- publish


@shows("POST /api/v2/mqtt/publish")
async def test_publish_the_sample(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        seen: list[Message] = []
        live.broker.hooks.published.append(seen.append)
        client = await live.connect("c1")
        await client.subscribe("test", 2)
        body = {"topic": "test", "payload": "hello", "qos": 1, "retain": False, "client_id": SAMPLE}
        assert await post(v2, "publish", body) == DONE
        message = await one(client)
        assert (message.topic_name, message.payload, message.qos, message.retain) == ("test", b"hello", 1, False)
        assert (seen[0].origin.client_id, seen[0].origin.username) == (SAMPLE, None)


@shows("POST /api/v2/mqtt/publish")
async def test_what_may_be_left_out(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        seen: list[Message] = []
        live.broker.hooks.published.append(seen.append)
        client = await live.connect("c1")
        await client.subscribe("test", 2)
        assert await post(v2, "publish", {"topic": "test", "more": 1}) == DONE
        message = await one(client)
        assert (message.payload, message.qos, message.retain) == (b"", 0, False)
        assert seen[0].origin.client_id == "http"
        assert await post(v2, "publish", {"topic": "nobody/hears/it", "payload": "x"}) == DONE


@shows("POST /api/v2/mqtt/publish")
async def test_what_is_retained(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        for qos, text in enumerate(("a", "ü", "c")):
            body = {"topic": f"t/{qos}", "payload": text, "qos": qos, "retain": True}
            assert await post(v2, "publish", body) == DONE
        client = await live.connect("c1")
        await client.subscribe("t/+", 2)
        messages = await rest(client)
        assert sorted((it.topic_name, it.payload.decode(), it.qos, it.retain) for it in messages) == [
            ("t/0", "a", 0, True),
            ("t/1", "ü", 1, True),
            ("t/2", "c", 2, True),
        ]
        assert await post(v2, "publish", {"topic": "t/0", "retain": True}) == DONE
        assert await live.broker.questions.retained_message("t/0") is None


@shows("POST /api/v2/mqtt/publish")
@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"", MISSING),
        (b"{}", MISSING),
        (b"[]", MISSING),
        ({"payload": "x"}, MISSING),
        (b"{", NOT_JSON),
        (b"\xff", NOT_JSON),
        (b'{"topic": "t",}', NOT_JSON),
        ({"topic": 1}, WRONG_TYPE),
        ({"topic": None}, WRONG_TYPE),
        ({"topic": "t", "payload": 5}, WRONG_TYPE),
        ({"topic": "t", "payload": {"a": 1}}, WRONG_TYPE),
        ({"topic": "t", "qos": 3}, WRONG_TYPE),
        ({"topic": "t", "qos": -1}, WRONG_TYPE),
        ({"topic": "t", "qos": "1"}, WRONG_TYPE),
        ({"topic": "t", "qos": True}, WRONG_TYPE),
        ({"topic": "t", "retain": "true"}, WRONG_TYPE),
        ({"topic": "t", "retain": 1}, WRONG_TYPE),
        ({"topic": "t", "client_id": 7}, WRONG_TYPE),
        ({"topic": "t", "client_id": "ü" * 32_768}, WRONG_TYPE),
        ({"topic": "t", "client_id": "a\0b"}, WRONG_TYPE),
        ({"topic": ""}, bad_topic("")),
        ({"topic": "a/+"}, bad_topic("a/+")),
        ({"topic": "#"}, bad_topic("#")),
        ({"topic": "a\0b"}, bad_topic("a\0b")),
        ({"topic": "a" * 4097}, bad_topic("a" * 4097)),
        ({"topic": "ü" * 2049}, bad_topic("ü" * 2049)),
        ({"topic": "t", "payload": "x" * 2000}, {"code": 102, "message": "packet_too_large"}),
    ],
)
async def test_what_is_not_published(autojump_clock: MockClock, body: Any, answer: dict[str, Any]) -> None:
    config = Config(mqtt=MqttConfig(max_packet_size=2000))
    async with running(config) as live, older(live, "v2") as v2:
        client = await live.connect("c1")
        await client.subscribe("#")
        assert await post(v2, "publish", body) == answer
        assert await rest(client) == []


@shows("POST /api/v2/mqtt/publish", "POST /api/v2/mqtt/subscribe")
async def test_topics_of_the_greatest_length(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        client = await live.connect("c1")
        topic = "ü" * 2048
        assert await post(v2, "subscribe", {"client_id": "c1", "topic": topic}) == DONE
        assert await post(v2, "publish", {"topic": topic, "payload": "x"}) == DONE
        assert (await one(client)).topic_name == topic


@shows("POST /api/v2/mqtt/publish", "POST /api/v2/mqtt/subscribe", "POST /api/v2/mqtt/unsubscribe")
@pytest.mark.parametrize("action", ["publish", "subscribe", "unsubscribe"])
async def test_who_may(autojump_clock: MockClock, action: str) -> None:
    async with running() as live, older(live, "v2") as v2:
        client = await live.connect("c1")
        await client.subscribe("t")
        body = {"topic": "t", "client_id": "c1"}
        answer = await v2.request("POST", f"/mqtt/{action}", json=body, auth=None)
        assert (answer.status_code, answer.content) == (401, b"")
        answer = await v2.post(f"/mqtt/{action}", json=body, auth=WATCHER)
        assert answer.status_code == 403
        answer = await v2.get(f"/mqtt/{action}")
        assert (answer.status_code, answer.content) == (404, b"")
        assert await rest(client) == []


# -- subscribe and unsubscribe


@shows("POST /api/v2/mqtt/subscribe", "POST /api/v2/mqtt/unsubscribe")
async def test_subscribe_the_sample(autojump_clock: MockClock) -> None:
    """The client hears nothing of it but the messages."""
    async with running() as live, older(live, "v2") as v2:
        await live.broker.publish("test", b"retained", retain=True)
        client = await live.connect(SAMPLE, level=4)
        body = {"topic": "test", "qos": 1, "client_id": SAMPLE}
        assert await post(v2, "subscribe", body) == DONE
        assert payloads(await rest(client)) == [b"retained"]
        await live.broker.publish("test", b"x", qos=2)
        message = await one(client)
        assert (message.payload, message.qos) == (b"x", 1)
        assert await post(v2, "unsubscribe", {"topic": "test", "client_id": SAMPLE}) == DONE
        await live.broker.publish("test", b"y", qos=2)
        await settle()
        assert list(client.inbox) == []
        # What is not there any more can be ended again.
        assert await post(v2, "unsubscribe", {"topic": "test", "client_id": SAMPLE}) == DONE


@shows("POST /api/v2/mqtt/subscribe", "POST /api/v2/mqtt/unsubscribe")
@pytest.mark.parametrize(
    ("topic_filter", "topic_name"), [("a/+", "a/b"), ("#", "a/b"), ("$share/g/a/#", "a/b"), ("$queue/a", "a")]
)
async def test_filters(autojump_clock: MockClock, topic_filter: str, topic_name: str) -> None:
    async with running() as live, older(live, "v2") as v2:
        client = await live.connect("c1")
        assert await post(v2, "subscribe", {"topic": topic_filter, "client_id": "c1"}) == DONE
        await live.broker.publish(topic_name, b"x", qos=2)
        message = await one(client)
        assert (message.payload, message.qos) == (b"x", 0)
        assert (await v2.get("/subscriptions/c1")).json()["result"]["objects"] == [
            {"client_id": "c1", "topic": topic_filter, "qos": 0}
        ]
        assert await post(v2, "unsubscribe", {"topic": topic_filter, "client_id": "c1"}) == DONE
        assert (await v2.get("/subscriptions/c1")).json()["result"]["objects"] == []


@shows("POST /api/v2/mqtt/subscribe", "POST /api/v2/mqtt/unsubscribe")
async def test_for_a_session_without_a_connection(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live, older(live, "v2") as v2:
        client = await live.connect("c1", level=4, clean_start=False)
        await client.subscribe("b", 1)
        await client.disconnect()
        assert await post(v2, "subscribe", {"topic": "a", "client_id": "c1", "qos": 2}) == DONE
        assert await post(v2, "unsubscribe", {"topic": "b", "client_id": "c1"}) == DONE
    async with running(store=store) as live, older(live, "v2") as v2:
        for topic in ("a", "b"):
            await live.broker.publish(topic, topic.encode(), qos=2)
        client = await live.connect("c1", level=4, clean_start=False)
        assert [(message.payload, message.qos) for message in await rest(client)] == [(b"a", 2)]


@shows("POST /api/v2/mqtt/subscribe", "POST /api/v2/mqtt/unsubscribe")
@pytest.mark.parametrize("action", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"", MISSING),
        (b"{}", MISSING),
        (b"[1]", MISSING),
        ({"topic": "t"}, MISSING),
        ({"client_id": "c1", "qos": "x"}, MISSING),
        (b"nothing", NOT_JSON),
        ({"topic": "t", "client_id": 1}, WRONG_TYPE),
        ({"topic": ["t"], "client_id": "c1"}, WRONG_TYPE),
        ({"topic": "", "client_id": "nobody"}, bad_topic("")),
        ({"topic": "a#", "client_id": "c1"}, bad_topic("a#")),
        ({"topic": "$share/g", "client_id": "c1"}, bad_topic("$share/g")),
        ({"topic": "a" * 4097, "client_id": "c1"}, bad_topic("a" * 4097)),
        ({"topic": "t", "client_id": "nobody"}, {"code": 102, "message": "Clientid: nobody not found"}),
    ],
)
async def test_what_is_refused(autojump_clock: MockClock, action: str, body: Any, answer: dict[str, Any]) -> None:
    async with running() as live, older(live, "v2") as v2:
        client = await live.connect("c1")
        await client.subscribe("t")
        assert await post(v2, action, body) == answer
        rows = await live.broker.questions.client_subscriptions("c1")
        assert rows is not None
        assert [row.topic_filter for row in rows] == ["t"]


@shows("POST /api/v2/mqtt/subscribe")
@pytest.mark.parametrize("qos", [-1, 3, "1", None, True, 0.5])
async def test_what_is_no_qos(autojump_clock: MockClock, qos: object) -> None:
    async with running() as live, older(live, "v2") as v2:
        await live.connect("c1")
        assert await post(v2, "subscribe", {"topic": "t", "client_id": "c1", "qos": qos}) == WRONG_TYPE
        assert await live.broker.questions.client_subscriptions("c1") == []
