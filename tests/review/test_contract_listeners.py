"""The REST contract, read afresh: listeners, as they are shown, made, changed, stopped and kept."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio
from api.doors import ANYWHERE, address_of, client_at, is_closed, put, shown, with_listener
from api.live import Live
from api.operations import shows
from review.contract import KEPT, NODE, done, failed, got, post

from trio_broker.store.memory import MemoryStore
from trio_broker.testing import Client, ConnectionEnded, open_client

MORE = {"type": "tcp", "name": "more", "bind": ANYWHERE}
COMMON: dict[str, Any] = {
    "enable": True,
    "acceptors": 16,
    "max_connections": "infinity",
    "mountpoint": "",
    "zone": "default",
    "enable_authn": True,
    "access_rules": ["allow all"],
    "proxy_protocol": False,
    "proxy_protocol_timeout": "3s",
    "max_conn_rate": "infinity",
}
TCP: dict[str, Any] = {
    "active_n": 100,
    "backlog": 1024,
    "send_timeout": "15s",
    "send_timeout_close": True,
    "buffer": "4KB",
    "high_watermark": "1MB",
    "nodelay": True,
    "reuseaddr": True,
    "keepalive": "none",
}
WEBSOCKET: dict[str, Any] = {
    "mqtt_path": "/mqtt",
    "mqtt_piggyback": "multiple",
    "compress": False,
    "idle_timeout": "7200s",
    "max_frame_size": "infinity",
    "fail_if_no_subprotocol": True,
    "check_origin_enable": False,
    "allow_origin_absence": True,
    "proxy_address_header": "x-forwarded-for",
    "proxy_port_header": "x-forwarded-port",
}


async def made(live: Live, **body: Any) -> dict[str, Any]:
    answer = await live.api.post("/listeners", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def do(live: Live, id: str, verb: str) -> None:
    answer = await live.api.post(f"/listeners/{id}/{verb}")
    assert (answer.status_code, answer.content) == (200, b""), answer.text


async def over(client: Client) -> None:
    with trio.fail_after(30):
        await client.wait_ended()
    with pytest.raises(ConnectionEnded):
        await client.ping()


@shows("GET /listeners")
async def test_the_list() -> None:
    async with with_listener() as live:
        rows = await got(live, "/listeners")
        host, port = await address_of(live)
        status = {"running": True, "max_connections": "infinity", "current_connections": 0}
        assert rows == [
            {
                "id": "tcp:default",
                "type": "tcp",
                "name": "default",
                "enable": True,
                "bind": f"{host}:{port}",
                "acceptors": 16,
                "number": 1,
                "status": status,
                "node_status": [{"node": NODE, "status": status}],
            }
        ]
        await made(live, **MORE, max_connections=7, acceptors=3, enable=False)
        assert [row["id"] for row in await got(live, "/listeners?type=ws")] == []
        (more,) = [row for row in await got(live, "/listeners?type=tcp") if row["name"] == "more"]
        assert (more["enable"], more["acceptors"]) == (False, 3)
        assert more["status"] == {"running": False, "max_connections": 7, "current_connections": 0}
        assert (await live.api.get("/listeners?type=carrier-pigeon")).status_code == 400


@shows("GET /listeners_status")
async def test_the_sum_by_type() -> None:
    async with with_listener() as live:
        await made(live, **MORE)
        await made(live, type="ws", name="w", bind=ANYWHERE)
        async with await client_at(live), await client_at(live, "tcp:more"):
            rows = {row["type"]: row for row in await got(live, "/listeners_status")}
        assert rows.keys() == {"tcp", "ws"}
        tcp = rows["tcp"]
        assert {"type", "enable", "ids", "status", "node_status"} <= tcp.keys()
        assert sorted(tcp["ids"]) == ["tcp:default", "tcp:more"]
        assert (tcp["enable"], tcp["status"]["running"], tcp["status"]["current_connections"]) == (True, True, 2)
        assert [row["node"] for row in tcp["node_status"]] == [NODE]
        assert rows["ws"]["ids"] == ["ws:w"]


@shows("GET /listeners/:id", "POST /listeners")
async def test_one_with_its_defaults() -> None:
    async with with_listener() as live:
        answer = await made(live, **MORE)
        assert answer == await shown(live, "tcp:more")
        assert (answer["id"], answer["type"]) == ("tcp:more", "tcp")
        assert (answer["running"], answer["current_connections"]) == (True, 0)
        assert {key: answer[key] for key in COMMON} == COMMON
        assert {key: answer["tcp_options"][key] for key in TCP} == TCP
        assert "ssl_options" not in answer
        assert "websocket" not in answer
        ws = await made(live, type="ws", name="w", bind=ANYWHERE)
        assert {key: ws["websocket"][key] for key in WEBSOCKET} == WEBSOCKET
        assert {"mqtt", "mqtt-v3", "mqtt-v3.1.1", "mqtt-v5"} <= set(
            ws["websocket"]["supported_subprotocols"].split(", ")
        )  # and one more that old programs say
        assert await shown(live, "tcp%3Amore") == answer  # the colon may be percent-encoded


@shows("POST /listeners")
async def test_forms_of_bind() -> None:
    async with with_listener() as live:
        for index, form in enumerate(("{port}", "127.0.0.1:{port}", "0.0.0.0:{port}")):
            with socket.socket() as one:
                one.bind(("127.0.0.1", 0))
                port = one.getsockname()[1]
            body = await made(live, type="tcp", name=f"b{index}", bind=form.format(port=port))
            assert body["bind"].endswith(f":{port}")
            assert body["bind"].rpartition(":")[0]
            async with open_client(("127.0.0.1", port)) as client:
                await client.ping()


@shows("POST /listeners")
@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"name": "x", "bind": ANYWHERE}, "type"),
        ({"type": "tcp", "bind": ANYWHERE}, "name"),
        ({"type": "tcp", "name": "x"}, "bind"),
        ({"type": "carrier", "name": "x", "bind": ANYWHERE}, "type"),
        ({"type": "quic", "name": "x", "bind": ANYWHERE}, ""),
        ({"type": "tcp", "name": "x", "bind": "nowhere"}, "bind"),
        ({"type": "tcp", "name": "x", "bind": "127.0.0.1:99999"}, "bind"),
        ({"type": "tcp", "name": "a:b", "bind": ANYWHERE}, "name"),
        ({**MORE, "more": 1}, "more"),
        ({**MORE, "max_connections": "many"}, "max_connections"),
        ({**MORE, "enable": "perhaps"}, "enable"),
        ({**MORE, "access_rules": ["perhaps all"]}, "access_rules"),
        ({**MORE, "tcp_options": {"backlogg": 1}}, "backlogg"),
        ({**MORE, "max_conn_rate": "fast"}, "max_conn_rate"),
        ({**MORE, "websocket": {"mqtt_path": "/x"}}, "websocket"),
        ({"type": "ssl", "name": "x", "bind": ANYWHERE, "ssl_options": {"certfile": "/nowhere"}}, ""),
    ],
)
async def test_what_cannot_be_made(body: dict[str, Any], word: str) -> None:
    async with with_listener() as live:
        assert word in failed(await live.api.post("/listeners", json=body), 400, "BAD_REQUEST")
        assert [row["id"] for row in await got(live, "/listeners")] == ["tcp:default"]


@shows("POST /listeners", "POST /listeners/:id")
async def test_one_that_is_there_and_a_port_in_use() -> None:
    async with with_listener() as live:
        await made(live, **MORE)
        failed(await live.api.post("/listeners", json=MORE), 400, "BAD_LISTENER_ID", "Already Exist")
        host, port = await address_of(live)
        taken = await live.api.post("/listeners", json={**MORE, "name": "third", "bind": f"{host}:{port}"})
        failed(taken, 400, "BAD_REQUEST")
        failed(await live.api.get("/listeners/tcp:third"), 404, "BAD_LISTENER_ID", "Listener id not found")
        old = {"type": "tcp", "id": "tcp:old", "bind": ANYWHERE}
        answer = await live.api.post("/listeners/tcp:old", json=old)
        assert (answer.status_code, answer.json()["id"]) == (200, "tcp:old")
        failed(await live.api.post("/listeners/tcp:old", json=old), 400, "BAD_LISTENER_ID", "Already Exist")
        assert (await shown(live, "tcp:old"))["running"] is True


@shows(
    "GET /listeners/:id",
    "PUT /listeners/:id",
    "DELETE /listeners/:id",
    "POST /listeners/:id/start",
    "POST /listeners/:id/stop",
    "POST /listeners/:id/restart",
)
async def test_nobody_of_that_id() -> None:
    async with with_listener() as live:
        calls: list[Callable[[str], Any]] = [
            live.api.get,
            live.api.delete,
            lambda path: live.api.post(f"{path}/start"),
            lambda path: live.api.post(f"{path}/stop"),
            lambda path: live.api.post(f"{path}/restart"),
        ]
        for call in calls:
            for id in ("tcp:gone", "ws:default"):
                answer: httpx.Response = await call(f"/listeners/{id}")
                failed(answer, 404, "BAD_LISTENER_ID", "Listener id not found")
            for id in ("default", "pigeon:x", "tcp:"):
                failed(await call(f"/listeners/{id}"), 400, "BAD_REQUEST")
        failed(await put(live, "tcp:gone", bind=ANYWHERE), 404, "BAD_LISTENER_ID", "Listener id not found")


@shows("PUT /listeners/:id")
async def test_a_change_is_merged() -> None:
    store = MemoryStore()
    async with with_listener(store) as live:
        await made(live, **MORE, max_connections=9, tcp_options={"backlog": 99})
        answer = await put(live, "tcp:more", acceptors=4, tcp_options={"nodelay": False})
        assert answer.status_code == 200
        body = answer.json()
        assert body == await shown(live, "tcp:more")
        assert (body["max_connections"], body["acceptors"]) == (9, 4)
        assert (body["tcp_options"]["backlog"], body["tcp_options"]["nodelay"]) == (99, False)
        again = await live.api.put("/listeners/tcp:more", json=body)  # what was shown can be sent back
        assert (again.status_code, again.json()) == (200, body)
        bad = {"type": "tcp", "id": "tcp:other"}
        failed(
            await live.api.put("/listeners/tcp:more", json=bad),
            400,
            "BAD_LISTENER_ID",
            "Path and body's listener id not match",
        )
        message = failed(
            await live.api.put("/listeners/tcp:more", json={"type": "ws", "id": "tcp:more"}), 400, "BAD_REQUEST"
        )
        assert "listener_type_inconsistent" in message
        for partial in ({"type": "tcp"}, {"id": "tcp:more"}, {}, {"type": "tcp", "id": "tcp:more", "unknown": 1}):
            failed(await live.api.put("/listeners/tcp:more", json=partial), 400, "BAD_REQUEST")
        assert await shown(live, "tcp:more") == body
    async with with_listener(store) as live:
        after = await shown(live, "tcp:more")
        assert (after["max_connections"], after["acceptors"]) == (9, 4)
        assert (after["tcp_options"]["backlog"], after["tcp_options"]["nodelay"]) == (99, False)


@shows("PUT /listeners/:id")
async def test_enable_false_closes_it() -> None:
    async with with_listener() as live:
        where = await address_of(live)
        async with await client_at(live, client_id="c1") as client:
            assert (await put(live, "tcp:default", enable=False)).json()["running"] is False
            await over(client)
        assert await is_closed(where)
        assert (await put(live, "tcp:default", enable=True)).json()["running"] is True
        async with await client_at(live) as client:
            await client.ping()


@shows("POST /listeners/:id/stop", "POST /listeners/:id/start", "GET /listeners")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_a_stop_while_clients_are_connected(level: int) -> None:
    """Connections end, sessions that outlive them stay and get what comes meanwhile; others are not touched."""
    store = MemoryStore()
    async with with_listener(store) as live:
        bystander = await live.connect("bystander")
        options: dict[str, Any] = {"client_id": "c1", "level": level, **(KEPT if level == 5 else {})}
        async with await client_at(live, clean_start=False, **options) as client:
            await client.subscribe("t", 1)
            assert (await shown(live, "tcp:default"))["current_connections"] == 1
            assert (await got(live, "/listeners"))[0]["status"]["current_connections"] == 1
            await do(live, "tcp:default", "stop")
            await over(client)
        (row,) = await got(live, "/listeners")
        assert (row["enable"], row["status"]["running"], row["status"]["current_connections"]) == (False, False, 0)
        assert (await got(live, "/clients/c1"))["connected"] is False
        await bystander.ping()
        assert (await post(live, "t", "meanwhile", qos=1)).status_code == 200
    async with with_listener(store) as live:
        stopped = await shown(live, "tcp:default")
        assert (stopped["enable"], stopped["running"]) == (False, False)
        await do(live, "tcp:default", "start")
        async with await client_at(live, clean_start=False, **options) as client:
            assert client.session_present is (level != 3)
            with trio.fail_after(30):
                assert (await client.receive()).payload == b"meanwhile"
    async with with_listener(store) as live:
        assert (await shown(live, "tcp:default"))["running"] is True


@shows("DELETE /listeners/:id")
async def test_deleting_while_a_client_is_connected() -> None:
    store = MemoryStore()
    async with with_listener(store) as live:
        await made(live, **MORE)
        where = await address_of(live, "tcp:more")
        async with await client_at(live, "tcp:more") as client, await client_at(live) as other:
            done(await live.api.delete("/listeners/tcp:more"))
            await over(client)
            await other.ping()
        assert await is_closed(where)
        failed(await live.api.delete("/listeners/tcp:more"), 404, "BAD_LISTENER_ID", "Listener id not found")
        done(await live.api.delete("/listeners/tcp:default"))
        assert await got(live, "/listeners") == []
    async with with_listener(store) as live:
        assert await got(live, "/listeners") == []


@shows("POST /listeners/:id/restart")
async def test_a_restart_starts_what_was_stopped() -> None:
    async with with_listener() as live:
        await do(live, "tcp:default", "stop")
        await do(live, "tcp:default", "restart")
        row = await shown(live, "tcp:default")
        assert (row["enable"], row["running"]) == (True, True)
        async with await client_at(live) as client:
            await do(live, "tcp:default", "restart")
            await over(client)


@shows("PUT /listeners/:id")
async def test_limits_and_rules_act() -> None:
    async with with_listener() as live:
        async with await client_at(live, client_id="c1") as client:
            answer = await put(live, "tcp:default", max_connections=1)
            assert answer.json()["max_connections"] == 1
            with pytest.raises((ConnectionEnded, OSError)), trio.fail_after(30):
                async with await client_at(live, client_id="c2"):
                    pass
            await client.ping()
        assert (
            await put(live, "tcp:default", max_connections="infinity", access_rules=["deny all"])
        ).status_code == 200
        with pytest.raises((ConnectionEnded, OSError)), trio.fail_after(30):
            async with await client_at(live, client_id="c2"):
                pass
        assert (await put(live, "tcp:default", access_rules=["allow 127.0.0.1", "deny all"])).status_code == 200
        async with await client_at(live, client_id="c2") as client:
            await client.ping()
            assert (await got(live, "/clients/c2"))["listener"] == "tcp:default"


@shows("POST /listeners", "PUT /listeners/:id", "DELETE /listeners/:id", "POST /listeners/:id/stop")
async def test_a_viewer_only_looks() -> None:
    async with with_listener() as live:
        viewer = live.as_viewer()
        assert (await live.api.get("/listeners", auth=viewer)).status_code == 200
        for answer in (
            await live.api.post("/listeners", json=MORE, auth=viewer),
            await live.api.put("/listeners/tcp:default", json={}, auth=viewer),
            await live.api.delete("/listeners/tcp:default", auth=viewer),
            await live.api.post("/listeners/tcp:default/stop", auth=viewer),
        ):
            failed(answer, 403, "UNAUTHORIZED_ROLE")
        assert (await shown(live, "tcp:default"))["running"] is True
