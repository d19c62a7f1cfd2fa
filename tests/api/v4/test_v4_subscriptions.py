"""`/subscriptions` of EMQX 4: rows, filters, pages."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

KEPT: dict[str, Any] = {"properties": {"session_expiry_interval": 3600}}


async def rows(v4: httpx.AsyncClient, path: str) -> list[str]:
    """`client topic qos` of each row."""
    answer = await v4.get(path)
    assert (answer.status_code, answer.json()["code"]) == (200, 0), answer.text
    return [f"{row['clientid']} {row['topic']} {row['qos']}" for row in answer.json()["data"]]


async def fill(live: Live) -> None:
    c1 = await live.connect("c1")
    for topic, qos in (("a/+/c", 0), ("a/b", 1), ("$share/g/a/b", 2), ("/t", 0)):
        await c1.subscribe(topic, qos=qos)
    c2 = await live.connect("c/2", **KEPT)
    for topic, qos in (("a/b", 2), ("$queue/x", 1), ("$share/h/a/b", 0), ("$share/g//t", 1)):
        await c2.subscribe(topic, qos=qos)
    await c2.disconnect()


@shows("GET /api/v4/subscriptions", "GET /api/v4/nodes/:node/subscriptions")
async def test_the_printed_row(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        node = live.broker.config.node.name
        meta = {"page": 1, "limit": 10000, "count": 0, "hasnext": False}
        assert (await v4.get("/subscriptions")).json() == {"code": 0, "data": [], "meta": meta}
        await (await live.connect("c1")).subscribe("a/+/c")
        for path in ("/subscriptions", f"/nodes/{node}/subscriptions"):
            assert (await v4.get(path)).json() == {
                "code": 0,
                "data": [{"node": node, "clientid": "c1", "topic": "a/+/c", "qos": 0}],
                "meta": {"page": 1, "limit": 10000, "count": 1, "hasnext": False},
            }


@shows("GET /api/v4/subscriptions")
async def test_shared_subscriptions_are_shown_in_full(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await fill(live)
        assert await rows(v4, "/subscriptions") == [
            "c1 a/+/c 0",
            "c1 a/b 1",
            "c1 $share/g/a/b 2",
            "c1 /t 0",
            "c/2 a/b 2",
            "c/2 $share/$queue/x 1",
            "c/2 $share/h/a/b 0",
            "c/2 $share/g//t 1",
        ]


@shows("GET /api/v4/subscriptions", "GET /api/v4/nodes/:node/subscriptions")
async def test_every_filter(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await fill(live)
        found = {
            "clientid=c1": ["c1 a/+/c 0", "c1 a/b 1", "c1 $share/g/a/b 2", "c1 /t 0"],
            "clientid=nobody": [],
            "qos=2": ["c1 $share/g/a/b 2", "c/2 a/b 2"],
            "qos=7": [],
            "qos=-1": [],
            "share=g": ["c1 $share/g/a/b 2", "c/2 $share/g//t 1"],
            "share=$queue": ["c/2 $share/$queue/x 1"],
            "share=nobody": [],
            "topic=a/b": ["c1 a/b 1", "c/2 a/b 2", "c1 $share/g/a/b 2", "c/2 $share/h/a/b 0"],
            "topic=a%252Fb&clientid=c1": ["c1 a/b 1", "c1 $share/g/a/b 2"],
            "topic=a/b&share=h": ["c/2 $share/h/a/b 0"],
            "topic=a/b&share=nobody": [],
            "topic=a/b&qos=2": ["c/2 a/b 2", "c1 $share/g/a/b 2"],
            "topic=a/%2B/c": ["c1 a/+/c 0"],
            "topic=a/%252B/c": ["c1 a/+/c 0"],
            "topic=x": ["c/2 $share/$queue/x 1"],
            "topic=/t": ["c1 /t 0", "c/2 $share/g//t 1"],
            "topic=$share/g/a/b": [],
            "topic=a/%23/b": [],
            "topic=": [],
            "topic=x&_match_topic=nothing": ["c/2 $share/$queue/x 1"],
            "_match_topic=a/%23": [
                *("c1 a/+/c 0", "c1 a/b 1", "c1 $share/g/a/b 2", "c/2 a/b 2", "c/2 $share/h/a/b 0"),
            ],
            "_match_topic=a/%2B&clientid=c1": ["c1 a/b 1", "c1 $share/g/a/b 2"],
            "_match_topic=a/%23/b": [],
            "_match_topic=": [],
            "clientid=c1&qos=0": ["c1 a/+/c 0", "c1 /t 0"],
        }
        node = live.broker.config.node.name
        for query, expected in found.items():
            for path in ("/subscriptions", f"/nodes/{node}/subscriptions"):
                assert (await rows(v4, f"{path}?{query}"), query) == (expected, query)
                count = len(expected) if query.startswith("topic=") else -1
                meta = (await v4.get(f"{path}?{query}")).json()["meta"]
                assert (meta, query) == ({"page": 1, "limit": 10000, "count": count, "hasnext": False}, query)


@shows("GET /api/v4/subscriptions")
async def test_pages(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        for number in range(5):
            await (await live.connect(f"c{number}")).subscribe("t")
        for query, count in (("", 5), ("&topic=t", 5), ("&qos=0", -1), ("&_match_topic=%23", -1)):
            for page, found, hasnext in ((1, [0, 1], True), (2, [2, 3], True), (3, [4], False), (4, [], False)):
                answer = (await v4.get(f"/subscriptions?_limit=2&_page={page}{query}")).json()
                assert [row["clientid"] for row in answer["data"]] == [f"c{number}" for number in found]
                assert answer["meta"] == {"page": page, "limit": 2, "count": count, "hasnext": hasnext}


@shows("GET /api/v4/subscriptions/:clientid", "GET /api/v4/nodes/:node/subscriptions/:clientid")
async def test_of_one_client(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await fill(live)
        node = live.broker.config.node.name
        for base in ("", f"/nodes/{node}"):
            answer = (await v4.get(f"{base}/subscriptions/c%2F2?_limit=1&qos=0&_match_topic=z")).json()
            assert answer.keys() == {"code", "data"}
            assert answer["data"][1] == {"node": node, "clientid": "c/2", "topic": "$share/$queue/x", "qos": 1}
            assert len(answer["data"]) == 4
            assert (await v4.get(f"{base}/subscriptions/nobody")).json() == {"code": 0, "data": []}


@shows("GET /api/v4/subscriptions")
@pytest.mark.parametrize("value", ["x", "", "1.5", "%D9%A3%20%D9%A3"])
async def test_a_qos_that_is_no_integer(autojump_clock: MockClock, value: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        answer = await v4.get(f"/subscriptions?qos={value}")
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.startswith('{bad_value_type,{<<"qos">>,<<"')
        for query in ("_page=x", "_limit=x"):
            answer = await v4.get(f"/subscriptions?{query}")
            assert (answer.status_code, answer.json()["code"]) == (200, 108)


@pytest.mark.parametrize("path", ["/subscriptions", "/subscriptions/c1"])
async def test_a_node_that_there_is_not(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        answer = await v4.get(f"/nodes/other@127.0.0.1{path}")
        assert (answer.status_code, answer.text) == (404, "Not found.")
