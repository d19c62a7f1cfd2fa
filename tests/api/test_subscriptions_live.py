"""`/subscriptions` and `/topics` over a running broker: every filter, pages, also of what is much."""

from __future__ import annotations

from typing import Any

import pytest
from api.live import Live, running
from api.operations import shows
from trio.testing import MockClock

from trio_broker.protocol.packets import SubscribeFilter


async def rows(live: Live, query: str, path: str = "/subscriptions") -> list[tuple[str, str]]:
    answer = await live.api.get(f"{path}?{query}")
    assert answer.status_code == 200, answer.text
    data, meta = answer.json()["data"], answer.json()["meta"]
    if "match_topic" in query:
        assert "count" not in meta
    elif meta["page"] == 1 and not meta["hasnext"]:
        assert meta["count"] == len(data)
    return [(row.get("clientid", ""), row["topic"]) for row in data]


async def scene(live: Live) -> None:
    c1 = await live.connect("c1")
    await c1.subscribe("t/1")
    await c1.subscribe("t/#", qos=1)
    await c1.subscribe("$share/g/t/1")
    c2 = await live.connect("c2", properties={"session_expiry_interval": 60})
    await c2.subscribe("t/1", qos=2)
    await c2.subscribe("$share/g/t/1", qos=2)
    await c2.subscribe("$share/h/t/1")
    await c2.subscribe("$queue/t/1")
    await c2.disconnect()


@shows("GET /subscriptions")
async def test_every_filter(autojump_clock: MockClock) -> None:
    async with running() as live:
        await scene(live)
        all_rows = [
            ("c1", "t/1"),
            ("c1", "t/#"),
            ("c1", "$share/g/t/1"),
            ("c2", "t/1"),
            ("c2", "$share/g/t/1"),
            ("c2", "$share/h/t/1"),
            ("c2", "$queue/t/1"),
        ]
        by_query: dict[str, list[int]] = {
            "": [0, 1, 2, 3, 4, 5, 6],
            "unknown=1": [0, 1, 2, 3, 4, 5, 6],
            "clientid=c1": [0, 1, 2],
            "clientid=c2&qos=2": [3, 4],
            "clientid=nobody": [],
            "qos=0": [0, 2, 5, 6],
            "qos=1": [1],
            "topic=t/1": [0, 3],
            "topic=t/1&qos=2": [3],
            "topic=t/1&clientid=c2": [3],
            "topic=t/%23": [1],
            "topic=nobody": [],
            "topic=a%23": [],
            "topic=$share/g/t/1": [2, 4],
            "topic=$share/g/t/1&clientid=c1": [2],
            "topic=t/1&share_group=g": [2, 4],
            "topic=t/1&share_group=g&qos=2": [4],
            "topic=t/1&share_group=g&clientid=c1": [2],
            "topic=t/1&share_group=nobody": [],
            "topic=t/1&share_group=$queue": [6],
            "share_group=g": [2, 4],
            "share_group=h": [5],
            "share_group=g&clientid=c1": [2],
            "durable=false": [0, 1, 2, 3, 4, 5, 6],
            "durable=true": [],
            "durable=true&match_topic=%23": [],
            "match_topic=t/%2B": [0, 1, 2, 3, 4, 5, 6],
            "match_topic=t/1": [0, 2, 3, 4, 5, 6],
            "match_topic=t/1&qos=2&clientid=c2": [3, 4],
            "match_topic=x/%23": [],
            "match_topic=t": [],
        }
        for query, expected in by_query.items():
            assert (await rows(live, query), query) == ([all_rows[at] for at in expected], query)
        shown = (await live.api.get("/subscriptions?clientid=c2&topic=t/1")).json()
        node = live.broker.config.node.name
        assert shown["data"] == [
            {
                "topic": "t/1",
                "clientid": "c2",
                "node": node,
                "qos": 2,
                "nl": 0,
                "rap": 0,
                "rh": 0,
                "durable": False,
            }
        ]
        assert shown["meta"] == {"page": 1, "limit": 100, "count": 1, "hasnext": False}
        assert await rows(live, f"node={node}&qos=1") == [all_rows[1]]


