"""The contract of `/api/v4`, read afresh: where parameters come from, names that look like others, who may do it."""

from __future__ import annotations

import httpx
import pytest
from api.live import ADMIN
from api.operations import shows
from review.contract_v4 import V4, meta, quiet, received, version_4
from trio.testing import MockClock

RULE = {"clientid": "c1", "topic": "t", "action": "pub", "access": "allow"}


@shows("GET /api/v4/clients/:clientid", "DELETE /api/v4/clients/:clientid", "GET /api/v4/subscriptions/:clientid")
async def test_the_path_says_who(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1, c2 = await v4.live.connect("c1", username="u1"), await v4.live.connect("c2", username="u2")
        for client in (c1, c2):
            await client.subscribe(client.client_id)
        assert [row["clientid"] for row in await v4.data("/clients/c1", clientid="c2")] == ["c1"]
        assert [row["clientid"] for row in await v4.data("/clients/username/u1", username="u2")] == ["c1"]
        assert [row["topic"] for row in await v4.data("/subscriptions/c1", clientid="c2")] == ["c1"]
        await v4.done("DELETE", "/clients/c1", {"clientid": "c2"}, clientid="c2")
        await c1.wait_ended()
        await c2.ping()
        await v4.done("PUT", "/clients/c2/keepalive", {"interval": 100, "clientid": "c1"})


@shows("PUT /api/v4/auth_username/:username", "POST /api/v4/auth_username", "DELETE /api/v4/auth_username/:username")
async def test_users_from_the_query(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.load()
        await v4.done("POST", "/auth_username", username="u1", password="p1")
        await v4.done("POST", "/auth_username", {"username": "no", "password": "p2"}, username="u2")
        assert await v4.listed("/auth_username", "username") == ["u1", "u2"]
        await v4.done("PUT", "/auth_username/u1", {"username": "u2", "password": "new"})
        assert (await v4.live.connect("c1", username="u1", password=b"new")).connack.reason_code == 0
        assert (await v4.live.connect("c2", username="u2", password=b"p2")).connack.reason_code == 0
        await v4.done("DELETE", "/auth_username/u1", {"username": "u2"})
        assert await v4.listed("/auth_username", "username") == ["u2"]


@shows("POST /api/v4/acl", "DELETE /api/v4/acl/clientid/:clientid/topic/:topic")
async def test_rules_from_the_query(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.load()
        answer = await v4.ask("POST", "/acl", RULE, access="deny")
        assert answer == {"code": 0, "data": RULE | {"access": "deny", "result": "ok"}}
        answer = await v4.ask("POST", "/acl", None, topic="q", action="sub", access="deny")
        assert answer["data"] == {"all": "$all", "topic": "q", "action": "sub", "access": "deny", "result": "ok"}
        await v4.done("DELETE", "/acl/clientid/c1/topic/t", {"topic": "q", "clientid": "c2"})
        assert await v4.page("/acl/clientid") == ([], meta(0, limit=50))
        assert await v4.listed("/acl/$all", "topic") == ["q"]


@shows("POST /api/v4/acl")
async def test_a_batch_with_a_rule_for_two(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.load()
        answer = await v4.ask("POST", "/acl", [RULE, RULE | {"username": "u1"}, RULE | {"topic": "x"}])
        if answer["code"] == 0:
            results = [row["result"] for row in answer["data"]]
            assert (results[0], results[2]) == ("ok", "ok")
            assert results[1].startswith("{error,")
        else:
            assert answer["code"] == 108
            assert await v4.page("/acl/clientid") == ([], meta(0, limit=50))
        assert await v4.page("/acl/username") == ([], meta(0, limit=50))


@shows("POST /api/v4/mqtt/subscribe", "POST /api/v4/mqtt/unsubscribe")
async def test_subscribing_from_the_query(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1")
        await v4.done("POST", "/mqtt/subscribe", {"qos": 0}, clientid="c1", topic="t", qos="1")
        await v4.send("t", qos=2)
        assert (await received(c1)).qos == 1
        await v4.done("POST", "/mqtt/unsubscribe", clientid="c1", topic="t")
        await quiet(c1)
        assert await v4.data("/subscriptions/c1") == []


@shows("GET /api/v4/clients", "POST /api/v4/acl", "POST /api/v4/banned")
async def test_undefined_is_nobody(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1")
        await v4.load()
        assert await v4.listed("/clients", _like_username="undef") == []
        await v4.ask("POST", "/acl", {"username": "undefined", "topic": "#", "action": "pub", "access": "deny"})
        answer = await c1.publish("t", b"x", 1)
        assert answer is not None
        assert answer.reason_code < 0x80


@shows("POST /api/v4/acl")
@pytest.mark.parametrize("name", ["+", "#", "a/b", "+/#"])
async def test_names_that_are_filters_allow_nothing_more(name: str, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect(name, username=name)
        await v4.load()
        for rule in (("#", "deny"), ("of/%c", "allow"), ("of/%u/x", "allow")):
            body = {"topic": rule[0], "action": "pubsub", "access": rule[1]}
            assert (await v4.ask("POST", "/acl", body))["code"] == 0
        for topic in ("of/other", "of/other/x"):
            answer = await c1.publish(topic, b"x", 1)
            assert answer is not None
            assert answer.reason_code >= 0x80
            (code,) = (await c1.subscribe(topic)).reason_codes
            assert code >= 0x80


async def all_that_changes(v4: V4, status: int) -> None:
    for method, path, body in (
        ("DELETE", "/clients/c1", None),
        ("DELETE", "/clients/c1/acl_cache", None),
        ("DELETE", "/acl-cache", None),
        ("POST", "/clients/c1/ratelimit", {}),
        ("POST", "/clients/c1/quota", {}),
        ("PUT", "/clients/c1/keepalive", {"interval": 1}),
        ("POST", "/banned", {"who": "c1", "as": "clientid"}),
        ("DELETE", "/banned/clientid/c1", None),
        ("POST", "/mqtt/publish", {"topic": "t"}),
        ("POST", "/mqtt/publish_batch", [{"topic": "t"}]),
        ("POST", "/mqtt/subscribe", {"topic": "t", "clientid": "c1"}),
        ("POST", "/mqtt/subscribe_batch", [{"topic": "t", "clientid": "c1"}]),
        ("POST", "/mqtt/unsubscribe", {"topic": "t", "clientid": "c1"}),
        ("POST", "/mqtt/unsubscribe_batch", [{"topic": "t", "clientid": "c1"}]),
        ("POST", "/auth_username", {"username": "u", "password": "p"}),
        ("PUT", "/auth_username/u1", {"password": "x"}),
        ("DELETE", "/auth_clientid/u1", None),
        ("POST", "/acl", RULE),
        ("DELETE", "/acl/$all/topic/t", None),
    ):
        answer = await v4.api.request(method, path, json=body)
        assert answer.status_code == status, (method, path, answer.text)


@shows("POST /api/v4/mqtt/publish", "POST /api/v4/acl", "DELETE /api/v4/clients/:clientid")
async def test_strangers_and_viewers_change_nothing(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1")
        await c1.subscribe("#")
        await v4.load()
        v4.api.auth = v4.live.as_viewer()
        await all_that_changes(v4, 403)
        assert await v4.listed("/clients") == ["c1"]
        v4.api.auth = httpx.Auth()  # shows nothing
        for path in ("/clients", "/acl/clientid", "/auth_username", "/banned", "/subscriptions", "/nowhere"):
            answer = await v4.api.get(path)
            assert (answer.status_code, answer.text) == (401, "UNAUTHORIZED")
            assert answer.headers["www-authenticate"] == 'Basic Realm="minirest-server"'
        await all_that_changes(v4, 401)
        v4.api.auth = httpx.BasicAuth(*ADMIN)
        await quiet(c1)
        assert await v4.page("/banned") == ([], meta(0))
        assert await v4.page("/acl/clientid") == ([], meta(0, limit=50))
        assert [row["topic"] for row in await v4.data("/subscriptions/c1")] == ["#"]
