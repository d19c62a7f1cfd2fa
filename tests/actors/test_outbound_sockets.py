"""The broker's own HTTP clients over real sockets: who is believed, and whom we show who we are."""

from __future__ import annotations

import gc
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from actors.test_outbound import DEFAULT, allow, client, fails
from actors.web import Web, over_sockets

from trio_broker.actors.outbound import Outbound, Unanswered
from trio_broker.config.http_client import SslClientConfig
from trio_broker.errors import ConfigError


async def test_over_a_socket() -> None:
    web = Web(allow)
    with trio.fail_after(30):
        async with over_sockets(web) as port, client(f"http://localhost:{port}") as made:
            assert (await made.request("GET", b"/")).status == 200
            assert (await made.request("GET", b"/")).status == 200
        assert web.connections == 1
        async with client(f"http://127.0.0.1:{port}") as made:
            assert await fails(made) == f"127.0.0.1 port {port}: Connection refused"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path_factory.getbasetemp() / "outbound-ca.pem")
    return made


def cafile(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.getbasetemp() / "outbound-ca.pem")


def server_context(ca: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names).configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"cacertfile": "CA"}, None),
        ({}, "its certificate is not believed: "),
        ({"verify": "verify_none"}, None),
        ({"cacertfile": "CA", "server_name_indication": "other.example"}, "Hostname mismatch"),
        ({"cacertfile": "CA", "server_name_indication": "disable"}, None),
        ({"cacertfile": "CA", "versions": ["tlsv1.2"]}, None),
        ({"cacertfile": "PEM"}, None),
    ],
)
async def test_who_is_believed(
    ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any], fault: str | None
) -> None:
    told: list[str | None] = []
    context = server_context(ca, "localhost")
    context.sni_callback = lambda _socket, name, _context: told.append(name)
    if options.get("cacertfile"):
        pem = ca.cert_pem.bytes().decode()
        options = {**options, "cacertfile": pem if options["cacertfile"] == "PEM" else cafile(tmp_path_factory)}
    tls = SslClientConfig(enable=True, **options)
    with trio.fail_after(30):
        async with over_sockets(Web(allow), context) as port, client(f"https://localhost:{port}", tls=tls) as made:
            if fault is not None:
                assert fault in await fails(made)
            else:
                assert (await made.request("GET", b"/")).status == 200
    expected = tls.server_name_indication or "localhost"
    assert told == [None if expected == "disable" else expected]


async def test_a_certificate_that_is_shown(
    ca: trustme.CA, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ours = ca.issue_cert("broker.example")
    ours.private_key_and_cert_chain_pem.write_to_path(tmp_path / "ours.pem")
    context = server_context(ca, "localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    tls = SslClientConfig(enable=True, cacertfile=cafile(tmp_path_factory))
    pem = str(tmp_path / "ours.pem")
    shown = SslClientConfig(enable=True, cacertfile=cafile(tmp_path_factory), certfile=pem, keyfile=pem)
    with trio.fail_after(30):
        async with over_sockets(Web(allow), context) as port:
            async with client(f"https://localhost:{port}", tls=tls) as made:
                assert await fails(made)
            async with client(f"https://localhost:{port}", tls=shown) as made:
                assert (await made.request("GET", b"/")).status == 200


async def test_files_that_cannot_be_used_are_named(
    ca: trustme.CA, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("nothing")
    tables: list[tuple[dict[str, Any], str]] = [
        ({"cacertfile": "/dev/null"}, r"it\.ssl\.cacertfile: /dev/null cannot be read: it is no plain file"),
        ({"cacertfile": "/no/such/file"}, r"it\.ssl\.cacertfile: /no/such/file cannot be read: No such file"),
        ({"cacertfile": str(rubbish)}, r"it\.ssl\.cacertfile: .*rubbish.* cannot be used"),
        ({"cacertfile": "-----BEGIN CERTIFICATE-----"}, r"it\.ssl\.cacertfile: PEM text cannot be used"),
        ({"certfile": str(rubbish), "keyfile": str(rubbish)}, r"it\.ssl\.certfile: .*rubbish.* cannot be used"),
    ]
    for options, reason in tables:
        with pytest.raises(ConfigError, match=reason):
            await Outbound.open("https://h", DEFAULT, SslClientConfig(enable=True, **options), key="it")


async def test_a_service_that_does_not_read_is_given_up() -> None:
    async def deaf(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    with trio.fail_after(30):
        async with over_sockets(Web(allow, instead=deaf)) as port:
            async with client(f"http://127.0.0.1:{port}", request_timeout=0.1) as made:
                with pytest.raises(Unanswered, match=r"no answer within 0\.1 s"):
                    await made.request("POST", b"/", body=b"x" * 30_000_000)
    gc.collect()  # a generator that was left behind would be told by a warning
    await trio.testing.wait_all_tasks_blocked()
