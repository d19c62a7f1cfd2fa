"""The slowest subscriptions as EMQX 4 shows them."""

from __future__ import annotations

import trio
from actors.flows import settle, take
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.features import SlowSubsConfig

NODE = "trio_broker@127.0.0.1"


async def slow(live: Live, client_id: str, topic: str, seconds: float) -> None:
    """A client that takes so long to acknowledge a message of the topic."""
    client = await live.connect(client_id, auto_ack=False)
    await client.subscribe(topic, 1)
    await live.broker.publish(topic, b"x", qos=1)
    (packet,) = await take(client, 1)
    await trio.sleep(seconds)
    client.acknowledge(packet)
    await settle()
    await client.disconnect()


@shows("GET /api/v4/slow_subscriptions", "DELETE /api/v4/slow_subscriptions")
async def test_the_slowest_come_first(autojump_clock: MockClock) -> None:
    async with running(Config(slow_subs=SlowSubsConfig(enable=True))) as live, older(live, "v4") as v4:
        assert (await v4.get("/slow_subscriptions")).json() == {"code": 0, "data": []}
        await slow(live, "c1", "t/1", 2)
        await slow(live, "c2", "t/2", 5)
        body = (await v4.get("/slow_subscriptions")).json()
        assert set(body) == {"code", "data"}
        first, second = body["data"]
        assert {name: type(value) for name, value in first.items()} == {
            "clientid": str,
            "node": str,
            "topic": str,
            "timespan": int,
            "last_update_time": int,
        }
        assert (first["clientid"], first["topic"], first["node"]) == ("c2", "t/2", NODE)
        assert (second["clientid"], second["topic"]) == ("c1", "t/1")
        assert (round(first["timespan"], -2), round(second["timespan"], -2)) == (5000, 2000)
        assert (await live.api.get("/slow_subscriptions")).json()["data"] == body["data"]
        assert (await v4.delete("/slow_subscriptions")).json() == {"code": 0}
        assert (await v4.get("/slow_subscriptions")).json() == {"code": 0, "data": []}


@shows("GET /api/v4/slow_subscriptions", "DELETE /api/v4/slow_subscriptions")
async def test_a_module_that_is_not_loaded(autojump_clock: MockClock) -> None:
    refused = {"code": 102, "message": "module_not_loaded"}
    async with running() as live, older(live, "v4") as v4:
        for method in ("GET", "DELETE"):
            answer = await v4.request(method, "/slow_subscriptions")
            assert (answer.status_code, answer.json()) == (200, refused)
