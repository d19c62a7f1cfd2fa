"""EMQ 2's metrics: its 38 names, and that each figure is that of `/api/v5/metrics` after real traffic."""

from __future__ import annotations

from typing import Any

import httpx
import trio
from api.live import Live, running
from api.older import older
from api.operations import shows
from api.v2.two import NODE
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.config import Config, MqttConfig
from trio_broker.protocol.packets import PubAck, PubComp, Publish, PubRec, PubRel

NAMES = set(
    """
    bytes/received bytes/sent packets/received packets/sent packets/connect packets/connack packets/publish/received
    packets/publish/sent packets/puback/received packets/puback/sent packets/puback/missed packets/pubrec/received
    packets/pubrec/sent packets/pubrec/missed packets/pubrel/received packets/pubrel/sent packets/pubrel/missed
    packets/pubcomp/received packets/pubcomp/sent packets/pubcomp/missed packets/subscribe packets/suback
    packets/unsubscribe packets/unsuback packets/pingreq packets/pingresp packets/disconnect messages/received
    messages/sent messages/qos0/received messages/qos0/sent messages/qos1/received messages/qos1/sent
    messages/qos2/received messages/qos2/sent messages/qos2/dropped messages/retained messages/dropped
    """.split()  # noqa: SIM905 - the names as they are read
)
ANSWERS = {"connack", "suback", "unsuback", "pingresp"}
"""What the broker sends; the others that have no direction in their name are sent by clients."""


def of_v5(name: str) -> str:
    """The same figure in v5, for all but three."""
    kind, _, rest = name.partition("/")
    if kind == "packets" and "/" not in rest and rest not in ("received", "sent"):
        rest += ".sent" if rest in ANSWERS else ".received"
    return f"{kind}.{rest}".replace("/", ".")


async def traffic(live: Live) -> None:
    """Something for each counter."""
    one = await live.connect("c1")
    two = await live.connect("c2", level=4)
    for topic_filter, qos in (("t/#", 2), ("u", 1), ("v", 0)):
        await two.subscribe(topic_filter, qos)
    for qos in (0, 1, 2, 2):
        await one.publish("t/1", b"x" * qos, qos)
        await two.receive()
    await one.publish("kept", b"x", 1, retain=True)
    await one.publish("kept/too", b"x", 0, retain=True)
    await one.publish("nobody/is/here", b"x", 1)
    for client in (one, one, two):
        await client.ping()
    await two.unsubscribe("u")
    for packet in (PubAck(7), PubRec(8), PubRec(8), PubRel(9), PubComp(10)):
        await one.send(packet)
    three = await live.connect("c3")
    await three.send(Publish("t/1", b"open", 2, packet_identifier=1))
    await three.expect(PubRec)
    await three.send(Publish("t/1", b"too many", 2, packet_identifier=2))
    await three.wait_ended()
    four = await live.connect("c4")
    await four.send(Publish("t/1", b"open", 2, packet_identifier=1))
    await four.expect(PubRec)
    await trio.sleep(21)
    await one.disconnect()
    await wait_all_tasks_blocked()


async def result(v2: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await v2.get(path)
    assert (answer.status_code, answer.json()["code"]) == (200, 0)
    found: dict[str, Any] = answer.json()["result"]
    return found


@shows("GET /api/v2/monitoring/metrics", "GET /api/v2/monitoring/metrics/:node")
async def test_each_figure_is_the_one_of_v5(autojump_clock: MockClock) -> None:
    config = Config(mqtt=MqttConfig(max_awaiting_rel=1, await_rel_timeout=10))
    async with running(config) as live, older(live, "v2") as v2:
        await traffic(live)
        shown = await result(v2, f"/monitoring/metrics/{NODE}")
        assert (len(NAMES), set(shown)) == (38, NAMES)
        assert all(type(value) is int for value in shown.values())
        metrics = (await live.api.get("/metrics?aggregate=true")).json()
        stats = (await live.api.get("/stats?aggregate=true")).json()
        special = {
            "messages/qos2/dropped": metrics["packets.publish.dropped"]
            + metrics["messages.dropped.await_pubrel_timeout"],
            "messages/retained": stats["retained.count"],
            "messages/dropped": metrics["messages.dropped.no_subscribers"],
        }
        assert shown == {name: metrics[of_v5(name)] for name in NAMES if name not in special} | special
        assert [name for name, value in shown.items() if not value] == []  # or it would have shown nothing
        assert (shown["messages/qos2/dropped"], shown["messages/retained"]) == (2, 2)
        assert (shown["messages/qos2/received"], shown["messages/qos1/received"]) == (4, 3)
        assert shown["messages/received"] == sum(shown[f"messages/qos{qos}/received"] for qos in (0, 1, 2))
        assert (shown["packets/connect"], shown["packets/connack"], shown["packets/disconnect"]) == (4, 4, 1)
        for path in ("/monitoring/metrics", "/monitoring/metrics/"):
            assert await result(v2, path) == {NODE: shown}


@shows("GET /api/v2/monitoring/metrics")
async def test_metrics_of_a_broker_that_has_done_nothing(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        assert await result(v2, "/monitoring/metrics/") == {NODE: dict.fromkeys(NAMES, 0)}


@shows("GET /api/v2/monitoring/metrics/:node")
async def test_a_node_that_there_is_not(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        answer = await v2.get("/monitoring/metrics/emq@10.0.0.2")
        assert (answer.status_code, answer.json()) == (200, {"code": 101, "message": "badrpc"})
