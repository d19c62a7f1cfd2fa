"""The contract of `/api/v4`, read afresh: clients, how they are listed, looked up and ended."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
from api.operations import shows
from review.contract import KEPT, NODE, away
from review.contract_v4 import V4, is_client, meta, received, version_4
from trio.testing import MockClock

from trio_broker.protocol.packets import Will

LIST, OF_NODE = "/clients", f"/nodes/{NODE}/clients"


async def some_clients(v4: V4) -> None:
    live = v4.live
    await live.connect("a1", username="alice", level=5, clean_start=False)
    await live.connect("a2", username="alice2", level=4)
    await live.connect("b1", level=3, clean_start=False)
    await away(live, "b2", "t", username="Bob")
    for _ in range(3):
        await v4.send("t", qos=1)


@shows("GET /api/v4/clients", "GET /api/v4/clients/:clientid")
async def test_a_client_field_by_field(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect(
            "c1", username="test", level=5, keep_alive=60, properties={"session_expiry_interval": 77}
        )
        await c1.subscribe("a/b", 2)
        await c1.subscribe("c/d", 1)
        for qos in (0, 1, 2):
            await c1.publish("a/b", b"x", qos)
        for _ in range(3):
            await received(c1)
        await c1.ping()
        (row,), paging = await v4.page(LIST)
        assert paging == meta(1, hasnext=False)
        is_client(row)
        told = {
            "node": NODE,
            "clientid": "c1",
            "username": "test",
            "proto_name": "MQTT",
            "proto_ver": 5,
            "ip_address": "127.0.0.1",
            "connected": True,
            "clean_start": True,
            "keepalive": 60,
            "expiry_interval": 77,
            "is_bridge": False,
            "zone": "external",
            "mountpoint": "undefined",
            "subscriptions_cnt": 2,
            "inflight": 0,
            "mqueue_len": 0,
            "mqueue_dropped": 0,
            "awaiting_rel": 0,
            "recv_msg": 3,
            "send_msg": 3,
            "max_subscriptions": 0,
            **{f"{way}.qos{qos}": 1 for way in ("recv_msg", "send_msg") for qos in (0, 1, 2)},
        }
        assert {key: row[key] for key in told} == told
        assert row["recv_pkt"] > row["recv_msg"]
        assert row["recv_oct"] > row["recv_cnt"] > 0
        assert await v4.data("/clients/c1") == [row]
        assert await v4.data(f"{OF_NODE}/c1") == [row]


@shows("GET /api/v4/clients/:clientid")
async def test_what_the_protocols_make_of_it(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.live.connect("three", level=3)
        await v4.live.connect("four", level=4, clean_start=False)
        await away(v4.live, "gone", "t")
        await v4.send("t", qos=1)
        (three,), (four,), (gone,) = [await v4.data(f"/clients/{name}") for name in ("three", "four", "gone")]
        for row in (three, four, gone):
            is_client(row)
        assert [three[key] for key in ("proto_name", "proto_ver", "username")] == ["MQIsdp", 3, "undefined"]
        assert (three["clean_start"], three["expiry_interval"]) == (True, 0)
        assert (four["proto_ver"], four["clean_start"], four["expiry_interval"]) == (4, False, 7200)
        assert (gone["connected"], gone["mqueue_len"], gone["expiry_interval"]) == (False, 1, 3600)
        assert gone["disconnected_at"] >= gone["connected_at"]


@shows("GET /api/v4/clients", "GET /api/v4/nodes/:node/clients")
@pytest.mark.parametrize("path", [LIST, OF_NODE])
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"clientid": "a1"}, "a1"),
        ({"clientid": "a"}, ""),
        ({"username": "alice"}, "a1"),
        ({"zone": "external"}, "a1 a2 b1 b2"),
        ({"zone": "x"}, ""),
        ({"ip_address": "127.0.0.1"}, "a1 a2 b1 b2"),
        ({"ip_address": "127.0.0.2"}, ""),
        ({"conn_state": "connected"}, "a1 a2 b1"),
        ({"conn_state": "disconnected"}, "b2"),
        ({"conn_state": "idle"}, ""),
        ({"conn_state": "connecting"}, ""),
        ({"clean_start": "false"}, "a1 b1"),
        ({"clean_start": "true"}, "a2 b2"),
        ({"proto_name": "MQTT"}, "a1 a2 b2"),
        ({"proto_name": "MQIsdp"}, "b1"),
        ({"proto_ver": 4}, "a2"),
        ({"_like_clientid": "1"}, "a1 b1"),
        ({"_like_username": "ali"}, "a1 a2"),
        ({"_like_username": "bob"}, ""),
        ({"_like_username": "ALICE"}, ""),
        ({"_like_username": ""}, "a1 a2 b1 b2"),
        ({"_like_clientid": "."}, ""),
        ({"_gte_mqueue_len": 3}, "b2"),
        ({"_gte_mqueue_len": 4}, ""),
        ({"_lte_mqueue_len": 2}, "a1 a2 b1"),
        ({"_gte_mqueue_dropped": 1}, ""),
        ({"_lte_mqueue_dropped": 0}, "a1 a2 b1 b2"),
        ({"_gte_mqueue_len": 1, "_lte_mqueue_len": 3}, "b2"),
        ({"_like_clientid": "a", "proto_ver": 5}, "a1"),
        ({"clientid": "a1", "_like_clientid": "b"}, "a1"),
        ({"username": "alice", "_like_username": "nothing"}, "a1"),
    ],
)
async def test_filters(path: str, query: dict[str, Any], found: str, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await some_clients(v4)
        rows, paging = await v4.page(path, **query)
        assert sorted(row["clientid"] for row in rows) == found.split()
        assert paging == meta(-1, hasnext=False)


@shows("GET /api/v4/clients")
async def test_filters_of_time(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.live.connect("c1")
        now = int(time.time())
        for key in ("created_at", "connected_at"):
            assert await v4.listed(LIST, **{f"_gte_{key}": now - 100}) == ["c1"]
            assert await v4.listed(LIST, **{f"_gte_{key}": now + 100}) == []
            assert await v4.listed(LIST, **{f"_lte_{key}": now + 100}) == ["c1"]
            assert await v4.listed(LIST, **{f"_lte_{key}": now - 100}) == []
            assert await v4.listed(LIST, **{f"_gte_{key}": now - 100, f"_lte_{key}": now + 100}) == ["c1"]


@shows("GET /api/v4/clients")
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
async def test_dates_are_local(zone: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", zone)
        time.tzset()
        try:
            async with version_4() as v4:
                await v4.live.connect("c1")
                (row,) = await v4.data("/clients/c1")
                for key in ("created_at", "connected_at"):
                    told = time.mktime(time.strptime(row[key], "%Y-%m-%d %H:%M:%S"))
                    assert abs(told - time.time()) < 100
                    assert await v4.listed(LIST, **{f"_gte_{key}": int(told), f"_lte_{key}": int(told)}) == ["c1"]
        finally:
            patched.undo()
            time.tzset()


@shows("GET /api/v4/clients", "GET /api/v4/nodes/:node/clients")
@pytest.mark.parametrize("path", [LIST, OF_NODE])
async def test_pages(path: str, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await some_clients(v4)
        rows, paging = await v4.page(path)
        assert (len(rows), paging) == (4, meta(4, hasnext=False))
        first, paging = await v4.page(path, _limit=3)
        assert (len(first), paging) == (3, meta(4, limit=3, hasnext=True))
        second, paging = await v4.page(path, _limit=3, _page=2)
        assert (len(second), paging) == (1, meta(4, page=2, limit=3, hasnext=False))
        assert {row["clientid"] for row in first + second} == {"a1", "a2", "b1", "b2"}
        assert await v4.page(path, _limit=2, _page=9) == ([], meta(4, page=9, limit=2, hasnext=False))
        for number in (0, -1):
            rows, paging = await v4.page(path, _limit=3, _page=number)
            assert (rows, paging) == (first, meta(4, page=number, limit=3, hasnext=True))
        rows, paging = await v4.page(path, _limit=1, clean_start="false")
        assert (len(rows), paging) == (1, meta(-1, limit=1, hasnext=True))
        rows, paging = await v4.page(path, unknown="x", _like_topic="x")
        assert (len(rows), paging) == (4, meta(4, hasnext=False))
        for wrong in ({"_page": "x"}, {"_limit": "x"}, {"_limit": "1.5"}):
            await v4.fails(108, None, "GET", path, **wrong)


@shows("GET /api/v4/clients")
@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("proto_ver", "x", "integer"),
        ("_gte_mqueue_len", "x", "integer"),
        ("_lte_mqueue_dropped", "1.5", "integer"),
        ("_gte_created_at", "x", "timestamp"),
        ("_lte_connected_at", "yesterday", "timestamp"),
        ("ip_address", "x", "ip"),
        ("ip_address", "::1", "ip"),
        ("ip_address", "localhost", "ip"),
    ],
)
async def test_filters_that_are_none(key: str, value: str, kind: str, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        for path in (LIST, OF_NODE):
            await v4.fails(108, f'Can\'t convert <<"{value}">> to {kind} type', "GET", path, **{key: value})


@shows("GET /api/v4/clients")
async def test_states_and_flags_that_are_none(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.fails(108, None, "GET", LIST, conn_state="dancing")
        await v4.fails(108, None, "GET", LIST, clean_start="perhaps")


@shows(
    "GET /api/v4/clients/:clientid",
    "GET /api/v4/nodes/:node/clients/:clientid",
    "GET /api/v4/clients/username/:username",
    "GET /api/v4/nodes/:node/clients/username/:username",
)
async def test_looking_up(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        for name, username in (("a/b c", "x/y"), ("ä+", "x/y"), ("username", "z")):
            await v4.live.connect(name, username=username)
        for base in ("", f"/nodes/{NODE}"):
            assert [row["clientid"] for row in await v4.data(f"{base}/clients/a%2Fb%20c")] == ["a/b c"]
            assert [row["clientid"] for row in await v4.data(f"{base}/clients/%C3%A4+")] == ["ä+"]
            assert [row["clientid"] for row in await v4.data(f"{base}/clients/username")] == ["username"]
            found = await v4.data(f"{base}/clients/username/x%2Fy")
            assert {row["clientid"] for row in found} == {"a/b c", "ä+"}
            for row in found:
                is_client(row)
            assert await v4.data(f"{base}/clients/nobody") == []
            assert await v4.data(f"{base}/clients/username/nobody") == []
            assert len(await v4.data(f"{base}/clients/username/x%2Fy", _limit=1)) == 2
        await v4.missing("GET", "/nodes/other@127.0.0.1/clients")
        await v4.missing("GET", "/nodes/other@127.0.0.1/clients/username")


@shows("DELETE /api/v4/clients/:clientid")
async def test_ending_clients(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        watcher = await v4.live.connect("watcher")
        await watcher.subscribe("will/#")
        for level in (3, 4, 5):
            name = f"c/{level}"
            kept: dict[str, Any] = KEPT if level == 5 else {"clean_start": False}
            client = await v4.live.connect(name, level=level, will=Will(f"will/{level}", b"bye"), **kept)
            await client.subscribe("t", 1)
            await v4.done("DELETE", f"/clients/c%2F{level}")
            with trio.fail_after(60):
                ended = await client.wait_ended()
            if level == 5:
                assert ended.reason_code == 0x98
            assert (await received(watcher)).topic_name == f"will/{level}"
            assert await v4.data(f"/clients/c%2F{level}") == []
            assert await v4.data(f"/subscriptions/c%2F{level}") == []
            back = await v4.live.connect(name, level=level, **(kept | {"clean_start": False}))
            assert not back.session_present
        await away(v4.live, "gone", "t")
        await v4.done("DELETE", "/clients/gone")
        assert await v4.data("/clients/gone") == []
        await v4.done("DELETE", "/clients/nobody")


@shows("DELETE /api/v4/nodes/:node/clients/:clientid")
async def test_ending_a_client_of_a_node(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        client = await v4.live.connect("c1")
        await v4.done("DELETE", f"{OF_NODE}/c1")
        with trio.fail_after(60):
            assert (await client.wait_ended()).reason_code == 0x98
        await v4.missing("DELETE", "/nodes/other@127.0.0.1/clients/c1")
