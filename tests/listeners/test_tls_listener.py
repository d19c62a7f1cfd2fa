"""TLS over real sockets."""

from __future__ import annotations

import contextlib
import logging
import ssl
from contextlib import suppress

import pytest
import trio
import trio.testing
import trustme
from conformance.statement import conforms
from listeners.certificates import Certificates
from listeners.fake_gate import (
    EchoGate,
    Running,
    echoed,
    listener_config,
    read_to_end,
    running,
    until,
)

from trio_broker.errors import ListenerError
from trio_broker.listeners import make_listener
from trio_broker.listeners.tls_stream import CLOSE_TIMEOUT, TlsStream
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import Connect
from trio_broker.testing import open_broker


async def connect(tls: Running, context: ssl.SSLContext) -> trio.SSLStream[trio.SocketStream]:
    """Compliant TLS: an end without close_notify is an error."""
    return trio.SSLStream(await tls.connect(), context, server_hostname="127.0.0.1")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_connection_is_served(certificates: Certificates, version: ssl.TLSVersion) -> None:
    context = certificates.client_context()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["mqtt"])
    async with running(listener_config("ssl", ssl_options=certificates.options)) as tls:
        client = await connect(tls, context)
        assert await echoed(client, b"a" * 100_000) == b"a" * 100_000
        assert client.selected_alpn_protocol() == "mqtt"
        (info,) = tls.gate.infos
        assert info.listener == "ssl:default"
        assert info.certificate_common_name is None
        await client.aclose()
        await until(lambda: tls.listener.current_connections == 0)
        assert tls.gate.broken == []


async def test_the_end_is_announced_to_the_peer(certificates: Certificates) -> None:
    config = listener_config("ssl", ssl_options=certificates.options)
    async with running(config) as tls, await connect(tls, certificates.client_context()) as client:
        await client.send_all(b"bye")
        assert await client.receive_some() == b""  # without close_notify this raises


async def test_a_device_that_just_drops_the_connection(certificates: Certificates) -> None:
    async with running(listener_config("ssl", ssl_options=certificates.options)) as tls:
        client = await connect(tls, certificates.client_context())
        await echoed(client)
        await trio.aclose_forcefully(client)
        await until(lambda: tls.listener.current_connections == 0)


async def test_client_certificates_name_the_client(certificates: Certificates) -> None:
    config = listener_config("ssl", ssl_options=certificates.with_clients(required=True))
    async with running(config) as tls:
        async with await connect(tls, certificates.client_context("device-7")) as client:
            await echoed(client)
        (info,) = tls.gate.infos
        assert info.certificate_common_name == "device-7"
        assert info.certificate_distinguished_name is not None
        assert info.certificate_distinguished_name.startswith("CN=device-7,")


@conforms(edge="transport-3")
async def test_a_client_certificate_may_be_optional(certificates: Certificates) -> None:
    config = listener_config("ssl", ssl_options=certificates.with_clients(required=False))
    async with running(config) as tls:
        for name in (None, "device-7"):
            async with await connect(tls, certificates.client_context(name)) as client:
                await echoed(client)
        assert [info.certificate_common_name for info in tls.gate.infos] == [None, "device-7"]


async def refused(tls: Running, context: ssl.SSLContext) -> None:
    client = await connect(tls, context)
    with contextlib.suppress(trio.BrokenResourceError):
        # TLS 1.3 tells the client at its first read only.
        await client.send_all(b"hello")
        assert await client.receive_some() == b""
    await trio.aclose_forcefully(client)


@conforms(edge="transport-3")
async def test_a_required_certificate_that_is_missing_or_strange(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="trio_broker")
    strange = certificates.client_context()
    trustme.CA().issue_cert("device-7", common_name="device-7").configure_cert(strange)
    config = listener_config("ssl", ssl_options=certificates.with_clients(required=True))
    async with running(config) as tls:
        await refused(tls, certificates.client_context())
        await refused(tls, strange)
        await until(lambda: tls.listener.counters.handshake_failures == 2)
        await until(lambda: tls.listener.current_connections == 0)
        assert tls.gate.infos == []
    lines = [record for record in caplog.records if "handshake" in record.getMessage()]
    assert len(lines) == 2
    assert all(record.exc_info is None and record.levelno <= logging.INFO for record in lines)
    assert "peer did not return a certificate" in lines[0].getMessage()
    assert "certificate verify failed" in lines[1].getMessage()


async def test_old_versions_are_refused(certificates: Certificates) -> None:
    context = certificates.client_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with running(listener_config("ssl", ssl_options=certificates.server(versions=("tlsv1.3",)))) as tls:
        await refused(tls, context)
        await until(lambda: tls.listener.counters.handshake_failures == 1)


async def test_no_tls_at_all(certificates: Certificates) -> None:
    async with running(listener_config("ssl", ssl_options=certificates.options)) as tls:
        async with await tls.connect() as client:
            await client.send_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
            await read_to_end(client)
        await until(lambda: tls.listener.counters.handshake_failures == 1)
        await until(lambda: tls.listener.current_connections == 0)


