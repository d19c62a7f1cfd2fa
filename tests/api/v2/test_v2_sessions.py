"""EMQ 2's sessions: who is connected or may come back, and what is on its way to them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from actors.flows import expect, settle, take
from api.live import running
from api.older import older
from api.operations import shows
from api.v2.results import result
from trio.testing import MockClock

from trio_broker.api.v2.formats import local_time
from trio_broker.config import Config
from trio_broker.config.mqtt import MqttConfig
from trio_broker.protocol.packets import PubAck, PubComp, Publish, PubRec, PubRel
from trio_broker.store.memory import MemoryStore

SAMPLE = "C_1492145414740"
FIGURES = ["inflight_queue", "message_queue", "message_dropped", "awaiting_rel", "awaiting_ack", "awaiting_comp"]
NAMES = ["client_id", "clean_sess", "max_inflight", *FIGURES, "created_at"]
SINCE_2_3 = ["subscriptions", "inflight_len", "mqueue_len", "mqueue_dropped", "awaiting_rel_len"]
SINCE_2_3 += ["deliver_msg", "enqueue_msg"]


async def session(v2: httpx.AsyncClient, client_id: str = "c1") -> dict[str, Any]:
    (shown,) = (await result(v2, f"/sessions/{client_id}"))["objects"]
    assert isinstance(shown, dict)
    return shown


async def figures(v2: httpx.AsyncClient) -> dict[str, int]:
    """Those of c1 that are not 0, under the names of 2.1; those of 2.3 say the same."""
    shown = await session(v2)
    assert shown["inflight_queue"] == shown["inflight_len"] == shown["awaiting_ack"] + shown["awaiting_comp"]
    assert shown["message_queue"] == shown["mqueue_len"]
    assert shown["message_dropped"] == shown["mqueue_dropped"]
    assert shown["awaiting_rel"] == shown["awaiting_rel_len"]
    return {name: shown[name] for name in FIGURES if shown[name]}


@shows(
    "GET /api/v2/node/:node/sessions",
    "GET /api/v2/nodes/:node/sessions",
    "GET /api/v2/nodes/:node/sessions/:client_id",
    "GET /api/v2/sessions/:client_id",
)
async def test_the_samples(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        await live.connect(SAMPLE, level=4, keep_alive=60)
        info = await live.broker.questions.client(SAMPLE)
        assert info is not None
        node = live.broker.config.node.name
        expected = dict.fromkeys([*NAMES, *SINCE_2_3], 0) | {
            "client_id": SAMPLE,
            "clean_sess": True,
            "max_inflight": 32,
            "created_at": local_time(info.created_at),
        }
        page = {"current_page": 1, "page_size": 20, "total_num": 1, "total_page": 1, "objects": [expected]}
        for path in (f"/node/{node}/sessions?curr_page=1&page_size=20", f"/nodes/{node}/sessions"):
            assert await result(v2, path) == page
        for path in (f"/nodes/{node}/sessions/{SAMPLE}", f"/sessions/{SAMPLE}"):
            shown = await result(v2, path)
            assert shown == {"objects": [expected]}
            (row,) = shown["objects"]
            assert list(row)[: len(NAMES)] == NAMES
            assert all(type(row[name]) is type(expected[name]) for name in row)


@shows("GET /api/v2/nodes/:node/sessions", "GET /api/v2/sessions/:client_id")
async def test_who_may_come_back_has_a_session(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live, older(live, "v2") as v2:
        node = live.broker.config.node.name
        await live.connect("c1", level=4)
        for client_id, clean_start in (("c2", False), ("c3", True)):
            client = await live.connect(client_id, level=4, clean_start=clean_start)
            await client.subscribe("t/1")
            await client.subscribe("t/2")
            await client.disconnect()
        await settle()
        shown = await result(v2, f"/nodes/{node}/sessions")
        assert (shown["total_num"], shown["total_page"]) == (2, 1)
        assert [(row["client_id"], row["clean_sess"], row["subscriptions"]) for row in shown["objects"]] == [
            ("c1", True, 0),
            ("c2", False, 2),
        ]
        for client_id in ("c3", "nobody"):
            assert await result(v2, f"/sessions/{client_id}") == {"objects": []}
            assert await result(v2, f"/nodes/{node}/sessions/{client_id}") == {"objects": []}
        created_at = (await session(v2, "c2"))["created_at"]
    async with running(store=store) as live, older(live, "v2") as v2:
        shown = await session(v2, "c2")
        assert (shown["clean_sess"], shown["subscriptions"], shown["created_at"]) == (False, 2, created_at)


@shows("GET /api/v2/sessions/:client_id")
@pytest.mark.parametrize("level", [4, 5])
async def test_each_figure_moves(autojump_clock: MockClock, level: int) -> None:
    """A client that holds back its acknowledgements, one after the other."""
    config = Config(mqtt=MqttConfig(max_inflight=3, max_mqueue_len=2))
    async with running(config) as live, older(live, "v2") as v2:
        client = await live.connect("c1", level=level, auto_ack=False)
        await client.subscribe("t", 2)
        assert (await session(v2))["max_inflight"] == 3
        for number, qos in enumerate((1, 2, 2)):
            await live.broker.publish("t", b"%d" % number, qos=qos)
        one, two, three = await take(client, 3)
        assert await figures(v2) == {"inflight_queue": 3, "awaiting_ack": 3}
        for number in range(3, 6):  # one more than the queue takes
            await live.broker.publish("t", b"%d" % number, qos=1)
        full = {"inflight_queue": 3, "message_queue": 2, "message_dropped": 1}
        assert await figures(v2) == full | {"awaiting_ack": 3}
        shown = await session(v2)
        assert (shown["deliver_msg"], shown["enqueue_msg"]) == (3, 3)
        for _ in range(2):  # a PUBREC that comes again counts once
            await client.send(PubRec(two.packet_identifier))
            assert await expect(client, PubRel) == PubRel(two.packet_identifier)
            assert await figures(v2) == full | {"awaiting_ack": 2, "awaiting_comp": 1}
        await client.send(PubRec(three.packet_identifier))
        await expect(client, PubRel)
        assert await figures(v2) == full | {"awaiting_ack": 1, "awaiting_comp": 2}
        await client.send(PubComp(three.packet_identifier))
        (four,) = await take(client)
        assert four.payload == b"4"
        after = full | {"message_queue": 1, "awaiting_ack": 2, "awaiting_comp": 1}
        assert await figures(v2) == after
        await client.send(PubAck(one.packet_identifier))
        (five,) = await take(client)
        del after["message_queue"]
        assert await figures(v2) == after
        for message in (four, five):
            await client.send(PubAck(message.packet_identifier))
        await client.send(PubComp(two.packet_identifier))
        await settle()
        assert await figures(v2) == {"message_dropped": 1}
        shown = await session(v2)
        assert (shown["deliver_msg"], shown["enqueue_msg"]) == (5, 3)
        await client.send(Publish("x", b"", 2, packet_identifier=7))
        await expect(client, PubRec)
        assert await figures(v2) == {"message_dropped": 1, "awaiting_rel": 1}
        await client.send(PubRel(7))
        await expect(client, PubComp)
        assert await figures(v2) == {"message_dropped": 1}


@shows("GET /api/v2/sessions/:client_id")
async def test_the_end_of_a_message_that_is_refused(autojump_clock: MockClock) -> None:
    """A PUBREC that says so, also after one that did not."""
    async with running() as live, older(live, "v2") as v2:
        client = await live.connect("c1", auto_ack=False)
        await client.subscribe("t", 2)
        for number in range(2):
            await live.broker.publish("t", b"%d" % number, qos=2)
        one, two = await take(client, 2)
        await client.send(PubRec(two.packet_identifier))
        await expect(client, PubRel)
        for message in (one, two):
            await client.send(PubRec(message.packet_identifier, 0x80))
        await settle()
        assert await figures(v2) == {}


@shows("GET /api/v2/sessions/:client_id")
async def test_what_is_open_stays_so(autojump_clock: MockClock) -> None:
    """Without a connection, on the next one, and after a restart."""
    store = MemoryStore()
    options: dict[str, Any] = {"level": 4, "clean_start": False, "auto_ack": False}
    async with running(store=store) as live, older(live, "v2") as v2:
        client = await live.connect("c1", **options)
        await client.subscribe("t", 2)
        for number, qos in enumerate((1, 2, 2)):
            await live.broker.publish("t", b"%d" % number, qos=qos)
        _, two, _ = await take(client, 3)
        await client.send(PubRec(two.packet_identifier))
        await expect(client, PubRel)
        await client.send(Publish("x", b"", 2, packet_identifier=7))
        await expect(client, PubRec)
        await client.drop()
        await settle()
        away = {"inflight_queue": 3, "awaiting_rel": 1, "awaiting_ack": 2, "awaiting_comp": 1}
        assert await figures(v2) == away
        await live.broker.publish("t", b"3", qos=1)
        assert await figures(v2) == away | {"message_queue": 1}
        assert (await session(v2))["enqueue_msg"] == 1
        back = away | {"inflight_queue": 4, "awaiting_ack": 3}
        client = await live.connect("c1", **options)
        assert client.session_present
        await settle()
        assert await figures(v2) == back
        await client.drop()
    async with running(store=store) as live, older(live, "v2") as v2:
        assert await figures(v2) == back
        client = await live.connect("c1", **options)
        await settle()
        await client.send(PubComp(two.packet_identifier))
        await settle()
        del back["awaiting_comp"]
        assert await figures(v2) == back | {"inflight_queue": 3}


@shows("GET /api/v2/node/:node/sessions", "GET /api/v2/nodes/:node/sessions/:client_id")
@pytest.mark.parametrize("path", ["/node/x/sessions", "/nodes/x/sessions", "/nodes/x/sessions/c1"])
async def test_a_node_there_is_not(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, older(live, "v2") as v2:
        await live.connect("c1")
        answer = await v2.get(path)
        assert (answer.status_code, answer.json()) == (200, {"code": 101, "message": "badrpc"})
        answer = await v2.get(path.replace("/x/", f"/{live.broker.config.node.name}/"), auth=None)
        assert (answer.status_code, answer.content) == (401, b"")


@shows("GET /api/v2/sessions/:client_id")
@pytest.mark.parametrize("path", ["a/b", "a%2Fb"])
async def test_any_client_id(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, older(live, "v2") as v2:
        await live.connect("a/b")
        assert (await session(v2, path))["client_id"] == "a/b"
