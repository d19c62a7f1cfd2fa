"""The contract of `/api/v2`, read afresh: corners that lie between its parts."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest
import trio
from api.live import PASSWORD
from api.operations import shows
from review.contract import KEPT, NODE
from review.contract_v2 import C_1, NODES, both, done, got, nowhere, objects, one, refused, until
from trio.testing import MockClock

from trio_broker.protocol.packets import Publish, PubRec
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import open_broker, open_client


@shows("GET /api/v2/monitoring/listeners/:node", "DELETE /api/v2/clients/:client_id")
async def test_listeners_that_listen(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = math.inf  # here are real sockets
    autojump_clock.rate = 1
    password = {"default_password": PASSWORD}
    async with open_broker(api={"v2": {"bind": "127.0.0.1:0"}}, dashboard=password) as broker:
        assert broker.api_v2 is not None
        host, port = broker.api_v2
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}/api/v2", auth=("admin", PASSWORD)) as v2:

            async def rows() -> dict[str, dict[str, Any]]:
                found = await got(v2, f"/monitoring/listeners/{NODE}")
                return {row["protocol"]: row for row in found}

            assert await got(v2, "/users") == [{"username": "admin", "tags": "administrator"}]
            found = await rows()
            assert found.keys() == {"mqtt:tcp", "mqtt:api"}
            assert found["mqtt:api"]["listen"] == f"127.0.0.1:{port}"
            assert found["mqtt:tcp"]["listen"] == f"127.0.0.1:{broker.port}"
            assert found["mqtt:api"]["current_clients"] == 1
            assert (found["mqtt:tcp"]["current_clients"], found["mqtt:tcp"]["shutdown_count"]) == (0, [])
            target = (broker.host, broker.port)
            async with open_client(target, client_id="c1") as first, open_client(target, client_id="c2") as second:
                assert (await rows())["mqtt:tcp"]["current_clients"] == 2
                row = await one(v2, "/clients/c1")
                assert (row["ipaddress"], row["port"]) == first.stream.socket.getsockname()  # type: ignore[attr-defined]
                done(await v2.delete("/clients/c1"))
                await first.wait_ended()
                await second.disconnect()

                async def counted() -> bool:
                    row = (await rows())["mqtt:tcp"]
                    return row["current_clients"] == 0 and bool(row["shutdown_count"])

                await until(counted)
                counts = (await rows())["mqtt:tcp"]["shutdown_count"]
                assert sum(counts.values()) == 2
                assert counts == {"kicked": 1, "normal": 1}


@shows("GET /api/v2/clients/:client_id", "GET /api/v2/monitoring/listeners/:node")
async def test_ipv4_on_a_socket_of_ipv6(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = math.inf  # here are real sockets
    autojump_clock.rate = 1
    password = {"default_password": PASSWORD}
    tables = {"tcp": {"default": {"bind": "[::]:0"}}}
    async with open_broker(api={"v2": {"bind": "127.0.0.1:0"}}, dashboard=password, listeners=tables) as broker:
        assert broker.api_v2 is not None
        base = "http://{}:{}/api/v2".format(*broker.api_v2)
        async with httpx.AsyncClient(base_url=base, auth=("admin", PASSWORD)) as v2:
            for address in ("127.0.0.1", "::1"):
                async with open_client((address, broker.port), client_id="c"):
                    assert (await one(v2, "/clients/c"))["ipaddress"] == address
            rows = await got(v2, f"/monitoring/listeners/{NODE}")
            assert {row["listen"] for row in rows if row["protocol"] == "mqtt:tcp"} <= {
                str(broker.port),
                f"[::]:{broker.port}",
            }


@shows("GET /api/v2/clients/:client_id", "GET /api/v2/sessions/:client_id", "GET /api/v2/subscriptions/:client_id")
@pytest.mark.parametrize("client_id", ["c", "a/b"])
async def test_a_slash_at_the_end(client_id: str, autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect(client_id)
        await client.subscribe("t")
        for path in ("/clients/", "/sessions/", "/subscriptions/"):
            for before in ("", NODES):
                assert (await one(v2, f"{before}{path}{client_id}/"))["client_id"] == client_id
        done(await v2.put(f"/clients/{client_id}/clean_acl_cache/", json={"topic": "t"}))
        done(await v2.post("/mqtt/publish/", json={"topic": "t"}))
        done(await v2.delete(f"/clients/{client_id}/"))


@shows("PUT /api/v2/clients/:client_id/clean_acl_cache", "DELETE /api/v2/clients/:client_id")
async def test_an_id_that_looks_like_an_operation(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        odd = await live.connect("c/clean_acl_cache")
        refused(await v2.put("/clients/c/clean_acl_cache", json={"topic": "t"}), 112, None)
        done(await v2.put("/clients/c/clean_acl_cache/clean_acl_cache", json={"topic": "t"}))
        plain = await live.connect("c")
        assert (await one(v2, "/sessions/c/clean_acl_cache"))["client_id"] == "c/clean_acl_cache"
        for path in ("/clients/c%2Fclean_acl_cache", "/clients/c/clean_acl_cache"):
            assert (await one(v2, path))["client_id"] == "c/clean_acl_cache"
        done(await v2.delete("/clients/c/clean_acl_cache"))
        await odd.wait_ended()
        await plain.ping()


@shows("GET /api/v2/sessions/:client_id", "GET /api/v2/clients/:client_id")
async def test_version_5(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        for start, name in ((True, "new"), (False, "old")):
            await live.connect(name, clean_start=start, **KEPT)
            for kind in ("clients", "sessions"):
                assert (await one(v2, f"/{kind}/{name}"))["clean_sess"] is start
        properties = {"receive_maximum": 5, "session_expiry_interval": 60}
        client = await live.connect(C_1, auto_ack=False, properties=properties)
        await client.subscribe("t", 2)
        for _ in range(7):
            done(await v2.post("/mqtt/publish", json={"topic": "t", "qos": 2}))
        row = await one(v2, f"/sessions/{C_1}")
        assert [row[key] for key in ("max_inflight", "inflight_queue", "message_queue")] == [5, 5, 2]
        message = await client.expect(Publish)
        await client.send(PubRec(message.packet_identifier, 0x80))
        await client.ping()
        row = await one(v2, f"/sessions/{C_1}")
        assert [row[key] for key in ("awaiting_ack", "awaiting_comp", "message_queue")] == [5, 0, 1]
        await client.disconnect()
        await trio.sleep(30)
        assert len(await objects(v2, f"/sessions/{C_1}")) == 1
        await trio.sleep(60)
        assert await objects(v2, f"/sessions/{C_1}") == []


@shows("GET /api/v2/monitoring/stats", "GET /api/v2/nodes/:node/sessions", "GET /api/v2/routes")
async def test_what_was_kept(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with both(store=store) as (live, v2):
        client = await live.connect(C_1, level=4, clean_start=False)
        await client.subscribe("a/+", 1)
        created = (await one(v2, f"/sessions/{C_1}"))["created_at"]
        await client.disconnect()
        await trio.sleep(1)
        done(await v2.post("/mqtt/publish", json={"topic": "a/b", "qos": 1, "retain": True, "payload": "x"}))
    async with both(store=store) as (live, v2):
        row = await one(v2, f"/sessions/{C_1}")
        shown = [row[key] for key in ("created_at", "clean_sess", "message_queue", "subscriptions", "max_inflight")]
        assert shown == [created, False, 1, 1, 32]
        stats = await got(v2, f"/monitoring/stats/{NODE}")
        counts = {name: value for name, value in stats.items() if name.endswith("count") and value}
        names = ("sessions", "topics", "routes", "subscribers", "subscriptions", "retained")
        assert counts == {f"{name}/count": 1 for name in names}
        assert await objects(v2, "/routes/a/+") == [{"topic": "a/+", "node": NODE}]
        assert (await got(v2, f"{NODES}/subscriptions"))["objects"] == [{"client_id": C_1, "topic": "a/+", "qos": 1}]
        assert (await got(v2, f"/monitoring/metrics/{NODE}"))["messages/retained"] == 1


@shows("POST /api/v2/mqtt/subscribe", "GET /api/v2/subscriptions/:client_id")
async def test_shared_subscriptions(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        members = [await live.connect(name, level=4) for name in ("a", "b")]
        for name in ("a", "b"):
            body = {"client_id": name, "topic": "$share/g/t/+", "qos": 1}
            done(await v2.post("/mqtt/subscribe", json=body))

            async def subscribed(name: str = name, body: dict[str, Any] = body) -> bool:
                return await objects(v2, f"/subscriptions/{name}") == [body]

            await until(subscribed)
        for topic in ("$share//t", "$share/g", "$share/g+/t", "$share/g/", "$share/g/a#"):
            answer = await v2.post("/mqtt/subscribe", json={"client_id": "a", "topic": topic})
            refused(answer, 102, f"validate topic: {topic} fail")
        for _ in range(6):
            done(await v2.post("/mqtt/publish", json={"topic": "t/1", "qos": 1}))
        for member in members:
            await member.ping()
        assert sum(len(member.inbox) for member in members) == 6


@shows("GET /api/v2/users", "PUT /api/v2/change_pwd/:username")
async def test_a_password_with_a_colon(autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        done(await v2.post("/users", json={"username": "u", "password": "pass:word:1", "tags": "t"}))
        for scheme in ("Basic", "basic", "BASIC"):
            header = httpx.BasicAuth("u", "pass:word:1")._auth_header.replace("Basic", scheme)
            async with httpx.AsyncClient(transport=v2._transport, base_url=v2.base_url) as plain:
                assert (await plain.get("/users", headers={"authorization": header})).status_code == 200


@shows("GET /api/v2/clients/:client_id")
async def test_what_is_no_text(autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        for path in ("/clients/%ff", "/sessions/%ED%A0%80", "/routes/%ff", "/clients/"):
            nowhere(await v2.get(path))
        assert await objects(v2, "/routes/%00") == []
