"""Key sets: when they are fetched, what is kept when they cannot be, who hears of it. A mock clock; no HTTP."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing
from access.token_keys import jwk, jwks
from attrs import define, field

from trio_broker.actors.alarms import Alarms
from trio_broker.actors.authn.key_set import LEAST_PAUSE, TIMEOUT, KeySet, KeySetFailure
from trio_broker.actors.clock import Clock

ALARM = "jwt:key_set"


@define(eq=False)
class Service:
    """A web service with keys; `answer` may be a fault, `takes` are seconds."""

    answer: bytes | Exception = field(factory=lambda: jwks(jwk("p256", kid="a")))
    takes: float = 0.0
    asked_at: list[float] = field(factory=list)

    async def fetch(self) -> bytes:
        self.asked_at.append(trio.current_time())
        await trio.sleep(self.takes)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@define(eq=False)
class Fetched:
    keys: KeySet
    service: Service
    alarms: Alarms

    @property
    def names(self) -> list[str | None]:
        return [key.key_id for key in self.keys.keys]


@asynccontextmanager
async def fetched(service: Service, refresh_interval: float = 300) -> AsyncIterator[Fetched]:
    async with trio.open_nursery() as nursery:
        clock = Clock()
        core = SimpleNamespace(sessions_nursery=nursery, clock=clock, alarms=Alarms(clock))
        keys = KeySet(cast(Any, core), "jwt", "http://127.0.0.1/keys", service.fetch, refresh_interval)
        keys.start()
        yield Fetched(keys, service, core.alarms)
        keys.close()


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(7200):
        if not holds():
            await trio.sleep(0.5)
    assert holds()


async def test_it_is_fetched_at_once_and_then_again_and_again(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    async with fetched(Service(), refresh_interval=60) as it:
        assert (it.keys.status, it.keys.keys) == ("connecting", ())
        await it.keys.first()
        assert (it.keys.status, it.names) == ("connected", ["a"])
        await trio.sleep(150)
        assert [at - began for at in it.service.asked_at] == [0, 60, 120]
        assert (it.keys.figures.matched, it.keys.figures.success, it.keys.figures.failed) == (3, 3, 0)


async def test_keys_that_are_not_there_any_more_do_not_count(autojump_clock: trio.testing.MockClock) -> None:
    async with fetched(Service(), refresh_interval=60) as it:
        await it.keys.first()
        it.service.answer = jwks(jwk("p256", 1, kid="b"))
        await trio.sleep(61)
        assert it.names == ["b"]


async def test_who_comes_early_waits_for_the_first_answer(autojump_clock: trio.testing.MockClock) -> None:
    async with fetched(Service(takes=3)) as it:
        began = trio.current_time()
        await it.keys.first()
        assert trio.current_time() - began == 3
        await it.keys.first()
        assert trio.current_time() - began == 3


@pytest.mark.parametrize(
    ("answer", "takes", "reason"),
    [
        (KeySetFailure("its answer has the status 503"), 0, "its answer has the status 503"),
        (b"<html>", 0, "is no key set (JWKS)"),
        (jwks(jwk("rsa", use="enc")), 0, "has no key that could verify a token"),
        (b"", TIMEOUT * 3, f"no answer within {TIMEOUT:g} s"),
        (RuntimeError("fault"), 0, "RuntimeError"),
    ],
)
async def test_what_fails_is_told_once_and_the_last_good_set_stays(
    answer: bytes | Exception,
    takes: float,
    reason: str,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="trio_broker")
    async with fetched(Service(), refresh_interval=60) as it:
        await it.keys.first()
        it.service.answer, it.service.takes = answer, takes
        await until(lambda: it.keys.status == "disconnected")
        await until(lambda: len(it.service.asked_at) > 5)
        assert it.names == ["a"]
        (alarm,) = it.alarms.active()
        assert alarm.name == ALARM
        assert alarm.details == {"reason": reason, "endpoint": "http://127.0.0.1/keys"}
        told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert told == [f"alarm jwt:key_set is active: No keys from http://127.0.0.1/keys: {reason}"]
        it.service.answer, it.service.takes = jwks(jwk("p256", kid="b")), 0
        await until(lambda: it.keys.status == "connected")
        assert it.names == ["b"]
        assert it.alarms.active() == []


async def test_a_service_that_fails_is_asked_again_sooner_and_then_as_often_as_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    began = trio.current_time()
    async with fetched(Service(KeySetFailure("down")), refresh_interval=60) as it:
        await it.keys.first()
        assert (it.keys.status, it.keys.keys) == ("disconnected", ())
        await trio.sleep(251)
        assert [at - began for at in it.service.asked_at] == [0, 10, 30, 70, 130, 190, 250]


async def test_a_key_that_is_not_there_yet_is_looked_for(autojump_clock: trio.testing.MockClock) -> None:
    async with fetched(Service(takes=1)) as it:
        await it.keys.first()
        it.service.answer = jwks(jwk("p256", kid="a"), jwk("p256", 1, kid="b"))
        await trio.sleep(LEAST_PAUSE)
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(it.keys.look_again)
        assert it.names == ["a", "b"]
        assert len(it.service.asked_at) == 2


async def test_strangers_cannot_make_the_service_busy(autojump_clock: trio.testing.MockClock) -> None:
    async with fetched(Service(takes=1)) as it:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.keys.look_again)  # while the first request is under way
        began = trio.current_time()
        for _ in range(1000):
            await it.keys.look_again()
            await trio.sleep(0.1)
        pauses = [after - before for before, after in zip(it.service.asked_at, it.service.asked_at[1:], strict=False)]
        assert min(pauses) >= LEAST_PAUSE
        assert len(pauses) == pytest.approx((trio.current_time() - began) / (LEAST_PAUSE + 1), abs=2)


async def test_who_waits_goes_on_when_it_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    async with fetched(Service(KeySetFailure("down"))) as it:
        await it.keys.first()
        it.service.takes = 5
        await trio.sleep(LEAST_PAUSE - 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.keys.look_again)
            await trio.sleep(2)
            nursery.start_soon(it.keys.look_again)
            await trio.sleep(1)
            it.keys.close()
        assert it.alarms.active() == []
        await it.keys.first()
        await it.keys.look_again()
        asked = len(it.service.asked_at)
        await trio.sleep(3600)
        assert len(it.service.asked_at) == asked
    assert trio.current_time() - began < 3700


async def test_it_may_be_closed_before_anything_else(autojump_clock: trio.testing.MockClock) -> None:
    async with fetched(Service()) as it:
        it.keys.close()
        await it.keys.first()
        await trio.sleep(1000)
        assert it.service.asked_at == []
