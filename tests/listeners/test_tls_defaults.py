"""What a TLS listener takes where nothing is set: over real sockets, with clients that would take anything."""

from __future__ import annotations

import ssl
import warnings

import pytest
import trio
from listeners.certificates import Certificates
from listeners.fake_gate import Running, echoed, listener_config, running

from trio_broker.config.listeners import SslOptions
from trio_broker.listeners.tls_context import build_context

GOOD = "ECDHE-ECDSA-AES128-GCM-SHA256"


def careless(certificates: Certificates, ciphers: str, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client of this version alone that has no demands."""
    context = certificates.client_context()
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    return context


async def shaken(tls: Running, context: ssl.SSLContext) -> trio.SSLStream[trio.SocketStream]:
    transport = await tls.connect()
    stream = trio.SSLStream(transport, context, server_hostname="127.0.0.1")
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError:
        await transport.aclose()
        raise
    return stream


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_versions_are_refused(certificates: Certificates, version: ssl.TLSVersion) -> None:
    async with running(listener_config("ssl", ssl_options=certificates.options)) as tls:
        with pytest.raises(trio.BrokenResourceError):
            await shaken(tls, careless(certificates, "ALL", version))
        assert tls.listener.counters.handshake_failures == 1


@pytest.mark.parametrize(
    "cipher",
    [
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA384",
        "ECDHE-ECDSA-AES256-CCM8",
        "ECDHE-ECDSA-NULL-SHA",
        "AECDH-AES128-SHA",
        "ADH-AES128-GCM-SHA256",
        "AES128-SHA",
        "AES128-GCM-SHA256",
        "DHE-RSA-AES128-GCM-SHA256",
        "PSK-AES128-GCM-SHA256",
    ],
)
async def test_weak_ciphers_are_refused(certificates: Certificates, cipher: str) -> None:
    """No encryption, no authentication, no forward secrecy, block modes: whatever the client would take."""
    async with running(listener_config("ssl", ssl_options=certificates.options)) as tls:
        with pytest.raises(trio.BrokenResourceError):
            await shaken(tls, careless(certificates, cipher, ssl.TLSVersion.TLSv1_2))
        stream = await shaken(tls, careless(certificates, f"{cipher}:{GOOD}", ssl.TLSVersion.TLSv1_2))
        assert stream.cipher()[0] == GOOD
        assert stream.compression() is None
        await stream.aclose()


async def test_tls_1_3_and_forward_secrecy_where_the_client_can(certificates: Certificates) -> None:
    async with running(listener_config("ssl", ssl_options=certificates.options)) as tls:
        stream = await shaken(tls, certificates.client_context())
        assert stream.version() == "TLSv1.3"
        assert stream.cipher()[0] in {
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
            "TLS_AES_128_GCM_SHA256",
        }
        assert stream.compression() is None
        await stream.aclose()


def test_every_cipher_is_a_modern_one(certificates: Certificates) -> None:
    ciphers = build_context("x", certificates.options, alpn="mqtt").get_ciphers()
    assert len(ciphers) >= 3
    for cipher in ciphers:
        assert cipher["aead"], cipher["name"]
        assert cipher["strength_bits"] >= 128
        assert cipher["name"].startswith(("TLS_", "ECDHE-"))


def test_the_options_of_openssl(certificates: Certificates) -> None:
    context = build_context("x", certificates.options, alpn="mqtt")
    for option in (ssl.OP_NO_COMPRESSION, ssl.OP_NO_RENEGOTIATION, ssl.OP_CIPHER_SERVER_PREFERENCE):
        assert context.options & option
    assert (context.minimum_version, context.maximum_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    assert SslOptions().versions == ("tlsv1.3", "tlsv1.2")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_may_be_resumed_and_keeps_its_certificate(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    context = certificates.client_context("device-7")
    context.minimum_version = context.maximum_version = version
    config = listener_config("ssl", ssl_options=certificates.with_clients(required=True))
    async with running(config) as tls:
        first = await shaken(tls, context)
        await echoed(first)
        session = first.session
        await first.aclose()
        second = trio.SSLStream(await tls.connect(), context, server_hostname="127.0.0.1")
        second.session = session
        await echoed(second)
        assert second.session_reused is True
        assert [info.certificate_common_name for info in tls.gate.infos] == ["device-7", "device-7"]
        await second.aclose()


async def test_a_ticket_of_one_listener_opens_no_other(certificates: Certificates) -> None:
    """Else who was let in by one could come in without a certificate at the next."""
    context = certificates.client_context()
    strict = listener_config("ssl", ssl_options=certificates.with_clients(required=True))
    async with (
        running(listener_config("ssl", ssl_options=certificates.options)) as open_to_all,
        running(strict) as tls,
    ):
        first = await shaken(open_to_all, context)
        await echoed(first)
        session = first.session
        await first.aclose()
        second = trio.SSLStream(await tls.connect(), context, server_hostname="127.0.0.1")
        second.session = session
        with pytest.raises(trio.BrokenResourceError):
            await echoed(second)
        await trio.aclose_forcefully(second)
        assert tls.gate.infos == []
