"""What clients may do by the word of a web service, through a whole broker."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from actors.flows import end_of, rest
from actors.web import Asked, Reply, Web, in_memory, says, unreachable
from api.live import Live, running
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.authorization import (
    AuthorizationCacheConfig,
    AuthorizationConfig,
    BuiltInSourceConfig,
    HttpSourceConfig,
)
from trio_broker.protocol.packets import PubAck, Publish, SubAck, SubscribeFilter

URL = "http://service.example/acl"
WHAT = {
    name: f"${{{name}}}"
    for name in (
        "username",
        "clientid",
        "action",
        "topic",
        "qos",
        "retain",
        "access",
        "proto_name",
        "mountpoint",
        "peerhost",
        "zone",
    )
}


async def by_topic(asked: Asked) -> Reply:
    """A second for each answer. Topics with `no` in them are denied, those with `maybe` are for others to decide."""
    await trio.sleep(1)
    topic = asked.json["topic"]
    return says(result="ignore" if "maybe" in topic else "deny" if "no" in topic else "allow")


@asynccontextmanager
async def guarded(
    web: Web, *, no_match: str = "allow", cache: bool = True, more: tuple[Any, ...] = (), **options: Any
) -> AsyncIterator[Live]:
    """A broker whose clients do what `web` allows them."""
    source = HttpSourceConfig(**{"url": URL, "body": WHAT, **options})
    config = AuthorizationConfig(
        no_match=no_match, sources=(source, *more), cache=AuthorizationCacheConfig(enable=cache)
    )
    async with in_memory(web, {"metadata.example": "169.254.169.254"}), running(Config(authorization=config)) as live:
        yield live


async def status(live: Live) -> Any:
    answer = await live.api.get("/authorization/sources/http/status")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def figures(live: Live) -> dict[str, int]:
    metrics = (await status(live))["metrics"]
    return {name: metrics[name] for name in ("total", "allow", "deny", "nomatch", "ignore") if metrics[name]}


async def published(client: Any, topic: str, **options: Any) -> int:
    answer = await client.publish(topic, b"x", 1, **options)
    assert isinstance(answer, PubAck)
    return int(answer.reason_code)


async def test_what_it_is_asked(autojump_clock: MockClock) -> None:
    web = Web(by_topic)
    async with guarded(web) as live:
        client = await live.connect("c", username="u")
        assert await published(client, "a/b", retain=True) == 0x10
        await client.subscribe([SubscribeFilter("a/+", 2)])
    usual = {
        "username": "u",
        "clientid": "c",
        "proto_name": "MQTT",
        "mountpoint": "",
        "peerhost": "127.0.0.1",
        "zone": "default",
    }
    publish, subscribe = (asked.json for asked in web.asked)
    assert publish == {**usual, "action": "publish", "access": "2", "topic": "a/b", "qos": "1", "retain": "true"}
    assert subscribe == {**usual, "action": "subscribe", "access": "1", "topic": "a/+", "qos": "2", "retain": "false"}


async def test_messages_wait_in_their_order_and_are_asked_about_once(autojump_clock: MockClock) -> None:
    web = Web(by_topic)
    async with guarded(web) as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe("#", qos=1)
        client = await live.connect("c")
        began = trio.current_time()
        for payload, topic in enumerate(["a", "no", "b", "a", "no", "b"]):
            await client.send(Publish(topic, bytes([payload])))
        await client.ping()
        assert trio.current_time() - began == pytest.approx(3, abs=0.1)
        assert [message.payload[0] for message in await rest(watcher)] == [0, 2, 3, 5]
        began = trio.current_time()
        for _ in range(100):
            assert await published(client, "a") == 0
        assert trio.current_time() - began == pytest.approx(1, abs=0.1)  # with QoS 1 it is another question
        kept = (await live.api.get("/clients/c/authorization/cache")).json()
        assert {row["topic"] for row in kept} == {"a", "b", "no"}
        assert await figures(live) == {"total": 5, "allow": 4, "deny": 1}


async def test_who_is_denied_hears_it(autojump_clock: MockClock) -> None:
    async with guarded(Web(by_topic)) as live:
        client = await live.connect("c")
        assert await published(client, "no") == 0x87
        answer = await client.subscribe([SubscribeFilter("no/#", 1), SubscribeFilter("yes", 1)])
        assert isinstance(answer, SubAck)
        assert [int(code) for code in answer.reason_codes] == [0x87, 1]


@pytest.mark.parametrize(
    ("reply", "opinion", "counted"),
    [
        (Reply(204, content_type=None), True, "allow"),
        (Reply(body=b'{"result": "allow"}'), True, "allow"),
        (Reply(body=b'{"result": "allow"}', content_type=None), True, "allow"),
        (Reply(body=b"result=allow", content_type="application/x-www-form-urlencoded"), True, "allow"),
        (Reply(body=b'{"result": "deny"}'), False, "deny"),
        (Reply(body=b'{"result": "ignore"}'), None, "ignore"),
        (Reply(body=b'{"result": "yes"}'), None, "nomatch"),
        (Reply(body=b"{}"), None, "nomatch"),
        (Reply(body=b"rubbish"), None, "nomatch"),
        (Reply(body=b'{"result": "deny"}', content_type="text/plain"), None, "nomatch"),
        (Reply(403, body=b'{"result": "deny"}'), None, "nomatch"),
        (Reply(302, headers=(("Location", "http://service.example/other"),)), None, "nomatch"),
        (Reply(500), None, "nomatch"),
        (Reply(body=b"x" * 1_100_000), None, "ignore"),
    ],
)
@pytest.mark.parametrize("no_match", ["allow", "deny"])
async def test_what_the_service_answers(
    autojump_clock: MockClock, reply: Reply, opinion: bool | None, counted: str, no_match: str
) -> None:
    async def answer(asked: Asked) -> Reply:
        return reply

    async with guarded(Web(answer), no_match=no_match) as live:
        client = await live.connect("c")
        allowed = no_match == "allow" if opinion is None else opinion
        assert (await published(client, "t") != 0x87) is allowed
        assert await figures(live) == {"total": 1, counted: 1}


async def test_others_decide_where_it_says_nothing(autojump_clock: MockClock) -> None:
    async with guarded(Web(by_topic), more=(BuiltInSourceConfig(),)) as live:
        rules = [{"topic": "maybe/1", "permission": "deny", "action": "all"}]
        answer = await live.api.post("/authorization/sources/built_in_database/rules/all", json={"rules": rules})
        assert answer.status_code == 204, answer.text
        client = await live.connect("c")
        assert await published(client, "maybe/1") == 0x87
        assert await published(client, "maybe/2") == 0x10


async def test_topics_cannot_leave_their_place(autojump_clock: MockClock) -> None:
    async def allow(asked: Asked) -> Reply:
        return says(result="allow")

    topics = ["a/../b?x=1&y#z".replace("#", ""), "${password}", "k\u00fc", "\u0001", "x" * 60_000]
    web = Web(allow)
    async with guarded(web, method="get", url=f"{URL}/${{topic}}/end", body={"t": "${topic}"}) as live:
        client = await live.connect("c")
        for topic in topics:
            assert await published(client, topic) != 0x87
        # This cannot be asked as it is meant, so nobody may do it.
        assert await published(client, "..") == 0x87
        assert await figures(live) == {"total": 6, "allow": 5, "deny": 1}
    for asked, topic in zip(web.asked, topics, strict=True):
        assert asked.path == [b"acl", topic.encode(), b"end"]
        assert asked.query == [(b"t", topic.encode())]


async def test_a_service_that_is_silent_keeps_one_client_waiting_and_no_other(autojump_clock: MockClock) -> None:
    async def never_for_a(asked: Asked) -> Reply:
        if asked.json["clientid"] == "a":
            await trio.sleep_forever()
        return says(result="allow")

    web = Web(never_for_a)
    async with guarded(web, request_timeout=3.0, no_match="deny") as live:
        first, second = await live.connect("a"), await live.connect("b")
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def slow() -> None:
                assert await published(first, "t") == 0x87
                assert trio.current_time() - began == pytest.approx(3, abs=0.1)

            nursery.start_soon(slow)
            assert await published(second, "t") != 0x87
            assert trio.current_time() - began == pytest.approx(0, abs=0.1)
        assert web.gone == 1
        assert await figures(live) == {"total": 2, "allow": 1, "ignore": 1}


async def test_the_service_dies_and_returns(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    web = Web(by_topic)
    async with guarded(web, no_match="deny", cache=False) as live:
        client = await live.connect("c")
        assert (await status(live))["status"] == "connecting"
        assert await published(client, "t") != 0x87
        assert (await status(live))["status"] == "connected"
        for stream in web.streams:
            await trio.aclose_forcefully(stream)
        with unreachable(web):
            for _ in range(20):
                assert await published(client, "t") == 0x87
            assert (await status(live))["status"] == "disconnected"
        await trio.sleep(1)
        assert await published(client, "t") != 0x87
        now = await status(live)
        assert (now["status"], now["resource_metrics"]["failed"]) == ("connected", 20)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["authorization source http: no answer about 'c': 192.0.2.1 port 80: Connection refused"]


async def test_a_broker_that_shuts_down_waits_for_no_service(autojump_clock: MockClock) -> None:
    async def never(asked: Asked) -> Reply:
        await trio.sleep_forever()
        raise AssertionError

    web = Web(never)
    async with guarded(web, request_timeout=600.0) as live:
        client = await live.connect("c")
        await client.send(Publish("t", b"x"))
        await trio.testing.wait_all_tasks_blocked()
        assert web.under_way == 1
        began = trio.current_time()
        live.broker.close()
        await end_of(client)
    assert trio.current_time() - began < 100


@pytest.mark.parametrize("option", [{"url": "http://h/${password}"}, {"body": {"x": "${nobody}"}}])
async def test_what_cannot_be_is_refused_over_rest(autojump_clock: MockClock, option: dict[str, Any]) -> None:
    async with running(Config()) as live:
        before = (await live.api.get("/authorization/sources")).json()
        body = {"type": "http", "method": "post", "url": URL, **option}
        answer = await live.api.post("/authorization/sources", json=body)
        assert answer.status_code == 400, answer.text
        assert "there is no placeholder" in answer.text
        assert (await live.api.get("/authorization/sources")).json() == before


async def test_rest_cannot_make_the_broker_ask_the_metadata_service(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    web = Web(by_topic)
    async with guarded(web, url="http://metadata.example/latest", no_match="deny") as live:
        client = await live.connect("c")
        assert await published(client, "t") == 0x87
    assert "outbound.access_rules do not allow metadata.example (169.254.169.254)" in caplog.text
    assert web.asked == []
