"""Three generations of the API look at one broker while clients come, subscribe, wait and go, and see the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import httpx
from api.live import Live, running
from api.older import older
from api.operations import shows
from attrs import define
from trio.testing import MockClock, wait_all_tasks_blocked

NODE = "trio_broker@127.0.0.1"


@define
class Three:
    live: Live
    four: httpx.AsyncClient
    two: httpx.AsyncClient

    async def v5(self, path: str) -> Any:
        answer = await self.live.api.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def v4(self, path: str) -> Any:
        answer = await self.four.get(path)
        assert (answer.status_code, answer.json()["code"]) == (200, 0), answer.text
        return answer.json()["data"]

    async def v2(self, path: str) -> Any:
        answer = await self.two.get(path)
        assert (answer.status_code, answer.json()["code"]) == (200, 0), answer.text
        return answer.json()["result"]


@asynccontextmanager
async def watched() -> AsyncIterator[Three]:
    """One broker, with a client of each generation."""
    async with running() as live, older(live, "v4") as four, older(live, "v2") as two:
        yield Three(live, four, two)


def seconds(text: str) -> int:
    """Of either form of a time; the older one is local time."""
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp())


async def busy(live: Live) -> None:
    """`c1` has two messages inflight and three that wait; `c2` is away, with one."""
    c1 = await live.connect("c1", username="u1", properties={"receive_maximum": 2}, auto_ack=False)
    await c1.subscribe("t/#", qos=2)
    await c1.subscribe("$share/g/s/+", qos=1)
    c2 = await live.connect("c2", level=4, clean_start=False)
    await c2.subscribe("t/2", qos=1)
    await c2.disconnect()
    for number in range(5):
        await live.broker.publish(f"t/{number}", b"waits", qos=1)
    await live.broker.publish("house/door", b"open", retain=True)
    await wait_all_tasks_blocked()


@shows(
    "GET /clients/:clientid",
    "GET /api/v4/clients/:clientid",
    "GET /api/v2/clients/:client_id",
    "GET /api/v2/sessions/:client_id",
)
async def test_a_client_and_its_session(autojump_clock: MockClock) -> None:
    async with watched() as three:
        await busy(three.live)
        for client_id in ("c1", "c2"):
            five = await three.v5(f"/clients/{client_id}")
            (four,) = await three.v4(f"/clients/{client_id}")
            (session,) = (await three.v2(f"/sessions/{client_id}"))["objects"]
            assert {four["clientid"], session["client_id"]} == {five["clientid"]}
            assert (four["username"], four["connected"]) == (five["username"] or "undefined", five["connected"])
            assert {four["clean_start"], session["clean_sess"]} == {five["clean_start"]}
            assert [four["proto_ver"], four["proto_name"]] == [five["proto_ver"], five["proto_name"]]
            assert (four["ip_address"], four["port"]) == (five["ip_address"], five["port"])
            assert (four["keepalive"], four["expiry_interval"]) == (five["keepalive"], five["expiry_interval"])
            assert {four["subscriptions_cnt"], session["subscriptions"]} == {five["subscriptions_cnt"]}
            assert {four["inflight"], session["inflight_queue"], session["inflight_len"]} == {five["inflight_cnt"]}
            assert {four["max_inflight"], session["max_inflight"]} == {five["inflight_max"]}
            assert {four["mqueue_len"], session["message_queue"], session["mqueue_len"]} == {five["mqueue_len"]}
            assert {four["mqueue_dropped"], session["message_dropped"]} == {five["mqueue_dropped"]}
            assert {four["awaiting_rel"], session["awaiting_rel"]} == {five["awaiting_rel_cnt"]}
            assert session["awaiting_ack"] + session["awaiting_comp"] == five["inflight_cnt"]
            assert {seconds(four["created_at"]), seconds(session["created_at"])} == {seconds(five["created_at"])}
            for name in ("recv_oct", "send_oct", "recv_pkt", "send_pkt", "recv_msg", "send_msg", "send_msg.qos1"):
                assert four[name] == five[name]
        five = await three.v5("/clients/c1")
        assert (five["inflight_cnt"], five["mqueue_len"]) == (2, 3)
        (row,) = (await three.v2("/clients/c1"))["objects"]
        assert (row["username"], row["ipaddress"], row["port"]) == (five["username"], five["ip_address"], five["port"])
        assert seconds(row["connected_at"]) == seconds(five["connected_at"])
        # Who is away is no client in EMQ 2, and one in the others.
        assert (await three.v2("/clients/c2"))["objects"] == []


@shows("GET /clients", "GET /api/v4/clients", "GET /api/v2/nodes/:node/sessions", "GET /api/v2/nodes/:node/clients")
async def test_lists_of_clients(autojump_clock: MockClock) -> None:
    async with watched() as three:
        await busy(three.live)
        five = {row["clientid"]: row["connected"] for row in (await three.v5("/clients"))["data"]}
        four = {row["clientid"]: row["connected"] for row in await three.v4("/clients")}
        sessions = {row["client_id"] for row in (await three.v2(f"/nodes/{NODE}/sessions"))["objects"]}
        clients = await three.v2(f"/nodes/{NODE}/clients")
        assert five == four == {"c1": True, "c2": False}
        assert sessions == set(five)
        assert ([row["client_id"] for row in clients["objects"]], clients["total_num"]) == (["c1"], 1)


@shows("GET /subscriptions", "GET /api/v4/subscriptions", "GET /api/v2/nodes/:node/subscriptions")
@shows("GET /topics", "GET /api/v4/routes", "GET /api/v2/routes")
async def test_subscriptions_and_routes(autojump_clock: MockClock) -> None:
    async with watched() as three:
        await busy(three.live)
        five = {(row["clientid"], row["topic"], row["qos"]) for row in (await three.v5("/subscriptions"))["data"]}
        four = {(row["clientid"], row["topic"], row["qos"]) for row in await three.v4("/subscriptions")}
        rows = (await three.v2(f"/nodes/{NODE}/subscriptions"))["objects"]
        assert five == four == {(row["client_id"], row["topic"], row["qos"]) for row in rows}
        assert five == {("c1", "t/#", 2), ("c1", "$share/g/s/+", 1), ("c2", "t/2", 1)}
        topics = {row["topic"] for row in (await three.v5("/topics"))["data"]}
        assert topics == {row["topic"] for row in (await three.v2("/routes"))["objects"]}
        # EMQX 4 shows of a shared group only what it is subscribed to.
        assert {row["topic"] for row in await three.v4("/routes")} == {
            topic.removeprefix("$share/g/") for topic in topics
        }


@shows("GET /metrics", "GET /api/v4/metrics", "GET /api/v4/nodes/:node/metrics", "GET /api/v2/monitoring/metrics/:node")
async def test_counters(autojump_clock: MockClock) -> None:
    async with watched() as three:
        await busy(three.live)
        five = await three.v5(f"/nodes/{NODE}/metrics")
        four = await three.v4(f"/nodes/{NODE}/metrics")
        ((row),) = await three.v4("/metrics")
        assert row == {"node": NODE, "metrics": four}
        two = await three.v2(f"/monitoring/metrics/{NODE}")
        same = set(four) & set(five)
        assert len(same) > 60
        assert {name: four[name] for name in same} == {name: five[name] for name in same}
        assert (four["client.check_acl"], four["client.acl.allow"]) == (
            five["client.authorize"],
            five["authorization.allow"],
        )
        for name, older_name in (
            ("packets.connect.received", "packets/connect"),
            ("packets.publish.sent", "packets/publish/sent"),
            ("packets.subscribe.received", "packets/subscribe"),
            ("packets.disconnect.received", "packets/disconnect"),
            ("messages.qos1.sent", "messages/qos1/sent"),
            ("messages.dropped.no_subscribers", "messages/dropped"),
            ("bytes.sent", "bytes/sent"),
        ):
            assert two[older_name] == five[name], name
        assert (five["packets.connect.received"], five["packets.publish.sent"]) == (2, 2)
        assert two["messages/retained"] == (await three.v5("/stats"))[0]["retained.count"] == 1


@shows("GET /stats", "GET /api/v4/stats", "GET /api/v2/monitoring/stats", "GET /api/v2/monitoring/stats/:node")
async def test_gauges(autojump_clock: MockClock) -> None:
    async with watched() as three:
        await busy(three.live)
        five = await three.v5(f"/nodes/{NODE}/stats")
        ((row),) = await three.v4("/stats")
        four = row["stats"]
        two = (await three.v2("/monitoring/stats"))[NODE]
        assert two == await three.v2(f"/monitoring/stats/{NODE}")
        same = set(four) & set(five)
        assert len(same) >= 16
        assert {name: four[name] for name in same} == {name: five[name] for name in same}
        for name in ("sessions", "subscriptions", "subscribers", "topics", "retained"):
            for what in ("count", "max"):
                assert two[f"{name}/{what}"] == five[f"{name}.{what}"]
        assert two["clients/count"] == four["live_connections.count"] == five["live_connections.count"] == 1
        assert two["routes/count"] == four["routes.count"] == five["topics.count"]
        assert (five["sessions.count"], five["subscriptions.count"]) == (2, 3)


@shows("GET /nodes/:node", "GET /api/v4/nodes/:node", "GET /api/v4/brokers/:node", "GET /api/v2/management/nodes/:node")
@shows("GET /api/v2/monitoring/nodes/:node")
async def test_the_node(autojump_clock: MockClock) -> None:
    async with watched() as three:
        await busy(three.live)
        five, four = await three.v5(f"/nodes/{NODE}"), await three.v4(f"/nodes/{NODE}")
        broker, two = await three.v4(f"/brokers/{NODE}"), await three.v2(f"/management/nodes/{NODE}")
        figures = await three.v2(f"/monitoring/nodes/{NODE}")
        assert (four["node"], broker["node"], figures["name"]) == (five["node"],) * 3
        assert {four["otp_release"], broker["otp_release"], two["otp_release"], figures["otp_release"]} == {
            five["otp_release"]
        }
        assert (four["connections"], four["live_connections"]) == (five["connections"], five["live_connections"])
        assert figures["clients"] == five["live_connections"] == 1
        assert {four["max_fds"], figures["max_fds"]} == {five["max_fds"]}
        assert [four["version"], two["version"], five["version"]] == ["4.4.19", "2.3.11", "5.8.9"]


@shows("POST /api/v4/banned", "GET /banned", "DELETE /api/v4/banned/:as/:who")
async def test_what_one_changes_the_others_see(autojump_clock: MockClock) -> None:
    async with watched() as three:
        live, four, two = three.live, three.four, three.two
        c1 = await live.connect("c1")
        done = await two.post("/mqtt/subscribe", json={"client_id": "c1", "topic": "a/+", "qos": 1})
        assert done.json() == {"code": 0, "result": []}
        assert [row["topic"] for row in await three.v5("/clients/c1/subscriptions")] == ["a/+"]
        assert (await four.post("/mqtt/publish", json={"topic": "a/1", "payload": "x", "qos": 1})).json() == {"code": 0}
        assert (await c1.receive()).topic_name == "a/1"
        assert (await live.api.post("/clients/c1/unsubscribe", json={"topic": "a/+"})).status_code == 204
        assert await three.v4("/subscriptions/c1") == []
        assert (await three.v2("/subscriptions/c1"))["objects"] == []
        banned = await four.post("/banned", json={"who": "c9", "as": "clientid", "until": 4_000_000_000})
        assert banned.json()["code"] == 0
        (row,) = (await three.v5("/banned"))["data"]
        assert (row["as"], row["who"], seconds(row["until"])) == ("clientid", "c9", 4_000_000_000)
        assert (await live.api.delete("/banned/clientid/c9")).status_code == 204
        assert await three.v4("/banned") == []
        assert (await two.delete("/clients/c1")).json() == {"code": 0, "result": []}
        assert (await c1.wait_ended()).reason_code in (0x98, None)
        assert [await three.v4("/clients?conn_state=connected"), (await three.v2("/clients/c1"))["objects"]] == [[], []]


@shows("POST /api/v2/users", "POST /api/v4/apps", "GET /api_key")
async def test_who_is_made_in_one_may_call_the_others(autojump_clock: MockClock) -> None:
    async with watched() as three, older(three.live, "v4", user=True) as boss:
        two = three.two
        made = await two.post("/users", json={"username": "ann", "password": "battery-1", "tags": "administrator"})
        assert made.json() == {"code": 0, "result": []}
        answer = await boss.get("/users", auth=("ann", "battery-1"))
        assert {row["username"] for row in answer.json()["data"]} >= {"ann", "boss"}
        login = {"username": "ann", "password": "battery-1"}
        token = (await three.live.api.request("POST", "/login", json=login, auth=None)).json()["token"]
        body = {"app_id": "script", "secret": "a-long-secret", "status": True}
        assert (await boss.post("/apps", json=body)).json() == {"code": 0, "data": {"secret": "a-long-secret"}}
        bearer = {"Authorization": f"Bearer {token}"}
        rows = (await three.live.api.get("/api_key", headers=bearer, auth=None)).json()
        assert "script" in {row["api_key"] for row in rows}
        assert (await three.live.api.get("/nodes", auth=("script", "a-long-secret"))).status_code == 200
        assert (await boss.delete("/apps/script")).json() == {"code": 0}
        assert (await three.live.api.get("/nodes", auth=("script", "a-long-secret"))).status_code == 401
        assert (await two.delete("/users/ann")).json() == {"code": 0, "result": []}
        assert (await three.live.api.get("/nodes", headers=bearer, auth=None)).status_code == 401
