"""The contract of `/api/v2`, read afresh: metrics and statistics, counted beside the packets that were sent."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio
from api.operations import shows
from review.contract import NODE
from review.contract_v2 import METRICS, STATS, both, done, got
from trio.testing import MockClock

from trio_broker.config import Config, MqttConfig
from trio_broker.protocol.packets import PubAck, PubComp, Publish, PubRec, PubRel

GAINED = {
    "packets/connect": 1,
    "packets/connack": 1,
    "packets/subscribe": 1,
    "packets/suback": 1,
    "packets/publish/received": 4,
    "packets/publish/sent": 3,
    "packets/puback/received": 1,
    "packets/puback/sent": 2,
    "packets/pubrec/received": 1,
    "packets/pubrec/sent": 1,
    "packets/pubrel/received": 1,
    "packets/pubrel/sent": 1,
    "packets/pubcomp/received": 1,
    "packets/pubcomp/sent": 1,
    "packets/pingreq": 2,
    "packets/pingresp": 2,
    "packets/unsubscribe": 1,
    "packets/unsuback": 1,
    "packets/disconnect": 1,
    "packets/received": 14,
    "packets/sent": 13,
    "messages/received": 4,
    "messages/sent": 3,
    "messages/qos0/received": 1,
    "messages/qos0/sent": 1,
    "messages/qos1/received": 2,
    "messages/qos1/sent": 1,
    "messages/qos2/received": 1,
    "messages/qos2/sent": 1,
    "messages/dropped": 1,
}


async def metrics(v2: httpx.AsyncClient) -> dict[str, int]:
    every = await got(v2, "/monitoring/metrics/")
    assert every.keys() == {NODE}
    single: dict[str, int] = await got(v2, f"/monitoring/metrics/{NODE}")
    for shown in (every[NODE], single):
        assert shown.keys() == METRICS
        assert {type(value) for value in shown.values()} == {int}
    assert every[NODE] == single
    return single


async def stats(v2: httpx.AsyncClient) -> dict[str, int]:
    every = await got(v2, "/monitoring/stats")
    assert every.keys() == {NODE}
    single: dict[str, int] = await got(v2, f"/monitoring/stats/{NODE}")
    assert every[NODE].keys() == single.keys() == STATS
    assert {type(value) for value in single.values()} == {int}
    assert every[NODE] == single
    return single


def gained(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What is different now, without the bytes."""
    return {
        key: value - before[key] for key, value in after.items() if value != before[key] and not key.startswith("bytes")
    }


@shows("GET /api/v2/monitoring/metrics", "GET /api/v2/monitoring/metrics/:node")
async def test_names(autojump_clock: MockClock) -> None:
    assert (len(METRICS), len(STATS)) == (38, 14)
    async with both() as (_, v2):
        assert set((await metrics(v2)).values()) == {0}
        assert set((await stats(v2)).values()) == {0}
        assert await got(v2, "/monitoring/metrics") == await got(v2, "/monitoring/metrics/")


