"""The authenticators of the configuration: who decides, what becomes of them when the configuration changes."""

from __future__ import annotations

import itertools
import logging
from functools import partial
from typing import Any

import pytest
import trio
from actors.fake_access import Script, fakes
from api.live import Live, running
from trio.testing import MockClock

from trio_broker.access.authentication import BAD_CREDENTIALS, REFUSED, Credentials, Verdict
from trio_broker.broker import Broker
from trio_broker.config import Config, Layers, to_dict
from trio_broker.config.authentication import (
    AuthenticatorConfig,
    BuiltInDatabaseConfig,
    HttpAuthenticatorConfig,
    JwtConfig,
    ScramConfig,
    id_of,
)
from trio_broker.config.mqtt import MqttConfig
from trio_broker.errors import ConfigError
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import open_client

USERS = BuiltInDatabaseConfig()
WEB = HttpAuthenticatorConfig(url="http://127.0.0.1:1/")
TOKENS = JwtConfig(secret="s")
METHOD = ScramConfig()
A, R, I = Verdict(), REFUSED, None  # noqa: E741


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    return fakes(monkeypatch)


class Program:
    """An authenticator of the embedding program, which gives this verdict."""

    def __init__(self, verdict: Verdict | None) -> None:
        self.verdict = verdict

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        return self.verdict


def plain(*configs: AuthenticatorConfig) -> dict[str, Any]:
    """A change of the settings that makes these the chain."""
    return {"authentication": to_dict(Config(authentication=configs), secrets=True)["authentication"]}


async def code(broker: Broker, **options: Any) -> int:
    """The reason code of the CONNACK."""
    async with open_client(broker, **options) as client:
        return int(client.connack.reason_code)


def _given(verdict: Verdict | None, credentials: Credentials) -> Verdict | None:
    return verdict


CHAINS = [
    (first, second, enabled)
    for first, second in itertools.product((A, R, I), repeat=2)
    for enabled in itertools.product((True, False), repeat=2)
]


@pytest.mark.parametrize("own", ["none", A, R, I])
@pytest.mark.parametrize("swapped", [False, True])
async def test_who_decides(script: Script, own: Any, swapped: bool) -> None:
    """The program's own come first, then those that are enabled, in their order; who ignores passes it on."""
    broker = Broker(authenticators=() if own == "none" else (Program(own),))
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        for first, second, enabled in CHAINS:
            chain: list[tuple[AuthenticatorConfig, Verdict | None, bool]]
            chain = [(USERS, first, enabled[0]), (WEB, second, enabled[1])]
            if swapped:
                chain.reverse()
            tables = plain(*(config for config, _, _ in chain))["authentication"]
            for table, (config, verdict, enable) in zip(tables, chain, strict=True):
                table["enable"] = enable
                script.verdicts[id_of(config)] = partial(_given, verdict)
            await broker.questions.settings.change({"authentication": tables})
            asked = ([] if own == "none" else [own]) + [verdict for _, verdict, enable in chain if enable]
            decided = next((verdict for verdict in asked if verdict is not None), BAD_CREDENTIALS)
            expected = decided.reason_code if asked else 0  # with nobody to ask, who is local comes in
            assert await code(broker) == expected, (first, second, enabled)
        broker.close()


@pytest.mark.parametrize(("allow", "expected"), [(None, 0), (True, 0), (False, 0x87)])
@pytest.mark.parametrize("chain", [(), (BuiltInDatabaseConfig(enable=False),)])
async def test_a_chain_that_is_empty_or_disabled(script: Script, allow: bool | None, expected: int, chain: Any) -> None:
    async with running(Config(authentication=chain, mqtt=MqttConfig(allow_anonymous=allow))) as live:
        assert await code(live.broker) == expected


async def test_a_verdict_names_who_gave_it(script: Script) -> None:
    script.verdicts["jwt"] = lambda who: Verdict(superuser=True, authenticator="")
    async with running(Config(authentication=(USERS, TOKENS))) as live:
        await live.connect("c")
        actor = await live.broker.questions._actor("c")
        assert actor is not None
        assert actor.verdict == Verdict(superuser=True, authenticator="jwt")


async def test_figures_and_rates(script: Script, autojump_clock: MockClock) -> None:
    answers = iter([A, A, R, I])
    script.verdicts["password_based:http"] = lambda _: next(answers)
    async with running(Config(authentication=(WEB, METHOD))) as live:
        authenticators = live.broker.questions.authenticators
        for _ in range(4):
            await code(live.broker)
        status = authenticators.status("password_based:http")
        rates = {"rate": 0.8, "rate_last5m": 0.8, "rate_max": 0.8}
        assert status.metrics == {"total": 4, "success": 2, "failed": 1, "nomatch": 1, **rates}
        assert status.resource_metrics == {"matched": 4, "success": 0, "failed": 0, **rates}
        assert (status.enable, status.status) == (True, "connected")
        await trio.sleep(9)
        rates = {"rate": 0.0, "rate_last5m": round(4 / 9, 4), "rate_max": 0.8}
        assert authenticators.status("password_based:http").metrics.items() >= rates.items()
        await trio.sleep(400)
        assert authenticators.status("password_based:http").metrics["rate_last5m"] == 0
        assert authenticators.status("scram:built_in_database").resource_metrics == {}
        assert [status.id for status in authenticators.statuses()] == ["password_based:http", "scram:built_in_database"]


