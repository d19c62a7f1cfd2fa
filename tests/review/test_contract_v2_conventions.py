"""The contract of `/api/v2`, read afresh: who is let in, which paths there are, and the order of checks."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio
from api.live import ADMIN
from api.older import WATCHER
from api.operations import shows
from review.contract import NODE
from review.contract_v2 import C_1, NODES, both, done, got, missing, mistyped, nowhere, objects, refused, result
from trio.testing import MockClock

READING = (
    "/management/nodes",
    f"/management/nodes/{NODE}",
    "/monitoring/nodes",
    f"/monitoring/nodes/{NODE}",
    f"{NODES}/clients",
    f"{NODES}/clients/{C_1}",
    f"/clients/{C_1}",
    f"{NODES}/sessions",
    f"/node/{NODE}/sessions",
    f"{NODES}/sessions/{C_1}",
    f"/sessions/{C_1}",
    f"{NODES}/subscriptions",
    f"/subscriptions/{C_1}",
    "/routes",
    "/routes/topic",
    f"{NODES}/plugins",
    "/monitoring/listeners",
    f"/monitoring/listeners/{NODE}",
    "/monitoring/metrics",
    f"/monitoring/metrics/{NODE}",
    "/monitoring/stats",
    f"/monitoring/stats/{NODE}",
    "/users",
)
CHANGING: tuple[tuple[str, str, Any], ...] = (
    ("DELETE", f"/clients/{C_1}", None),
    ("PUT", f"/clients/{C_1}/clean_acl_cache", {"topic": "test"}),
    ("POST", "/mqtt/subscribe", {"client_id": C_1, "topic": "test", "qos": 1}),
    ("PUT", "/nodes/plugins/emq_retainer", {"active": False}),
    ("PUT", f"{NODES}/plugins/emq_retainer", {"active": False}),
    ("POST", "/mqtt/publish", {"topic": "test", "payload": "hello"}),
    ("POST", "/users", {"username": "test_user", "password": "pass word 1", "tags": "user"}),
    ("PUT", "/users/boss", {"tags": "viewer"}),
    ("DELETE", "/users/boss", None),
    ("PUT", "/change_pwd/boss", {"password": "pass word 2", "oldpassword": "pass word 1"}),
)
NEEDED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("PUT", f"/clients/{C_1}/clean_acl_cache", {"topic": 1}),
    ("POST", "/mqtt/subscribe", {"client_id": "c", "topic": 1}),
    ("POST", "/mqtt/subscribe", {"client_id": 1, "topic": "t"}),
    ("POST", "/mqtt/unsubscribe", {"client_id": "c", "topic": True}),
    ("PUT", "/nodes/plugins/emq_retainer", {"active": "true"}),
    ("PUT", "/nodes/plugins/emq_retainer", {"active": 1}),
    ("PUT", f"{NODES}/plugins/emq_retainer", {"active": None}),
    ("POST", "/mqtt/publish", {"topic": 1}),
    ("POST", "/mqtt/publish", {"topic": ["t"]}),
    ("POST", "/users", {"username": 1, "password": "pass word 1", "tags": "t"}),
    ("POST", "/users", {"username": "u", "password": 1, "tags": "t"}),
    ("POST", "/users", {"username": "u", "password": "pass word 1", "tags": ["t"]}),
    ("PUT", "/users/boss", {"tags": True}),
    ("POST", "/auth", {"username": "u", "password": {}}),
    ("POST", "/auth", {"username": False, "password": "p"}),
    ("PUT", "/change_pwd/boss", {"password": 1, "oldpassword": "p"}),
    ("PUT", "/change_pwd/boss", {"new_pwd": "pass word 2", "old_pwd": 1}),
)


def without_credentials(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.content) == (401, b"")
    assert answer.headers["www-authenticate"] == 'Basic Realm="emqx control center"'


@shows("GET /api/v2/management/nodes", "DELETE /api/v2/clients/:client_id", "POST /api/v2/mqtt/publish")
async def test_every_operation_wants_a_user(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect(C_1)
        plain = httpx.AsyncClient(transport=v2._transport, base_url=v2.base_url)
        async with plain:
            for path in READING:
                without_credentials(await plain.get(path))
            for method, path, body in CHANGING:
                without_credentials(await plain.request(method, path, json=body))
                without_credentials(await plain.request(method, path, content=b"no json"))
            for auth in (("boss", "wrong"), ("nobody", "x"), ADMIN, ("", "")):
                without_credentials(await plain.get("/users", auth=auth))
            for header in ("Basic", "Basic !!!", "Bearer abc", "Basic Ym9zcw=="):
                without_credentials(await plain.get("/users", headers={"authorization": header}))
        await client.ping()


@shows("GET /api/v2/management/nodes")
async def test_the_root_and_the_status_want_none(autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        plain = httpx.AsyncClient(transport=v2._transport, base_url="http://broker")
        async with plain:
            answer = await plain.get("/status")
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/plain")
            assert answer.text.splitlines() == [f"Node {NODE} is started", "emqttd is running"]
            answer = await plain.get("/")
            assert answer.status_code == 200
            body = answer.json()
            assert body.keys() == {"paths"}
            assert "api/v2/management/nodes" in body["paths"]
            assert all(type(path) is str for path in body["paths"])


@shows("GET /api/v2/users", "GET /api/v2/monitoring/stats")
async def test_everything_can_be_read(autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        for path in READING:
            shown = await got(v2, path)
            assert type(shown) in (list, dict)
            assert type(await got(v2, path.replace("@", "%40"))) is type(shown)
            if path not in ("/routes", "/routes/topic"):
                assert type(await got(v2, path + "/")) is type(shown)


@shows("GET /api/v2/routes")
async def test_a_slash_after_routes(autojump_clock: MockClock) -> None:
    """EMQ 2 minds this one alone; here a slash behind any path does no harm."""
    async with both() as (_, v2):
        assert (await v2.get("/routes/")).json() == (await v2.get("/routes")).json()
        nowhere(await v2.get("/routes//"))


@shows("GET /api/v2/management/nodes")
async def test_what_there_is_not(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect(C_1)
        for path in ("/", "/nothing", "/nodes", "/clients", "/sessions", "/subscriptions", f"{NODES}/nothing", "/mqtt"):
            nowhere(await v2.get(path))
        for method, path in (
            ("POST", "/management/nodes"),
            ("DELETE", "/management/nodes"),
            ("PUT", "/users"),
            ("GET", "/mqtt/publish"),
            ("PUT", "/mqtt/publish"),
            ("GET", "/auth"),
            ("POST", f"/clients/{C_1}"),
            ("DELETE", "/routes/topic"),
            ("DELETE", f"{NODES}/clients/{C_1}"),
            ("PATCH", "/users/boss"),
            ("GET", "/change_pwd/boss"),
        ):
            nowhere(await v2.request(method, path, json={} if method in ("POST", "PUT") else None))
        await client.ping()


@shows("PUT /api/v2/clients/:client_id/clean_acl_cache", "POST /api/v2/mqtt/subscribe", "PUT /api/v2/users/:username")
@pytest.mark.parametrize(("method", "path", "body"), NEEDED)
async def test_the_order_of_checks(method: str, path: str, body: dict[str, Any], autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        await live.connect(C_1)
        for text in (b"{", b"nonsense", b'{"a": 1,}', b"\xff\xfe", json.dumps(body).encode()[:-1] + b",}", b"{} {}"):
            refused(await v2.request(method, path, content=text), 109, "Body not json")
        for nothing in (b"", b"{}", b"[]", b"[1]"):
            missing(await v2.request(method, path, content=nothing))
        for key in body:
            missing(await v2.request(method, path, json={k: value for k, value in body.items() if k != key}))
        mistyped(await v2.request(method, path, json=body))
        mistyped(await v2.request(method, path, json={**body, "more": 1}))


@shows("POST /api/v2/mqtt/publish", "DELETE /api/v2/clients/:client_id", "POST /api/v2/auth")
async def test_a_body_is_read_whatever_it_is_called(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect(C_1)
        await client.subscribe("t")
        body = json.dumps({"topic": "t", "payload": "grün", "more": [1]}, ensure_ascii=False).encode()
        for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense", None):
            headers = {} if kind is None else {"content-type": kind}
            done(await v2.post("/mqtt/publish", content=body, headers=headers))
            assert (await client.receive()).payload == "grün".encode()
        missing(await v2.post("/mqtt/publish?topic=t"))
        done(await v2.request("DELETE", f"/clients/{C_1}", content=b'{"a": 1}'))


@shows("GET /api/v2/nodes/:node/clients", "GET /api/v2/monitoring/stats/:node")
async def test_a_node_that_is_not_there(autojump_clock: MockClock) -> None:
    """The same everywhere."""
    async with both() as (live, v2):
        await live.connect("c")
        answers = [await v2.get(path.replace(NODE, "other@127.0.0.1")) for path in READING if NODE in path]
        answers.append(await v2.put("/nodes/other@127.0.0.1/plugins/emq_retainer", json={"active": False}))
        for answer in answers:
            refused(answer, 101, "badrpc")
        plugins = {row["name"]: row["active"] for row in await got(v2, f"{NODES}/plugins")}
        assert plugins["emq_retainer"]


@shows("DELETE /api/v2/clients/:client_id", "GET /api/v2/users")
async def test_a_viewer_may_only_look(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect(C_1)
        for path in READING:
            result(await v2.get(path, auth=WATCHER))
        for method, path, body in CHANGING:
            answer = await v2.request(method, path, json=body, auth=WATCHER)
            assert answer.status_code == 403, (method, path)
        await client.ping()
        assert await objects(v2, f"/subscriptions/{C_1}") == []


@shows("PUT /api/v2/clients/:client_id/clean_acl_cache", "PUT /api/v2/users/:username")
async def test_what_was_sent_is_looked_at_before_whom_it_is_about(autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        for path, body in (
            ("/clients/nobody/clean_acl_cache", {"topic": 1}),
            ("/users/nobody", {"tags": 1}),
            ("/change_pwd/nobody", {"password": "new password", "oldpassword": 1}),
            ("/nodes/plugins/emq_nothing", {"active": "true"}),
        ):
            refused(await v2.put(path, content=b"{"), 109, "Body not json")
            missing(await v2.put(path, json={}))
            mistyped(await v2.put(path, json=body))


@shows("GET /api/v2/users")
async def test_many_at_one_time(autojump_clock: MockClock) -> None:
    """As many as EMQ 2 has connections of its API."""
    async with both() as (__, v2):
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await v2.get("/users"))

        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(ask)
        assert [answer.status_code for answer in answers] == [200] * 64
