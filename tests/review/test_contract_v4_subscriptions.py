"""The contract of `/api/v4`, read afresh: subscriptions and routes."""

from __future__ import annotations

from typing import Any

import pytest
from api.operations import shows
from review.contract import NODE, away
from review.contract_v4 import V4, meta, version_4
from trio.testing import MockClock

OF_ALL, OF_NODE = "/subscriptions", f"/nodes/{NODE}/subscriptions"

ROWS = {
    ("c1", "a/+/c", 0),
    ("c1", "a/b/c", 1),
    ("c1", "$share/g/a/b/c", 2),
    ("c2", "$share/g/a/b/c", 1),
    ("c2", "$share/h//x", 0),
    ("c2", "$share/$queue/q", 2),
    ("c2", "/x", 1),
    ("c3", "a/#", 1),
}


async def subscribed(v4: V4) -> None:
    c1 = await v4.live.connect("c1")
    await c1.subscribe("a/+/c", 0)
    await c1.subscribe("a/b/c", 1)
    await c1.subscribe("$share/g/a/b/c", 2)
    c2 = await v4.live.connect("c2", level=4)
    await c2.subscribe("$share/g/a/b/c", 1)
    await c2.subscribe("$share/h//x", 0)
    await c2.subscribe("$queue/q", 2)
    await c2.subscribe("/x", 1)
    await away(v4.live, "c3", "a/#")


def is_row(row: Any) -> tuple[str, str, int]:
    assert row.keys() == {"node", "clientid", "topic", "qos"}
    assert row["node"] == NODE
    assert type(row["qos"]) is int
    return row["clientid"], row["topic"], row["qos"]


