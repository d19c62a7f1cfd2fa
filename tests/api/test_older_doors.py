"""The listeners of the older generations: off by default, each on a port of its own, also over TLS."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from api.live import PASSWORD, running
from api.operations import shows
from attrs import evolve
from listeners.certificates import Certificates, make_certificates
from trio.testing import MockClock

from trio_broker.broker import Addresses, Broker
from trio_broker.cli import _announce
from trio_broker.config import Config, check, check_files
from trio_broker.config.listeners import SslOptions
from trio_broker.config.load import load
from trio_broker.config.model import (
    ApiConfig,
    CloudApiConfig,
    DashboardConfig,
    DashboardListeners,
    HttpConfig,
    OlderApiConfig,
)
from trio_broker.errors import ConfigError, ListenerError
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import open_broker

ANYWHERE = "127.0.0.1:0"
USER = ("admin", PASSWORD)
PROBES = {"v2": "/api/v2/management/nodes", "v4": "/api/v4/brokers", "v5": "/api/v5/nodes"}
V4 = CloudApiConfig(bind=ANYWHERE)
V2 = OlderApiConfig(bind=ANYWHERE)
V5 = HttpConfig(bind=ANYWHERE)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


def config_of(
    *,
    v2: OlderApiConfig | None = None,
    v4: CloudApiConfig | None = None,
    v5: HttpConfig | None = None,
    **dashboard: Any,
) -> Config:
    listeners = DashboardListeners(http=v5)
    return Config(
        api=ApiConfig(v2=v2, v4=v4),
        dashboard=DashboardConfig(listeners=listeners, default_password=PASSWORD, **dashboard),
    )


@asynccontextmanager
async def started(config: Config) -> AsyncIterator[tuple[Broker, Addresses]]:
    broker = Broker(config, store=MemoryStore())
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            addresses: Addresses = await nursery.start(broker.run)
            yield broker, addresses
            broker.close()


async def asked(address: tuple[str, int] | None, path: str, *, verify: Any = False, **more: Any) -> httpx.Response:
    """Over a connection of its own; as the dashboard user, unless `auth` says otherwise."""
    assert address is not None
    scheme = "http" if verify is False else "https"
    async with httpx.AsyncClient(verify=verify) as client:
        method = more.pop("method", "GET")
        more.setdefault("auth", USER)
        return await client.request(method, f"{scheme}://{address[0]}:{address[1]}{path}", **more)


async def test_they_are_off_unless_they_are_asked_for() -> None:
    assert Config.service().older_apis == {}
    assert Config().api == ApiConfig(v2=None, v4=None)
    async with started(config_of(v5=V5)) as (_, addresses):
        assert (addresses.api_v2, addresses.api_v4) == (None, None)
        for path in ("/api/v4/nodes", "/api/v4", "/api/v4/brokers", "/api/v2/management/nodes"):
            assert (await asked(addresses.api, path)).status_code == 404
    off = config_of(v2=evolve(V2, enable=False), v4=evolve(V4, enable=False))
    assert off.has_api is False
    check(off)
    async with started(off) as (_, addresses):
        assert addresses == Addresses()


async def test_each_has_a_port_of_its_own() -> None:
    async with started(config_of(v2=V2, v4=V4, v5=V5)) as (_, addresses):
        where = {"v2": addresses.api_v2, "v4": addresses.api_v4, "v5": addresses.api}
        assert len({address[1] for address in where.values() if address is not None}) == 3
        for name, address in where.items():
            found = {other: (await asked(address, path)).status_code for other, path in PROBES.items()}
            # A password is no API key: v5 takes it at /login only.
            assert found == {**dict.fromkeys(PROBES, 404), name: 401 if name == "v5" else 200}
    async with open_broker(api={"v4": {"bind": ANYWHERE}}) as running_broker:
        assert running_broker.api_v4 is not None
        assert (running_broker.api, running_broker.api_v2) == (None, None)
        assert (await asked(running_broker.api_v4, PROBES["v4"], auth=("x", "y"))).status_code == 401


async def test_an_older_one_alone_makes_the_first_key_and_user() -> None:
    """As the listener of v5 does, and they are good for it."""
    config = evolve(config_of(v4=V4), dashboard=DashboardConfig())
    async with started(config) as (_, addresses):
        assert addresses.api is None
        key, user = addresses.generated_key, addresses.generated_user
        assert key is not None
        assert user is not None
        answer = await asked(addresses.api_v4, "/api/v4/brokers", auth=(key.api_key, key.api_secret))
        assert answer.status_code == 200
        answer = await asked(addresses.api_v4, "/api/v4/users", auth=(user.username, user.password))
        assert [row["username"] for row in answer.json()["data"]] == [user.username]


async def test_keys_of_the_bootstrap_file_are_applications(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("script:a-long-secret\n")
    config = config_of(v4=V4)
    config = evolve(config, api_key=evolve(config.api_key, bootstrap_file=str(keys)))
    async with started(config) as (_, addresses):
        assert (await asked(addresses.api_v4, "/api/v4/brokers", auth=("script", "a-long-secret"))).status_code == 200


async def test_the_paths_of_the_cloud() -> None:
    for cloud, status in ((True, 200), (False, 404)):
        async with started(config_of(v4=evolve(V4, cloud=cloud))) as (_, addresses):
            assert (await asked(addresses.api_v4, "/api/brokers")).status_code == status
            assert (await asked(addresses.api_v4, "/api/v4/brokers")).status_code == 200


@pytest.mark.parametrize("name", ["v2", "v4"])
async def test_over_tls(certificates: Certificates, caplog: pytest.LogCaptureFixture, name: str) -> None:
    caplog.set_level(logging.INFO)
    options = certificates.options
    config = (
        config_of(v2=evolve(V2, ssl_options=options)) if name == "v2" else config_of(v4=evolve(V4, ssl_options=options))
    )
    async with started(config) as (_, addresses):
        address = addresses.api_v2 if name == "v2" else addresses.api_v4
        answer = await asked(address, PROBES[name], verify=certificates.client_context())
        assert (answer.status_code, answer.json()["code"]) == (200, 0)
        with pytest.raises(httpx.ConnectError):  # nobody that the system trusts has signed it
            await asked(address, PROBES[name], verify=True)
        with pytest.raises(httpx.TransportError):  # in clear
            await asked(address, PROBES[name])
    assert f"REST API api.{name}: TLS handshake failed: " in caplog.text


async def test_a_certificate_that_is_none_keeps_the_broker_from_starting(certificates: Certificates) -> None:
    (certificates.folder / "cert.pem").write_text("nothing")
    config = config_of(v5=V5, v4=evolve(V4, ssl_options=certificates.options))
    with pytest.raises(ListenerError, match=r"api\.v4: ssl_options\.certfile .*there is no PEM certificate in it"):
        await Broker(config, store=MemoryStore()).run()


@pytest.mark.parametrize("name", ["v2", "v4"])
async def test_an_address_that_is_taken_is_named_and_nothing_stays_open(name: str) -> None:
    with socket.socket() as taken, socket.socket() as other:
        for one in (taken, other):
            one.bind(("127.0.0.1", 0))
        taken.listen()
        free = other.getsockname()[1]
        other.close()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        v2, v4 = (evolve(V2, bind=where), V4) if name == "v2" else (V2, evolve(V4, bind=where))
        config = config_of(v2=v2, v4=v4, v5=evolve(V5, bind=f"127.0.0.1:{free}"))
        with pytest.raises(
            ListenerError, match=rf"^REST API api\.{name}: cannot listen on {where}: the address is in use"
        ):
            await Broker(config, store=MemoryStore()).run()
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", free))
            again.listen()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[api.v4]", 'api.v4.bind: is needed, such as "127.0.0.1:1883"'),
        ('[api.v2]\nbind = "/run/x"', "api.v2.bind: must be an address and a port, not a path"),
        (
            '[api.v4]\nbind = "127.0.0.1:0"\nssl_options.keyfile = "k"',
            "api.v4.ssl_options.certfile: is needed for HTTPS",
        ),
        ('[api.v4]\nbind = "127.0.0.1:0"\nclod = true', "api.v4.clod"),
        ('[api.v2]\nbind = "127.0.0.1:0"\ncloud = true', "api.v2.cloud"),
        ('[api.v3]\nbind = "127.0.0.1:0"', "api.v3"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "broker.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as failed:
        check(load(file))
    assert complaint in str(failed.value)


def test_a_certificate_that_cannot_be_read_is_said() -> None:
    options = SslOptions(certfile="/no/such.pem", keyfile="/no/such.key")
    with pytest.raises(ConfigError, match=r'api\.v2\.ssl_options\.certfile: "/no/such\.pem" cannot be read'):
        check_files(config_of(v2=evolve(V2, ssl_options=options)))


# -- while it runs


async def test_what_the_dashboard_says_holds_for_them_also_when_it_changes() -> None:
    origin = {"Origin": "https://elsewhere.example"}
    asks_first = {**origin, "Access-Control-Request-Method": "DELETE"}
    async with started(config_of(v2=V2, v4=V4)) as (broker, addresses):
        for layer, documents, allowed, preflight in (
            ({}, 200, None, {"v2": 404, "v4": 401}),
            ({"cors": True, "swagger_support": False}, 404, "*", {"v2": 204, "v4": 204}),
            ({"cors": False, "swagger_support": True}, 200, None, {"v2": 404, "v4": 401}),
        ):
            await broker.questions.settings.change({"dashboard": layer})
            for name, address in (("v2", addresses.api_v2), ("v4", addresses.api_v4)):
                answer = await asked(address, "/api-docs/swagger.json", auth=USER, headers=origin)
                assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (documents, allowed)
                answer = await asked(
                    address, f"/api/{name}/clients/c1", method="OPTIONS", auth=None, headers=asks_first
                )
                assert answer.status_code == preflight[name]


@shows("PUT /configs", "GET /configs")
async def test_they_are_shown_and_not_changed_over_rest(autojump_clock: MockClock, certificates: Certificates) -> None:
    options = evolve(certificates.options, password="hidden")
    config = config_of(v2=V2, v4=evolve(V4, cloud=True, ssl_options=options))
    async with running(config) as live:
        shown = (await live.api.get("/configs", headers={"accept": "application/json"})).json()["api"]
        assert (shown["v2"]["bind"], shown["v4"]["cloud"]) == (ANYWHERE, True)
        assert shown["v4"]["ssl_options"]["password"] == "******"
        for text in ("api.v4.enable = false", 'api.v2.bind = "0.0.0.0:8080"', "api.v4.cloud = false"):
            answer = await live.api.put("/configs", content=text, headers={"content-type": "text/plain"})
            assert (answer.status_code, answer.json()["code"]) == (400, "UPDATE_FAILED")
            assert "while it runs" in answer.json()["message"]
        assert live.broker.questions.settings.config.api == config.api


def test_the_command_says_where_they_are(certificates: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config = config_of(v2=V2, v4=evolve(V4, ssl_options=certificates.options))
    addresses = Addresses(api=("127.0.0.1", 18083), api_v2=("127.0.0.1", 8080), api_v4=("::1", 8081))
    _announce(config, addresses)
    assert [record.getMessage() for record in caplog.records] == [
        "REST API on http://127.0.0.1:18083/api/v5",
        "REST API on https://[::1]:8081/api/v4",
        "REST API on http://127.0.0.1:8080/api/v2",
    ]


async def test_a_health_check_needs_no_credentials() -> None:
    async with started(config_of(v2=V2, v4=V4)) as (broker, addresses):
        name = broker.config.node.name
        for address, second in ((addresses.api_v2, "emqttd is running"), (addresses.api_v4, "emqx is running")):
            answer = await asked(address, "/status", auth=None)
            assert (answer.status_code, answer.text) == (200, f"Node {name} is started\n{second}")
            assert answer.headers["content-type"].partition(";")[0] == "text/plain"


async def test_connections_of_one_do_not_use_up_those_of_another() -> None:
    async with started(config_of(v2=evolve(V2, max_connections=1), v4=V4)) as (_, addresses):
        assert addresses.api_v2 is not None
        async with await trio.open_tcp_stream(*addresses.api_v2) as first:
            await first.send_all(b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"200" in await first.receive_some()
            async with await trio.open_tcp_stream(*addresses.api_v2) as second:
                assert await second.receive_some() == b""
            assert (await asked(addresses.api_v4, "/api/v4/brokers")).status_code == 200


async def test_nothing_listens_when_the_broker_has_ended() -> None:
    async with started(config_of(v2=V2, v4=V4)) as (_, addresses):
        pass
    for address in (addresses.api_v2, addresses.api_v4):
        assert address is not None
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream(*address)
