"""What ends with a token: the connection, or the rules that came with it; and a wall clock that is set meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from access.token_keys import SECRET, sign
from api.live import Live, running
from trio.testing import MockClock

from trio_broker.actors.core import Core
from trio_broker.config import Config
from trio_broker.config.tree import overlay
from trio_broker.protocol.packets import MQTT5, MQTT311, Will
from trio_broker.testing import Client

VERSIONS = pytest.mark.parametrize("level", [MQTT311, MQTT5])


def jwt_config(**jwt: Any) -> Config:
    return overlay(Config(), {"authentication": [{"mechanism": "jwt", "secret": SECRET, **jwt}]})


def core_of(live: Live) -> Core:
    core = live.broker._core
    assert core is not None
    return core


def in_seconds(live: Live, seconds: float) -> float:
    clock = core_of(live).clock
    return clock.wall_ms(clock.now()) / 1000 + seconds


async def connect(live: Live, seconds: float, level: int = MQTT5, claims: Any = None, **options: Any) -> Client:
    """With a token for so many seconds."""
    password = sign({**(claims or {}), "exp": in_seconds(live, seconds)})
    return await live.connect("c1", level=level, username="u1", password=password, **options)


async def ends_after(client: Client, seconds: float) -> bool:
    """Does the connection end then, and not before? It says why in MQTT 5.0."""
    began = trio.current_time()
    ended = await client.wait_ended()
    if client.level == MQTT5:
        assert (ended.how, ended.reason_code) == ("disconnect", 0x87)
    else:
        assert ended.how == "eof"
    return trio.current_time() - began == pytest.approx(seconds, abs=0.01)


@VERSIONS
async def test_the_connection_ends_with_the_token(level: int, autojump_clock: MockClock) -> None:
    async with running(jwt_config()) as live:
        watcher = await live.connect("w", username="u", password=sign({}))
        await watcher.subscribe("will")
        client = await connect(live, 60, level, will=Will("will", b"gone"))
        await trio.sleep(20)
        assert (await client.ping()) is not None
        assert await ends_after(client, 40)
        assert (await watcher.receive()).payload == b"gone"
        assert core_of(live).expiries == set()


@VERSIONS
async def test_it_may_last_longer(level: int, autojump_clock: MockClock) -> None:
    async with running(jwt_config(disconnect_after_expire=False)) as live:
        client = await connect(live, 60, level)
        await trio.sleep(100_000)
        assert (await client.ping()) is not None
        assert core_of(live).expiries == set()


@VERSIONS
async def test_a_clock_that_is_set_is_followed(level: int, autojump_clock: MockClock) -> None:
    async with running(jwt_config()) as live:
        core = core_of(live)
        client = await connect(live, 1000, level)
        core.clock._offset += 600
        core.clock_was_set()
        await trio.sleep(100)
        core.clock._offset -= 200
        core.clock_was_set()
        assert await ends_after(client, 500)
        client = await connect(live, 1000, level)
        core.clock._offset += 2000
        core.clock_was_set()
        assert await ends_after(client, 0)


async def test_a_token_for_ever(autojump_clock: MockClock) -> None:
    async with running(jwt_config()) as live:
        client = await live.connect("c1", password=sign({"exp": 2**53}))
        await trio.sleep(10_000_000)
        assert (await client.ping()) is not None


async def test_nothing_is_left_of_connections_that_end_before(autojump_clock: MockClock) -> None:
    async with running(jwt_config()) as live:
        core = core_of(live)
        client = await connect(live, 60)
        other = await connect(live, 3600)  # takes the session over
        assert (await client.wait_ended()).reason_code == 0x8E
        (expiry,) = core.expiries
        assert expiry.end_at == pytest.approx(in_seconds(live, 3600), abs=1)
        await trio.sleep(100)
        await other.drop()
        await trio.testing.wait_all_tasks_blocked()
        assert core.expiries == set()
        core.clock_was_set()


@VERSIONS
async def test_the_session_of_a_token_that_expired_waits_for_the_next_one(
    level: int, autojump_clock: MockClock
) -> None:
    async with running(jwt_config()) as live:
        keeps: dict[str, Any] = {"clean_start": False}
        if level == MQTT5:
            keeps["properties"] = {"session_expiry_interval": 3600}
        client = await connect(live, 60, level, **keeps)
        await client.subscribe("t", qos=1)
        assert await ends_after(client, 60)
        other = await live.connect("w", username="u", password=sign({}))
        await other.publish("t", b"while away", qos=1)
        client = await connect(live, 60, level, **keeps)
        assert client.session_present
        assert (await client.receive()).payload == b"while away"


@VERSIONS
async def test_rules_that_came_with_a_token_end_with_it(level: int, autojump_clock: MockClock) -> None:
    """The client stays, as it is configured, and may do nothing more."""
    acl = [{"permission": "allow", "action": "all", "topic": "#"}]
    async with running(jwt_config(disconnect_after_expire=False)) as live:
        client = await connect(live, 60, level, {"acl": acl})
        refused = 0x87 if level == MQTT5 else 0x80
        assert (await client.subscribe("a")).reason_codes == [0]
        await client.publish("a", b"before")
        assert (await client.receive()).payload == b"before"
        await trio.sleep(61)
        assert (await client.subscribe("b")).reason_codes == [refused]
        assert (await client.subscribe("a")).reason_codes == [refused]
        await client.publish("a", b"after")
        await client.ping()
        assert len(client.inbox) == 0
        assert core_of(live).expiries == set()


async def test_a_superuser_needs_no_rules(autojump_clock: MockClock) -> None:
    async with running(jwt_config(disconnect_after_expire=False)) as live:
        client = await connect(live, 60, MQTT5, {"acl": {}, "is_superuser": True})
        await trio.sleep(61)
        assert (await client.subscribe("a")).reason_codes == [0]