@shows("GET /api/v2/monitoring/metrics/:node")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_every_packet_is_counted(level: int, autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        before = await metrics(v2)
        client = await live.connect("c", level=level)
        await client.subscribe("t", 2)
        for qos in (0, 1, 2):
            await client.publish("t", b"x", qos)
            assert (await client.receive()).qos == qos
        await client.publish("nobody", b"x", 1)
        await client.ping()
        between = await metrics(v2)
        await client.ping()
        after = await metrics(v2)
        assert {key: after[key] - between[key] for key in METRICS if key.startswith("bytes")} == {
            "bytes/received": 2,
            "bytes/sent": 2,
        }
        await client.unsubscribe("t")
        await client.disconnect()
        await trio.sleep(1)
        assert gained(before, await metrics(v2)) == GAINED


@shows("GET /api/v2/monitoring/metrics/:node")
async def test_bytes(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect("c", level=4)
        assert (await metrics(v2))[
            "bytes/received"
        ] == 15  # 10 of the header of CONNECT, 2 before it, "c" with its length
        assert (await metrics(v2))["bytes/sent"] == 4
        await client.ping()
        shown = await metrics(v2)
        assert (shown["bytes/received"], shown["bytes/sent"]) == (17, 6)
        await client.publish("t", b"12345", 1)
        shown = await metrics(v2)
        assert (shown["bytes/received"], shown["bytes/sent"]) == (29, 10)


@shows("GET /api/v2/monitoring/metrics/:node")
@pytest.mark.parametrize("level", [4, 5])
async def test_what_answers_nothing_is_missed(level: int, autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect("c", level=level)
        for packet, name in (
            (PubAck(99), "puback"),
            (PubRec(99), "pubrec"),
            (PubRel(99), "pubrel"),
            (PubComp(99), "pubcomp"),
        ):
            before = await metrics(v2)
            await client.send(packet)
            await client.ping()
            found = gained(before, await metrics(v2))
            assert {key: value for key, value in found.items() if key.endswith(("missed", f"{name}/received"))} == {
                f"packets/{name}/missed": 1,
                f"packets/{name}/received": 1,
            }


@shows("GET /api/v2/monitoring/metrics/:node", "POST /api/v2/mqtt/publish")
async def test_messages_of_the_api(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect("c", level=4)
        await client.subscribe("t")
        before = await metrics(v2)
        done(await v2.post("/mqtt/publish", json={"topic": "t", "payload": "x", "qos": 1}))
        await client.receive()
        found = gained(before, await metrics(v2))
        assert {key: value for key, value in found.items() if "messages" not in key or "received" not in key} == {
            "packets/sent": 1,
            "packets/publish/sent": 1,
            "messages/sent": 1,
            "messages/qos0/sent": 1,
        }
        before = await metrics(v2)
        done(await v2.post("/mqtt/publish", json={"topic": "nobody"}))
        assert gained(before, await metrics(v2))["messages/dropped"] == 1
        for topic, payload, number in (("t", "x", 1), ("t", "y", 1), ("t/2", "x", 2), ("t", "", 1), ("t/2", "", 0)):
            done(await v2.post("/mqtt/publish", json={"topic": topic, "payload": payload, "retain": True}))
            assert (await metrics(v2))["messages/retained"] == number
            assert (await stats(v2))["retained/count"] == number
        assert (await stats(v2))["retained/max"] == 2


@shows("GET /api/v2/monitoring/metrics/:node", "POST /api/v2/mqtt/publish")
async def test_messages_of_the_api_count_as_received(autojump_clock: MockClock) -> None:
    """As in EMQX 5, whose counters these are; no packet came, and no byte."""
    async with both() as (_, v2):
        for qos in (0, 1, 2):
            done(await v2.post("/mqtt/publish", json={"topic": "t", "qos": qos}))
        found = await metrics(v2)
        received = {name: found[name] for name in found if name.endswith("received") and found[name]}
        assert received == {"messages/received": 3} | {f"messages/qos{qos}/received": 1 for qos in (0, 1, 2)}


@shows("GET /api/v2/monitoring/metrics/:node")
async def test_too_many_wait_for_their_release(autojump_clock: MockClock) -> None:
    async with both(Config(mqtt=MqttConfig(max_awaiting_rel=2))) as (live, v2):
        client = await live.connect("c", level=5)
        for number in (1, 2, 3):
            assert (await metrics(v2))["messages/qos2/dropped"] == 0
            await client.send(Publish("t", b"x", 2, False, False, number))
            await trio.sleep(1)
        assert (await metrics(v2))["messages/qos2/dropped"] == 1


@shows("GET /api/v2/monitoring/metrics/:node")
async def test_a_release_that_does_not_come(autojump_clock: MockClock) -> None:
    async with both(Config(mqtt=MqttConfig(await_rel_timeout=30.0))) as (live, v2):
        client = await live.connect("c", level=4)
        await client.send(Publish("t", b"x", 2, False, False, 1))
        await client.ping()
        assert (await metrics(v2))["messages/qos2/dropped"] == 0
        await trio.sleep(100)
        assert (await metrics(v2))["messages/qos2/dropped"] == 1
        (row,) = (await got(v2, "/sessions/c"))["objects"]
        assert row["awaiting_rel"] == 0


@shows("GET /api/v2/monitoring/stats", "GET /api/v2/monitoring/stats/:node")
async def test_stats(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):

        async def are(**changes: Any) -> None:
            found = await stats(v2)
            for name, values in changes.items():
                assert (found[f"{name}/count"], found[f"{name}/max"]) == values, name

        kept = await live.connect("kept", level=4, clean_start=False)
        clean = await live.connect("clean", level=4)
        await are(clients=(2, 2), sessions=(2, 2), topics=(0, 0), subscriptions=(0, 0))
        for client in (kept, clean):
            await client.subscribe("both/+")
            await client.subscribe(f"own/{client.client_id}")
        await are(topics=(3, 3), routes=(3, 3), subscribers=(4, 4), subscriptions=(4, 4))
        for client in (kept, clean):
            await client.disconnect()
        await trio.sleep(1)
        await are(clients=(0, 2), sessions=(1, 2), topics=(2, 3), routes=(2, 3), subscriptions=(2, 4))
        await are(subscribers=(2, 4))
        back = await live.connect("kept", level=4)
        await back.ping()
        await are(clients=(1, 2), sessions=(1, 2), topics=(0, 3), routes=(0, 3), subscriptions=(0, 4))
