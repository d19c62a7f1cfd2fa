"""`/routes` of EMQX 4: the filters somebody is subscribed to."""

from __future__ import annotations

from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock


async def fill(live: Live) -> None:
    for client_id, *topics in (
        ("c1", "a/b", "$share/g/a/b", "$share/h/a/b", "+/x"),
        ("c2", "a/b", "$share/g/a/b", "$queue/q", "/t"),
    ):
        client = await live.connect(client_id)
        for topic in topics:
            await client.subscribe(topic)


@shows("GET /api/v4/routes")
async def test_the_list(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        node = live.broker.config.node.name
        empty = {"code": 0, "data": [], "meta": {"page": 1, "limit": 10000, "count": 0}}
        assert (await v4.get("/routes")).json() == empty
        await fill(live)
        answer = (await v4.get("/routes")).json()
        assert answer["meta"] == {"page": 1, "limit": 10000, "count": 6}
        # A row for each group beside that of those who are in none.
        topics = ["a/b", "a/b", "a/b", "+/x", "q", "/t"]
        assert sorted(row["topic"] for row in answer["data"]) == sorted(topics)
        assert {row["node"] for row in answer["data"]} == {node}
        assert all(row.keys() == {"topic", "node"} for row in answer["data"])


@shows("GET /api/v4/routes")
async def test_pages(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await fill(live)
        seen = []
        for page in (1, 2, 3, 4):
            answer = (await v4.get(f"/routes?_page={page}&_limit=2")).json()
            assert answer["meta"] == {"page": page, "limit": 2, "count": 6}
            seen.append(len(answer["data"]))
        assert seen == [2, 2, 2, 0]
        far = (await v4.get("/routes?_page=2147483648&_limit=2147483648")).json()
        assert (far["data"], far["meta"]["count"]) == ([], 6)
        answer = await v4.get("/routes?_page=x")
        assert (answer.status_code, answer.json()["code"]) == (200, 108)


@shows("GET /api/v4/routes/:topic")
async def test_routes_of_one_topic(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await fill(live)
        node = live.broker.config.node.name
        found = {
            "a%2Fb": ("a/b", 3),
            "%2B%2Fx": ("+/x", 1),
            "+%2Fx": ("+/x", 1),
            "q": ("q", 1),
            "%2Ft": ("/t", 1),
            "a%2Fx": ("", 0),
            "%23": ("", 0),
            "a%2F%23%2Fb": ("", 0),
            "$share%2Fg%2Fa%2Fb": ("", 0),
            "$queue%2Fq": ("", 0),
            "%00": ("", 0),
        }
        for path, (topic, count) in found.items():
            answer = (await v4.get(f"/routes/{path}")).json()
            assert (answer, path) == ({"code": 0, "data": [{"topic": topic, "node": node}] * count}, path)
