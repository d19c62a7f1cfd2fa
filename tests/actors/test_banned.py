"""Who is banned is kept out at CONNECT: by all kinds, in all versions, under its final name, until the ban is over."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from actors.flows import end_of, rest, settle
from api.live import running
from store.restart_world import LONG, open_world
from trio.testing import MockClock

from trio_broker.access.authentication import Credentials, Verdict
from trio_broker.actors.banned import SWEEP, Ban, Banned, canonical
from trio_broker.actors.gate import ConnectionInfo
from trio_broker.broker import Broker
from trio_broker.config import Config, MqttConfig
from trio_broker.listeners.memory import memory_pair
from trio_broker.protocol.packets import NO_PROPERTIES, Will
from trio_broker.store.memory import MemoryStore
from trio_broker.store.operations import PutDocument
from trio_broker.testing import Client, open_client

BANNED = 0x8A
NOT_AUTHORIZED = 0x87  # how the client of the tests shows the return code 5 of MQTT 3


async def ban(broker: Broker, kind: str, who: str, until: int | None = None) -> None:
    await broker.questions.banned.add(Ban(kind, canonical(kind, who), "test", "", 0, until))


async def code(broker: Broker, client_id: str = "c1", username: str | None = None, level: int = 5) -> int:
    """What a CONNECT is answered."""
    async with open_client(broker, client_id=client_id, username=username, level=level) as client:
        return client.connack.reason_code


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
@pytest.mark.parametrize(
    ("kind", "who", "in_", "out"),
    [
        ("clientid", "c1", [("c", None), ("C1", "c1")], [("c1", None), ("c1", "u1")]),
        ("username", "u1", [("u1", None), ("c1", "U1")], [("c1", "u1"), ("c2", "u1")]),
        ("clientid_re", "^c[0-9]+$", [("cx1", "c1"), ("xc1", None)], [("c1", None), ("c22", "u1")]),
        ("clientid_re", "es", [("te", "es")], [("test", None)]),
        ("username_re", "^$|min", [("c1", "root"), ("min", None)], [("c1", "admin"), ("c2", "")]),
    ],
)
async def test_who_is_refused(
    autojump_clock: MockClock,
    level: int,
    refused: int,
    kind: str,
    who: str,
    in_: list[tuple[str, str | None]],
    out: list[tuple[str, str | None]],
) -> None:
    async with running() as live:
        await ban(live.broker, kind, who)
        for client_id, username in in_:
            assert await code(live.broker, client_id, username, level) == 0
        for client_id, username in out:
            async with open_client(live.broker, client_id=client_id, username=username, level=level) as client:
                assert client.connack.reason_code == refused
                await end_of(client)
            assert await live.broker.questions.client(client_id) is None


@pytest.mark.parametrize(
    ("kind", "who", "in_", "out"),
    [
        ("peerhost", "10.0.0.1", ["10.0.0.2", "", "::1"], ["10.0.0.1", "::ffff:10.0.0.1", "::ffff:a00:1"]),
        ("peerhost", "0:0::1", ["127.0.0.1", "::2"], ["::1", "0:0:0:0:0:0:0:1"]),
        ("peerhost", "fe80::1", ["fe80::2%eth0"], ["fe80::1", "fe80::1%eth0"]),
        ("peerhost_net", "10.1.0.0/16", ["10.2.0.0", "::1", ""], ["10.1.255.255", "::ffff:10.1.0.0"]),
        ("peerhost_net", "2001:db8::/32", ["10.0.0.1", "2001:db9::"], ["2001:db8::", "2001:db8:1::5"]),
        ("peerhost_net", "0.0.0.0/0", ["::1", ""], ["1.2.3.4", "::ffff:1.2.3.4"]),
        ("peerhost_net", "::ffff:0:0/95", ["1.2.3.4"], []),
    ],
)
async def test_addresses(autojump_clock: MockClock, kind: str, who: str, in_: list[str], out: list[str]) -> None:
    """Compared as addresses, IPv4 within IPv6 as IPv4. In memory there is none."""
    async with running() as live:
        await ban(live.broker, kind, who)
        for wanted, hosts in ((0, in_), (BANNED, out)):
            for host in hosts:
                async with from_host(live.broker, host) as client:
                    assert client.connack.reason_code == wanted, host


async def test_the_session_that_is_there_is_kicked(autojump_clock: MockClock) -> None:
    """At once, as by DELETE /clients/:clientid; kept ones too. Nobody else."""
    async with running() as live:
        watcher = await live.connect("w", username="c1")
        await watcher.subscribe("gone")
        for properties in (NO_PROPERTIES, LONG):
            will = Will("gone", b"x")
            client = await live.connect("c1", username="u1", will=will, properties=properties)
            await ban(live.broker, "username", "u1")
            await ban(live.broker, "clientid_re", "c1")
            await ban(live.broker, "peerhost_net", "127.0.0.0/8")
            await settle()
            assert client.disconnected is None
            await ban(live.broker, "clientid", "c1")
            assert await live.broker.questions.client("c1") is None
            assert (await end_of(client)).reason_code == 0x98
            assert [message.payload for message in await rest(watcher)] == [b"x"]
            await live.broker.questions.banned.clear()
        assert watcher.disconnected is None


async def test_a_session_without_a_connection_is_over(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1", properties=LONG)
        await client.disconnect()
        await settle()
        assert await live.broker.questions.client("c1") is not None
        await ban(live.broker, "clientid", "c1")
        assert await live.broker.questions.client("c1") is None


async def test_it_ends_at_its_time(autojump_clock: MockClock) -> None:
    """By the wall clock, whether it is swept or not."""
    async with running() as live:
        banned = live.broker.questions.banned
        now = banned.now()
        for kind, who in (("clientid", "c1"), ("clientid_re", "c1"), ("peerhost_net", "127.0.0.1")):
            await ban(live.broker, kind, who, now + 100)
        await ban(live.broker, "username", "for ever")
        await trio.sleep(97)
        assert await code(live.broker) == BANNED
        await trio.sleep(5)
        assert await code(live.broker) == 0
        await trio.sleep(SWEEP)
        assert [row.who for row in banned.rows()] == ["for ever"]
        assert await code(live.broker, username="for ever") == BANNED


async def test_the_clock_is_set(autojump_clock: MockClock) -> None:
    """What counts is the clock as it is now."""
    async with running() as live:
        core = live.broker._core
        assert core is not None
        await ban(live.broker, "clientid", "c1", live.broker.questions.banned.now() + 1000)
        core.clock._offset += 2000
        assert await code(live.broker) == 0
        core.clock._offset -= 2000
        assert await code(live.broker) == BANNED


async def test_nobody_wakes_up_for_bans_without_an_end(autojump_clock: MockClock) -> None:
    async with running() as live:
        core = live.broker._core
        assert core is not None
        timers = len(core.timers)
        await ban(live.broker, "username", "a")
        assert len(core.timers) == timers
        await ban(live.broker, "username", "b", live.broker.questions.banned.now() + 10)
        await ban(live.broker, "username", "c", live.broker.questions.banned.now() + 10)
        assert len(core.timers) == timers + 1
        await trio.sleep(2 * SWEEP)
        assert len(core.timers) == timers
        assert [row.who for row in live.broker.questions.banned.rows()] == ["a"]


async def test_nobody_wakes_up_until_the_first_one_ends(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    sweep = Banned._sweep

    def counted(self: Banned) -> None:
        looks.append(trio.current_time())
        sweep(self)

    monkeypatch.setattr(Banned, "_sweep", counted)
    async with running() as live:
        banned, core = live.broker.questions.banned, live.broker._core
        assert core is not None
        await ban(live.broker, "username", "far", banned.now() + 10_000_000)
        await ban(live.broker, "username", "further", banned.now() + 20_000_000)
        await trio.sleep(9_000_000)
        await ban(live.broker, "username", "near", banned.now() + 100)
        await trio.sleep(1000)
        assert [row.who for row in banned.rows()] == ["far", "further"]
        assert len(looks) == 1
        core.clock._offset += 3_000_000
        core.clock_was_set()
        await trio.sleep(2 * SWEEP)
        assert [row.who for row in banned.rows()] == ["further"]
        assert len(looks) == 2


async def test_who_asks_for_a_ban_and_goes_away_has_the_session_kicked_all_the_same(autojump_clock: MockClock) -> None:
    """The ban is there then, and could not be set again."""
    async with running() as live:
        client = await live.connect("c1")
        with trio.CancelScope() as scope:
            scope.cancel()
            await ban(live.broker, "clientid", "c1")
        assert scope.cancelled_caught
        assert [row.who for row in live.broker.questions.banned.rows()] == ["c1"]
        await settle()
        assert await live.broker.questions.client("c1") is None
        await end_of(client)


async def test_many_that_end_at_once_are_swept_in_parts(autojump_clock: MockClock) -> None:
    async with running() as live:
        banned = live.broker.questions.banned
        for number in range(600):
            await ban(live.broker, "username", f"{number}", banned.now() + 10)
        await ban(live.broker, "username", "later", banned.now() + 10_000)
        await trio.sleep(SWEEP + 1)
        assert [row.who for row in banned.rows()] == ["later"]


@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_it_goes_on_after_a_restart(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """And its time with it, while the broker is away."""
    async with open_world(("memory", how), tmp_path, monkeypatch) as world:  # type: ignore[arg-type]
        now = world.broker.questions.banned.now()
        await ban(world.broker, "clientid", "c1", now + 1000)
        await ban(world.broker, "username_re", "^u", now + 500)
        await world.restart(away=400)
        assert await code(world.broker) == BANNED
        assert await code(world.broker, "c2", "u2") == BANNED
        await world.restart(away=400)
        assert await code(world.broker) == BANNED
        assert await code(world.broker, "c2", "u2") == 0
        await trio.sleep(SWEEP + 1)
        assert [row.who for row in world.broker.questions.banned.rows()] == ["c1"]
        await world.restart(away=400)
        assert await code(world.broker) == 0


async def test_what_the_store_has_and_nobody_can_read_is_left_out(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await ban(live.broker, "clientid", "c1")
        body = '{"kind":"%s","who":"(","by":"","reason":"","at":0,"until":null}'
        store.write(PutDocument("banned", "x", "{}"), PutDocument("banned", "y", body % "clientid_re"))
    async with running(store=store) as live:
        assert [row.who for row in live.broker.questions.banned.rows()] == ["c1"]
    assert caplog.text.count("in the store is left out") == 2


async def test_the_counters_and_the_log(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody was asked who it is: it does not count as an authentication."""
    caplog.set_level(logging.INFO, "trio_broker")
    async with running() as live:
        await ban(live.broker, "clientid_re", "^c")
        assert await code(live.broker, "c1") == BANNED
        assert await code(live.broker, "c1", level=4) == NOT_AUTHORIZED
        metrics = await live.broker.questions.metrics()
    moved = {name: value for name, value in metrics.items() if value and not name.startswith(("bytes.", "packets.re"))}
    assert moved == dict.fromkeys(
        [
            *("client.connack", "client.connect", "connections.refused", "packets.connack.error"),
            *("packets.connack.sent", "packets.connect.received", "packets.sent"),
        ],
        2,
    )
    refusals = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert len(refusals) == 2
    assert all("'c1'" in line and "banned: clientid_re '^c'" in line for line in refusals)


