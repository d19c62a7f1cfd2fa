"""Tokens whose keys a web service publishes, through the whole broker and HTTP in memory."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from access.token_keys import SECRET, by_hand, jwk, jwks, public_pem, sign
from actors.web import Asked, Reply, Web, in_memory, unreachable
from api.live import Live, running
from api.operations import shows
from attrs import define
from trio.testing import MockClock

from trio_broker.actors.authn.key_set import LEAST_PAUSE, TIMEOUT
from trio_broker.config import Config
from trio_broker.config.tree import overlay
from trio_broker.protocol.packets import MQTT5, MQTT311
from trio_broker.store.memory import MemoryStore
from trio_broker.store.store import Store
from trio_broker.testing import open_client

BAD = 0x86
VERSIONS = pytest.mark.parametrize("level", [MQTT311, MQTT5])
JWKS = {"mechanism": "jwt", "use_jwks": True, "endpoint": "http://keys.test/jwks?key=hush", "refresh_interval": 60}
OLD, NEW = jwk("p256", kid="old"), jwk("p256", 1, kid="new")


def old_token(**claims: Any) -> bytes:
    return sign(claims, "p256", "ES256", kid="old")


def new_token(**claims: Any) -> bytes:
    return sign(claims, "p256", "ES256", number=1, kid="new")


@define(eq=False)
class Issuer:
    """What its web service answers, and after how many seconds."""

    live: Live
    web: Web
    reply: Reply
    takes: float = 0.0

    def publish(self, *keys: dict[str, Any]) -> None:
        self.reply = Reply(body=jwks(*keys))

    async def code(self, password: bytes, level: int = MQTT5) -> int:
        broker = self.live.broker
        async with open_client(broker, client_id="c1", username="u1", password=password, level=level) as client:
            return int(client.connack.reason_code)

    async def status(self) -> str:
        return str((await self.live.api.get("/authentication/jwt/status")).json()["status"])

    async def alarms(self) -> list[str]:
        return [row["name"] for row in (await self.live.api.get("/alarms")).json()["data"]]


@asynccontextmanager
async def issuing(
    *keys: dict[str, Any], store: Store | None = None, stored: bool = False, **jwt: Any
) -> AsyncIterator[Issuer]:
    """`stored`: the authenticator is in the store by now."""

    async def answer(asked: Asked) -> Reply:
        await trio.sleep(issuer.takes)
        return issuer.reply

    config = Config() if stored else overlay(Config(), {"authentication": [{**JWKS, **jwt}]})
    web = Web(answer)
    issuer = Issuer(None, web, Reply(body=jwks(*keys)))  # type: ignore[arg-type]  # a line below there is one
    async with in_memory(web), running(config, store) as issuer.live:
        yield issuer


@VERSIONS
async def test_who_has_a_token_by_a_published_key_gets_in(level: int, autojump_clock: MockClock) -> None:
    async with issuing(OLD, jwk("rsa"), headers={"X-Ours": "yes"}) as issuer:
        assert await issuer.code(old_token(exp=4_000_000_000), level) == 0
        assert await issuer.code(sign({}, "rsa", "PS256"), level) == 0
        for token in (old_token(exp=1), sign({}), sign({}, "p384", "ES384"), by_hand({"alg": "none"}, {})):
            assert await issuer.code(token, level) == BAD
        for key in (public_pem("p256"), public_pem("rsa"), SECRET.encode()):
            assert await issuer.code(by_hand({"alg": "HS256", "kid": "old"}, {}, key), level) == BAD
        (asked,) = issuer.web.asked
        assert (asked.method, asked.target, asked.headers["x-ours"]) == ("GET", "/jwks?key=hush", "yes")


async def test_who_comes_before_the_first_answer_waits_for_it(autojump_clock: MockClock) -> None:
    async with issuing(OLD) as issuer:
        issuer.takes = 5
        answer = await issuer.live.api.put("/authentication/jwt", json={**JWKS, "refresh_interval": 61})
        assert answer.status_code == 204
        assert await issuer.status() == "connecting"
        began = trio.current_time()
        assert await issuer.code(old_token()) == 0
        assert trio.current_time() - began == pytest.approx(5, abs=0.1)
        assert await issuer.status() == "connected"


@VERSIONS
async def test_a_new_key_counts_at_once_and_an_old_one_until_it_is_gone(level: int, autojump_clock: MockClock) -> None:
    async with issuing(OLD) as issuer:
        assert await issuer.code(old_token(), level) == 0
        await trio.sleep(LEAST_PAUSE)
        issuer.publish(OLD, NEW)
        assert await issuer.code(new_token(), level) == 0
        assert await issuer.code(old_token(), level) == 0
        assert len(issuer.web.asked) == 2
        issuer.publish(NEW)
        await trio.sleep(61)
        assert await issuer.code(old_token(), level) == BAD
        assert await issuer.code(new_token(), level) == 0


async def test_strangers_do_not_make_the_broker_ask_again_and_again(autojump_clock: MockClock) -> None:
    async with issuing(OLD, refresh_interval=86_400) as issuer:
        assert await issuer.code(old_token()) == 0
        began = trio.current_time()
        for number in range(100):
            assert await issuer.code(sign({}, "p256", "ES256", number=1, kid=f"stranger-{number}")) == BAD
            await trio.sleep(0.25)
        assert len(issuer.web.asked) <= 2 + (trio.current_time() - began) / LEAST_PAUSE
        assert await issuer.code(sign({}, "p256", "ES256", number=1)) == BAD


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500),
        Reply(302, headers=(("Location", "http://elsewhere.test/jwks"),)),
        Reply(204),
        Reply(body=b"<html>"),
        Reply(body=b'{"keys": []}'),
        Reply(body=b" " * 1_100_000),
    ],
    ids=["error", "elsewhere", "nothing", "no JSON", "no keys", "too much"],
)
async def test_while_the_service_fails_the_last_keys_count(reply: Reply, autojump_clock: MockClock) -> None:
    async with issuing(OLD) as issuer:
        assert await issuer.code(old_token()) == 0
        assert (await issuer.status(), await issuer.alarms()) == ("connected", [])
        issuer.reply = reply
        await trio.sleep(61)
        assert (await issuer.status(), await issuer.alarms()) == ("disconnected", ["jwt:key_set"])
        assert await issuer.code(old_token()) == 0
        issuer.publish(NEW)
        await trio.sleep(61)
        assert (await issuer.status(), await issuer.alarms()) == ("connected", [])
        assert await issuer.code(old_token()) == BAD


async def test_a_service_that_does_not_answer_holds_up_nobody_for_long(autojump_clock: MockClock) -> None:
    async with issuing(OLD) as issuer:
        assert await issuer.code(old_token()) == 0
        issuer.takes = 3600
        await trio.sleep(LEAST_PAUSE)
        began = trio.current_time()
        assert await issuer.code(new_token()) == BAD
        assert trio.current_time() - began <= TIMEOUT + 1
        began = trio.current_time()
        assert await issuer.code(old_token()) == 0
        assert trio.current_time() == began
        metrics = (await issuer.live.api.get("/authentication/jwt/status")).json()["resource_metrics"]
        assert (metrics["matched"], metrics["success"], metrics["failed"]) == (2, 1, 1)


@shows("POST /authentication", "GET /authentication/:id/status", "DELETE /authentication/:id")
async def test_over_rest_also_where_the_service_is_away_and_after_a_restart(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with issuing(OLD, store=store, stored=True) as issuer:
        with unreachable(issuer.web):
            assert (await issuer.live.api.post("/authentication", json=JWKS)).status_code == 200
            assert await issuer.code(old_token()) == BAD
            assert (await issuer.status(), await issuer.alarms()) == ("disconnected", ["jwt:key_set"])
        await trio.sleep(LEAST_PAUSE)
        assert await issuer.code(old_token()) == 0
        assert (await issuer.status(), await issuer.alarms()) == ("connected", [])
    async with issuing(NEW, store=store, stored=True) as issuer:
        assert await issuer.code(new_token()) == 0
        assert await issuer.code(old_token()) == BAD
        issuer.reply = Reply(500)
        await trio.sleep(61)
        assert await issuer.alarms() == ["jwt:key_set"]
        asked = len(issuer.web.asked)
        assert (await issuer.live.api.delete("/authentication/jwt")).status_code == 204
        assert await issuer.alarms() == []
        await trio.sleep(1000)
        assert len(issuer.web.asked) == asked
        assert await issuer.code(old_token()) == 0  # an empty chain: from this machine everybody comes in


async def test_an_address_that_may_not_be_asked(autojump_clock: MockClock) -> None:
    async with issuing(OLD, endpoint="http://169.254.169.254/latest") as issuer:
        assert await issuer.code(old_token()) == BAD
        assert issuer.web.asked == []
        assert await issuer.status() == "disconnected"


async def test_nobody_sees_what_the_query_of_the_endpoint_says(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="trio_broker")
    async with issuing(OLD) as issuer:
        await issuer.code(old_token())
        issuer.reply = Reply(500)
        await trio.sleep(61)
        assert "hush" not in (await issuer.live.api.get("/alarms")).text
    assert "http://keys.test/jwks" in caplog.text
    assert "hush" not in caplog.text
    assert old_token().decode() not in caplog.text
