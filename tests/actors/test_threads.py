"""Work in threads: elsewhere on the real clock, here on a mock clock, whose time stands still meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio
from api.live import running
from trio.testing import MockClock

from trio_broker.actors.slow_hash import Line, SlowHash
from trio_broker.actors.threads import in_thread
from trio_broker.config import Config
from trio_broker.config.authentication import BuiltInDatabaseConfig, PasswordHashConfig, ScramConfig
from trio_broker.testing import open_client

SLOW = BuiltInDatabaseConfig(password_hash_algorithm=PasswordHashConfig(name="bcrypt", salt_rounds=5))


async def test_on_the_real_clock_a_thread_works() -> None:
    limiter = trio.CapacityLimiter(1)
    held: list[int] = []

    def work(number: int) -> int:
        held.append(limiter.borrowed_tokens)
        return number if threading.current_thread() is not threading.main_thread() else -1

    assert await in_thread(work, 7, limiter=limiter) == 7
    assert await in_thread(work, 8) == 8
    assert held == [1, 0]


async def test_on_a_mock_clock_the_task_itself_works(autojump_clock: MockClock) -> None:
    assert await in_thread(threading.current_thread) is threading.current_thread()


@pytest.mark.parametrize("clock", ["real", "mock"])
async def test_what_fails_and_who_is_cancelled(clock: str, request: pytest.FixtureRequest) -> None:
    if clock == "mock":
        request.getfixturevalue("autojump_clock")
    with pytest.raises(ValueError, match="x"):
        await in_thread(int, "x")
    called: list[int] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await in_thread(called.append, 1)
    assert scope.cancelled_caught
    assert called == []


async def test_no_time_passes_while_secrets_are_hashed(autojump_clock: MockClock) -> None:
    """Somebody else waits for an hour: a clock that goes on while threads work would be there at once."""
    async with running(Config(authentication=(SLOW, ScramConfig()))) as live, trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 3600)
        begun = trio.current_time()
        for authenticator in ("password_based:built_in_database", "scram:built_in_database"):
            await live.broker.questions.authn_users.found(authenticator).add_user("anna", "secret")
        rows: list[dict[str, Any]] = [{"user_id": f"u{number}", "password": "x"} for number in range(3)]
        imported = await live.api.post(
            "/authentication/password_based:built_in_database/import_users?type=plain", json=rows
        )
        assert imported.json()["success"] == 3
        async with open_client(live.broker, username="anna", password=b"secret") as client:
            await client.ping()
        line = Line()
        async with line.turn("10.0.0.1"):
            stored = await line.work(SlowHash.made, "secret")
            assert await line.work(stored.verify, "secret")
        assert trio.current_time() == begun
        nursery.cancel_scope.cancel()
