"""EMQ 2's statistics: its 14 names, and that each figure is that of `/api/v5/stats`."""

from __future__ import annotations

from api.live import running
from api.older import older
from api.operations import shows
from api.v2.two import NODE
from trio.testing import MockClock, wait_all_tasks_blocked

OF_V5 = {
    "clients": "live_connections",
    "retained": "retained",
    "routes": "topics",
    "sessions": "sessions",
    "subscribers": "subscribers",
    "subscriptions": "subscriptions",
    "topics": "topics",
}
NAMES = [f"{name}/{what}" for name in OF_V5 for what in ("count", "max")]


@shows("GET /api/v2/monitoring/stats", "GET /api/v2/monitoring/stats/:node")
async def test_each_figure_is_the_one_of_v5(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        one = await live.connect("c1", properties={"session_expiry_interval": 3600})
        two = await live.connect("c2")
        three = await live.connect("c3")
        for topic_filter in ("t/#", "u", "$share/g/t"):
            await one.subscribe(topic_filter, 1)
        await two.subscribe("t/#")
        await two.subscribe("w")
        await two.unsubscribe("w")
        for name in ("kept", "kept/too"):
            await two.publish(name, b"x", 1, retain=True)
        await two.publish("kept", b"", 1, retain=True)
        await one.disconnect()
        await three.disconnect()
        await wait_all_tasks_blocked()
        answer = await v2.get(f"/monitoring/stats/{NODE}")
        assert (answer.status_code, answer.json()["code"]) == (200, 0)
        shown = answer.json()["result"]
        assert (len(NAMES), list(shown)) == (14, sorted(NAMES))
        assert all(type(value) is int for value in shown.values())
        stats = (await live.api.get("/stats?aggregate=true")).json()
        assert shown == {
            f"{name}/{what}": stats[f"{gauge}.{what}"] for name, gauge in OF_V5.items() for what in ("count", "max")
        }
        expected = {
            "clients": (1, 3),
            "retained": (1, 2),
            "routes": (3, 4),
            "sessions": (2, 3),
            "subscribers": (4, 5),
            "subscriptions": (4, 5),
            "topics": (3, 4),
        }
        assert {name: (shown[f"{name}/count"], shown[f"{name}/max"]) for name in OF_V5} == expected
        for path in ("/monitoring/stats", "/monitoring/stats/"):
            answer = await v2.get(path)
            assert answer.json() == {"code": 0, "result": {NODE: shown}}
            assert list(answer.json()["result"][NODE]) == sorted(NAMES)


@shows("GET /api/v2/monitoring/stats")
async def test_stats_of_a_broker_that_has_done_nothing(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        answer = await v2.get("/monitoring/stats")
        assert answer.json() == {"code": 0, "result": {NODE: dict.fromkeys(NAMES, 0)}}


@shows("GET /api/v2/monitoring/stats/:node")
async def test_a_node_that_there_is_not(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        answer = await v2.get("/monitoring/stats/emq@10.0.0.2")
        assert (answer.status_code, answer.json()) == (200, {"code": 101, "message": "badrpc"})
