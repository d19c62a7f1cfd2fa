"""The client resources over a running broker: what the lists find, what acts on a live connection."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from api.live import Live, running
from api.operations import shows
from trio.testing import MockClock

from trio_broker.protocol.packets import Disconnect, Publish, Will
from trio_broker.store.memory import MemoryStore

KEPT: dict[str, Any] = {"properties": {"session_expiry_interval": 3600}}


async def ids(live: Live, query: str = "", path: str = "/clients") -> list[str]:
    answer = await live.api.get(f"{path}?{query}")
    assert answer.status_code == 200, answer.text
    return [row["clientid"] for row in answer.json()["data"]]


async def away(live: Live, client_id: str, *topic_filters: str, **options: Any) -> None:
    """A session whose client is gone."""
    client = await live.connect(client_id, **KEPT | options)
    for topic_filter in topic_filters:
        await client.subscribe(topic_filter, qos=1)
    await client.disconnect()


@shows("GET /clients", "GET /clients/:clientid")
async def test_sessions_are_listed_as_they_were_made(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1", username="u1")
        await away(live, "c2", "t/#", username="u2")
        await live.connect("c3", level=4, keep_alive=30)
        assert await ids(live) == ["c1", "c2", "c3"]
        listed = (await live.api.get("/clients?limit=2")).json()
        assert listed["meta"] == {"page": 1, "limit": 2, "count": 3, "hasnext": True}
        assert await ids(live, "limit=2&page=2") == ["c3"]
        assert await ids(live, "limit=2&page=3") == []
        one = (await live.api.get("/clients/c2")).json()
        assert one == listed["data"][1]
        assert (one["connected"], one["username"], one["subscriptions_cnt"]) == (False, "u2", 1)
        assert (one["expiry_interval"], one["is_persistent"]) == (3600, True)
        assert one["disconnected_at"] >= one["connected_at"] >= one["created_at"]
        three = (await live.api.get("/clients/c3")).json()
        assert (three["proto_ver"], three["keepalive"], three["connected"]) == (4, 30, True)
        assert "disconnected_at" not in three
        # The table size, also while nobody looks at the sessions themselves.
        await live.api.delete("/clients/c1")
        assert (await live.api.get("/clients")).json()["meta"]["count"] == 2


@shows("GET /clients")
@pytest.mark.parametrize("path", ["/clients", "/clients_v2"])
async def test_every_filter(autojump_clock: MockClock, path: str) -> None:
    async with running() as live:
        await live.connect("c1", username="u1")
        await trio.sleep(10)
        between = live.broker.questions._core.clock.wall_ms(trio.current_time()) - 5000
        text = datetime.fromtimestamp(between / 1000, UTC).isoformat(timespec="milliseconds").replace("+", "%2B")
        await away(live, "c2", username="user2", clean_start=False)
        await live.connect("c3/x", level=3)
        found = {
            "clientid=c3/x&clientid=c1&clientid=nobody": ["c1", "c3/x"],
            "clientid=c3/x&username=u1": [],
            "username=u1": ["c1"],
            "username=u1&username=user2": ["c1", "user2"[:0] + "c2"],
            "username=nobody": [],
            "ip_address=127.0.0.1": ["c1", "c2", "c3/x"],
            "ip_address=::1": [],
            "conn_state=connected": ["c1", "c3/x"],
            "conn_state=disconnected": ["c2"],
            "conn_state=idle": [],
            "clean_start=false": ["c2"],
            "clean_start=true": ["c1", "c3/x"],
            "proto_ver=3": ["c3/x"],
            "proto_ver=5": ["c1", "c2"],
            "like_clientid=/x": ["c3/x"],
            "like_clientid=C": [],
            "like_username=u": ["c1", "c2"],
            "like_username=": ["c1", "c2", "c3/x"],
            "username=u1&like_username=nobody": ["c1"],
            "clientid=c1&like_clientid=nobody": ["c1"],
            f"gte_created_at={between}": ["c2", "c3/x"],
            f"lte_created_at={text}": ["c1"],
            f"gte_connected_at={text}&lte_connected_at={between}": [],
            f"lte_connected_at={between}": ["c1"],
            f"gte_connected_at={between}&proto_ver=5": ["c2"],
            "unknown=1": ["c1", "c2", "c3/x"],
        }
        for query, expected in found.items():
            assert (await ids(live, query, path), query) == (expected, query)
            if path == "/clients":
                meta = (await live.api.get(f"{path}?{query}")).json()["meta"]
                is_fuzzy = "like_" in query and "&" not in query
                assert meta.get("count") == (None if is_fuzzy else len(expected))
                assert meta["hasnext"] is False
        rows = (await live.api.get(f"{path}?fields=clientid,connected&conn_state=disconnected")).json()["data"]
        assert rows == [{"clientid": "c2", "connected": False}]


@shows("GET /clients")
async def test_pages_of_what_was_looked_for(autojump_clock: MockClock) -> None:
    async with running() as live:
        for number in range(5):
            await live.connect(f"c{number}", username="u")
        assert await ids(live, "username=u&limit=2&page=2") == ["c2", "c3"]
        fuzzy = (await live.api.get("/clients?like_clientid=c&limit=2&page=2")).json()
        assert [row["clientid"] for row in fuzzy["data"]] == ["c2", "c3"]
        assert fuzzy["meta"] == {"page": 2, "limit": 2, "hasnext": True}
        fuzzy = (await live.api.get("/clients?like_username=u&limit=2&page=3")).json()
        assert ([row["clientid"] for row in fuzzy["data"]], fuzzy["meta"]["hasnext"]) == (["c4"], False)


@shows("GET /clients_v2")
async def test_following_the_cursor(autojump_clock: MockClock) -> None:
    async with running() as live:
        for number in range(7):
            await live.connect(f"c{number}", username=f"u{number % 2}")
        seen: list[str] = []
        query = "limit=3"
        while True:
            piece = (await live.api.get(f"/clients_v2?{query}")).json()
            assert piece["meta"]["count"] == len(piece["data"])
            seen += [row["clientid"] for row in piece["data"]]
            if "cursor" not in piece["meta"]:
                break
            query = f"limit=3&cursor={piece['meta']['cursor']}"
        assert seen == [f"c{number}" for number in range(7)]
        # Exactly to the end: there is no more.
        assert "cursor" not in (await live.api.get("/clients_v2?limit=7")).json()["meta"]
        piece = (await live.api.get("/clients_v2?username=u1&limit=2")).json()
        assert [row["clientid"] for row in piece["data"]] == ["c1", "c3"]
        assert await ids(live, f"username=u1&limit=2&cursor={piece['meta']['cursor']}", "/clients_v2") == ["c5"]
        piece = (await live.api.get("/clients_v2?clientid=c6&clientid=c2&limit=1")).json()
        assert piece["data"][0]["clientid"] == "c2"
        rest = f"clientid=c6&clientid=c2&limit=1&cursor={piece['meta']['cursor']}"
        assert await ids(live, rest, "/clients_v2") == ["c6"]


@shows("GET /clients_v2")
async def test_a_cursor_holds_whoever_comes_and_goes(autojump_clock: MockClock) -> None:
    async with running() as live:
        for number in range(6):
            await live.connect(f"c{number}")
        piece = (await live.api.get("/clients_v2?limit=3")).json()
        for gone in ("c0", "c2", "c3"):
            assert (await live.api.delete(f"/clients/{gone}")).status_code == 204
        await live.connect("c9")
        assert await ids(live, f"cursor={piece['meta']['cursor']}", "/clients_v2") == ["c4", "c5", "c9"]


@shows("GET /clients_v2")
async def test_what_is_no_cursor(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1")
        await live.connect("c2")
        cursor = (await live.api.get("/clients_v2?limit=1")).json()["meta"]["cursor"]
        for bad in ("x", "-1", "0-0", cursor + "x", cursor.partition("-")[0], "1" + cursor, "%00", "٣"):
            answer = await live.api.get("/clients_v2", params={"cursor": bad})
            assert (answer.status_code, answer.json()) == (400, {"code": "BAD_REQUEST", "message": "bad cursor"})
        assert await ids(live, f"cursor={cursor}{'9' * 5000}", "/clients_v2") == []
        for query, path in (("limit=0", "limit"), ("limit=10001", "limit"), ("conn_state=x", "conn_state")):
            answer = await live.api.get(f"/clients_v2?{query}")
            assert (answer.status_code, json.loads(answer.json()["message"])["path"]) == (400, path)
        assert (await live.api.get("/clients_v2?fields=listener")).status_code == 400
        assert (await live.api.get("/clients_v2?ip_address=foo")).json()["code"] == "INVALID_PARAMETER"


@shows("GET /sessions_count")
async def test_sessions_are_counted_connected_or_not(autojump_clock: MockClock) -> None:
    async with running() as live:
        assert (await live.api.get("/sessions_count")).text == "0"
        await live.connect("c1")
        await away(live, "c2")
        for query in ("", "?since=0", "?since=1700000000", "?since=2024-01-01T00:00:00Z"):
            answer = await live.api.get(f"/sessions_count{query}")
            assert (answer.status_code, answer.text) == (200, "2")
            assert answer.headers["content-type"].startswith("text/plain")
        await live.api.delete("/clients/c2")
        assert (await live.api.get("/sessions_count")).json() == 1
        answer = await live.api.get("/sessions_count?since=yesterday")
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


async def put_keepalive(live: Live, client_id: str, body: Any) -> Any:
    return await live.api.put(f"/clients/{client_id}/keepalive", json=body)


@shows("PUT /clients/:clientid/keepalive")
@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize("before", [0, 1000])
async def test_another_keep_alive_counts_from_now_on(autojump_clock: MockClock, level: int, before: int) -> None:
    async with running() as live:
        client = await live.connect("c1", level=level, keep_alive=before)
        await trio.sleep(100)
        answer = await put_keepalive(live, "c1", {"interval": 20})
        assert (answer.status_code, answer.json()["clientid"], answer.json()["keepalive"]) == (200, "c1", 20)
        assert (await live.api.get("/clients/c1")).json()["keepalive"] == 20
        for _ in range(3):
            await trio.sleep(25)
            await client.ping()
        began = trio.current_time()
        ended = await client.wait_ended()
        assert 30 <= trio.current_time() - began < 60
        assert ended.reason_code == (0x8D if level == 5 else None)


@shows("PUT /clients/:clientid/keepalive")
async def test_a_longer_keep_alive_and_none(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1", keep_alive=10)
        assert (await put_keepalive(live, "c1", {"interval": "65535"})).json()["keepalive"] == 65535
        await trio.sleep(5000)
        await client.ping()
        assert (await put_keepalive(live, "c1", {"interval": 0})).json()["keepalive"] == 0
        await trio.sleep(500_000)
        await client.ping()
        # The next connection brings its own.
        await client.disconnect()
        again = await live.connect("c1", keep_alive=10)
        assert (await live.api.get("/clients/c1")).json()["keepalive"] == 10
        assert (await again.wait_ended()).reason_code == 0x8D


@shows("PUT /clients/:clientid/keepalive")
async def test_keep_alives_that_are_refused(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1", keep_alive=7)
        await away(live, "c2", keep_alive=7)
        answer = await put_keepalive(live, "nobody", {"interval": 5})
        assert (answer.status_code, answer.json()["code"]) == (404, "CLIENTID_NOT_FOUND")
        answer = await put_keepalive(live, "c1", {})
        assert (answer.status_code, answer.json()) == (
            400,
            {"code": "BAD_REQUEST", "message": "Interval Not Found"},
        )
        refused: tuple[object, ...] = (-1, 65_536, "x", 1.5, True, [])
        for bad in refused:
            answer = await put_keepalive(live, "c1", {"interval": bad})
            assert (answer.status_code, answer.json()["code"], bad) == (400, "BAD_REQUEST", bad)
        assert (await put_keepalive(live, "c1", {"interval": 1, "more": 1})).status_code == 400
        answer = await put_keepalive(live, "c2", {"interval": 5})
        assert (answer.status_code, answer.json()) == (
            400,
            {"code": "PARAM_ERROR", "message": "The client is not connected"},
        )
        for client_id in ("c1", "c2"):
            assert (await live.api.get(f"/clients/{client_id}")).json()["keepalive"] == 7
        answer = await live.api.put("/clients/c1/keepalive", json={"interval": 5}, auth=live.as_viewer())
        assert (answer.status_code, answer.json()["code"]) == (403, "UNAUTHORIZED_ROLE")


@shows("DELETE /clients/:clientid", "POST /clients/kickout/bulk")
@pytest.mark.parametrize("bulk", [False, True])
async def test_who_is_kicked_out_loses_session_and_connection(autojump_clock: MockClock, bulk: bool) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe("will")
        c1 = await live.connect("c1", will=Will("will", b"gone"), **KEPT)
        await c1.subscribe("t")
        c4 = await live.connect("c4", level=4)
        await away(live, "c2", "t")
        if bulk:
            for body in ([], ["c1", "nobody", "c2", "c1", "c4"]):
                answer = await live.api.post("/clients/kickout/bulk", json=body)
                assert (answer.status_code, answer.content) == (204, b"")
        else:
            for client_id in ("c1", "c2", "c4"):
                answer = await live.api.delete(f"/clients/{client_id}")
                assert (answer.status_code, answer.content) == (204, b"")
            assert (await live.api.delete("/clients/c2")).json()["code"] == "CLIENTID_NOT_FOUND"
        ended = await c1.wait_ended()
        assert isinstance(ended.packet, Disconnect)
        assert ended.reason_code == 0x98
        assert (await c4.wait_ended()).packet is None
        assert (await watcher.receive()).payload == b"gone"
        assert await ids(live) == ["watcher"]
        assert (await live.api.get("/subscriptions?clientid=c2")).json()["data"] == []
    async with running(store=store) as live:
        assert await ids(live) == []
        assert not (await live.connect("c2", clean_start=False, **KEPT)).session_present


@shows(
    "POST /clients/:clientid/subscribe",
    "POST /clients/:clientid/subscribe/bulk",
    "POST /clients/:clientid/unsubscribe",
    "POST /clients/:clientid/unsubscribe/bulk",
    "GET /clients/:clientid/subscriptions",
)
async def test_subscribing_for_a_client(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await live.broker.publish("r/1", b"retained", retain=True)
        client = await live.connect("c1", **KEPT)
        answer = await live.api.post("/clients/c1/subscribe", json={"topic": "r/+", "qos": 1, "rap": 1})
        assert answer.json() == {
            "clientid": "c1",
            "node": live.broker.config.node.name,
            "topic": "r/+",
            "qos": 1,
            "nl": 0,
            "rap": 1,
            "rh": 0,
        }
        packet = await client.receive()
        assert (packet.payload, packet.retain) == (b"retained", True)
        body = [{"topic": "a", "qos": 2}, {"topic": "$share/g/b"}, {"topic": "c"}, {"topic": "d/#/e"}]
        answer = await live.api.post("/clients/c1/subscribe/bulk", json=body)
        assert [row["topic"] for row in answer.json()["succeed"]] == ["a", "$share/g/b", "c"]
        assert answer.json()["failed"][0]["data"][:2] == ["c1", "d/#/e"]
        await live.broker.publish("a", b"heard", qos=2)
        heard = await client.receive()
        assert isinstance(heard, Publish)
        assert (heard.payload, heard.qos) == (b"heard", 2)
        for path, wanted in (("unsubscribe", {"topic": "c"}), ("unsubscribe/bulk", [{"topic": "a"}, {}])):
            assert (await live.api.post(f"/clients/c1/{path}", json=wanted)).status_code == 204
        rows = (await live.api.get("/clients/c1/subscriptions")).json()
        assert [row["topic"] for row in rows] == ["r/+", "$share/g/b"]
        assert rows[0] == answer_row(live, "c1", "r/+", qos=1, rap=1)
    async with running(store=store) as live:
        rows = (await live.api.get("/clients/c1/subscriptions")).json()
        assert sorted(row["topic"] for row in rows) == ["$share/g/b", "r/+"]


def answer_row(live: Live, client_id: str, topic: str, **options: int) -> dict[str, Any]:
    row = {"topic": topic, "clientid": client_id, "node": live.broker.config.node.name}
    return row | {"qos": 0, "nl": 0, "rap": 0, "rh": 0, "durable": False} | options


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
async def test_what_waits_for_a_client(autojump_clock: MockClock) -> None:
    async with running() as live:
        c1 = await live.connect("c1", auto_ack=False, properties={"receive_maximum": 2})
        await c1.subscribe("t", qos=1)
        publisher = await live.connect("p", username="u9")
        for number in range(5):
            await publisher.publish("t", f"{number}".encode(), qos=1)
        shown = (await live.api.get("/clients/c1/inflight_messages?payload=plain")).json()
        assert [row["payload"] for row in shown["data"]] == ["0", "1"]
        assert {(row["topic"], row["qos"], row["from_clientid"], row["from_username"]) for row in shown["data"]} == {
            ("t", 1, "p", "u9")
        }
        assert "mqueue_priority" not in shown["data"][0]
        seen: list[str] = []
        position = "none"
        while rows := (
            piece := (
                await live.api.get(f"/clients/c1/mqueue_messages?payload=plain&limit=2&position={position}")
            ).json()
        )["data"]:
            seen += [row["payload"] for row in rows]
            position = piece["meta"]["position"]
        assert seen == ["2", "3", "4"]
        assert piece["meta"]["position"] == position


@shows("GET /clients/:clientid")
async def test_the_receive_maximum_of_the_client_limits_its_inflight_window(autojump_clock: object) -> None:
    async with running() as live:
        client = await live.connect("c1", properties={"receive_maximum": 3, "session_expiry_interval": 60})
        assert (await live.api.get("/clients/c1")).json()["inflight_max"] == 3
        await client.disconnect()
        await live.connect("c1", clean_start=False, properties={"receive_maximum": 100})
        assert (await live.api.get("/clients/c1")).json()["inflight_max"] == 32
