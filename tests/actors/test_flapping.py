"""Clients that come and go too often: when they are banned, for how long, and what is remembered of others."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from actors.flows import settle
from api.live import Live, running
from api.operations import shows
from trio.testing import MockClock

from trio_broker.access.authentication import Credentials, Verdict
from trio_broker.actors import flapping
from trio_broker.actors.flapping import BY, Flapping
from trio_broker.actors.gate import ConnectionInfo
from trio_broker.broker import Broker
from trio_broker.config import Config
from trio_broker.config.zone import FlappingDetectConfig
from trio_broker.listeners.memory import memory_pair
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import Client, open_client

BANNED = 0x8A
NOT_AUTHORIZED = 0x87  # how the client of the tests shows the return code 5 of MQTT 3


def detecting(**changes: Any) -> Config:
    options = {"enable": True, "max_count": 3, "window_time": 60.0, "ban_time": 300.0, **changes}
    return Config(flapping_detect=FlappingDetectConfig(**options))


def detector(broker: Broker) -> Flapping:
    assert broker._core is not None
    return broker._core.flapping


async def visit(broker: Broker, client_id: str = "c1", *, level: int = 5, **options: Any) -> int:
    """Connect and leave; what CONNECT was answered."""
    async with open_client(broker, client_id=client_id, level=level, **options) as client:
        code = client.connack.reason_code
    await settle()
    return code


async def visits(broker: Broker, count: int, client_id: str = "c1") -> list[int]:
    return [await visit(broker, client_id) for _ in range(count)]


@asynccontextmanager
async def from_host(broker: Broker, peer_host: str) -> AsyncIterator[Client]:
    """A client that comes from elsewhere."""
    ours, theirs = memory_pair()
    core = broker._core
    assert core is not None
    info = ConnectionInfo(listener="tcp:default", peer_host=peer_host, peer_port=4711, enable_authn=False)
    core.sessions_nursery.start_soon(core.door.serve_stream, theirs, info)
    async with open_client(ours, client_id="c1") as client:
        yield client


@pytest.mark.parametrize(("level", "refused"), [(5, BANNED), (4, NOT_AUTHORIZED), (3, NOT_AUTHORIZED)])
async def test_who_comes_and_goes_is_banned_for_a_while(autojump_clock: MockClock, level: int, refused: int) -> None:
    async with running(detecting()) as live:
        assert await visits(live.broker, 3) == [0, 0, 0]
        assert await visit(live.broker, level=level) == refused
        assert await visit(live.broker, "c2", level=level) == 0
        await trio.sleep(295)
        assert await visit(live.broker, level=level) == refused
        await trio.sleep(10)
        assert await visits(live.broker, 3) == [0, 0, 0]
        assert await visit(live.broker, level=level) == refused


@shows("GET /banned")
async def test_the_ban_says_who_why_and_how_long(autojump_clock: MockClock) -> None:
    async with running(detecting(ban_time=90.0)) as live:
        for _ in range(3):
            async with from_host(live.broker, "192.0.2.9"):
                await trio.sleep(2)
        await settle()
        (ban,) = live.broker.questions.banned.rows()
        assert (ban.kind, ban.who, ban.by) == ("clientid", "c1", BY)
        assert ban.until is not None
        assert ban.until - ban.at == 90
        (row,) = (await live.api.get("/banned")).json()["data"]
        assert row["as"] == "clientid"
        assert row["by"] == "flapping detector"
        said = "flapping is detected: disconnected 3 times in 4 s, the last time from 192.0.2.9"
        assert row["reason"] == said


async def test_the_ban_is_there_after_a_restart(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(detecting(), store) as live:
        await visits(live.broker, 3)
    async with running(Config(), store) as live:
        assert await visit(live.broker) == BANNED


async def test_what_lies_further_apart_than_the_window_is_no_flapping(autojump_clock: MockClock) -> None:
    async with running(detecting()) as live:
        for _ in range(5):
            assert await visits(live.broker, 2) == [0, 0]
            await trio.sleep(61)
        assert live.broker.questions.banned.rows() == []


async def test_each_client_is_counted_on_its_own(autojump_clock: MockClock) -> None:
    async with running(detecting()) as live:
        for number in range(10):
            assert await visits(live.broker, 2, f"c{number}") == [0, 0]
        assert live.broker.questions.banned.rows() == []
        assert detector(live.broker).tracked == 10


async def test_takeovers_count_and_the_last_one_stays(autojump_clock: MockClock) -> None:
    """Two programs under one name throw each other out without end otherwise."""
    async with running(detecting()) as live:
        for _ in range(3):
            await live.connect("c1")
            await settle()
        last = await live.connect("c1")
        await settle()
        assert live.broker.questions.banned.rows() != []
        await last.ping()
        assert await visit(live.broker) == BANNED


async def test_an_administrator_who_throws_a_client_out_counts_too(autojump_clock: MockClock) -> None:
    async with running(detecting()) as live:
        for _ in range(3):
            await live.connect("c1")
            assert (await live.api.delete("/clients/c1")).status_code == 204
        await settle()
        assert await visit(live.broker) == BANNED


async def test_who_was_not_let_in_is_not_counted() -> None:
    """Else anybody could have a client banned, by its identifier and a wrong password."""

    class Nobody:
        async def authenticate(self, credentials: Credentials) -> Verdict:
            return Verdict(ReasonCode.NOT_AUTHORIZED)

    broker = Broker(detecting(), authenticators=[Nobody()], store=MemoryStore())
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        for number in range(50):
            assert await visit(broker, f"c{number}", username="u", password=b"p") == NOT_AUTHORIZED
            assert await visit(broker, "c", username="u", password=b"p") == NOT_AUTHORIZED
        assert detector(broker).tracked == 0
        assert broker.questions.banned.rows() == []
        broker.close()


async def test_a_banned_client_that_keeps_trying_is_not_counted(autojump_clock: MockClock) -> None:
    async with running(detecting()) as live:
        await visits(live.broker, 3)
        (before,) = live.broker.questions.banned.rows()
        assert set(await visits(live.broker, 20)) == {BANNED}
        assert live.broker.questions.banned.rows() == [before]
        assert detector(live.broker).tracked == 0


async def test_nothing_is_remembered_while_it_is_off(autojump_clock: MockClock) -> None:
    async with running() as live:
        assert set(await visits(live.broker, 20)) == {0}
        assert detector(live.broker).tracked == 0


async def test_old_counts_are_forgotten_without_anybody_coming(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flapping, "STRIDE", 4)
    async with running(detecting()) as live:
        for number in range(10):
            await visit(live.broker, f"c{number}")
        assert detector(live.broker).tracked == 10
        await trio.sleep(30)
        await visit(live.broker, "late")
        await trio.sleep(35)
        assert detector(live.broker).tracked == 1
        await trio.sleep(61)
        assert detector(live.broker).tracked == 0


async def test_no_more_than_so_many_are_counted(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flapping, "MAX_TRACKED", 5)
    async with running(detecting()) as live:
        await visits(live.broker, 2, "oldest")
        for number in range(20):
            await visit(live.broker, f"c{number}")
            assert detector(live.broker).tracked <= 5
        assert await visits(live.broker, 3, "oldest") == [0, 0, 0]
        assert await visit(live.broker, "oldest") == BANNED


async def test_a_crowd_does_not_fill_the_store_with_bans(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flapping, "MAX_BANS", 2)
    async with running(detecting(max_count=1)) as live:
        for number in range(5):
            assert await visit(live.broker, f"c{number}") == 0
        assert len(live.broker.questions.banned.rows()) == 2
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "client 'c2' comes and goes, and is not banned" in told[0].getMessage()


async def set_over_rest(live: Live, **options: object) -> None:
    answer = await live.api.put("/configs/global_zone", json={"flapping_detect": options})
    assert answer.status_code == 200, answer.text
    assert answer.json()["flapping_detect"].items() >= options.items()


@shows("PUT /configs/global_zone")
async def test_it_is_set_over_rest_and_acts_at_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await visits(live.broker, 20)
        await set_over_rest(live, enable=True, max_count=2, window_time="10s", ban_time="20s")
        assert await visits(live.broker, 3) == [0, 0, BANNED]
        await trio.sleep(21)
        await visit(live.broker)
        await set_over_rest(live, max_count=4)
        assert await visits(live.broker, 5) == [0, 0, 0, 0, BANNED]
        await trio.sleep(21)
        await set_over_rest(live, enable=False)
        assert set(await visits(live.broker, 10)) == {0}
        await set_over_rest(live, enable=True)
    assert "no effect" not in caplog.text
    async with running(store=store) as live:
        assert await visits(live.broker, 5, "c2") == [0, 0, 0, 0, BANNED]
