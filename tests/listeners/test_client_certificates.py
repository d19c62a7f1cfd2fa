"""Client certificates from the TLS handshake to what the client may do: as user name, in tokens and in rules."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trustme
from access.token_keys import SECRET, sign
from api.doors import address_of
from api.live import Live, running
from cryptography import x509
from listeners.certificates import Certificates

from trio_broker.config import Config, ListenerConfig
from trio_broker.config.listeners import SslOptions
from trio_broker.config.tree import overlay
from trio_broker.protocol.packets import MQTT5, MQTT311, PubAck
from trio_broker.testing import Client, ConnectionEnded, open_client

BAD, DENIED = 0x86, 0x87
VERSIONS = pytest.mark.parametrize("level", [MQTT311, MQTT5])
JWT = {"mechanism": "jwt", "secret": SECRET}
RULES = """
{allow, {user, "device-7"}, all, ["d/${cert_common_name}/#"]}.
{allow, {user, "admin"}, all, ["#"]}.
{deny, all}.
"""


@asynccontextmanager
async def broker(options: SslOptions, **tables: Any) -> AsyncIterator[tuple[Live, Any]]:
    """And the address of its TLS listener."""
    config = Config(listeners={"ssl": {"a": ListenerConfig(bind="127.0.0.1:0", ssl_options=options)}})
    with trio.fail_after(60):
        async with running(overlay(config, tables)) as live:
            yield live, await address_of(live, "ssl:a")


async def refused(where: Any, context: ssl.SSLContext) -> None:
    """Before a byte of MQTT is read."""
    with contextlib.suppress(OSError, ConnectionEnded, trio.BrokenResourceError):
        async with open_client(where, client_id="c1", ssl_context=context):
            raise AssertionError("it was let in")


async def may_publish(client: Client, topic: str) -> bool:
    answer = await client.publish(topic, b"", qos=1)
    assert isinstance(answer, PubAck)
    return answer.reason_code != DENIED


@VERSIONS
async def test_the_common_name_is_the_user_that_rules_speak_of(certificates: Certificates, level: int) -> None:
    tables = {
        "mqtt": {"peer_cert_as_username": "cn"},
        "authorization": {"no_match": "deny", "sources": [{"type": "file", "rules": RULES}]},
    }
    refusal = DENIED if level == MQTT5 else 0x80
    device, other = (certificates.client_context(name) for name in ("device-7", "device-8"))
    async with broker(certificates.with_clients(required=True), **tables) as (_, where):
        async with open_client(where, client_id="c1", username="admin", level=level, ssl_context=device) as client:
            for topic_filter, wanted in (("d/device-7/#", 1), ("d/+/x", refusal), ("d/device-8/x", refusal)):
                assert (await client.subscribe(topic_filter, qos=1)).reason_codes == [wanted]
            await client.publish("d/device-8/x", b"not heard", qos=1)
            await client.publish("d/device-7/x", b"heard", qos=1)
            assert (await client.receive()).payload == b"heard"
        async with open_client(where, client_id="c2", username="device-7", level=level, ssl_context=other) as client:
            assert (await client.subscribe("d/device-7/x")).reason_codes == [refusal]
            assert (await client.subscribe("d/device-8/x")).reason_codes == [refusal]


@VERSIONS
@pytest.mark.parametrize("required", [True, False])
async def test_a_token_counts_with_the_certificate_that_it_was_made_for_only(
    certificates: Certificates, level: int, required: bool
) -> None:
    chain = [{**JWT, "verify_claims": {"cn": "${cert_common_name}"}, "acl_claim_name": "may"}]
    device, other, none = (certificates.client_context(name) for name in ("device-7", "device-8", None))
    said: dict[str, Any] = {
        "client_id": "c1",
        "username": "u1",
        "password": sign({"cn": "device-7", "may": {"pub": ["${cert_common_name}/x"]}}),
        "level": level,
    }
    async with broker(certificates.with_clients(required=required), authentication=chain) as (_, where):
        async with open_client(where, ssl_context=device, **said) as client:
            assert client.connack.reason_code == 0
            if level == MQTT5:
                assert [await may_publish(client, topic) for topic in ("device-7/x", "device-8/x")] == [True, False]
        for context in (other,) if required else (other, none):
            async with open_client(where, ssl_context=context, **said) as client:
                assert client.connack.reason_code == BAD
                assert (await client.wait_ended()).how in ("eof", "broken")


async def test_the_whole_subject_can_be_asked_for(certificates: Certificates) -> None:
    chain = [{**JWT, "verify_claims": {"dn": "${cert_subject}"}}]
    context = certificates.client_context()
    issued = certificates.authority.issue_cert("device@example.org", common_name="device-7")
    issued.configure_cert(context)
    subject = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).subject
    name = ",".join(reversed([part.rfc4514_string() for part in subject.rdns]))
    async with broker(certificates.with_clients(required=True), authentication=chain) as (_, where):
        for claim, wanted in ((name, 0), (f"{name},O=x", BAD), ("", BAD)):
            token = sign({"dn": claim})
            async with open_client(where, client_id="c1", password=token, ssl_context=context) as client:
                assert client.connack.reason_code == wanted


@VERSIONS
async def test_strangers_do_not_get_as_far_as_connect(certificates: Certificates, level: int) -> None:
    """Whatever name their certificate says, when nobody whom the broker trusts has issued it."""
    stranger = certificates.client_context()
    trustme.CA().issue_cert("device-7", common_name="device-7").configure_cert(stranger)
    device = certificates.client_context("device-7")
    async with broker(certificates.with_clients(required=True), mqtt={"peer_cert_as_username": "cn"}) as (live, where):
        await refused(where, stranger)
        await refused(where, certificates.client_context())
        assert (await live.api.get("/clients")).json()["data"] == []
        async with open_client(where, client_id="c1", level=level, ssl_context=device) as client:
            assert client.connack.reason_code == 0
            (row,) = (await live.api.get("/clients")).json()["data"]
            assert (row["clientid"], row["username"]) == ("c1", "device-7")


async def test_a_certificate_is_optional_but_never_a_strange_one(certificates: Certificates) -> None:
    stranger = certificates.client_context()
    trustme.CA().issue_cert("device-7", common_name="device-7").configure_cert(stranger)
    async with broker(certificates.with_clients(required=False), mqtt={"peer_cert_as_username": "cn"}) as (live, where):
        await refused(where, stranger)
        context = certificates.client_context()
        async with open_client(where, client_id="c1", username="u1", ssl_context=context) as client:
            assert client.connack.reason_code == 0
            assert (await live.api.get("/clients/c1")).json()["username"] == "u1"
