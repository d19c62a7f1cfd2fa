"""The REST API over TLS: beside HTTP or instead of it, with certificates that are renewed while it runs."""

from __future__ import annotations

import contextlib
import logging
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from api.conftest import ADMIN
from api.live import running
from api.operations import shows
from attrs import evolve
from listeners.certificates import Certificates, make_certificates
from trio.testing import MockClock

from trio_broker.api import connection
from trio_broker.api.app import WebApp
from trio_broker.api.server import serve
from trio_broker.broker import Addresses, Broker
from trio_broker.cli import _announce
from trio_broker.config import (
    Config,
    DashboardConfig,
    DashboardListeners,
    HttpConfig,
    HttpsConfig,
    check,
    check_files,
)
from trio_broker.config.listeners import SslOptions
from trio_broker.config.load import load
from trio_broker.errors import ConfigError, ListenerError
from trio_broker.listeners.https import HttpsDoor
from trio_broker.listeners.tls_files import CHECK_INTERVAL
from trio_broker.store.memory import MemoryStore

ANYWHERE = "127.0.0.1:0"
KEY = "dashboard.listeners.https"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


def made(folder: Path) -> Certificates:
    folder.mkdir()
    return make_certificates(folder)


def config_of(options: SslOptions, *, http: bool = False, **changes: Any) -> Config:
    https = HttpsConfig(bind=ANYWHERE, ssl_options=options, **changes)
    plain = HttpConfig(bind=ANYWHERE) if http else None
    return Config(dashboard=DashboardConfig(listeners=DashboardListeners(http=plain, https=https)))


@asynccontextmanager
async def started(config: Config) -> AsyncIterator[tuple[Broker, Addresses]]:
    broker = Broker(config, store=MemoryStore())
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            addresses: Addresses = await nursery.start(broker.run)
            yield broker, addresses
            broker.close()


async def status(address: tuple[str, int] | None, context: ssl.SSLContext | bool) -> str:
    """What `/status` says over a connection of its own."""
    assert address is not None
    scheme = "http" if context is False else "https"
    async with httpx.AsyncClient(verify=context) as client:
        answer = await client.get(f"{scheme}://{address[0]}:{address[1]}/status")
    return answer.text


@asynccontextmanager
async def secured(address: tuple[str, int] | None, context: ssl.SSLContext) -> AsyncIterator[trio.SSLStream[Any]]:
    assert address is not None
    async with await trio.open_tcp_stream(*address) as transport:
        stream = trio.SSLStream(transport, context, server_hostname="127.0.0.1", https_compatible=True)
        await stream.do_handshake()
        yield stream