@pytest.mark.parametrize(("kind", "who"), [("clientid_re", "^auto-"), ("clientid_re", "")])
async def test_an_assigned_client_id_counts(autojump_clock: MockClock, kind: str, who: str) -> None:
    async with running() as live:
        assert await code(live.broker, "") == 0
        await ban(live.broker, kind, who)
        assert await code(live.broker, "") == BANNED
        await live.broker.questions.banned.clear()
        # None is looked at before there is one.
        await ban(live.broker, "clientid_re", "^$")
        assert await code(live.broker, "") == 0


async def test_a_user_name_that_is_the_client_id_counts(autojump_clock: MockClock) -> None:
    async with running(Config(mqtt=MqttConfig(use_username_as_clientid=True))) as live:
        await ban(live.broker, "clientid", "u1")
        await ban(live.broker, "clientid", "c1")
        assert await code(live.broker, "c1", "u1") == BANNED
        assert await code(live.broker, "c1", "u2") == 0
        assert await code(live.broker, "c1") == BANNED


@pytest.mark.parametrize(
    ("setting", "kind"), [("peer_cert_as_clientid", "clientid"), ("peer_cert_as_username", "username")]
)
async def test_what_the_certificate_says_counts(autojump_clock: MockClock, setting: str, kind: str) -> None:
    async with running(Config(mqtt=MqttConfig(**{setting: "cn"}))) as live:  # type: ignore[arg-type]
        core = live.broker._core
        assert core is not None
        await ban(live.broker, kind, "device 7")
        for name, wanted in (("device 7", BANNED), ("device 8", 0)):
            ours, theirs = memory_pair()
            info = ConnectionInfo(listener="ssl:default", peer_host="", certificate_common_name=name)
            core.sessions_nursery.start_soon(core.door.serve_stream, theirs, info)
            async with open_client(ours, client_id="c1", username="u1") as client:
                assert client.connack.reason_code == wanted


