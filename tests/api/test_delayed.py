"""`/mqtt/delayed`: settings, and the messages that wait."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import pytest
import trio
from actors.flows import payloads, rest, settle
from api.live import Live, running
from api.operations import shows

from trio_broker.config import Config, Layers
from trio_broker.store.memory import MemoryStore

NODE = "trio_broker%40127.0.0.1"


async def delay(live: Live, *topics: str, payload: bytes = b"hello", qos: int = 1, **options: Any) -> list[str]:
    """Messages of the client c1, user name u1, in a minute; the ids of all that wait."""
    client = await live.connect("c1", username="u1", **options)
    for topic in topics:
        await client.publish(f"$delayed/60/{topic}", payload, qos)
    await client.disconnect()
    await settle()
    return [row["msgid"] for row in (await live.api.get("/mqtt/delayed/messages")).json()["data"]]


@shows("GET /mqtt/delayed", "PUT /mqtt/delayed")
async def test_settings(autojump_clock: object) -> None:
    """A change acts at once and is kept; what is left out is the default again."""
    store = MemoryStore()
    async with running(store=store) as live:
        assert (await live.api.get("/mqtt/delayed")).json() == {"enable": True, "max_delayed_messages": 0}
        answer = await live.api.put("/mqtt/delayed", json={"enable": False, "max_delayed_messages": 7})
        assert (answer.status_code, answer.json()) == (200, {"enable": False, "max_delayed_messages": 7})
        client = await live.connect("c1")
        await client.subscribe("$delayed/#")
        await client.publish("$delayed/60/t", b"1")
        assert payloads(await rest(client)) == [b"1"]
    async with running(store=store) as live:
        assert (await live.api.get("/mqtt/delayed")).json() == {"enable": False, "max_delayed_messages": 7}
        assert (await live.api.put("/mqtt/delayed", json={})).json() == {"enable": True, "max_delayed_messages": 0}
        assert len(await delay(live, "t")) == 1
        answer = await live.api.put("/mqtt/delayed", json={"max_delayed_messages": 1})
        assert len(await delay(live, "t")) == 1


@shows("PUT /mqtt/delayed")
@pytest.mark.parametrize(
    "body", [{"max_delayed_messages": -1}, {"max_delayed_messages": 1.5}, {"enable": "x"}, {"nothing": 1}, []]
)
async def test_bad_settings(body: object, autojump_clock: object) -> None:
    async with running() as live:
        answer = await live.api.put("/mqtt/delayed", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert (await live.api.get("/mqtt/delayed")).json()["enable"] is True


@shows("PUT /mqtt/delayed")
async def test_settings_of_the_environment_stand(autojump_clock: object) -> None:
    layers = Layers.gather(environ={"TRIO_BROKER_DELAYED__ENABLE": "true"}, base=Config())
    async with running(layers=layers) as live:
        answer = await live.api.put("/mqtt/delayed", json={"enable": False})
        assert (answer.status_code, answer.json()["code"]) == (403, "UPDATE_FAILED")


@shows("GET /mqtt/delayed/messages")
async def test_list(autojump_clock: object) -> None:
    async with running() as live:
        empty = {"data": [], "meta": {"page": 1, "limit": 100, "count": 0, "hasnext": False}}
        assert (await live.api.get("/mqtt/delayed/messages")).json() == empty
        await delay(live, "t/1")
        await trio.sleep(10.5)
        row = (await live.api.get("/mqtt/delayed/messages")).json()["data"][0]
        published, expected = (datetime.fromisoformat(row.pop(key)) for key in ("publish_at", "expected_at"))
        assert (expected - published).total_seconds() == 60
        assert len(row.pop("msgid")) == 32
        assert row == {
            "node": "trio_broker@127.0.0.1",
            "topic": "t/1",
            "qos": 1,
            "delayed_interval": 60,
            "delayed_remaining": 49,
            "from_clientid": "c1",
            "from_username": "u1",
        }
        await live.api.post("/publish", json={"topic": "$delayed/1/t", "payload": "x"})
        last = (await live.api.get("/mqtt/delayed/messages")).json()["data"][-1]
        assert (last["from_clientid"], last["from_username"]) == ("http_api", "undefined")


@shows("GET /mqtt/delayed/messages")
async def test_pages(autojump_clock: object) -> None:
    async with running() as live:
        ids = await delay(live, *[f"t/{number}" for number in range(5)])
        seen = []
        for page, has_next in ((1, True), (2, True), (3, False), (4, False)):
            answer = await live.api.get("/mqtt/delayed/messages", params={"page": page, "limit": 2})
            assert answer.json()["meta"] == {"page": page, "limit": 2, "count": 5, "hasnext": has_next}
            seen += [row["msgid"] for row in answer.json()["data"]]
        assert seen == ids
        for params in ({"page": 0}, {"limit": 0}, {"limit": 10001}, {"page": "x"}):
            answer = await live.api.get("/mqtt/delayed/messages", params=params)
            assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


@shows("GET /mqtt/delayed/messages/:node/:msgid")
async def test_one_message(autojump_clock: object) -> None:
    async with running() as live:
        (message_id,) = await delay(live, "t/1", payload=b"\x00\xff")
        listed = (await live.api.get("/mqtt/delayed/messages")).json()["data"][0]
        for spelled in (message_id, message_id.lower()):
            answer = await live.api.get(f"/mqtt/delayed/messages/{NODE}/{spelled}")
            assert answer.status_code == 200
            assert answer.json() == {**listed, "payload": base64.b64encode(b"\x00\xff").decode()}


@shows("GET /mqtt/delayed/messages/:node/:msgid")
@pytest.mark.parametrize(("size", "is_shown"), [(0, True), (2048, True), (2049, False)])
async def test_a_large_payload_is_not_shown(size: int, is_shown: bool, autojump_clock: object) -> None:
    async with running() as live:
        (message_id,) = await delay(live, "t/1", payload=b"x" * size)
        payload = (await live.api.get(f"/mqtt/delayed/messages/{NODE}/{message_id}")).json()["payload"]
        assert payload == (base64.b64encode(b"x" * size).decode() if is_shown else "PAYLOAD_TOO_LARGE")


@shows("GET /mqtt/delayed/messages/:node/:msgid", "DELETE /mqtt/delayed/messages/:node/:msgid")
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_wrong_ids_and_nodes(method: str, autojump_clock: object) -> None:
    async with running() as live:
        (message_id,) = await delay(live, "t/1")
        other = message_id[:-1] + ("0" if message_id[-1] != "0" else "1")
        for node, msgid, status, code, message in (
            (NODE, "xyz", 400, "MESSAGE_ID_SCHEMA_ERROR", "Message ID xyz schema error"),
            (NODE, message_id + "0", 400, "MESSAGE_ID_SCHEMA_ERROR", f"Message ID {message_id}0 schema error"),
            ("other%40host", message_id, 400, "INVALID_NODE", "The node name other@host is invalid"),
            (NODE, "0" * 32, 404, "MESSAGE_ID_NOT_FOUND", f"Message ID {'0' * 32} not found"),
            (NODE, other, 404, "MESSAGE_ID_NOT_FOUND", f"Message ID {other} not found"),
        ):
            answer = await live.api.request(method, f"/mqtt/delayed/messages/{node}/{msgid}")
            assert (answer.status_code, answer.json()) == (status, {"code": code, "message": message})
        assert len((await live.api.get("/mqtt/delayed/messages")).json()["data"]) == 1


@shows("DELETE /mqtt/delayed/messages/:node/:msgid")
async def test_delete_one(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        client = await live.connect("c2")
        await client.subscribe("#")
        first, second = await delay(live, "t", "t")
        path = f"/mqtt/delayed/messages/{NODE}/{first}"
        answer = await live.api.delete(path)
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await live.api.delete(path)).status_code == 404
        assert [row["msgid"] for row in (await live.api.get("/mqtt/delayed/messages")).json()["data"]] == [second]
        await trio.sleep(61)
        assert len(await rest(client)) == 1
    async with running(store=store) as live:
        assert (await live.api.get("/mqtt/delayed/messages")).json()["data"] == []


@shows("DELETE /mqtt/delayed/messages/:topic")
async def test_delete_those_for_a_topic(autojump_clock: object) -> None:
    """The topic is one segment of the path, with its slashes encoded, and without what stood before it."""
    async with running() as live:
        ids = await delay(live, "t/1", "t/1", "t/2", "t")
        answer = await live.api.delete("/mqtt/delayed/messages/t%2F1")
        assert (answer.status_code, answer.content) == (204, b"")
        rows = (await live.api.get("/mqtt/delayed/messages")).json()["data"]
        assert [row["msgid"] for row in rows] == ids[2:]
        answer = await live.api.delete("/mqtt/delayed/messages/t%2F1")
        assert answer.status_code == 404
        assert answer.json() == {"code": "MESSAGE_NOT_FOUND", "message": "Not found messages for t/1"}
        for topic in ("t/+", "t/#"):
            answer = await live.api.delete(f"/mqtt/delayed/messages/{topic.replace('/', '%2F').replace('#', '%23')}")
            assert answer.status_code == 400
            assert answer.json() == {"code": "INVALID_TOPIC_NAME", "message": f"The topic name {topic} is invalid"}


@shows("DELETE /mqtt/delayed/messages/:topic", "GET /mqtt/delayed/messages/:node/:msgid")
async def test_both_forms_of_the_path(autojump_clock: object) -> None:
    """Two segments are node and message, one is a topic, which can only be deleted."""
    async with running() as live:
        await delay(live, "a")
        assert (await live.api.get("/mqtt/delayed/messages/a")).headers["allow"] == "DELETE"
        assert (await live.api.delete("/mqtt/delayed/messages/a/b")).json()["code"] == "INVALID_NODE"
        assert (await live.api.delete("/mqtt/delayed/messages/a")).status_code == 204


@shows("POST /publish")
async def test_publish_with_a_delay_went_to_nobody(autojump_clock: object) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("t", 1)
        body = {"topic": "$delayed/5/t", "payload": "hello", "qos": 1}
        answer = await live.api.post("/publish", json=body)
        assert answer.status_code == 202
        assert answer.json() == {"reason_code": 16, "message": "no_matching_subscribers"}
        answer = await live.api.post("/publish/bulk", json=[body, {**body, "topic": "t"}])
        assert answer.status_code == 202
        assert [sorted(item) for item in answer.json()] == [["message", "reason_code"], ["id"]]
        assert len(await rest(client)) == 1
        await trio.sleep(6)
        assert payloads(await rest(client)) == [b"hello", b"hello"]


@shows("PUT /mqtt/delayed", "DELETE /mqtt/delayed/messages/:topic")
async def test_viewers_change_nothing(autojump_clock: object) -> None:
    async with running() as live:
        viewer = live.as_viewer()
        assert (await live.api.get("/mqtt/delayed", auth=viewer)).status_code == 200
        assert (await live.api.put("/mqtt/delayed", json={}, auth=viewer)).status_code == 403
        assert (await live.api.delete("/mqtt/delayed/messages/t", auth=viewer)).status_code == 403
