"""EMQ 2's routes: each filter that somebody is subscribed to."""

from __future__ import annotations

import pytest
from api.live import running
from api.older import older
from api.operations import shows
from api.v2.results import result
from trio.testing import MockClock

SAMPLE = "$client/C_1492145414740"


@shows("GET /api/v2/routes", "GET /api/v2/routes/:topic")
async def test_the_samples(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        node = live.broker.config.node.name
        for client_id in ("c1", "c2"):
            await (await live.connect(client_id)).subscribe(SAMPLE)
        assert await result(v2, "/routes") == {
            "current_page": 1,
            "page_size": 20,
            "total_num": 1,
            "total_page": 1,
            "objects": [{"topic": SAMPLE, "node": node}],
        }
        await (await live.connect("c3")).subscribe("topic")
        assert await result(v2, "/routes/topic") == {"objects": [{"topic": "topic", "node": node}]}
        assert (await result(v2, "/routes"))["total_num"] == 2


@shows("GET /api/v2/routes/:topic")
async def test_exactly_that_filter(autojump_clock: MockClock) -> None:
    """Taken as it is, however the path is written."""
    async with running() as live, older(live, "v2") as v2:
        client = await live.connect("c1")
        for topic_filter in ("a/+", "a/b c", "/a", "x/#", "ü", "$share/g/s"):
            await client.subscribe(topic_filter)
        found = {
            "a/+": ["a/+"],
            "a%2F%2B": ["a/+"],
            "a%2f+": ["a/+"],
            "a/b": [],
            "a/b%20c": ["a/b c"],
            "a%2Fb%20c": ["a/b c"],
            "/a": ["/a"],
            "%2Fa": ["/a"],
            "a": [],
            "x/%23": ["x/#"],
            "x/y": [],
            "%C3%BC": ["ü"],
            "$share/g/s": ["$share/g/s"],
            "s": [],
            "b%23": [],  # nobody can be subscribed to that
        }
        for path, topics in found.items():
            shown = await result(v2, f"/routes/{path}")
            assert (path, [route["topic"] for route in shown["objects"]]) == (path, topics)


@shows("GET /api/v2/routes", "GET /api/v2/routes/:topic")
@pytest.mark.parametrize("path", ["/routes", "/routes/topic"])
async def test_who_may(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, older(live, "v2") as v2:
        answer = await v2.get(path, auth=None)
        assert (answer.status_code, answer.content) == (401, b"")
        assert answer.headers["www-authenticate"] == 'Basic Realm="emqx control center"'
        answer = await v2.post(path, json={})
        assert (answer.status_code, answer.content) == (404, b"")
