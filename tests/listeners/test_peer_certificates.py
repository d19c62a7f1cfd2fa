"""What of a client's certificate becomes its user name or its client identifier: in each form, over TLS and wss."""

from __future__ import annotations

import hashlib
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio_websocket
from api.doors import address_of
from api.live import Live, running
from api.operations import shows
from listeners.certificates import Certificates
from listeners.fake_gate import echoed, listener_config, until
from listeners.fake_gate import running as listening

from trio_broker.actors.gate import ConnectionInfo
from trio_broker.config import Config, ListenerConfig, MqttConfig
from trio_broker.config.listeners import SslOptions
from trio_broker.config.without_effect import without_effect
from trio_broker.testing import open_client

PARTS = ["cn", "dn", "crt", "pem", "md5"]


class Device:
    """A client with a certificate."""

    def __init__(self, certificates: Certificates, name: str = "device-7") -> None:
        self.context = certificates.client_context()
        issued = certificates.authority.issue_cert("device@example.org", common_name=name)
        issued.configure_cert(self.context)
        self.der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    def expected(self, part: str) -> str:
        return {
            "cn": "device-7",
            "crt": self.der.hex(),
            "pem": b64encode(self.der).decode(),
            "md5": hashlib.md5(self.der, usedforsecurity=False).hexdigest(),
        }[part]


@asynccontextmanager
async def broker(options: SslOptions, **mqtt: Any) -> AsyncIterator[Live]:
    listener = ListenerConfig(bind="127.0.0.1:0", ssl_options=options)
    config = Config(listeners={"ssl": {"a": listener}, "wss": {"a": listener}}, mqtt=MqttConfig(**mqtt))
    assert without_effect(config) == []
    with trio.fail_after(60):
        async with running(config) as live:
            yield live


@pytest.mark.parametrize("part", PARTS)
async def test_the_user_name(certificates: Certificates, part: str) -> None:
    """Whatever CONNECT says."""
    device = Device(certificates)
    async with broker(certificates.with_clients(required=True), peer_cert_as_username=part) as live:
        where = await address_of(live, "ssl:a")
        async with open_client(where, client_id="c1", username="somebody", ssl_context=device.context):
            found = (await live.api.get("/clients/c1")).json()["username"]
    if part == "dn":
        assert found.startswith("CN=device-7,")
    else:
        assert found == device.expected(part)


@pytest.mark.parametrize("part", ["cn", "crt", "pem", "md5"])
async def test_the_client_identifier(certificates: Certificates, part: str) -> None:
    device = Device(certificates)
    async with broker(certificates.with_clients(required=True), peer_cert_as_clientid=part) as live:
        async with open_client(await address_of(live, "ssl:a"), client_id="c1", ssl_context=device.context):
            (client,) = (await live.api.get("/clients")).json()["data"]
            assert client["clientid"] == device.expected(part)


async def test_over_a_websocket_it_is_the_same(certificates: Certificates) -> None:
    device = Device(certificates)
    async with listening(listener_config("wss", ssl_options=certificates.with_clients(required=True))) as wss:
        url = f"wss://127.0.0.1:{wss.bound.port}/mqtt"
        async with trio_websocket.open_websocket_url(url, ssl_context=device.context, subprotocols=["mqtt"]):
            await until(lambda: wss.gate.infos != [])
            (info,) = wss.gate.infos
            for part in ("cn", "crt", "pem", "md5"):
                assert info.of_certificate(part) == device.expected(part)


@pytest.mark.parametrize("part", [*PARTS, "disabled"])
async def test_who_shows_none_is_what_it_says(certificates: Certificates, part: str) -> None:
    options = certificates.with_clients(required=False)
    async with broker(options, peer_cert_as_username=part, peer_cert_as_clientid=part) as live:
        where = await address_of(live, "ssl:a")
        context = certificates.client_context()
        async with open_client(where, client_id="c1", username="u1", ssl_context=context):
            assert (await live.api.get("/clients/c1")).json()["username"] == "u1"


@shows("PUT /configs/global_zone")
async def test_it_is_set_over_rest(certificates: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    device = Device(certificates)
    async with broker(certificates.with_clients(required=True)) as live:
        answer = await live.api.put("/configs/global_zone", json={"mqtt": {"peer_cert_as_username": "md5"}})
        assert answer.status_code == 200
        where = await address_of(live, "ssl:a")
        async with open_client(where, client_id="c1", ssl_context=device.context):
            assert (await live.api.get("/clients/c1")).json()["username"] == device.expected("md5")
    assert "no effect" not in caplog.text


async def test_nothing_of_a_connection_is_kept_for_its_certificate(certificates: Certificates) -> None:
    """What is known of the peer outlives the connection, with the session."""
    config = listener_config("ssl", ssl_options=certificates.with_clients(required=True))
    device = Device(certificates)
    async with listening(config) as tls:
        transport = await tls.connect()
        async with trio.SSLStream(transport, device.context, server_hostname="127.0.0.1") as client:
            await echoed(client)
            (info,) = tls.gate.infos
            assert info.certificate is not None
            assert info.certificate() == device.der
        await until(lambda: info.certificate is None)


async def test_nothing_is_kept_of_a_client_that_was_let_in(certificates: Certificates) -> None:
    device = Device(certificates)
    options = certificates.with_clients(required=True)
    async with (
        broker(options) as live,
        open_client(await address_of(live, "ssl:a"), client_id="c1", ssl_context=device.context),
    ):
        assert live.broker._door is not None
        (connection,) = live.broker._door.connections()
        assert connection.info.certificate_common_name == "device-7"
        assert connection.info.certificate is None


@pytest.mark.parametrize("part", ["disabled", *PARTS])
def test_a_peer_without_a_certificate_has_no_part_of_one(part: str) -> None:
    assert ConnectionInfo("ssl:a", "192.0.2.1").of_certificate(part) is None
    assert ConnectionInfo("ssl:a", "192.0.2.1", certificate=lambda: None).of_certificate(part) is None


@pytest.mark.parametrize("name", ["a\nb", "a\x7f", "a\x85b"])
async def test_a_name_with_control_characters_is_refused(
    certificates: Certificates, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Names go into logs, topics and requests to others."""
    caplog.set_level("INFO")
    config = listener_config("ssl", ssl_options=certificates.with_clients(required=True))
    async with listening(config) as tls:
        transport = await tls.connect()
        stream = trio.SSLStream(transport, Device(certificates, name).context, server_hostname="127.0.0.1")
        with pytest.raises(trio.BrokenResourceError):
            await echoed(stream)
        await trio.aclose_forcefully(stream)
        assert tls.gate.infos == []
        assert tls.listener.counters.handshake_failures == 1
    assert "control characters in the name of its certificate" in caplog.text