async def asked(stream: trio.abc.Stream, request: bytes = b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n") -> bytes:
    """The answer to a request for `/status` on a connection that goes on."""
    await stream.send_all(request)
    answer = b""
    while not answer.endswith(b"is running"):
        chunk = await stream.receive_some()
        assert chunk, "the connection ended too early"
        answer += chunk
    return answer


async def drained(stream: trio.abc.ReceiveStream) -> int:
    """Bytes until the end, whatever the end."""
    size = 0
    with contextlib.suppress(trio.BrokenResourceError):
        async for chunk in stream:
            size += len(chunk)
    return size


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_instead_of_http(certificates: Certificates) -> None:
    async with started(config_of(certificates.options)) as (_, addresses):
        assert addresses.api is None
        assert "is running" in await status(addresses.api_https, certificates.client_context())
        with pytest.raises(httpx.ConnectError):  # nobody that the system trusts has signed it
            await status(addresses.api_https, True)


async def test_beside_http(certificates: Certificates) -> None:
    async with started(config_of(certificates.options, http=True)) as (_, addresses):
        assert addresses.api != addresses.api_https
        assert "is running" in await status(addresses.api, False)
        assert "is running" in await status(addresses.api_https, certificates.client_context())


async def test_a_broker_with_both_says_so(certificates: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    addresses = Addresses(api=("127.0.0.1", 18083), api_https=("::1", 18084))
    _announce(Config(), addresses)
    assert [record.getMessage() for record in caplog.records] == [
        "REST API on http://127.0.0.1:18083/api/v5",
        "REST API on https://[::1]:18084/api/v5",
    ]


async def test_the_same_keys_and_the_same_operations(app: WebApp, certificates: Certificates) -> None:
    door = HttpsDoor.open("dashboard.listeners.https", certificates.options)
    async with trio.open_nursery() as nursery:
        host, port = await nursery.start(_serving(app, door))
        base = f"https://{host}:{port}/api/v5"
        async with httpx.AsyncClient(base_url=base, auth=ADMIN, verify=certificates.client_context()) as client:
            assert (await client.get("/nodes")).status_code == 200
            assert (await client.get("/nodes", auth=("x", "y"))).status_code == 401
            large = await client.post("/publish", content=b"x" * 3_000_000)
            assert large.status_code >= 400
        nursery.cancel_scope.cancel()


def _serving(app: Any, door: HttpsDoor, **options: Any) -> Any:
    async def run(*, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        await serve(app, ANYWHERE, secure=door.secured, task_status=task_status, **options)

    return run


async def test_only_modern_tls(certificates: Certificates) -> None:
    async with started(config_of(certificates.options)) as (_, addresses):
        async with secured(addresses.api_https, certificates.client_context()) as stream:
            assert stream.version() == "TLSv1.3"
            assert stream.compression() is None
        old = certificates.client_context()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.set_ciphers("AES128-SHA:@SECLEVEL=0")
        with pytest.raises(trio.BrokenResourceError):
            async with secured(addresses.api_https, old):
                pytest.fail("a cipher without forward secrecy")
        async with started(config_of(evolve(certificates.options, versions=("tlsv1.2",)))) as (_, other):
            async with secured(other.api_https, certificates.client_context()) as stream:
                assert stream.version() == "TLSv1.2"


async def test_clients_may_be_asked_for_certificates(certificates: Certificates) -> None:
    async with started(config_of(certificates.with_clients(required=True))) as (_, addresses):
        assert "is running" in await status(addresses.api_https, certificates.client_context("ann"))
        with pytest.raises(httpx.TransportError):
            await status(addresses.api_https, certificates.client_context())


async def test_a_peer_that_speaks_no_tls_harms_nobody(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with started(config_of(certificates.options)) as (_, addresses):
        assert addresses.api_https is not None
        async with await trio.open_tcp_stream(*addresses.api_https) as stranger:
            await stranger.send_all(b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"HTTP/1.1 200" not in await read_to_end(stranger)
        assert "is running" in await status(addresses.api_https, certificates.client_context())
    assert "dashboard.listeners.https: TLS handshake failed: http request" in caplog.text


async def test_a_silent_peer_is_given_up(autojump_clock: MockClock, certificates: Certificates) -> None:
    door = HttpsDoor.open("dashboard.listeners.https", evolve(certificates.options, handshake_timeout=5.0))
    async with trio.open_nursery() as nursery:
        address = await nursery.start(_serving(_nobody, door, max_connections=1))
        async with await trio.open_tcp_stream(*address) as silent:
            before = trio.current_time()
            assert await silent.receive_some() == b""
            assert 5 <= trio.current_time() - before < 60
        nursery.cancel_scope.cancel()


async def _nobody(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("no request came")


async def test_a_connection_that_does_not_read_is_given_up(
    autojump_clock: MockClock, certificates: Certificates
) -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})

    door = HttpsDoor.open("dashboard.listeners.https", certificates.options)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(_serving(endless, door))
        async with secured(address, certificates.client_context()) as client:
            await client.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await trio.sleep(connection.SLOWEST_SEND + 10)
            # What the system has buffered still comes; then the endless answer ends, in the middle of a TLS record.
            assert await drained(client.transport_stream) > 0
        nursery.cancel_scope.cancel()


async def test_a_graceful_end_lets_idle_connections_go(certificates: Certificates) -> None:
    broker = Broker(config_of(certificates.options), store=MemoryStore())
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            addresses: Addresses = await nursery.start(broker.run)
            async with secured(addresses.api_https, certificates.client_context()) as stream:
                await asked(stream)
                broker.close()
                assert await stream.receive_some() == b""


# -- certificates that are renewed


def replace(certificates: Certificates, others: Certificates) -> None:
    for name in ("cert.pem", "key.pem"):
        shutil.copy(others.folder / name, certificates.folder / name)


async def look(clock: MockClock) -> None:
    """Let the broker look at its files; no other time passes, so real sockets are no matter."""
    await trio.testing.wait_all_tasks_blocked()
    clock.jump(CHECK_INTERVAL)
    await trio.testing.wait_all_tasks_blocked()


async def is_trusted(address: tuple[str, int] | None, certificates: Certificates) -> bool:
    try:
        async with secured(address, certificates.client_context()):
            return True
    except trio.BrokenResourceError:
        return False


async def test_a_renewed_certificate_is_used_and_connections_stay(
    mock_clock: MockClock, certificates: Certificates, tmp_path: Path
) -> None:
    renewed = made(tmp_path / "renewed")
    async with started(config_of(certificates.options)) as (_, addresses):
        async with secured(addresses.api_https, certificates.client_context()) as stream:
            await asked(stream)
            replace(certificates, renewed)
            await look(mock_clock)
            assert await is_trusted(addresses.api_https, renewed)
            assert not await is_trusted(addresses.api_https, certificates)
            assert b"200" in await asked(stream)


@shows("GET /alarms")
async def test_a_broken_one_is_not_and_there_is_an_alarm(
    mock_clock: MockClock, certificates: Certificates, tmp_path: Path
) -> None:
    renewed = made(tmp_path / "renewed")
    async with running(config_of(certificates.options)) as live:
        await look(mock_clock)
        (certificates.folder / "cert.pem").write_text("half of it")
        await look(mock_clock)
        (alarm,) = (await live.api.get("/alarms")).json()["data"]
        assert alarm["name"] == f"certificate_reload_failed/{KEY}"
        assert "there is no PEM certificate in it" in alarm["details"]["reason"]
        replace(certificates, renewed)
        await look(mock_clock)
        assert (await live.api.get("/alarms")).json()["data"] == []


# -- the configuration


@shows("GET /configs/dashboard", "PUT /configs/dashboard")
async def test_it_is_shown_and_not_changed_over_rest(certificates: Certificates) -> None:
    config = config_of(evolve(certificates.options, password="hidden"), max_connections=7)
    async with running(config) as live:
        shown = (await live.api.get("/configs/dashboard")).json()
        https = shown["listeners"]["https"]
        assert (https["bind"], https["enable"], https["max_connections"]) == (ANYWHERE, True, 7)
        assert https["ssl_options"]["certfile"] == certificates.options.certfile
        assert https["ssl_options"]["password"] == "******"
        answer = await live.api.put("/configs/dashboard", json=shown)
        assert answer.status_code == 200, answer.text
        assert live.broker.config.https == config.https
        https["ssl_options"]["verify"] = "verify_peer"
        answer = await live.api.put("/configs/dashboard", json={**shown, "listeners": {"https": https}})
        assert live.broker.config.https == config.https


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ('bind = "127.0.0.1:0"', f"{KEY}.ssl_options.certfile: is needed for HTTPS"),
        (
            'bind = "127.0.0.1:0"\nssl_options.certfile = "c.pem"',
            f"{KEY}.ssl_options.keyfile: is needed for HTTPS",
        ),
        ("", f'{KEY}.bind: is needed, such as "127.0.0.1:1883"'),
        ('bind = "/run/x"', f"{KEY}.bind: must be an address and a port, not a path"),
        (
            'bind = "127.0.0.1:0"\nssl_options = {certfile="c", keyfile="k", verify="verify_peer"}',
            f"{KEY}.ssl_options.cacertfile: is needed for verify_peer",
        ),
        ('bind = "127.0.0.1:0"\nssl_options.versions = ["tlsv1.1"]', f"{KEY}.ssl_options.versions: "),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, table: str, complaint: str) -> None:
    file = tmp_path / "broker.toml"
    file.write_text(f"[{KEY}]\n{table}\n")
    with pytest.raises(ConfigError) as failed:
        check(load(file))
    assert complaint in str(failed.value)


def test_one_that_is_not_enabled_needs_nothing() -> None:
    config = Config(dashboard=DashboardConfig(listeners=DashboardListeners(https=HttpsConfig(enable=False))))
    check(config)
    check_files(config)
    assert config.https is None


def test_a_file_that_cannot_be_read(certificates: Certificates) -> None:
    with pytest.raises(ConfigError, match=rf"{KEY}.ssl_options.certfile: \"/no/such.pem\" cannot be read"):
        check_files(config_of(evolve(certificates.options, certfile="/no/such.pem")))


async def test_a_file_that_is_no_certificate_keeps_the_broker_from_starting(certificates: Certificates) -> None:
    (certificates.folder / "cert.pem").write_text("nothing")
    with pytest.raises(ListenerError, match=rf"{KEY}: ssl_options.certfile .*there is no PEM certificate in it"):
        await Broker(config_of(certificates.options), store=MemoryStore()).run()
