"""Certificates that are renewed while clients are connected: who gets which, and what is said of broken ones."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from api.doors import address_of, put
from api.live import Live
from api.live import running as live_running
from api.operations import shows
from listeners.certificates import Certificates, make_certificates
from listeners.fake_gate import EchoGate, echoed, listener_config
from trio.testing import MockClock

from trio_broker.actors.alarms import Alarms
from trio_broker.actors.clock import Clock
from trio_broker.config import Config, ListenerConfig, SslOptions
from trio_broker.errors import ListenerError
from trio_broker.listeners.keeper import Keeper
from trio_broker.listeners.tls_files import CHECK_INTERVAL, TlsFiles, TlsWatch
from trio_broker.testing import open_client

Stream = trio.SSLStream[trio.SocketStream]


@pytest.fixture
def first(tmp_path: Path) -> Certificates:
    return made(tmp_path / "first")


@pytest.fixture
def second(tmp_path: Path) -> Certificates:
    return made(tmp_path / "second")


def made(folder: Path) -> Certificates:
    folder.mkdir()
    return make_certificates(folder)


def renew(old: Certificates, new: Certificates, *names: str) -> None:
    """As a tool does it: another file takes the place of the one that is there."""
    for name in names or ("cert.pem", "key.pem"):
        part = old.folder / f"{name}.part"
        shutil.copy(new.folder / name, part)
        part.rename(old.folder / name)


async def pass_interval(clock: MockClock) -> None:
    """No other time passes, so real sockets are no matter."""
    await trio.testing.wait_all_tasks_blocked()
    clock.jump(CHECK_INTERVAL)
    await trio.testing.wait_all_tasks_blocked()


def config_of(*listeners: ListenerConfig) -> Config:
    tables: dict[str, dict[str, ListenerConfig]] = {}
    for listener in listeners:
        tables.setdefault(listener.kind, {})[listener.name] = listener
    return Config(listeners=tables)


class Gate(EchoGate):
    """Nobody is connected where a listener is closed."""

    def drop_listener(self, listener: str) -> None:
        pass


class Doors:
    """A keeper and its watch."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.alarms = Alarms(Clock())
        self.gate = Gate(nursery)
        self.watch = TlsWatch(self.alarms)
        self.keeper = Keeper(self.gate, self.watch)

    def port(self, identifier: str) -> int:
        bound = self.keeper._running[identifier].bound
        assert bound is not None
        assert bound.port is not None
        return bound.port

    async def connect(self, identifier: str, certificates: Certificates, name: str | None = None) -> Stream:
        transport = await trio.open_tcp_stream("127.0.0.1", self.port(identifier))
        stream = trio.SSLStream(transport, certificates.client_context(name), server_hostname="127.0.0.1")
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            await transport.aclose()
            raise
        return stream

    async def is_trusted(self, certificates: Certificates, identifier: str = "ssl:default") -> bool:
        try:
            stream = await self.connect(identifier, certificates)
        except trio.BrokenResourceError:
            return False
        await stream.aclose()
        return True


@asynccontextmanager
async def keeping(*listeners: ListenerConfig) -> AsyncIterator[Doors]:
    async with trio.open_nursery() as nursery:
        doors = Doors(nursery)
        nursery.start_soon(doors.watch.run)
        await nursery.start(doors.keeper.run, config_of(*listeners), {})
        yield doors
        nursery.cancel_scope.cancel()


async def test_a_renewed_certificate_is_for_new_connections(
    mock_clock: MockClock, first: Certificates, second: Certificates
) -> None:
    async with keeping(listener_config("ssl", ssl_options=first.options)) as doors:
        async with await doors.connect("ssl:default", first) as client:
            await pass_interval(mock_clock)
            assert await doors.is_trusted(first)
            renew(first, second)
            assert await doors.is_trusted(first)  # nobody has looked yet
            await pass_interval(mock_clock)
            assert await doors.is_trusted(second)
            assert not await doors.is_trusted(first)
            assert await echoed(client) == b"hello"
        assert doors.keeper.infos()[0].running