async def test_one_that_fails_is_passed_over(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Credentials) -> Verdict:
        raise OSError("gone")

    script.verdicts.update({"jwt": broken, "password_based:built_in_database": lambda _: A})
    async with running(Config(authentication=(TOKENS, USERS))) as live:
        with caplog.at_level(logging.CRITICAL):
            assert await code(live.broker) == 0
        assert live.broker.questions.authenticators.status("jwt").metrics["nomatch"] == 1


async def test_each_may_take_the_time_it_was_given(script: Script, autojump_clock: MockClock) -> None:
    """`mqtt.idle_timeout` (15 s) is not the end of a chain whose own timeouts are longer."""
    script.takes["password_based:http"] = 30
    script.verdicts["password_based:built_in_database"] = lambda _: A
    slow = HttpAuthenticatorConfig(url="http://127.0.0.1:1/", request_timeout=20.0, connect_timeout=15.0)
    async with running(Config(authentication=(slow, USERS))) as live:
        assert await code(live.broker) == 0
        assert trio.current_time() >= 30
        script.takes["password_based:http"] = 36
        assert await code(live.broker) == 0x88


async def test_one_that_has_no_timeout_has_the_idle_timeout(script: Script, autojump_clock: MockClock) -> None:
    script.takes["jwt"] = 16
    async with running(Config(authentication=(TOKENS,))) as live:
        assert await code(live.broker) == 0x88
        assert live.broker.questions.authenticators.status("jwt").metrics["total"] == 1


# -- changes


def names(live: Live) -> list[str]:
    return live.broker.questions.authenticators.names


async def test_what_stays_the_same_lives_on(script: Script) -> None:
    async with running(Config(authentication=(USERS, WEB))) as live:
        settings = live.broker.questions.settings
        assert script.life() == [("start", id_of(USERS)), ("start", id_of(WEB))]
        await code(live.broker)
        await settings.change(plain(TOKENS, WEB, USERS))
        assert script.life() == [("start", "jwt")]
        assert names(live) == ["jwt", id_of(WEB), id_of(USERS)]
        assert live.broker.questions.authenticators.status(id_of(WEB)).metrics["total"] == 1
        await settings.change(plain(HttpAuthenticatorConfig(url="http://127.0.0.1:2/"), USERS))
        assert script.life() == [("start", id_of(WEB)), ("close", "jwt"), ("close", id_of(WEB))]
        assert live.broker.questions.authenticators.status(id_of(WEB)).metrics["total"] == 0
        await settings.change({"mqtt": {"max_inflight": 7}})
        assert script.life() == []
    assert script.life() == [("close", id_of(WEB)), ("close", id_of(USERS))]


async def test_what_is_disabled_is_known_and_not_started(script: Script) -> None:
    async with running(Config(authentication=(BuiltInDatabaseConfig(enable=False),))) as live:
        authenticators = live.broker.questions.authenticators
        assert script.life() == []
        assert authenticators.one(id_of(USERS)) is not None
        assert authenticators.one("jwt") is None
        assert authenticators.status(id_of(USERS)).status == "disconnected"


async def test_a_change_that_is_refused_leaves_all_as_it_was(script: Script) -> None:
    script.verdicts[id_of(USERS)] = lambda _: A
    async with running(Config(authentication=(USERS,))) as live:
        script.life()
        script.refuses_to_start.add("jwt")
        for chain in (plain(TOKENS, USERS), plain(WEB, TOKENS), plain(WEB, TOKENS, USERS)):
            with pytest.raises(ConfigError):
                await live.broker.questions.settings.change(chain)
        assert names(live) == [id_of(USERS)]
        # Those of the chains that were refused: one that could not start is closed, too.
        told = script.life()
        assert [name for what, name in told if what == "start"] == [id_of(WEB)] * 2
        assert sorted(name for what, name in told if what == "close") == ["jwt"] * 3 + [id_of(WEB)] * 2
        assert await code(live.broker) == 0


async def test_a_later_refusal_brings_the_old_ones_back(script: Script) -> None:
    """Of two roots that change together, the second is refused."""
    script.verdicts[id_of(USERS)] = lambda _: A
    script.refuses_to_start.add("file")
    async with running(Config(authentication=(USERS,))) as live:
        with pytest.raises(ConfigError):
            await live.broker.questions.settings.change(
                {**plain(TOKENS), "authorization": {"sources": [{"type": "file", "rules": ""}]}}
            )
        assert names(live) == [id_of(USERS)]
        assert await code(live.broker) == 0


async def test_the_broker_does_not_start_with_one_that_cannot_be(script: Script) -> None:
    script.refuses_to_start.add("jwt")
    with pytest.raises(ConfigError, match="cannot be"):
        await Broker(Config(authentication=(TOKENS,)), store=MemoryStore()).run()
    assert ("close", "jwt") in script.life()


async def test_one_that_was_stored_and_cannot_be_any_more(script: Script) -> None:
    """The error says how to start without it."""
    store = MemoryStore()
    layers = Layers(Config())
    async with running(store=store, layers=layers) as live:
        await live.broker.questions.settings.change(plain(TOKENS))
    script.refuses_to_start.add("jwt")
    with pytest.raises(ConfigError, match="--ignore-stored"):
        await Broker(store=store, layers=layers).run()
    async with running(store=store, layers=layers, ignore_stored=True) as live:
        assert names(live) == []


async def test_a_restart_has_the_chain_again(script: Script) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await live.broker.questions.settings.change(plain(WEB, USERS))
    async with running(store=store) as live:
        assert names(live) == [id_of(WEB), id_of(USERS)]
        assert await code(live.broker) == 0x86
