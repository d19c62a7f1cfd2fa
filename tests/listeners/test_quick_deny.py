"""`enable_authn = quick_deny_anonymous`: who gives no user name is refused before anybody is asked."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from api.live import running
from listeners.certificates import Certificates

from trio_broker.access.authentication import Credentials, Verdict
from trio_broker.broker import Addresses, Broker
from trio_broker.config import Config, ListenerConfig, MqttConfig
from trio_broker.config.without_effect import without_effect
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import open_client

QUICK = "quick_deny_anonymous"


class Chain:
    """Lets in everybody, and remembers who was asked about."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    async def authenticate(self, credentials: Credentials) -> Verdict:
        self.asked.append(credentials.username)
        return Verdict()


def config_of(kind: str = "tcp", **changes: Any) -> Config:
    listener = ListenerConfig(**{"bind": "127.0.0.1:0", "enable_authn": QUICK, **changes})
    return Config(listeners={kind: {"a": listener}}, mqtt=MqttConfig(allow_anonymous=True))


async def code(where: Any, **options: Any) -> int:
    async with open_client(where, client_id="c1", **options) as client:
        return client.connack.reason_code


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize(
    ("username", "password", "refused"),
    [(None, None, True), ("", None, True), ("", b"p", True), ("u", None, False), ("u", b"p", False)],
)
async def test_who_gives_no_user_name_is_refused_at_once(
    level: int, username: str | None, password: bytes | None, refused: bool
) -> None:
    chain = Chain()
    broker = Broker(config_of(), authenticators=[chain], store=MemoryStore())
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            addresses: Addresses = await nursery.start(broker.run)
            where = addresses.listeners["tcp:a"]
            found = await code(where, level=level, username=username, password=password)
            assert found == (ReasonCode.NOT_AUTHORIZED if refused else ReasonCode.SUCCESS)
            assert chain.asked == ([] if refused else [username])
            metrics = await broker.questions.metrics()
            assert metrics["authentication.failure"] == (1 if refused else 0)
            broker.close()


async def test_a_password_without_user_name_is_anonymous_too() -> None:
    """Only MQTT 5 has it."""
    chain = Chain()
    broker = Broker(config_of(), authenticators=[chain], store=MemoryStore())
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            addresses: Addresses = await nursery.start(broker.run)
            assert await code(addresses.listeners["tcp:a"], password=b"p") == ReasonCode.NOT_AUTHORIZED
            assert chain.asked == []
            broker.close()


async def test_other_listeners_ask_as_ever() -> None:
    chain = Chain()
    config = Config(
        listeners={
            "tcp": {
                "quick": ListenerConfig(bind="127.0.0.1:0", enable_authn=QUICK),
                "slow": ListenerConfig(bind="127.0.0.1:0"),
            }
        }
    )
    assert without_effect(config) == []
    broker = Broker(config, authenticators=[chain], store=MemoryStore())
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            addresses: Addresses = await nursery.start(broker.run)
            assert await code(addresses.listeners["tcp:quick"]) == ReasonCode.NOT_AUTHORIZED
            assert await code(addresses.listeners["tcp:slow"]) == ReasonCode.SUCCESS
            assert chain.asked == [None]
            broker.close()


async def test_a_certificate_that_gives_the_user_name_is_one(certificates: Certificates) -> None:
    config = Config(
        listeners={
            "ssl": {
                "a": ListenerConfig(
                    bind="127.0.0.1:0", enable_authn=QUICK, ssl_options=certificates.with_clients(required=False)
                )
            }
        },
        mqtt=MqttConfig(allow_anonymous=True, peer_cert_as_username="cn"),
    )
    with trio.fail_after(30):
        async with running(config) as live:
            (info,) = await live.broker.questions.listeners()
            host, _, port = info.bind.rpartition(":")
            where = (host, int(port))
            assert await code(where, ssl_context=certificates.client_context("device-7")) == ReasonCode.SUCCESS
            assert await code(where, ssl_context=certificates.client_context()) == ReasonCode.NOT_AUTHORIZED