async def test_a_link_that_points_elsewhere_is_followed(
    mock_clock: MockClock, first: Certificates, second: Certificates, tmp_path: Path
) -> None:
    """So ACME clients and Kubernetes renew."""
    live = tmp_path / "live"
    live.symlink_to(first.folder)
    options = first.server(certfile=str(live / "cert.pem"), keyfile=str(live / "key.pem"))
    async with keeping(listener_config("ssl", ssl_options=options)) as doors:
        other = tmp_path / "other"
        other.symlink_to(second.folder)
        other.rename(live)
        await pass_interval(mock_clock)
        assert await doors.is_trusted(second)


@pytest.mark.parametrize("broken", ["nonsense", "half", "gone", "another key"])
async def test_broken_files_leave_the_old_ones_in_force_and_are_told(
    mock_clock: MockClock, first: Certificates, second: Certificates, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_broker.listeners.tls_files")
    async with keeping(listener_config("ssl", ssl_options=first.options)) as doors:
        certfile = Path(first.options.certfile)
        if broken == "nonsense":
            certfile.write_text("nonsense")
        elif broken == "half":
            certfile.write_bytes(certfile.read_bytes()[:200])
        elif broken == "gone":
            certfile.unlink()
        else:
            renew(first, second, "key.pem")
        for _ in range(3):
            await pass_interval(mock_clock)
            assert await doors.is_trusted(first)
        (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert told.startswith("listener ssl:default: ssl_options.certfile ")
        assert told.endswith("; the certificate that was in force stays so")
        (alarm,) = doors.alarms.active()
        assert alarm.name == "certificate_reload_failed/ssl:default"
        assert alarm.details["reason"] in told
        renew(first, second)
        await pass_interval(mock_clock)
        assert await doors.is_trusted(second)
        assert doors.alarms.active() == []
        assert "it is used from now on" in caplog.text


async def test_a_certificate_without_its_key_waits_for_the_key(
    mock_clock: MockClock, first: Certificates, second: Certificates
) -> None:
    async with keeping(listener_config("ssl", ssl_options=first.options)) as doors:
        renew(first, second, "cert.pem")
        await pass_interval(mock_clock)
        assert await doors.is_trusted(first)
        renew(first, second, "key.pem")
        await pass_interval(mock_clock)
        assert await doors.is_trusted(second)
        assert doors.alarms.active() == []


async def test_other_authorities_count_for_clients_from_then_on(
    mock_clock: MockClock, first: Certificates, second: Certificates
) -> None:
    """Also for one that has a ticket of an earlier session."""
    options = first.with_clients(required=True)
    async with keeping(listener_config("ssl", ssl_options=options)) as doors:
        context = first.client_context("device-7")
        transport = await trio.open_tcp_stream("127.0.0.1", doors.port("ssl:default"))
        async with trio.SSLStream(transport, context, server_hostname="127.0.0.1") as client:
            assert await echoed(client) == b"hello"
            session: ssl.SSLSession = client.session
            renew(first, second, "ca.pem")
            await pass_interval(mock_clock)
            transport = await trio.open_tcp_stream("127.0.0.1", doors.port("ssl:default"))
            again = trio.SSLStream(transport, context, server_hostname="127.0.0.1")
            again.session = session
            with pytest.raises(trio.BrokenResourceError):
                await echoed(again)
            await trio.aclose_forcefully(again)
            assert await echoed(client) == b"hello"


async def test_each_listener_has_its_own(mock_clock: MockClock, first: Certificates, second: Certificates) -> None:
    listeners = [
        listener_config("ssl", ssl_options=first.options),
        listener_config("wss", ssl_options=second.options),
    ]
    async with keeping(*listeners) as doors:
        Path(first.options.certfile).write_text("broken")
        await pass_interval(mock_clock)
        assert [alarm.name for alarm in doors.alarms.active()] == ["certificate_reload_failed/ssl:default"]
        assert await doors.is_trusted(second, "wss:default")
        # The listener goes, and its alarm with it.
        await doors.keeper.changed(config_of(*listeners), config_of(listeners[1]))
        assert doors.alarms.active() == []
        renew(second, first, "key.pem")
        await pass_interval(mock_clock)
        assert [alarm.name for alarm in doors.alarms.active()] == ["certificate_reload_failed/wss:default"]


async def test_nobody_looks_where_there_is_no_tls(mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[None] = []
    monkeypatch.setattr(TlsWatch, "look", lambda self: looks.append(None))
    async with keeping(listener_config("tcp")) as doors:
        for _ in range(3):
            await pass_interval(mock_clock)
        assert looks == []
        assert doors.keeper.infos()[0].running


async def test_a_listener_that_comes_later_is_looked_at_too(
    mock_clock: MockClock, first: Certificates, second: Certificates
) -> None:
    async with keeping(listener_config("tcp")) as doors:
        await pass_interval(mock_clock)
        tls = listener_config("ssl", ssl_options=first.options)
        await doors.keeper.changed(config_of(listener_config("tcp")), config_of(listener_config("tcp"), tls))
        assert await doors.is_trusted(first)
        renew(first, second)
        await pass_interval(mock_clock)
        assert await doors.is_trusted(second)


def test_what_changes_while_it_is_read_is_read_again(
    first: Certificates, second: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = TlsFiles("listener ssl:default", first.options, "mqtt")
    files.load()
    assert not files.changed
    os.utime(first.options.certfile, ns=(1, 1))
    assert files.changed
    files.load()
    assert not files.changed
    Path(first.options.keyfile).unlink()
    assert files.changed
    before = files.context
    with pytest.raises(ListenerError, match="No such file"):
        files.load()
    assert files.context is before


# -- over REST


@asynccontextmanager
async def live_with(certificates: Certificates) -> AsyncIterator[Live]:
    listener = ListenerConfig(bind="127.0.0.1:0", ssl_options=certificates.options)
    with trio.fail_after(60):
        async with live_running(Config(listeners={"ssl": {"a": listener}})) as live:
            yield live


@shows("PUT /listeners/:id")
async def test_a_change_over_rest_reads_the_files_at_once_and_drops_nobody(
    first: Certificates, second: Certificates
) -> None:
    async with live_with(first) as live:
        where = await address_of(live, "ssl:a")
        async with open_client(where, client_id="c1", ssl_context=first.client_context()) as c1:
            renew(first, second)
            assert (await put(live, "ssl:a")).status_code == 200
            async with open_client(where, client_id="c2", ssl_context=second.client_context()) as c2:
                await c2.ping()
            await c1.ping()


@shows("PUT /listeners/:id", "GET /alarms")
async def test_a_change_over_rest_with_broken_files_says_so(first: Certificates, second: Certificates) -> None:
    async with live_with(first) as live:
        where = await address_of(live, "ssl:a")
        good = Path(first.options.certfile).read_bytes()
        Path(first.options.certfile).write_text("broken")
        answer = await put(live, "ssl:a")
        assert answer.status_code == 400
        assert "there is no PEM certificate in it" in answer.json()["message"]
        (alarm,) = (await live.api.get("/alarms")).json()["data"]
        assert alarm["name"] == "certificate_reload_failed/ssl:a"
        async with open_client(where, ssl_context=first.client_context()) as client:
            await client.ping()
        Path(first.options.certfile).write_bytes(good)
        assert (await put(live, "ssl:a")).status_code == 200
        assert (await live.api.get("/alarms")).json()["data"] == []


def test_a_look_at_the_files_beside_a_thread_that_looks_at_all_objects(tmp_path: Path) -> None:
    """CPython cannot finish a tuple that `gc.get_objects` has seen half made, and other threads run while a file is
    looked at."""
    path = str(tmp_path / "certificate.pem")
    Path(path).write_text("x")
    files = TlsFiles("listener ssl:x", SslOptions(certfile=path, keyfile=path, cacertfile=path), "mqtt")
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            gc.get_objects()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        assert all(files.changed for _ in range(3000))
    finally:
        ended.set()
        thread.join()