@shows("GET /subscriptions", "GET /topics")
async def test_errors(autojump_clock: MockClock) -> None:
    async with running() as live:
        for query in ("qos=3", "durable=x", "page=0", "limit=10001", "limit=x"):
            answer = await live.api.get(f"/subscriptions?{query}")
            assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        for bad in ("$share/g/t", "a/%23/b", ""):
            answer = await live.api.get(f"/subscriptions?match_topic={bad}")
            assert answer.json() == {"code": "INVALID_PARAMETER", "message": "match_topic_invalid"}
        answer = await live.api.get("/subscriptions?node=other@host")
        assert (answer.status_code, answer.json()["code"]) == (500, "NODE_DOWN")
        for query in ("page=0", "limit=0", "limit=10001"):
            answer = await live.api.get(f"/topics?{query}")
            assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        answer = await live.api.get("/topics?topic=a%23")
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PARAMTER")


@shows("GET /topics", "GET /topics/:topic")
async def test_topics_are_listed_once(autojump_clock: MockClock) -> None:
    async with running() as live:
        await scene(live)
        names = ["t/1", "t/#", "$share/g/t/1", "$share/h/t/1", "$queue/t/1"]
        assert [topic for _, topic in await rows(live, "", "/topics")] == names
        assert [topic for _, topic in await rows(live, "limit=2&page=2", "/topics")] == names[2:4]
        assert [topic for _, topic in await rows(live, "limit=2&page=3", "/topics")] == names[4:]
        assert await rows(live, "limit=2&page=4", "/topics") == []
        shown = (await live.api.get("/topics?limit=2")).json()
        node = live.broker.config.node.name
        assert shown["data"][0] == {"topic": "t/1", "node": node}
        assert shown["meta"] == {"page": 1, "limit": 2, "count": 5, "hasnext": True}
        found = {"topic=t/1": 1, "topic=t": 0, "topic=$share/g/t/1": 1, "topic=$share/x/t/1": 0, f"node={node}": 5}
        for query, count in (found | {"node=other": 0, "topic=t/1&node=other": 0}).items():
            assert (len(await rows(live, query, "/topics")), query) == (count, query)
        for path in ("t%2F1", "t%2F%23", "$share%2Fg%2Ft%2F1", "%24queue%2Ft%2F1"):
            answer = await live.api.get(f"/topics/{path}")
            assert (answer.status_code, [row["node"] for row in answer.json()]) == (200, [node])
        for path in ("t%2F2", "t", "a%23", "$share%2Fx%2Ft%2F1", "%00"):
            answer = await live.api.get(f"/topics/{path}")
            assert answer.status_code == 404
            assert answer.json() == {"code": "TOPIC_NOT_FOUND", "message": "Topic not found"}


@shows("GET /subscriptions", "GET /topics")
@pytest.mark.parametrize("each", [1, 3, 3000])
async def test_every_page_of_many(autojump_clock: MockClock, each: int) -> None:
    """Whoever goes through all pages sees each row once, in one order; a page is cut anywhere."""
    async with running() as live:
        clients = 300 if each < 100 else 2
        made: list[tuple[str, str]] = []
        for number in range(clients):
            client = await live.connect(f"c{number}")
            names = [f"own/{number}/{at}" for at in range(each - 1)] + ["all/+"]
            await client.subscribe([SubscribeFilter(name) for name in names])
            made += [(f"c{number}", name) for name in names]
        for limit in (700, 1000):
            seen: list[Any] = []
            for page in range(1, len(made) // limit + 3):
                seen += await rows(live, f"limit={limit}&page={page}")
            assert seen == made
        names = list(dict.fromkeys(name for _, name in made))
        listed: list[str] = []
        for page in range(1, len(names) // 100 + 3):
            listed += [topic for _, topic in await rows(live, f"limit=100&page={page}", "/topics")]
        assert sorted(listed) == sorted(names)
        assert len(await rows(live, "limit=10000&topic=all/%2B")) == clients
        assert await rows(live, f"clientid=c1&limit=2&page={(each + 1) // 2}") == made[each : 2 * each][-2 + each % 2 :]
        assert len(await rows(live, "limit=10000&match_topic=own/1/%23")) == each - 1
        assert len(await rows(live, f"limit={clients}&match_topic=%23")) == min(clients, len(made))


@shows("GET /subscriptions")
async def test_a_subscriber_within_the_program_is_listed(autojump_clock: MockClock) -> None:
    async with running() as live:
        node = live.broker.config.node.name
        async with live.broker.subscribe("inside/#"):
            assert await rows(live, "") == await rows(live, f"clientid={node}") == [(node, "inside/#")]
            assert await rows(live, "match_topic=inside/%23") == [(node, "inside/#")]
        assert await rows(live, "") == []