@shows(
    "GET /api/v4/subscriptions",
    "GET /api/v4/nodes/:node/subscriptions",
    "GET /api/v4/subscriptions/:clientid",
    "GET /api/v4/nodes/:node/subscriptions/:clientid",
)
@pytest.mark.parametrize("path", [OF_ALL, OF_NODE])
async def test_all_and_those_of_one_client(path: str, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        assert await v4.page(path) == ([], meta(0, hasnext=False))
        await subscribed(v4)
        rows, paging = await v4.page(path)
        assert len(rows) == len(ROWS)
        assert {is_row(row) for row in rows} == ROWS
        assert paging == meta(len(ROWS), hasnext=False)
        for name in ("c1", "c2", "c3"):
            rows = await v4.data(f"{path}/{name}")
            assert {is_row(row) for row in rows} == {row for row in ROWS if row[0] == name}
        assert len(await v4.data(f"{path}/c1", _limit=1, qos=7)) == 3
        assert await v4.data(f"{path}/nobody") == []
        odd = await v4.live.connect("a/b ä")
        await odd.subscribe("t")
        assert [row["topic"] for row in await v4.data(f"{path}/a%2Fb%20%C3%A4")] == ["t"]


@shows("GET /api/v4/subscriptions", "GET /api/v4/nodes/:node/subscriptions")
@pytest.mark.parametrize(
    ("query", "found", "count"),
    [
        ({"clientid": "c1"}, {row for row in ROWS if row[0] == "c1"}, -1),
        ({"clientid": "c"}, set(), -1),
        ({"qos": 1}, {row for row in ROWS if row[2] == 1}, -1),
        ({"qos": 0}, {row for row in ROWS if row[2] == 0}, -1),
        ({"share": "g"}, {row for row in ROWS if "/g/" in row[1]}, -1),
        ({"share": "nobody"}, set(), -1),
        ({"share": "$queue"}, {("c2", "$share/$queue/q", 2)}, -1),
        ({"_match_topic": "a/#"}, {row for row in ROWS if "a/" in row[1]}, -1),
        ({"_match_topic": "a/b/c"}, {row for row in ROWS if "a/b/c" in row[1]}, -1),
        ({"_match_topic": "+/x"}, {("c2", "$share/h//x", 0), ("c2", "/x", 1)}, -1),
        ({"topic": "a/b/c"}, {row for row in ROWS if "a/b/c" in row[1]}, 3),
        ({"topic": "a/+/c"}, {("c1", "a/+/c", 0)}, 1),
        ({"topic": "a%2Fb%2Fc"}, {row for row in ROWS if "a/b/c" in row[1]}, 3),
        ({"topic": "a/#"}, {("c3", "a/#", 1)}, 1),
        ({"topic": "q"}, {("c2", "$share/$queue/q", 2)}, 1),
        ({"topic": "/x"}, {("c2", "$share/h//x", 0), ("c2", "/x", 1)}, 2),
        ({"topic": "$share/g/a/b/c"}, set(), 0),
        ({"topic": "a/b/c", "clientid": "c1"}, {("c1", "a/b/c", 1), ("c1", "$share/g/a/b/c", 2)}, 2),
        ({"topic": "a/b/c", "qos": 1, "share": "g"}, {("c2", "$share/g/a/b/c", 1)}, 1),
        ({"topic": "a/b/c", "_match_topic": "nothing"}, {row for row in ROWS if "a/b/c" in row[1]}, 3),
        ({"clientid": "c1", "qos": 1, "_match_topic": "a/#"}, {("c1", "a/b/c", 1)}, -1),
    ],
)
@pytest.mark.parametrize("path", [OF_ALL, OF_NODE])
async def test_filters(
    path: str, query: dict[str, Any], found: set[Any], count: int, autojump_clock: MockClock
) -> None:
    async with version_4() as v4:
        await subscribed(v4)
        rows, paging = await v4.page(path, **query)
        assert {is_row(row) for row in rows} == found
        assert len(rows) == len(found)
        assert paging == meta(count, hasnext=False)


@shows("GET /api/v4/subscriptions")
async def test_pages_of_subscriptions(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await subscribed(v4)
        seen: set[Any] = set()
        for page in (1, 2, 3):
            rows, paging = await v4.page(OF_ALL, _limit=3, _page=page)
            assert paging == meta(8, page=page, limit=3, hasnext=page < 3)
            seen |= {is_row(row) for row in rows}
        assert seen == ROWS
        assert await v4.page(OF_ALL, _limit=3, _page=4) == ([], meta(8, page=4, limit=3, hasnext=False))
        rows, paging = await v4.page(OF_ALL, _limit=2, topic="a/b/c")
        assert (len(rows), paging) == (2, meta(3, limit=2, hasnext=True))
        rows, paging = await v4.page(OF_ALL, _limit=2, _page=2, topic="a/b/c")
        assert (len(rows), paging) == (1, meta(3, page=2, limit=2, hasnext=False))
        for wrong in ({"_page": "x"}, {"_limit": ""}):
            await v4.fails(108, None, "GET", OF_ALL, **wrong)
        answer = await v4.api.get(OF_ALL, params={"qos": "x"})
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("text/plain")
        await v4.missing("GET", "/nodes/other@127.0.0.1/subscriptions")


@shows("GET /api/v4/subscriptions/:clientid", "GET /api/v4/routes")
async def test_what_ends_is_listed_no_more(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1")
        await c1.subscribe("a", 0)
        await c1.subscribe("a", 2)
        assert [is_row(row) for row in await v4.data("/subscriptions/c1")] == [("c1", "a", 2)]
        await c1.unsubscribe("a")
        assert await v4.data("/subscriptions/c1") == []
        assert await v4.page("/routes") == ([], meta(0))
        await c1.subscribe("b")
        await c1.disconnect()
        assert await v4.page(OF_ALL) == ([], meta(0, hasnext=False))


@shows("GET /api/v4/routes", "GET /api/v4/routes/:topic")
async def test_routes(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        assert await v4.page("/routes") == ([], meta(0))
        await subscribed(v4)
        topics = {"a/+/c", "a/b/c", "/x", "q", "a/#"}
        rows, paging = await v4.page("/routes")
        assert {row["topic"] for row in rows} == topics
        for row in rows:
            assert row.keys() == {"topic", "node"}
            assert row["node"] == NODE
        assert paging == meta(len(rows))
        first, paging = await v4.page("/routes", _limit=3)
        assert (len(first), paging) == (3, meta(len(rows), limit=3))
        second, paging = await v4.page("/routes", _limit=3, _page=2)
        second += (await v4.page("/routes", _limit=3, _page=3))[0]
        assert (len(second), paging) == (len(rows) - 3, meta(len(rows), page=2, limit=3))
        assert {row["topic"] for row in first + second} == topics
        assert await v4.page("/routes", _page=9) == ([], meta(len(rows), page=9))
        for path, topic in (("a%2F%23", "a/#"), ("a%2F+%2Fc", "a/+/c"), ("%2Fx", "/x"), ("q", "q")):
            rows = await v4.data(f"/routes/{path}")
            assert rows
            for row in rows:
                assert row == {"topic": topic, "node": NODE}
        for path in ("a%2Fx%2Fc", "a", "%23", "%24share%2Fg%2Fa%2Fb%2Fc"):
            assert await v4.data(f"/routes/{path}") == []