class Renames:
    """Takes a second, and knows everybody by another name."""

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        await trio.sleep(1)
        return Verdict(username=f"really {credentials.username}")


@pytest.mark.parametrize("as_client_id", [False, True])
async def test_who_it_turns_out_to_be_counts(autojump_clock: MockClock, as_client_id: bool) -> None:
    config = Config(mqtt=MqttConfig(use_username_as_clientid=as_client_id))
    broker = Broker(config, authenticators=[Renames()])
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        await ban(broker, "clientid" if as_client_id else "username", "really ann")
        assert await code(broker, "c1", "ann") == BANNED
        assert await code(broker, "c1", "bob") == 0
        metrics = await broker.questions.metrics()
        assert (metrics["authentication.success"], metrics["client.authenticate"]) == (2, 2)
        broker.close()


async def test_who_is_banned_while_it_is_asked_who_it_is(autojump_clock: MockClock) -> None:
    broker = Broker(authenticators=[Renames()])
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        found: list[int] = []

        async def come() -> None:
            found.append(await code(broker, "c1", "ann"))

        async with trio.open_nursery() as clients:
            clients.start_soon(come)
            await trio.sleep(0.5)
            await ban(broker, "clientid", "c1")
        assert found == [BANNED]
        broker.close()


async def test_no_pattern_holds_up_the_others(autojump_clock: MockClock) -> None:
    """One that would take `re` longer than the world exists."""
    async with running() as live:
        await ban(live.broker, "clientid_re", "^(a+)+$")
        await ban(live.broker, "username_re", "^(.*)*x(.*)*y$")
        assert await code(live.broker, "a" * 60_000 + "b", "x" * 60_000) == 0
        assert await code(live.broker, "a" * 60_000, None) == BANNED
        assert await code(live.broker, "b", "x" * 30_000 + "y" * 30_000) == BANNED
