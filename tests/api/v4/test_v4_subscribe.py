"""`/mqtt/subscribe`, `/mqtt/unsubscribe` and their batches of EMQX 4."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from actors.flows import SESSION, payloads, rest, settle
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.api.v4.formats import echoed

DONE = {"code": 0}
BAD_CLIENT = {"code": 108, "message": "bad clientid: must be string"}
NO_CLIENT = {"code": 112, "message": "channel_not_found"}
BAD_TOPIC = {"code": 115, "message": "bad_topic"}
BAD_QOS = {"code": 116, "message": "bad_qos"}


async def sent(v4: httpx.AsyncClient, what: str, body: Any) -> Any:
    answer = await v4.post(f"/mqtt/{what}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def subscriptions(live: Live, client_id: str = "c1") -> dict[str, int]:
    rows = (await live.api.get(f"/clients/{client_id}/subscriptions")).json()
    return {row["topic"]: row["qos"] for row in rows}


@shows("POST /api/v4/mqtt/subscribe", "POST /api/v4/mqtt/unsubscribe")
async def test_a_client_is_subscribed_and_unsubscribed(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        client = await live.connect("c1")
        writer = await live.connect("writer")
        await writer.publish("a/b", b"kept", 1, retain=True)
        assert await sent(v4, "subscribe", {"topic": "a/#", "qos": 1, "clientid": "c1"}) == DONE
        await writer.publish("a/c", b"new", 1)
        assert payloads(await rest(client)) == [b"kept", b"new"]
        assert await subscriptions(live) == {"a/#": 1}
        for _ in range(2):  # also where there is no such subscription any more
            assert await sent(v4, "unsubscribe", {"topic": "a/#", "clientid": "c1"}) == DONE
        await writer.publish("a/c", b"lost", 1)
        assert await rest(client) == []


@shows("POST /api/v4/mqtt/subscribe", "POST /api/v4/mqtt/unsubscribe")
async def test_a_session_whose_client_is_away(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        client = await live.connect("c1", properties=SESSION)
        await client.disconnect()
        await settle()
        assert await sent(v4, "subscribe", {"topics": "a,b/+", "clientid": "c1"}) == DONE
        assert await subscriptions(live) == {"a": 0, "b/+": 0}
        assert await sent(v4, "unsubscribe", {"topic": "a,b/+", "clientid": "c1"}) == DONE
        assert await sent(v4, "unsubscribe", {"topic": "b/+", "clientid": "c1"}) == DONE
        assert await subscriptions(live) == {"a": 0}


@shows("POST /api/v4/mqtt/subscribe")
@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"topic": "a,b", "topics": "c"}, {"a": 0, "b": 0}),
        ({"topics": "a,,b#,c/#", "qos": 2}, {"a": 2, "c/#": 2}),
        ({"topic": "$share/g/a/+,$queue/b,$share/g", "qos": 1}, {"$share/g/a/+": 1, "$queue/b": 1}),
        ({"topic": "a", "qos": "2"}, {"a": 2}),
    ],
)
async def test_filters(autojump_clock: MockClock, said: dict[str, Any], wanted: dict[str, int]) -> None:
    async with running() as live, older(live, "v4") as v4:
        await live.connect("c1")
        assert await sent(v4, "subscribe", {"clientid": "c1", **said}) == DONE
        assert await subscriptions(live) == wanted


@shows("POST /api/v4/mqtt/subscribe")
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, BAD_CLIENT),
        ({"clientid": 1, "topic": "a/#/b", "qos": 3}, BAD_CLIENT),
        ({"clientid": None, "topic": "a"}, BAD_CLIENT),
        ({"clientid": "nobody", "qos": 3}, BAD_TOPIC),
        ({"clientid": "nobody", "topic": "a/#/b", "qos": 3}, BAD_TOPIC),
        ({"clientid": "nobody", "topic": 1}, BAD_TOPIC),
        ({"clientid": "nobody", "topic": "$share/g"}, BAD_TOPIC),
        ({"clientid": "nobody", "topic": "a", "qos": 3}, BAD_QOS),
        ({"clientid": "nobody", "topic": "a", "qos": None}, BAD_QOS),
        ({"clientid": "nobody", "topic": "a", "qos": 0}, NO_CLIENT),
        ([{"clientid": "nobody", "topic": "a"}], {"code": 108, "message": "bad_params"}),
    ],
)
async def test_what_cannot_be_subscribed(autojump_clock: MockClock, body: Any, expected: dict[str, Any]) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert await sent(v4, "subscribe", body) == expected


@shows("POST /api/v4/mqtt/unsubscribe")
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"topic": "a"}, BAD_CLIENT),
        ({"clientid": 1, "topic": "a"}, BAD_CLIENT),
        ({"clientid": "nobody"}, BAD_TOPIC),
        ({"clientid": "nobody", "topics": "a"}, BAD_TOPIC),
        ({"clientid": "nobody", "topic": ""}, BAD_TOPIC),
        ({"clientid": "nobody", "topic": 1}, BAD_TOPIC),
        ({"clientid": "nobody", "topic": "a/#/b"}, BAD_TOPIC),
        ({"clientid": "nobody", "topic": "a"}, NO_CLIENT),
        ([], {"code": 108, "message": "bad_params"}),
    ],
)
async def test_what_cannot_be_unsubscribed(autojump_clock: MockClock, body: Any, expected: dict[str, Any]) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert await sent(v4, "unsubscribe", body) == expected


@shows("POST /api/v4/mqtt/subscribe_batch", "POST /api/v4/mqtt/unsubscribe_batch")
async def test_batches(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await live.connect("c1")
        batch: list[Any] = [
            {"clientid": "c1", "topic": "a", "qos": 1},
            {"clientid": "nobody", "topic": "b"},
            {"topic": "a"},
            {"clientid": "c1"},
            {"clientid": "c1", "topic": "a", "qos": 3},
            {"clientid": "c1", "topics": "b,c"},
            "c1",
        ]
        assert await sent(v4, "subscribe_batch", batch) == {
            "code": 0,
            "data": [
                {"clientid": "c1", "topic": "a", "code": 0},
                {"clientid": "nobody", "topic": "b", "code": 112},
                {"clientid": "undefined", "topic": "a", "code": 108},
                {"clientid": "c1", "topic": "undefined", "code": 115},
                {"clientid": "c1", "topic": "a", "code": 116},
                {"clientid": "c1", "topic": "b,c", "code": 0},
                {"clientid": "undefined", "topic": "undefined", "code": 108},
            ],
        }
        assert await subscriptions(live) == {"a": 1, "b": 0, "c": 0}
        assert await sent(v4, "unsubscribe_batch", batch[:4]) == {
            "code": 0,
            "data": [
                {"clientid": "c1", "topic": "a", "code": 0},
                {"clientid": "nobody", "topic": "b", "code": 112},
                {"clientid": "undefined", "topic": "a", "code": 108},
                {"clientid": "c1", "topic": "undefined", "code": 115},
            ],
        }
        assert await subscriptions(live) == {"b": 0, "c": 0}
        for what in ("subscribe_batch", "unsubscribe_batch"):
            assert await sent(v4, what, []) == {"code": 0, "data": []}
            assert await sent(v4, what, {"clientid": "c1", "topic": "a"}) == {"code": 108, "message": "bad_params"}


@shows("POST /api/v4/mqtt/subscribe")
async def test_as_many_topics_as_there_may_be(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await live.connect("c1")
        for number, expected in ((1000, {"code": 0}), (1001, {"code": 108, "message": "bad_params"})):
            body = {"clientid": "c1", "topics": ",".join(["t"] * number)}
            assert await sent(v4, "subscribe", body) == expected


def test_what_is_sent_back() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    assert echoed(deep) == "undefined"
    for said in ("c1", 1, None, True):
        assert echoed(said) is said
    assert bytes(echoed({"a": [1, "b"]})) == b'{"a":[1,"b"]}'


@shows("POST /api/v4/mqtt/subscribe_batch", "POST /api/v4/mqtt/unsubscribe_batch")
@pytest.mark.parametrize("what", ["subscribe_batch", "unsubscribe_batch"])
async def test_what_is_too_deep_to_be_sent_back(autojump_clock: MockClock, what: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        seen = set()
        for depth in range(800, 1000):
            deep = "[" * depth + "]" * depth
            answer = await v4.post(f"/mqtt/{what}", content=f'[{{"clientid": {deep}, "topic": "t"}}]')
            seen.add(answer.status_code)
            if answer.status_code == 200:
                start = '{"code":0,"data":[{"clientid":'
                assert answer.text in [f'{start}{said},"topic":"t","code":108}}]}}' for said in (deep, '"undefined"')]
            else:
                assert (answer.status_code, answer.json()["code"]) == (400, 109)
        assert seen == {200, 400}


@shows(
    "POST /api/v4/mqtt/publish",
    "POST /api/v4/mqtt/publish_batch",
    "POST /api/v4/mqtt/subscribe",
    "POST /api/v4/mqtt/subscribe_batch",
    "POST /api/v4/mqtt/unsubscribe",
    "POST /api/v4/mqtt/unsubscribe_batch",
)
@pytest.mark.parametrize("kind", ["publish", "subscribe", "unsubscribe"])
async def test_who_may(autojump_clock: MockClock, kind: str) -> None:
    body = {"topic": "t", "clientid": "c1"}
    async with running() as live, older(live, "v4") as v4:
        await live.connect("c1")
        viewer = live.as_viewer()
        for path, json in ((f"/mqtt/{kind}", body), (f"/mqtt/{kind}_batch", [body])):
            assert (await v4.post(path, json=json, auth=viewer)).status_code == 403
            assert (await v4.post(path, json=json)).json()["code"] == 0
