"""The contract of `/api/v2`, read afresh: publishing."""

from __future__ import annotations

import pytest
import trio
from api.operations import shows
from review.contract_v2 import C_1, both, done, missing, mistyped, nowhere, objects, refused
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.authorization import AuthorizationConfig
from trio_broker.protocol.packets import Publish
from trio_broker.testing import Client

PUBLISH = "/mqtt/publish"
LONGEST = "ä" * 2048


async def received(client: Client) -> Publish:
    with trio.fail_after(60):
        return await client.receive()


@shows("POST /api/v2/mqtt/publish")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_the_message_of_the_document(level: int, autojump_clock: MockClock) -> None:
    body = {"topic": "test", "payload": "hello", "qos": 1, "retain": False, "client_id": C_1}
    async with both() as (live, v2):
        client = await live.connect("c", level=level)
        await client.subscribe("#", 2)
        done(await v2.post(PUBLISH, json=body))
        message = await received(client)
        assert (message.topic_name, message.payload, message.qos) == ("test", b"hello", 1)
        assert (message.retain, message.dup) == (False, False)
        for qos in (0, 1, 2):
            done(await v2.post(PUBLISH, json={**body, "qos": qos}))
            assert (await received(client)).qos == qos
        done(await v2.post(PUBLISH, json={"topic": "test"}))
        message = await received(client)
        assert (message.topic_name, message.payload, message.qos, message.retain) == ("test", b"", 0, False)
        await client.ping()
        assert not client.inbox
        assert await objects(v2, f"/sessions/{C_1}") == await objects(v2, "/sessions/http") == []


@shows("POST /api/v2/mqtt/publish")
async def test_the_sender(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        body = {"topic": "r", "payload": "1", "qos": 1, "retain": True}
        for client_id in ("http", C_1, "ä/ö"):
            done(await v2.post(PUBLISH, json=body if client_id == "http" else {**body, "client_id": client_id}))
            kept = (await live.api.get("/mqtt/retainer/message/r")).json()
            assert (kept["from_clientid"], kept["qos"]) == (client_id, 1)
        own = await live.connect(C_1)
        await own.subscribe("mine", no_local=True)
        done(await v2.post(PUBLISH, json={"topic": "mine", "client_id": C_1}))
        done(await v2.post(PUBLISH, json={"topic": "mine", "payload": "others"}))
        assert (await received(own)).payload == b"others"


@shows("POST /api/v2/mqtt/publish")
async def test_retained(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        for topic, retain in (("r/1", True), ("r/2", False)):
            done(await v2.post(PUBLISH, json={"topic": topic, "payload": "kept", "qos": 2, "retain": retain}))
        client = await live.connect("c", level=4)
        await client.subscribe("r/#", 2)
        message = await received(client)
        assert (message.topic_name, message.payload, message.qos, message.retain) == ("r/1", b"kept", 2, True)
        await client.ping()
        assert not client.inbox
        done(await v2.post(PUBLISH, json={"topic": "r/1", "payload": "", "retain": True}))
        assert (await received(client)).payload == b""
        later = await live.connect("later", level=4)
        await later.subscribe("r/#")
        await later.ping()
        assert not later.inbox


@shows("POST /api/v2/mqtt/publish")
async def test_what_a_message_may_be(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect("c", level=4)
        await client.subscribe("#")
        for topic in (LONGEST, "/", "a b", " ", "ä", "a//b"):
            done(await v2.post(PUBLISH, json={"topic": topic, "payload": topic}))
            message = await received(client)
            assert (message.topic_name, message.payload) == (topic, topic.encode())
        for payload in ("x" * 100_000, "\x00\x01\u20ac", '{"a": 1}', "\U0001f600"):
            done(await v2.post(PUBLISH, json={"topic": "t", "payload": payload}))
            assert (await received(client)).payload == payload.encode()
        done(await v2.post(PUBLISH, json={"topic": "t", "client_id": ""}))
        await received(client)
        done(await v2.post(PUBLISH, json={"topic": "t", "payload": "x", "more": {}}))
        await received(client)


@shows("POST /api/v2/mqtt/publish")
async def test_messages_that_are_refused(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect("c")
        await client.subscribe("#")
        for topic in ("", "#", "+", "a/#", "a/+/b", "a+", LONGEST + "x"):
            refused(await v2.post(PUBLISH, json={"topic": topic}), 102, f"validate topic: {topic} fail")
        mistyped(await v2.post(PUBLISH, json={"topic": None}))
        missing(await v2.post(PUBLISH, json={"payload": 1, "qos": 7}))
        for key, values in {
            "qos": (3, -1, "1", True, 1.5, [], None),
            "retain": ("true", 1, 0, [], None),
            "payload": (1, True, ["x"], {"a": 1}, None),
            "client_id": (1, True, ["x"], None),
        }.items():
            for value in values:
                mistyped(await v2.post(PUBLISH, json={"topic": "t", key: value}))
        refused(await v2.post(PUBLISH, content=b'{"topic": "t"'), 109, "Body not json")
        nowhere(await v2.get(PUBLISH))
        await client.ping()
        assert not client.inbox


@shows("POST /api/v2/mqtt/publish")
async def test_access_rules_are_not_asked(autojump_clock: MockClock) -> None:
    config = Config(authorization=AuthorizationConfig(sources=(), no_match="deny"))
    async with both(config) as (live, v2):
        kept = await live.connect(C_1, level=4)
        assert (await kept.subscribe("t")).reason_codes == [0x80]
        done(await v2.post("/mqtt/subscribe", json={"client_id": C_1, "topic": "t", "qos": 1}))
        await trio.sleep(1)
        done(await v2.post(PUBLISH, json={"topic": "t", "payload": "x", "client_id": C_1}))
        assert (await received(kept)).payload == b"x"
