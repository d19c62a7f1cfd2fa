"""Clients that a web service lets in or refuses, through a whole broker."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from actors.web import Asked, Reply, Web, in_memory, says, unreachable
from api.live import Live, running
from trio.testing import MockClock

from trio_broker.broker import Broker
from trio_broker.config import Config
from trio_broker.config.authentication import BuiltInDatabaseConfig, HttpAuthenticatorConfig
from trio_broker.config.authorization import AuthorizationConfig
from trio_broker.errors import ConfigError
from trio_broker.protocol.packets import SubAck, SubscribeFilter
from trio_broker.testing import open_client

URL = "http://service.example/auth"
EVERYTHING = AuthorizationConfig()
WHO = {"username": "${username}", "password": "${password}", "clientid": "${clientid}", "from": "${peerhost}"}


async def by_password(asked: Asked) -> Reply:
    """The password is the user name backwards; ann is a superuser, and nobody knows bob."""
    said = asked.json
    if said["username"] == "bob":
        return says(result="ignore")
    right = said["password"] == said["username"][::-1]
    return says(result="allow" if right else "deny", is_superuser=said["username"] == "ann")


@asynccontextmanager
async def guarded(
    web: Web, *others: Any, authorization: AuthorizationConfig = EVERYTHING, **options: Any
) -> AsyncIterator[Live]:
    """A broker whose clients are let in by `web`."""
    config = HttpAuthenticatorConfig(**{"url": URL, "body": WHO, **options})
    async with in_memory(web, {"metadata.example": "169.254.169.254"}):
        async with running(Config(authentication=(config, *others), authorization=authorization)) as live:
            yield live


async def status(live: Live) -> Any:
    answer = await live.api.get("/authentication/password_based:http/status")
    assert answer.status_code == 200, answer.text
    return answer.json()


def code(client: Any) -> int:
    assert client.connack is not None
    return int(client.connack.reason_code)


@pytest.mark.parametrize(
    ("username", "password", "level", "expected"),
    [
        ("ann", b"nna", 5, 0),
        ("carl", b"lrac", 5, 0),
        ("carl", b"wrong", 5, 0x87),
        ("carl", b"wrong", 4, 0x87),
        ("bob", b"bob", 5, 0x86),
        ("bob", b"bob", 4, 0x86),
        ("carl", None, 5, 0x87),
    ],
)
async def test_who_is_let_in(
    autojump_clock: MockClock, username: str, password: bytes | None, level: int, expected: int
) -> None:
    web = Web(by_password)
    async with guarded(web, authorization=AuthorizationConfig(no_match="deny")) as live:
        client = await live.connect("c", username=username, password=password, level=level)
        assert code(client) == expected
        if not expected:
            answer = await client.subscribe("t")
            assert [int(one) for one in answer.reason_codes] == [0 if username == "ann" else 0x87]
    assert [asked.json for asked in web.asked] == [
        {"username": username, "password": (password or b"").decode(), "clientid": "c", "from": "127.0.0.1"}
    ]
    assert web.asked[0].headers["content-type"] == "application/json"


async def test_with_get_the_body_is_the_query(autojump_clock: MockClock) -> None:
    async def no_content(asked: Asked) -> Reply:
        return Reply(204, content_type=None)

    web = Web(no_content)
    async with guarded(web, method="get", url=f"{URL}/${{clientid}}?x=1", body={"u": "${username}"}) as live:
        assert code(await live.connect("a/b", username="ä&b")) == 0
    (asked,) = web.asked
    assert (asked.method, asked.body) == ("GET", b"")
    assert asked.path == [b"auth", b"a/b"]
    assert asked.query == [(b"x", b"1"), (b"u", "ä&b".encode())]


@pytest.mark.parametrize("method", ["get", "post"])
async def test_nothing_that_a_client_says_gets_out_of_its_place(autojump_clock: MockClock, method: str) -> None:
    async def seen(asked: Asked) -> Reply:
        return says(result="allow")

    names = ["a/../b?x=1&y#z", "${password}", 'a"},{"', "k\u00fc\u2028", "x" * 65_000]
    web = Web(seen)
    async with guarded(web, method=method, url=f"{URL}/${{username}}/end?q=${{username}}") as live:
        for number, name in enumerate(names):
            assert code(await live.connect(f"c{number}", username=name, password=b"secret")) == 0
        assert code(await live.connect("dots", username="..", password=b"secret")) == 0x86
    assert len(web.asked) == len(names)
    for asked, name in zip(web.asked, names, strict=True):
        assert asked.path == [b"auth", name.encode(), b"end"]
        assert asked.query[0] == (b"q", name.encode())
        said = dict(asked.query)[b"username"].decode() if method == "get" else asked.json["username"]
        assert said == name


NOW = object()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(204, content_type=None), 0),
        (Reply(body=b'{"result": "allow"}'), 0),
        (Reply(body=b"result=allow", content_type="application/x-www-form-urlencoded"), 0),
        (Reply(body=b'{"result": "deny"}'), 0x87),
        (Reply(body=b"result=deny", content_type="application/x-www-form-urlencoded"), 0x87),
        (Reply(body=b'{"result": "ignore"}'), 0x86),
        (Reply(body=b'{"result": "allow"}', content_type="text/plain"), 0x86),
        (Reply(body=b"nothing"), 0x86),
        (Reply(body=b'{"result": "allow", "pad": "' + b"x" * 1_100_000 + b'"}'), 0x86),
        (Reply(302, headers=(("Location", "http://service.example/other"),)), 0x86),
        (Reply(401), 0x86),
        (Reply(500, body=b'{"result": "allow"}'), 0x86),
        (Reply(body=b'{"result": "allow", "expire_at": 1}'), 0x86),
        (Reply(body=b'{"result": "allow", "acl": [{"permission": "x"}]}'), 0x86),
    ],
)
async def test_what_the_service_answers(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, reply: Reply, expected: int
) -> None:
    async def answer(asked: Asked) -> Reply:
        return reply

    caplog.set_level(logging.DEBUG)
    web = Web(answer)
    async with guarded(web) as live:
        for client_id in ("c1", "c2"):
            assert code(await live.connect(client_id, username="u", password=b"very secret")) == expected
        figures = (await status(live))["metrics"]
        verdicts = {0: "success", 0x87: "failed"}
        body = reply.body if isinstance(reply.body, bytes) else b""
        decided = verdicts.get(expected, "failed" if b"expire_at" in body or b"acl" in body else "nomatch")
        assert {name: figures[name] for name in ("total", "success", "failed", "nomatch")} == {
            **dict.fromkeys(("success", "failed", "nomatch"), 0),
            "total": 2,
            decided: 2,
        }
    assert len(web.asked) == 2
    assert "very secret" not in caplog.text
    told = [
        record for record in caplog.records if record.levelno == logging.WARNING and ":http: " in record.getMessage()
    ]
    assert len(told) == (1 if expected == 0x86 and b"ignore" not in body else 0)


async def test_until_when_somebody_is_let_in(autojump_clock: MockClock) -> None:
    ends: list[int] = []

    async def an_hour(asked: Asked) -> Reply:
        return says(result="allow", expire_at=ends[0])

    async with guarded(Web(an_hour)) as live:
        clock = live.broker.questions._core.clock
        ends.append(clock.wall_ms(clock.now()) // 1000 + 3600)
        client = await live.connect("c")
        await trio.sleep(3590)
        await client.ping()
        await trio.sleep(20)
        assert client.disconnected is not None
        assert client.disconnected.reason_code == 0x87
        assert code(await live.connect("c")) == 0x86  # what the service says is in the past by now


async def test_rules_and_attributes_come_with_the_answer(autojump_clock: MockClock) -> None:
    async def terms(asked: Asked) -> Reply:
        return says(
            result="allow",
            client_attrs={"site": "north"},
            acl=[
                {"permission": "allow", "action": "all", "topic": "${client_attrs.site}/#"},
                {"permission": "deny", "action": "all", "topic": "#"},
            ],
        )

    async with guarded(Web(terms)) as live:
        client = await live.connect("c")
        answer = await client.subscribe([SubscribeFilter("north/+", 1), SubscribeFilter("south/+", 1)])
        assert isinstance(answer, SubAck)
        assert [int(one) for one in answer.reason_codes] == [1, 0x87]


async def test_a_service_that_is_silent_is_passed_over_in_time(autojump_clock: MockClock) -> None:
    async def never(asked: Asked) -> Reply:
        await trio.sleep_forever()
        raise AssertionError

    web = Web(never)
    async with guarded(web, BuiltInDatabaseConfig(), request_timeout=2.0) as live:
        answer = await live.api.post(
            "/authentication/password_based:built_in_database/users", json={"user_id": "u", "password": "p"}
        )
        assert answer.status_code == 201, answer.text
        began = trio.current_time()
        assert code(await live.connect("c", username="u", password=b"p")) == 0
        assert trio.current_time() - began == pytest.approx(2, abs=0.5)
        assert web.gone == 1
        assert (await status(live))["status"] == "disconnected"


async def test_the_service_dies_and_returns(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    async def allow(asked: Asked) -> Reply:
        return says(result="allow")

    web = Web(allow)
    async with guarded(web) as live:
        assert (await status(live))["status"] == "connecting"
        assert code(await live.connect("c1")) == 0
        assert (await status(live))["status"] == "connected"
        for stream in web.streams:
            await trio.aclose_forcefully(stream)
        with unreachable(web):
            for number in range(20):
                assert code(await live.connect(f"d{number}")) == 0x86
            now = await status(live)
            assert now["status"] == "disconnected"
            assert {name: now["resource_metrics"][name] for name in ("matched", "success", "failed")} == {
                "matched": 21,
                "success": 1,
                "failed": 20,
            }
        await trio.sleep(1)
        assert code(await live.connect("c2")) == 0
        assert (await status(live))["status"] == "connected"
    told = [record.getMessage() for record in caplog.records if "no answer" in record.getMessage()]
    assert told == ["password_based:http: no answer about 'd0': 192.0.2.1 port 80: Connection refused"]


async def test_many_clients_at_once(autojump_clock: MockClock) -> None:
    async def slow(asked: Asked) -> Reply:
        await trio.sleep(0.01)
        return await by_password(asked)

    codes: list[int] = []
    web = Web(slow)
    async with guarded(web, pool_size=4) as live:

        async def connect(number: int) -> None:
            good = number % 2 == 0
            password = b"resu" if good else b"wrong"
            async with open_client(live.broker, client_id=f"c{number}", username="user", password=password) as client:
                codes.append(code(client))

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(connect, number)
        assert (codes.count(0), codes.count(0x87)) == (50, 50)
        assert (web.most_under_way, web.connections) == (4, 4)


async def test_a_broker_that_shuts_down_waits_for_no_service(autojump_clock: MockClock) -> None:
    async def never(asked: Asked) -> Reply:
        await trio.sleep_forever()
        raise AssertionError

    web = Web(never)
    began = trio.current_time()
    async with in_memory(web):
        config = HttpAuthenticatorConfig(url=URL, request_timeout=600.0)
        broker = Broker(Config(authentication=(config,)))
        async with trio.open_nursery() as nursery:
            await nursery.start(broker.run)
            async with trio.open_nursery() as clients:
                async with open_client(broker, client_id="c", connect=False) as client:
                    await client.send_bytes(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc")
                    await trio.testing.wait_all_tasks_blocked()
                    assert web.under_way == 1
                    broker.close()
                clients.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert web.under_way == 0
    assert trio.current_time() - began < 100


async def test_settings_that_change_leave_what_is_under_way(autojump_clock: MockClock) -> None:
    async def slow(asked: Asked) -> Reply:
        await trio.sleep(1)
        return says(result="allow")

    codes: list[int] = []
    web = Web(slow)
    async with guarded(web) as live:

        async def connect() -> None:
            async with open_client(live.broker, client_id="c") as client:
                codes.append(code(client))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect)
            await trio.sleep(0.5)
            config = (await live.api.get("/authentication/password_based:http")).json()
            config["url"] = f"{URL}/other"
            answer = await live.api.put("/authentication/password_based:http", json=config)
            assert answer.status_code == 204, answer.text
        assert codes == [0]
        assert code(await live.connect("d")) == 0
    assert [asked.target for asked in web.asked] == ["/auth", "/auth/other"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"url": "http://h/${user}"}, "${user}"),
        ({"url": "http://${username}.h/"}, "placeholders may stand in the path"),
        ({"body": {"x": "${topic}"}}, "body.x"),
        ({"headers": {"content-type": "text/xml"}}, "content-type"),
        ({"headers": {"content-length": "3"}}, "content-length"),
        ({"url": "https://h/", "ssl": {"enable": True, "cacertfile": "/no/such"}}, "cacertfile"),
        ({"ssl": {"certfile": "a.pem", "keyfile": "-----BEGIN PRIVATE KEY-----"}}, "the path of a file"),
    ],
)
async def test_what_cannot_be_is_refused_over_rest(
    autojump_clock: MockClock, changes: dict[str, Any], named: str
) -> None:
    body = {"mechanism": "password_based", "backend": "http", "method": "post", "url": URL, **changes}
    async with running(Config()) as live:
        answer = await live.api.post("/authentication", json=body)
        assert answer.status_code == 400, answer.text
        assert named in json.dumps(answer.json())
        assert (await live.api.get("/authentication")).json() == []


async def test_rest_cannot_make_the_broker_ask_the_metadata_service(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def secret(asked: Asked) -> Reply:
        raise AssertionError("it was asked")

    web = Web(secret)
    async with guarded(web, url="http://metadata.example/latest") as live:
        assert code(await live.connect("c")) == 0x86
        for root in ("outbound", "outbound.access_rules"):
            answer = await live.api.put(f"/configs/{root}", json={"access_rules": ["allow all"]})
            assert answer.status_code in (400, 403, 404)
        assert code(await live.connect("c")) == 0x86
    assert "outbound.access_rules do not allow metadata.example (169.254.169.254)" in caplog.text
    assert web.asked == []


async def test_a_configuration_that_cannot_be_does_not_start(autojump_clock: MockClock) -> None:
    broker = Broker(Config(authentication=(HttpAuthenticatorConfig(url="http://h/${user}"),)))
    with pytest.raises(ExceptionGroup) as fault:
        async with trio.open_nursery() as nursery:
            await nursery.start(broker.run)
    (error,) = fault.value.exceptions
    assert isinstance(error, ConfigError)
    assert "password_based:http.url" in str(error)
