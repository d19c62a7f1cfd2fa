"""The REST contract, read afresh: subscribing for clients, lists of subscriptions and topics."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
import trio
from api.live import Live, running
from api.operations import shows
from review.contract import NODE, away, done, failed, got, invalid, listed, post
from trio.testing import MockClock

from trio_broker.protocol.packets import Publish, SubscribeFilter


def row(topic: str, client_id: str = "c1", **options: int) -> dict[str, Any]:
    """A subscription as lists have it."""
    options = {"qos": 0, "nl": 0, "rap": 0, "rh": 0} | options
    return {"topic": topic, "clientid": client_id, "node": NODE, **options, "durable": False}


def result(topic: str, **options: int) -> dict[str, Any]:
    """A subscription as `subscribe` answers it."""
    answer = row(topic, "c1", **options)
    del answer["durable"]
    return answer


async def subscribe(live: Live, topic: str, **options: Any) -> Any:
    answer = await live.api.post("/clients/c1/subscribe", json={"topic": topic, **options})
    assert answer.status_code == 200, answer.text
    return answer.json()


@shows("GET /clients/:clientid/subscriptions", "GET /subscriptions")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_what_a_client_subscribed_to(level: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1", level=level)
        assert await got(live, "/clients/c1/subscriptions") == []
        await client.subscribe("t/#", 2)
        rows = [row("t/#", qos=2)]
        if level == 5:
            own = SubscribeFilter("a/+", 1, True, True, 2)
            await client.subscribe([own, SubscribeFilter("$share/g/t/#", 1)], identifier=7)
            rows += [row("a/+", qos=1, nl=1, rap=1, rh=2), row("$share/g/t/#", qos=1)]
        answer = await got(live, "/clients/c1/subscriptions")
        assert sorted(answer, key=str) == sorted(rows, key=str)
        answer = await got(live, "/subscriptions")
        assert sorted(answer["data"], key=str) == sorted(rows, key=str)
        assert answer["meta"] == {"page": 1, "limit": 100, "count": len(rows), "hasnext": False}


@shows("POST /clients/:clientid/subscribe", "GET /clients/:clientid/subscriptions")
async def test_subscribing_for_a_client(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        assert await subscribe(live, "t/#") == result("t/#")
        assert await subscribe(live, "a", qos=1, nl=1, rap=1, rh=2) == result("a", qos=1, nl=1, rap=1, rh=2)
        assert await subscribe(live, "$share/g/b/+", qos="2") == result("$share/g/b/+", qos=2)
        rows = [row("t/#"), row("a", qos=1, nl=1, rap=1, rh=2), row("$share/g/b/+", qos=2)]
        assert sorted(await got(live, "/clients/c1/subscriptions"), key=str) == sorted(rows, key=str)
        assert (await post(live, "b/1", "hello", qos=2)).status_code == 200
        assert (await client.receive()).qos == 2
        await client.publish("a", b"own", 1)  # No Local
        await client.publish("t/1", b"mine", 1)
        assert (await client.receive()).payload == b"mine"
        assert not client.inbox  # neither a SUBACK nor its own message


@shows("POST /clients/:clientid/subscribe")
async def test_subscribing_again_changes_the_options(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1")
        await subscribe(live, "t", qos=0)
        await subscribe(live, "t", qos=2, rap=1)
        assert await got(live, "/clients/c1/subscriptions") == [row("t", qos=2, rap=1)]
        assert (await got(live, "/clients/c1"))["subscriptions_cnt"] == 1


@shows("POST /clients/:clientid/subscribe")
@pytest.mark.parametrize(("rh", "first", "second"), [(0, True, True), (1, True, False), (2, False, False)])
async def test_retain_handling(rh: int, first: bool, second: bool, autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await post(live, "r", "kept", retain=True)
        for expected in (first, second):
            await subscribe(live, "r", rh=rh)
            await trio.sleep(1)
            await client.ping()
            assert [p.payload for p in client.inbox if isinstance(p, Publish)] == [b"kept"] * expected
            client.inbox.clear()


@shows("POST /clients/:clientid/subscribe", "GET /clients/:clientid/mqueue_messages")
async def test_subscribing_for_who_is_away(autojump_clock: MockClock) -> None:
    async with running() as live:
        await away(live, "c1")
        await subscribe(live, "t", qos=1)
        assert (await post(live, "t", qos=1)).status_code == 200
        assert len((await got(live, "/clients/c1/mqueue_messages"))["data"]) == 1


@shows("POST /clients/:clientid/subscribe")
async def test_subscribing_with_what_is_refused(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1")
        url = "/clients/c1/subscribe"
        answer = await live.api.post(url, json={"topic": "$share/g/t", "nl": 1})
        message = "Invalid Subscribe options: `no_local` not allowed for shared-sub. See [MQTT-3.8.3-4]"
        failed(answer, 400, "INVALID_PARAMETER", message)
        invalid(await live.api.post(url, json={"qos": 1}), "root.topic", "required_field")
        for qos in (3, -1, "x"):
            invalid(await live.api.post(url, json={"topic": "a", "qos": qos}), "root.qos")
        for topic in ("a/#/b", "", "a+", "$share/g", "$share//a", "$share/+/a"):
            assert (await live.api.post(url, json={"topic": topic})).status_code == 400, topic
        for option in ("nl", "rap", "rh"):
            assert (await live.api.post(url, json={"topic": "a", option: "x"})).status_code == 400
        invalid(await live.api.post(url, json={"topic": "a", "colour": 1}), "root", "unknown_fields")
        assert await got(live, "/clients/c1/subscriptions") == []


@shows("POST /clients/:clientid/subscribe/bulk")
async def test_subscribing_to_many(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1")
        url = "/clients/c1/subscribe/bulk"
        answer = await live.api.post(url, json=[{"topic": "b"}, {"topic": "a", "qos": 1}, {"topic": "$share/g/c"}])
        assert answer.status_code == 200
        assert answer.json() == [result("b"), result("a", qos=1), result("$share/g/c")]
        assert (await live.api.post(url, json=[])).json() == []
        body = [{"topic": "x"}, {"topic": "$share/g/d", "nl": 1, "qos": 1}, {"topic": "y", "qos": 2}]
        answer = await live.api.post(url, json=body)
        assert answer.status_code == 200
        told = answer.json()
        assert told.keys() == {"succeed", "failed"}
        assert told["succeed"] == [result("x"), result("y", qos=2)]
        (refused,) = told["failed"]
        assert refused.keys() == {"data", "reason"}
        assert refused["data"] == ["c1", "$share/g/d", {"qos": 1, "nl": 1, "rap": 0, "rh": 0}]
        assert isinstance(refused["reason"], str)
        topics = {each["topic"] for each in await got(live, "/clients/c1/subscriptions")}
        assert topics == {"a", "b", "$share/g/c", "x", "y"}
        failed(await live.api.post(url, json={"topic": "a"}), 400, "BAD_REQUEST")
        invalid(await live.api.post(url, json=[{"topic": "z"}, {"topic": "a", "qos": 3}]), "root.2.qos")
        invalid(await live.api.post(url, json=[{"topic": "z"}, {"qos": 1}]), "root.2.topic", "required_field")


@shows("POST /clients/:clientid/unsubscribe", "POST /clients/:clientid/unsubscribe/bulk")
async def test_unsubscribing(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        for topic in ("a", "b", "$share/g/a", "c", "d"):
            await client.subscribe(topic)
        url = "/clients/c1/unsubscribe"
        done(await live.api.post(url, json={"topic": "a"}))
        assert await listed(live, "/subscriptions", "topic") == {"b", "$share/g/a", "c", "d"}
        done(await live.api.post(url, json={"topic": "$share/g/a"}))
        done(await live.api.post(url, json={"topic": "never"}))
        assert (await live.api.post(url, json={})).status_code == 400
        done(await live.api.post(url + "/bulk", json=[{"topic": "b"}, {}, {"topic": "never"}, {"topic": "c"}]))
        assert await listed(live, "/subscriptions", "topic") == {"d"}
        done(await live.api.post(url + "/bulk", json=[]))
        assert (await post(live, "a")).status_code == 202
        assert (await live.api.post(url + "/bulk", json={"topic": "d"})).status_code == 400
        assert not client.inbox


@shows("GET /subscriptions")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "c1:t/# c1:$share/g/t/1 c2:t/1 c2:$share/h/t/1 c2:$queue/t/2 c3:t/+"),
        ("clientid=c1", "c1:t/# c1:$share/g/t/1"),
        ("clientid=c", ""),
        ("qos=0", "c2:t/1"),
        ("qos=2", "c1:t/# c2:$queue/t/2"),
        ("topic=t/1", "c2:t/1"),
        ("topic=t/%23", "c1:t/#"),
        ("topic=t/2", ""),
        ("topic=t/1&share_group=g", "c1:$share/g/t/1"),
        ("share_group=h", "c2:$share/h/t/1"),
        ("share_group=none", ""),
        ("durable=false", "c1:t/# c1:$share/g/t/1 c2:t/1 c2:$share/h/t/1 c2:$queue/t/2 c3:t/+"),
        ("durable=true", ""),
        ("match_topic=t/1", "c1:$share/g/t/1 c2:t/1 c2:$share/h/t/1"),
        ("match_topic=t/%2B", "c1:t/# c1:$share/g/t/1 c2:t/1 c2:$share/h/t/1 c2:$queue/t/2 c3:t/+"),
        ("match_topic=%23", "c1:t/# c1:$share/g/t/1 c2:t/1 c2:$share/h/t/1 c2:$queue/t/2 c3:t/+"),
        ("match_topic=x/%23", ""),
        ("match_topic=t/%23&clientid=c2", "c2:t/1 c2:$share/h/t/1 c2:$queue/t/2"),
        ("match_topic=t/1&share_group=h", "c2:$share/h/t/1"),
        ("match_topic=t/1&qos=1", "c1:$share/g/t/1 c2:$share/h/t/1"),
        ("clientid=c2&qos=1&topic=t/1", ""),
        ("clientid=c2&qos=1", "c2:$share/h/t/1"),
        ("clientid=c3", "c3:t/+"),
    ],
)
async def test_filters(query: str, found: str, autojump_clock: MockClock) -> None:
    """`c3` is away."""
    async with running() as live:
        c1, c2 = await live.connect("c1"), await live.connect("c2")
        await c1.subscribe("t/#", 2)
        await c1.subscribe("$share/g/t/1", 1)
        await c2.subscribe("t/1", 0)
        await c2.subscribe("$share/h/t/1", 1)
        answer = await live.api.post("/clients/c2/subscribe", json={"topic": "$queue/t/2", "qos": 2})
        assert answer.status_code == 200
        await away(live, "c3", "t/+")
        answer = await got(live, "/subscriptions?" + query)
        assert {f"{each['clientid']}:{each['topic']}" for each in answer["data"]} == set(found.split())
        expected: dict[str, Any] = {"page": 1, "limit": 100, "hasnext": False}
        if "match_topic" not in query:
            expected["count"] = len(found.split())
        assert answer["meta"] == expected


@shows("GET /subscriptions")
async def test_matches_in_pages(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        for index in range(5):
            await client.subscribe(f"t/{index}")
        seen = []
        for page, hasnext in [(1, True), (2, True), (3, False), (4, False)]:
            answer = await got(live, "/subscriptions", match_topic="t/#", page=page, limit=2)
            assert answer["meta"] == {"page": page, "limit": 2, "hasnext": hasnext}
            seen += [each["topic"] for each in answer["data"]]
        assert sorted(seen) == [f"t/{index}" for index in range(5)]


@shows("GET /subscriptions")
@pytest.mark.parametrize("topic", ["a/#/b", "$share/g/t", "a+", ""])
async def test_what_cannot_match(topic: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await live.api.get("/subscriptions", params={"match_topic": topic})
        failed(answer, 400, "INVALID_PARAMETER", "match_topic_invalid")


@shows("GET /subscriptions")
@pytest.mark.parametrize("query", ["qos=3", "qos=x", "durable=1x"])
async def test_values_that_are_refused(query: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        invalid(await live.api.get("/subscriptions?" + query), query.split("=")[0])


@shows("GET /topics", "GET /topics/:topic", "GET /stats")
async def test_topics(autojump_clock: MockClock) -> None:
    async with running() as live:
        c1, c2 = await live.connect("c1"), await live.connect("c2")
        for client in (c1, c2):
            await client.subscribe("t/#")
            await client.subscribe("$share/g/t/1")
        await c2.subscribe("a b/+")
        await away(live, "c3", "q")
        names = ["t/#", "$share/g/t/1", "a b/+", "q"]
        answer = await got(live, "/topics")
        assert sorted(answer["data"], key=str) == sorted(({"topic": each, "node": NODE} for each in names), key=str)
        assert answer["meta"] == {"page": 1, "limit": 100, "count": 4, "hasnext": False}
        for name in names:
            found = await got(live, "/topics", topic=name)
            assert found["data"] == [{"topic": name, "node": NODE}]
            assert found["meta"] == {"page": 1, "limit": 100, "count": 1, "hasnext": False}
            assert await got(live, "/topics/" + quote(name, safe="")) == [{"topic": name, "node": NODE}]
        for name in ("t/1", "t", "nobody"):
            assert (await got(live, "/topics", topic=name))["data"] == []
            answer = await live.api.get("/topics/" + quote(name, safe=""))
            failed(answer, 404, "TOPIC_NOT_FOUND", "Topic not found")
        assert len((await got(live, "/topics", node=NODE))["data"]) == 4
        failed(await live.api.get("/topics?topic=a%23"), 400, "INVALID_PARAMTER", "topic_filter_invalid")
        await trio.sleep(2)
        assert (await got(live, "/stats?aggregate=true"))["topics.count"] == 4
        await c1.disconnect()
        await c2.disconnect()
        assert await listed(live, "/topics", "topic") == {"q"}
