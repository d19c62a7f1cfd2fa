"""EMQ 2's subscriptions: of a node, and of a client."""

from __future__ import annotations

from typing import Any

import pytest
from actors.flows import settle
from api.live import Live, running
from api.older import older
from api.operations import shows
from api.v2.results import result
from trio.testing import MockClock

from trio_broker.protocol.packets import SubscribeFilter

SAMPLE = "C_1492145414740"


def row(client_id: str, topic: str, qos: int = 0) -> dict[str, Any]:
    return {"client_id": client_id, "topic": topic, "qos": qos}


@shows(
    "GET /api/v2/nodes/:node/subscriptions",
    "GET /api/v2/nodes/:node/subscriptions/:client_id",
    "GET /api/v2/subscriptions/:client_id",
)
async def test_the_samples(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        node = live.broker.config.node.name
        client = await live.connect(SAMPLE, level=4)
        await client.subscribe(f"$client/{SAMPLE}", 1)
        expected = row(SAMPLE, f"$client/{SAMPLE}", 1)
        assert await result(v2, f"/nodes/{node}/subscriptions") == {
            "current_page": 1,
            "page_size": 20,
            "total_num": 1,
            "total_page": 1,
            "objects": [expected],
        }
        for path in (f"/subscriptions/{SAMPLE}", f"/nodes/{node}/subscriptions/{SAMPLE}"):
            assert await result(v2, path) == {"objects": [expected]}


async def scene(live: Live) -> None:
    c1 = await live.connect("c1")
    await c1.subscribe("t/1")
    await c1.subscribe("t/#", qos=1)
    c2 = await live.connect("c2", level=4, clean_start=False)
    await c2.subscribe("t/1", qos=2)
    await c2.subscribe("$share/g/t/1", qos=2)
    await c2.disconnect()
    await settle()


@shows(
    "GET /api/v2/nodes/:node/subscriptions",
    "GET /api/v2/nodes/:node/subscriptions/:client_id",
    "GET /api/v2/subscriptions/:client_id",
)
async def test_as_they_were_subscribed_to(autojump_clock: MockClock) -> None:
    """Those of sessions without a connection, too."""
    async with running() as live, older(live, "v2") as v2:
        await scene(live)
        node = live.broker.config.node.name
        rows = [row("c1", "t/1"), row("c1", "t/#", 1), row("c2", "t/1", 2), row("c2", "$share/g/t/1", 2)]
        shown = await result(v2, f"/nodes/{node}/subscriptions")
        assert (shown["total_num"], shown["objects"]) == (4, rows)
        for path in ("/subscriptions", f"/nodes/{node}/subscriptions"):
            assert await result(v2, f"{path}/c1") == {"objects": rows[:2]}
            assert await result(v2, f"{path}/c2") == {"objects": rows[2:]}
            assert await result(v2, f"{path}/nobody") == {"objects": []}


@shows("GET /api/v2/subscriptions/:client_id")
async def test_those_of_a_client_have_no_pages(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        client = await live.connect("a/b")
        await client.subscribe([SubscribeFilter(f"t/{number}", 1) for number in range(300)])
        for path in ("/subscriptions/a/b", "/subscriptions/a%2Fb?page_size=1"):
            rows = (await result(v2, path))["objects"]
            assert [one["topic"] for one in rows] == [f"t/{number}" for number in range(300)]


@shows("GET /api/v2/nodes/:node/subscriptions", "GET /api/v2/nodes/:node/subscriptions/:client_id")
@pytest.mark.parametrize("path", ["/nodes/x/subscriptions", "/nodes/x/subscriptions/c1"])
async def test_a_node_there_is_not(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, older(live, "v2") as v2:
        answer = await v2.get(path)
        assert (answer.status_code, answer.json()) == (200, {"code": 101, "message": "badrpc"})
        for known in (path.replace("/x/", f"/{live.broker.config.node.name}/"), "/subscriptions/c1"):
            answer = await v2.get(known, auth=None)
            assert (answer.status_code, answer.content) == (401, b"")
