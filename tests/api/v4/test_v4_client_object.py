"""The client object of EMQX 4: its keys and their types, and what they say of a session."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.testing.running import make_config

SAMPLE: dict[str, Any] = {
    "zone": "external",
    "username": "test",
    "subscriptions_cnt": 4,
    "send_pkt": 44,
    "send_oct": 159,
    "send_msg": 2,
    "send_cnt": 44,
    "reductions": 35471,
    "recv_pkt": 2,
    "recv_oct": 164,
    "recv_msg": 0,
    "recv_cnt": 45,
    "proto_ver": 4,
    "proto_name": "MQTT",
    "port": 3107,
    "node": "emqx@10.12.50.91",
    "mqueue_len": 0,
    "mqueue_dropped": 0,
    "mountpoint": "undefined",
    "max_subscriptions": 0,
    "max_mqueue": 1000,
    "max_inflight": 32,
    "max_awaiting_rel": 100,
    "mailbox_len": 0,
    "keepalive": 60,
    "is_bridge": False,
    "ip_address": "127.0.0.1",
    "inflight": 0,
    "heap_size": 610,
    "expiry_interval": 0,
    "created_at": "2021-03-18 02:15:57",
    "connected_at": "2021-03-18 02:15:57",
    "connected": True,
    "clientid": "emqx_c_1",
    "clean_start": True,
    "awaiting_rel": 0,
}
"""As EMQX Cloud prints it."""
OF_THE_MOMENT = {
    *("node", "port", "connected_at", "created_at", "reductions", "heap_size", "subscriptions_cnt"),
    *("send_pkt", "send_oct", "send_msg", "send_cnt", "recv_pkt", "recv_oct", "recv_msg", "recv_cnt"),
}
SINCE_4_4 = {
    *("recv_msg.qos0", "recv_msg.qos1", "recv_msg.qos2", "recv_msg.dropped"),
    *("send_msg.qos0", "send_msg.qos1", "send_msg.qos2", "send_msg.dropped"),
    *("send_msg.dropped.expired", "send_msg.dropped.queue_full", "send_msg.dropped.too_large"),
}
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


async def row(v4: httpx.AsyncClient, client_id: str) -> dict[str, Any]:
    answer = await v4.get(f"/clients/{client_id}")
    assert answer.status_code == 200
    [found] = answer.json()["data"]
    assert isinstance(found, dict)
    return found


def local(live: Live, milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds // 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@shows("GET /api/v4/clients/:clientid")
async def test_the_printed_sample(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await live.connect("emqx_c_1", username="test", level=4, keep_alive=60)
        found = await row(v4, "emqx_c_1")
        assert found.keys() == SAMPLE.keys() | SINCE_4_4
        for name, value in SAMPLE.items():
            assert type(found[name]) is type(value), name
        assert all(type(found[name]) is int for name in SINCE_4_4)
        same = SAMPLE.keys() - OF_THE_MOMENT
        assert {name: found[name] for name in same} == {name: SAMPLE[name] for name in same}
        assert found["node"] == live.broker.config.node.name


@shows("GET /api/v4/clients/:clientid")
async def test_times_are_local_and_without_parts_of_a_second(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        client = await live.connect("c1", properties={"session_expiry_interval": 100})
        info = await live.broker.questions.client("c1")
        assert info is not None
        found = await row(v4, "c1")
        assert TIME.fullmatch(found["connected_at"])
        assert found["connected_at"] == local(live, info.connected_at)
        assert found["created_at"] == local(live, info.created_at)
        assert "disconnected_at" not in found
        await client.disconnect()
        found = await row(v4, "c1")
        info = await live.broker.questions.client("c1")
        assert info is not None
        assert info.disconnected_at is not None
        assert (found["connected"], found["disconnected_at"]) == (False, local(live, info.disconnected_at))
        assert found["expiry_interval"] == 100


@shows("GET /api/v4/clients/:clientid")
@pytest.mark.parametrize(("level", "name"), [(3, "MQIsdp"), (4, "MQTT"), (5, "MQTT")])
async def test_protocols(autojump_clock: MockClock, level: int, name: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        await live.connect("c1", level=level)
        found = await row(v4, "c1")
        assert (found["proto_ver"], found["proto_name"]) == (level, name)
        assert found["username"] == "undefined"


@shows("GET /api/v4/clients/:clientid")
async def test_figures_of_a_session(autojump_clock: MockClock) -> None:
    mqtt = {"max_mqueue_len": 2, "max_subscriptions": 7, "max_awaiting_rel": "infinity"}
    async with running(make_config(Config(), {"mqtt": mqtt})) as live, older(live, "v4") as v4:
        client = await live.connect("c1", auto_ack=False, properties={"receive_maximum": 1})
        await client.subscribe("t/#", qos=1)
        await client.publish("x", b"0")
        publisher = await live.connect("p")
        for number in range(5):
            await publisher.publish("t/1", b"%d" % number, qos=1)
        found = await row(v4, "c1")
        assert (found["inflight"], found["max_inflight"]) == (1, 1)
        assert (found["mqueue_len"], found["max_mqueue"], found["mqueue_dropped"]) == (2, 2, 2)
        assert (found["subscriptions_cnt"], found["max_subscriptions"], found["max_awaiting_rel"]) == (1, 7, 0)
        assert (found["send_msg"], found["send_msg.qos1"], found["send_msg.dropped.queue_full"]) == (1, 1, 2)
        assert (found["recv_msg"], found["recv_msg.qos0"], found["recv_msg.qos1"]) == (1, 1, 0)
        assert found["recv_oct"] > found["recv_pkt"] > 0
