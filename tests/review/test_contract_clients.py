"""The REST contract, read afresh: the client object, the lists of clients, throwing out, keep alive, counting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from api.live import Live, running
from api.operations import shows
from review.contract import (
    CLIENT_FLAGS,
    CLIENT_INTS,
    CLIENT_KEYS,
    CLIENT_TEXTS,
    KEPT,
    NODE,
    TIME_MS,
    away,
    failed,
    got,
    invalid,
    listed,
)
from trio.testing import MockClock

from trio_broker.protocol.packets import Connect

SCHEMA_NAMES = [*sorted(CLIENT_KEYS - {"enable_authn", "is_persistent", "listener"}), "disconnected_at", "client_attrs"]
DURABLE_NAMES = (
    "n_streams seqno_q1_comm seqno_q1_dup seqno_q1_next seqno_q2_comm seqno_q2_dup seqno_q2_rec seqno_q2_next"
)


def check_types(row: dict[str, Any]) -> None:
    for key in CLIENT_INTS:
        assert type(row[key]) is int, key
    for key in CLIENT_FLAGS:
        assert type(row[key]) is bool, key
    for key in CLIENT_TEXTS:
        assert type(row[key]) is str, key
    for key in ("connected_at", "created_at"):
        assert TIME_MS.fullmatch(row[key]), row[key]
    assert row["subscriptions_max"] == "infinity" or type(row["subscriptions_max"]) is int


@shows("GET /clients", "GET /clients/:clientid")
@pytest.mark.parametrize(("level", "name"), [(3, "MQIsdp"), (4, "MQTT"), (5, "MQTT")])
async def test_the_object_of_a_connected_client(level: int, name: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1", level=level, username="u1", keep_alive=60)
        row = await got(live, "/clients/c1")
        assert row.keys() == CLIENT_KEYS
        check_types(row)
        expected = {
            "clientid": "c1",
            "username": "u1",
            "node": NODE,
            "connected": True,
            "proto_name": name,
            "proto_ver": level,
            "keepalive": 60,
            "clean_start": True,
            "expiry_interval": 0,
            "is_bridge": False,
            "is_persistent": False,
            "is_expired": False,
            "durable": False,
            "mountpoint": None,
            "subscriptions_cnt": 0,
            "subscriptions_max": "infinity",
            "inflight_cnt": 0,
            "inflight_max": 32,
            "mqueue_len": 0,
            "mqueue_max": 1000,
            "mqueue_dropped": 0,
            "awaiting_rel_cnt": 0,
            "awaiting_rel_max": 100,
        }
        assert {key: row[key] for key in expected} == expected
        assert row["connected_at"] == row["created_at"]
        assert (await got(live, "/clients"))["data"] == [row]


@shows("GET /clients/:clientid")
async def test_without_a_user_name(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1")
        row = await got(live, "/clients/c1")
        assert row["username"] is None


@shows("GET /clients/:clientid")
@pytest.mark.parametrize("level", [3, 4])
async def test_old_persistent_clients_have_the_expiry_of_the_broker(level: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1", level=level, clean_start=False)
        row = await got(live, "/clients/c1")
        assert (row["clean_start"], row["expiry_interval"], row["is_persistent"]) == (False, 7200, True)


@shows("GET /clients/:clientid")
async def test_the_bridge_bit(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1", level=4, connect=False)
        await client.connect(Connect("c1", 4, bridge=True))
        assert (await got(live, "/clients/c1"))["is_bridge"] is True


@shows("GET /clients", "GET /clients/:clientid")
async def test_a_disconnected_session(autojump_clock: MockClock) -> None:
    async with running() as live:
        await away(live, "c1", "t/#", username="u1")
        await trio.sleep(5)
        row = await got(live, "/clients/c1")
        assert row.keys() == CLIENT_KEYS | {"disconnected_at"}
        check_types(row)
        assert (row["connected"], row["is_persistent"], row["expiry_interval"]) == (False, True, 3600)
        assert (row["durable"], row["is_expired"], row["subscriptions_cnt"]) == (False, False, 1)
        assert TIME_MS.fullmatch(row["disconnected_at"])
        assert (await got(live, "/clients"))["data"] == [row]


@shows("GET /clients/:clientid", "GET /clients")
async def test_sessions_end_with_their_expiry(autojump_clock: MockClock) -> None:
    async with running() as live:
        await away(live, "c1", properties={"session_expiry_interval": 10})
        await trio.sleep(9)
        assert (await got(live, "/clients"))["meta"]["count"] == 1
        await trio.sleep(3)
        failed(await live.api.get("/clients/c1"), 404, "CLIENTID_NOT_FOUND", "Client ID not found")
        assert (await got(live, "/clients"))["data"] == []


@shows("GET /clients/:clientid")
async def test_a_resumed_session_keeps_the_time_of_its_making(autojump_clock: MockClock) -> None:
    async with running() as live:
        await away(live, "c1")
        first = await got(live, "/clients/c1")
        await trio.sleep(60)
        await live.connect("c1", clean_start=False, **KEPT)
        row = await got(live, "/clients/c1")
        assert "disconnected_at" not in row
        assert row["created_at"] == first["created_at"]
        later = datetime.fromisoformat(row["connected_at"]) - datetime.fromisoformat(first["connected_at"])
        assert later >= timedelta(seconds=60)


@shows("GET /clients/:clientid")
async def test_what_a_client_counts(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1", auto_ack=False)
        await client.subscribe("t/#", 2)
        for qos in (0, 1, 2):
            await client.publish("t/1", b"abc", qos)
        for _ in range(3):
            await client.receive()
        await client.ping()
        row = await got(live, "/clients/c1")
        for way in ("recv", "send"):
            assert [row[f"{way}_msg.qos{qos}"] for qos in (0, 1, 2)] == [1, 1, 1]
            assert row[f"{way}_msg"] == 3
            assert row[f"{way}_oct"] > 20
            assert row[f"{way}_cnt"] >= 1
        assert row["recv_pkt"] == 1 + 1 + 3 + 1 + 1  # CONNECT SUBSCRIBE PUBLISH PUBREL PINGREQ
        assert row["send_pkt"] == 1 + 1 + 3 + 3 + 1  # CONNACK SUBACK PUBLISH, PUBACK PUBREC PUBCOMP, PINGRESP
        assert (row["inflight_cnt"], row["subscriptions_cnt"]) == (2, 1)
        assert (row["recv_msg.dropped"], row["send_msg.dropped"]) == (0, 0)


@shows("GET /clients/:clientid")
async def test_a_full_queue_drops(autojump_clock: MockClock) -> None:
    async with running() as live:
        properties = {"receive_maximum": 1}
        slow = await live.connect("slow", auto_ack=False, properties=properties)
        await slow.subscribe("t/#", 1)
        other = await live.connect("other")
        for _ in range(1004):
            await other.publish("t/1", b"", 1)
        row = await got(live, "/clients/slow")
        assert (row["inflight_cnt"], row["mqueue_len"]) == (1, 1000)
        assert row["mqueue_dropped"] == row["send_msg.dropped"] == row["send_msg.dropped.queue_full"] == 3


async def household(live: Live) -> None:
    """Three clients connected, one away."""
    await live.connect("Alpha", username="anna", level=4, keep_alive=5)
    await live.connect("beta", username="Bob", clean_start=False)
    await live.connect("gamma", level=3)
    await away(live, "delta", username="anna", clean_start=False)


@shows("GET /clients")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "Alpha beta gamma delta"),
        ("clientid=beta", "beta"),
        ("clientid=bet", ""),
        ("clientid=beta&clientid=gamma&clientid=nobody", "beta gamma"),
        ("username=anna", "Alpha delta"),
        ("username=anna&username=Bob", "Alpha beta delta"),
        ("username=ANNA", ""),
        ("like_clientid=a", "Alpha beta gamma delta"),
        ("like_clientid=alph", ""),
        ("like_clientid=ta", "beta delta"),
        ("like_clientid=.*", ""),
        ("like_username=nn", "Alpha delta"),
        ("like_username=b", "beta"),
        ("like_username=N", ""),
        ("clientid=gamma&like_clientid=ta", "gamma"),
        ("username=Bob&like_username=nn", "beta"),
        ("conn_state=connected", "Alpha beta gamma"),
        ("conn_state=disconnected", "delta"),
        ("conn_state=idle", ""),
        ("clean_start=true", "Alpha gamma"),
        ("clean_start=false", "beta delta"),
        ("proto_ver=3", "gamma"),
        ("proto_ver=4", "Alpha"),
        ("proto_ver=5", "beta delta"),
        ("ip_address=10.1.2.3", ""),
        ("ip_address=%3A%3A1", ""),
        ("username=anna&conn_state=disconnected", "delta"),
        ("username=anna&conn_state=disconnected&proto_ver=4", ""),
        ("like_clientid=ta&clean_start=false&username=Bob", "beta"),
        ("username=nobody&clientid=beta", ""),
    ],
)
async def test_filters(query: str, found: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await household(live)
        answer = await got(live, "/clients?" + query)
        assert {row["clientid"] for row in answer["data"]} == set(found.split())
        keys = {"page", "limit", "hasnext"} | (set() if "like_" in query else {"count"})
        if not ("like_" in query and "&" in query and "=beta" not in query):  # exact and fuzzy on one column: either
            assert answer["meta"].keys() == keys
        if "count" in answer["meta"]:
            assert answer["meta"]["count"] == len(found.split())
        second = await got(live, "/clients_v2?" + query)
        assert {row["clientid"] for row in second["data"]} == set(found.split())


@shows("GET /clients")
async def test_by_address(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1")
        address = (await got(live, "/clients/c1"))["ip_address"]
        assert await listed(live, "/clients", ip_address=address) == {"c1"}
        message = "the ip_address parameter expected type is ip, but the value is foo"
        failed(await live.api.get("/clients?ip_address=foo"), 400, "INVALID_PARAMETER", message)


@shows("GET /clients")
async def test_by_time(autojump_clock: MockClock) -> None:
    async with running() as live:
        await away(live, "c1")
        await trio.sleep(100)
        await live.connect("c2")
        await trio.sleep(100)
        await live.connect("c1", clean_start=False, **KEPT)
        rows = {row["clientid"]: row for row in (await got(live, "/clients"))["data"]}
        for kind, first, second in [("created", "c1", "c2"), ("connected", "c2", "c1")]:
            bounds = {each: rows[each][f"{kind}_at"] for each in ("c1", "c2")}
            ms = {each: round(datetime.fromisoformat(bounds[each]).timestamp() * 1000) for each in bounds}
            utc = {each: datetime.fromisoformat(bounds[each]).astimezone(UTC).isoformat() for each in bounds}
            for value in (bounds, ms, utc):
                gte, lte = f"gte_{kind}_at", f"lte_{kind}_at"
                assert await listed(live, "/clients", **{gte: value[first]}) == {first, second}
                assert await listed(live, "/clients", **{gte: value[second]}) == {second}
                assert await listed(live, "/clients", **{lte: value[first]}) == {first}
                assert await listed(live, "/clients", **{lte: value[second]}) == {first, second}
                assert await listed(live, "/clients", **{gte: value[first], lte: value[first]}) == {first}
            assert await listed(live, "/clients", **{gte: ms[first] + 1}) == {second}
            assert await listed(live, "/clients", **{gte: ms[second], lte: ms[first]}) == set()
            answer = await got(live, "/clients", **{gte: ms[second]})
            assert answer["meta"]["count"] == 1


@shows("GET /clients")
@pytest.mark.parametrize(
    "query",
    ["conn_state=asleep", "clean_start=yes", "fields=colour", "gte_created_at=yesterday", "lte_connected_at=x"],
)
async def test_values_that_are_refused(query: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await live.api.get("/clients?" + query)
        assert answer.status_code == 400
        assert answer.json()["code"] in ("BAD_REQUEST", "INVALID_PARAMETER")


@shows("GET /clients")
async def test_a_version_that_is_no_number(autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await live.api.get("/clients?proto_ver=five")
        assert answer.status_code == 400
        assert answer.json()["code"] in ("BAD_REQUEST", "INVALID_PARAMETER")


@shows("GET /clients")
async def test_selected_fields(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1")
        (whole,) = (await got(live, "/clients"))["data"]
        assert (await got(live, "/clients?fields=all"))["data"] == [whole]
        for name in SCHEMA_NAMES + DURABLE_NAMES.split():
            (row,) = (await got(live, "/clients", fields=name))["data"]
            assert row == ({name: whole[name]} if name in whole else {})
        (row,) = (await got(live, "/clients", fields="clientid,send_msg.qos1,disconnected_at,username"))["data"]
        assert row == {"clientid": "c1", "send_msg.qos1": 0, "username": None}
        for name in ("enable_authn", "is_persistent", "listener", "cn", "dn", "peerport", "nonsense", "clientid,cn"):
            invalid(await live.api.get("/clients", params={"fields": name}), "fields")


@shows("GET /clients_v2")
async def test_following_a_cursor(autojump_clock: MockClock) -> None:
    async with running() as live:
        for index in range(5):
            await live.connect(f"c{index}")
        seen: list[str] = []
        query: dict[str, Any] = {"limit": 2}
        sizes = []
        while True:
            answer = await got(live, "/clients_v2", **query)
            assert answer.keys() == {"data", "meta"}
            sizes.append(answer["meta"]["count"])
            assert answer["meta"]["count"] == len(answer["data"])
            assert all(row.keys() == CLIENT_KEYS for row in answer["data"])
            seen += [row["clientid"] for row in answer["data"]]
            if "cursor" not in answer["meta"]:
                break
            query["cursor"] = answer["meta"]["cursor"]
        assert sorted(seen) == ["c0", "c1", "c2", "c3", "c4"]
        assert sum(sizes) == 5
        failed(await live.api.get("/clients_v2?cursor=nonsense"), 400, "BAD_REQUEST", "bad cursor")


@shows("GET /sessions_count")
async def test_sessions_are_counted(autojump_clock: MockClock) -> None:
    async with running() as live:
        assert (await live.api.get("/sessions_count")).text == "0"
        await live.connect("c1")
        await away(live, "c2")
        for query in ("", "?since=0"):
            answer = await live.api.get("/sessions_count" + query)
            assert (answer.status_code, answer.text) == (200, "2")
        assert (await live.api.get("/sessions_count?since=x")).status_code == 400