@conforms(edge="transport-3")
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
async def test_a_silent_peer_is_cut_and_stalls_nobody(
    certificates: Certificates, said: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    config = listener_config("ssl", ssl_options=certificates.server(handshake_timeout=15.0))
    async with running(config) as tls, await tls.connect() as silent:
        await silent.send_all(said)
        started = trio.current_time()
        async with await connect(tls, certificates.client_context()) as client:
            assert await echoed(client) == b"hello"
        assert tls.listener.counters.handshake_timeouts == 0
        assert await read_to_end(silent) == b""
        assert trio.current_time() - started == pytest.approx(15)
        assert tls.listener.counters.handshake_timeouts == 1
        await until(lambda: tls.listener.current_connections == 0)


async def test_a_peer_that_leaves_before_the_handshake(certificates: Certificates) -> None:
    async with running(listener_config("ssl", ssl_options=certificates.options)) as tls:
        await (await tls.connect()).aclose()
        await until(lambda: tls.listener.counters.handshake_failures == 1)
        await until(lambda: tls.listener.current_connections == 0)


async def test_the_limit_counts_handshakes(certificates: Certificates) -> None:
    config = listener_config("ssl", ssl_options=certificates.options, max_connections=1)
    async with running(config) as tls, await tls.connect():
        await until(lambda: tls.listener.current_connections == 1)
        async with await tls.connect() as above:
            assert await read_to_end(above) == b""
        assert tls.listener.counters.refused == 1


async def test_close_ends_handshakes_and_leaves_connections(certificates: Certificates) -> None:
    async with running(listener_config("ssl", ssl_options=certificates.options)) as tls:
        client = await connect(tls, certificates.client_context())
        await echoed(client)
        half = await tls.connect()
        await until(lambda: tls.listener.current_connections == 2)
        await trio.testing.wait_all_tasks_blocked()
        tls.listener.close()
        assert await read_to_end(half) == b""
        assert await echoed(client) == b"hello"
        assert tls.listener.counters.handshake_timeouts == 0
        await half.aclose()
        await client.aclose()


async def test_a_fault_in_serving_ends_that_connection_alone(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(listener_config("ssl", ssl_options=certificates.options)) as tls:
        tls.gate.fault = RuntimeError("broken session")
        client = await connect(tls, certificates.client_context())
        await client.do_handshake()
        await read_to_end(client)
        await trio.aclose_forcefully(client)
        tls.gate.fault = None
        async with await connect(tls, certificates.client_context()) as healthy:
            assert await echoed(healthy) == b"hello"
            assert tls.listener.current_connections == 1
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]


async def test_a_bad_certificate_keeps_the_listener_shut(certificates: Certificates, nursery: trio.Nursery) -> None:
    listener = make_listener(listener_config("ssl", ssl_options=certificates.server(certfile="/no/such.pem")))
    with pytest.raises(ListenerError, match=r"listener ssl:default: ssl_options\.certfile '/no/such\.pem'"):
        await listener.run(EchoGate(nursery))
    assert not listener.running


@conforms(edge="transport-3")
async def test_closing_does_not_wait_for_a_peer_that_does_not_read(
    certificates: Certificates, autojump_clock: trio.testing.MockClock
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.options.certfile, certificates.options.keyfile)
    server_end, client_end = trio.testing.lockstep_stream_pair()
    server = trio.SSLStream(server_end, context, server_side=True)
    client = trio.SSLStream(client_end, certificates.client_context(), server_hostname="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(client.receive_some)
        with trio.move_on_after(1):
            await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    stream = TlsStream(server)  # type: ignore[arg-type]  # any transport will do here
    started = trio.current_time()
    await stream.aclose()
    assert trio.current_time() - started == pytest.approx(CLOSE_TIMEOUT)
    await stream.aclose()


@conforms(edge="publishing-11")
async def test_the_last_words_reach_a_peer_that_still_sends(certificates: Certificates) -> None:
    """[MQTT 5.0 section 4.13] unread bytes at the end would reset the connection, and destroy what was sent before."""
    options = certificates.options
    ssl_options = {"certfile": options.certfile, "keyfile": options.keyfile}
    async with open_broker(
        listeners={"ssl": {"default": {"bind": "127.0.0.1:0", "ssl_options": ssl_options}}}
    ) as broker:
        for _ in range(20):
            tcp = await trio.open_tcp_stream(*broker.listeners["ssl:default"])
            client = trio.SSLStream(tcp, certificates.client_context(), server_hostname="127.0.0.1")
            await client.send_all(encode(Connect("c"), 5, "client"))
            assert (await client.receive_some())[0] == 0x20
            # What follows the fault is never read by the broker as MQTT.
            with suppress(trio.BrokenResourceError):
                await client.send_all(b"\0\0" + b"x" * 300_000)
            assert await client.receive_some() == b"\xe0\x01\x81"
            await trio.aclose_forcefully(client)
