"""The contract of `/api/v2`, read afresh: sessions, and their figures while acknowledgements are held back."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
import trio
from api.live import Live
from api.operations import shows
from review.contract import NODE
from review.contract_v2 import (
    C_1,
    FIGURES,
    LATER_FIGURES,
    NODES,
    SESSION,
    both,
    got,
    objects,
    one,
    result,
    seconds,
    shaped,
)
from trio.testing import MockClock

from trio_broker.config import Config, MqttConfig
from trio_broker.protocol.packets import PubAck, PubComp, Publish, PubRec, PubRel
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import Client


async def shown(v2: httpx.AsyncClient, client_id: str) -> dict[str, Any]:
    """The figures of a session that are not 0; those that have two names have one number."""
    row = await one(v2, f"/sessions/{client_id}")
    shaped(row, SESSION)
    for name, later in (
        ("inflight_queue", "inflight_len"),
        ("message_queue", "mqueue_len"),
        ("message_dropped", "mqueue_dropped"),
        ("awaiting_rel", "awaiting_rel_len"),
    ):
        assert row[name] == row.pop(later)
    assert row["inflight_queue"] == row["awaiting_ack"] + row["awaiting_comp"]
    return {key: row[key] for key in (*FIGURES, *LATER_FIGURES) if row.get(key) and key != "max_inflight"}


async def holding_back(live: Live, topic_filter: str = "t/#", **options: Any) -> Client:
    client = await live.connect(C_1, auto_ack=False, **{"level": 4, **options})
    await client.subscribe(topic_filter, 2)
    return client


@shows(
    "GET /api/v2/nodes/:node/sessions",
    "GET /api/v2/node/:node/sessions",
    "GET /api/v2/nodes/:node/sessions/:client_id",
    "GET /api/v2/sessions/:client_id",
)
async def test_the_session_of_the_document(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        await live.connect(C_1, level=4)
        page = await got(v2, f"/node/{NODE}/sessions?curr_page=1&page_size=20")
        assert await got(v2, f"{NODES}/sessions") == page
        (row,) = page.pop("objects")
        assert page == {"current_page": 1, "page_size": 20, "total_num": 1, "total_page": 1}
        shaped(row, SESSION)
        assert abs(seconds(row["created_at"]) - time.time()) < 60
        zeros = dict.fromkeys((*FIGURES, *LATER_FIGURES), 0)
        named = {"client_id": C_1, "clean_sess": True, "created_at": row["created_at"]}
        assert row == {**named, **zeros, "max_inflight": 32}
        assert await objects(v2, f"{NODES}/sessions/{C_1}") == [row]
        assert await objects(v2, f"/sessions/{C_1}") == [row]
        for path in ("/sessions/nobody", f"{NODES}/sessions/nobody"):
            assert await objects(v2, path) == []


@shows("GET /api/v2/sessions/:client_id")
async def test_acknowledgements_held_back(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await holding_back(live)
        publisher = await live.connect("p")
        ids: dict[int, list[int]] = {0: [], 1: [], 2: []}
        for qos in (0, 1, 2, 1, 2, 1):
            await publisher.publish("t/1", b"x", qos)
            ids[qos].append((await client.expect(Publish)).packet_identifier)
        base = {"subscriptions": 1, "deliver_msg": 6}

        async def figures(ack: int, comp: int) -> None:
            await client.ping()
            both_phases = {"inflight_queue": ack + comp, "awaiting_ack": ack, "awaiting_comp": comp}
            assert await shown(v2, C_1) == base | {key: value for key, value in both_phases.items() if value}

        await figures(5, 0)
        await client.send(PubAck(ids[1][0]))
        await figures(4, 0)
        await client.send(PubRec(ids[2][0]))
        assert (await client.expect(PubRel)).packet_identifier == ids[2][0]
        await figures(3, 1)
        await client.send(PubRec(ids[2][1]))
        await client.expect(PubRel)
        await figures(2, 2)
        await client.send(PubComp(ids[2][0]))
        await figures(2, 1)
        await client.send(PubAck(ids[1][2]))
        await client.send(PubAck(ids[1][1]))
        await figures(0, 1)
        await client.send(PubComp(ids[2][1]))
        await figures(0, 0)


@shows("GET /api/v2/sessions/:client_id")
async def test_what_does_not_fit_in_waits(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await holding_back(live)
        publisher = await live.connect("p")
        for index in range(40):
            await publisher.publish(f"t/{index}", b"x", 1 + index % 2)
        assert await shown(v2, C_1) == {
            "inflight_queue": 32,
            "awaiting_ack": 32,
            "message_queue": 8,
            "subscriptions": 1,
            "deliver_msg": 32,
            "enqueue_msg": 8,
        }
        client.auto_ack = True
        for _ in range(40):
            await client.receive()
        await client.ping()
        await client.ping()
        assert await shown(v2, C_1) == {"subscriptions": 1, "deliver_msg": 40, "enqueue_msg": 8}


@shows("GET /api/v2/sessions/:client_id")
async def test_what_does_not_fit_in_the_queue_is_dropped(autojump_clock: MockClock) -> None:
    async with both(Config(mqtt=MqttConfig(max_inflight=2, max_mqueue_len=3))) as (live, v2):
        client = await holding_back(live)
        publisher = await live.connect("p")
        for index in range(9):
            await publisher.publish(f"t/{index}", b"x", 1)
        row = await one(v2, f"/sessions/{C_1}")
        assert row["max_inflight"] == 2
        figures = await shown(v2, C_1)
        assert (figures["inflight_queue"], figures["message_queue"], figures["message_dropped"]) == (2, 3, 4)
        for _ in range(2):
            client.acknowledge(await client.expect(Publish))
        await client.ping()
        figures = await shown(v2, C_1)
        assert (figures["inflight_queue"], figures["message_queue"], figures["message_dropped"]) == (2, 1, 4)
        assert figures["deliver_msg"] == 4


@shows("GET /api/v2/sessions/:client_id")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_messages_that_wait_for_their_release(level: int, autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        publisher = await live.connect("p", level=level)
        for number in (7, 8, 9):
            await publisher.send(Publish("t/1", b"x", 2, False, False, number))
            assert (await publisher.expect(PubRec)).packet_identifier == number
        assert await shown(v2, "p") == {"awaiting_rel": 3}
        await publisher.send(Publish("t/1", b"x", 2, False, True, 8))
        await publisher.expect(PubRec)
        assert await shown(v2, "p") == {"awaiting_rel": 3}
        await publisher.send(PubRel(8))
        await publisher.expect(PubComp)
        assert await shown(v2, "p") == {"awaiting_rel": 2}
        await publisher.send(PubRel(1))
        await publisher.expect(PubComp)
        assert await shown(v2, "p") == {"awaiting_rel": 2}
        await publisher.publish("t/1", b"x", 2)
        assert await shown(v2, "p") == {"awaiting_rel": 2}


@shows("GET /api/v2/sessions/:client_id", "GET /api/v2/nodes/:node/sessions")
async def test_a_session_that_is_away(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await holding_back(live, clean_start=False)
        created = (await one(v2, f"/sessions/{C_1}"))["created_at"]
        publisher = await live.connect("p")
        for qos in (1, 2):
            await publisher.publish("t/1", b"x", qos)
        first = await client.expect(Publish)
        second = await client.expect(Publish)
        await client.send(PubRec(second.packet_identifier))
        await client.expect(PubRel)
        await client.drop()
        await trio.sleep(5)
        for _ in range(3):
            await publisher.publish("t/2", b"x", 1)
        away = await shown(v2, C_1)
        assert away["message_queue"] + away["inflight_queue"] == 5
        assert away["awaiting_comp"] == 1
        assert away["subscriptions"] == 1
        (row,) = [row for row in (await got(v2, f"{NODES}/sessions"))["objects"] if row["client_id"] == C_1]
        assert (row["clean_sess"], row["created_at"]) == (False, created)
        await trio.sleep(5)
        back = await live.connect(C_1, level=4, clean_start=False, auto_ack=False)
        assert back.session_present
        assert (await back.receive()).packet_identifier == first.packet_identifier
        await back.ping()
        figures = await shown(v2, C_1)
        assert (figures["inflight_queue"], figures["awaiting_comp"], figures["awaiting_ack"]) == (5, 1, 4)
        assert "message_queue" not in figures
        assert (await one(v2, f"/sessions/{C_1}"))["created_at"] == created


@shows("GET /api/v2/sessions/:client_id")
async def test_subscriptions_are_counted(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect("c", level=5)
        for number, topic_filter in enumerate(("a", "b/+", "$share/g/c", "#"), 1):
            await client.subscribe(topic_filter, 1)
            assert await shown(v2, "c") == {"subscriptions": number}
        await client.subscribe("a", 2)
        assert await shown(v2, "c") == {"subscriptions": 4}
        await client.unsubscribe("a", "b/+", "none")
        assert await shown(v2, "c") == {"subscriptions": 2}


@shows("GET /api/v2/sessions/:client_id", "DELETE /api/v2/clients/:client_id")
async def test_what_is_held_back_outlives_the_connection_and_the_broker(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    open_ends = {"inflight_queue": 2, "awaiting_ack": 1, "awaiting_comp": 1, "awaiting_rel": 2, "subscriptions": 1}

    async def ends(v2: httpx.AsyncClient) -> dict[str, int]:
        return {key: value for key, value in (await shown(v2, C_1)).items() if key in open_ends}

    async with both(store=store) as (live, v2):
        client = await holding_back(live, clean_start=False)
        for number in (1, 2):
            await client.send(Publish("other", b"x", 2, False, False, number))
            await client.expect(PubRec)
        publisher = await live.connect("p")
        for qos in (1, 2):
            await publisher.publish("t/1", b"x", qos)
        await client.expect(Publish)
        await client.send(PubRec((await client.expect(Publish)).packet_identifier))
        await client.expect(PubRel)
        assert await ends(v2) == open_ends
        assert result(await v2.delete(f"/clients/{C_1}")) == []
        await client.wait_ended()
        assert await ends(v2) == open_ends
    async with both(store=store) as (live, v2):
        assert await ends(v2) == open_ends
        again = await live.connect(C_1, level=4, clean_start=False, auto_ack=False)
        await again.ping()
        assert await ends(v2) == open_ends
        await again.send(PubRel(1))
        await again.ping()
        assert await ends(v2) == {**open_ends, "awaiting_rel": 1}
