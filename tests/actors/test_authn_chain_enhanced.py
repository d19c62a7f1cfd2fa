"""Authenticators of the configuration with a method of MQTT 5.0, and rights after a re-authentication."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from actors.fake_access import Script, fakes
from actors.flows import end_of, expect
from api.live import running
from trio.testing import MockClock

from trio_broker.access.authentication import REFUSED, Challenge, Conversation, Credentials, Verdict
from trio_broker.broker import Broker
from trio_broker.config import Config, to_dict
from trio_broker.config.authentication import BuiltInDatabaseConfig, ScramConfig, id_of
from trio_broker.config.authorization import AuthorizationConfig, BuiltInSourceConfig
from trio_broker.protocol.packets import Auth, ConnAck, Connect, PubAck
from trio_broker.testing import Client, open_client

METHOD = ScramConfig()
ID = id_of(METHOD)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    return fakes(monkeypatch)


def auth(reason_code: int, data: bytes | None = None) -> Auth:
    properties: dict[str, Any] = {"authentication_method": "FAKE"}
    if data is not None:
        properties["authentication_data"] = data
    return Auth(reason_code, properties)  # type: ignore[arg-type]


async def let_in(client: Client, username: str) -> int:
    """CONNECT with the method, as somebody; the reason code of the CONNACK."""
    await client.send(Connect("c", 5, True, 0, username, None, None, False, {"authentication_method": "FAKE"}))
    assert (await expect(client, Auth)).properties["authentication_data"] == b"who?"
    await client.send(auth(0x18, username.encode()))
    return int((await expect(client, ConnAck)).reason_code)


async def again(client: Client, username: str) -> None:
    await client.send(auth(0x19))
    await expect(client, Auth)
    await client.send(auth(0x18, username.encode()))


async def test_a_method_is_the_authenticator_that_has_it(script: Script, autojump_clock: MockClock) -> None:
    script.verdicts[ID] = lambda who: Verdict() if who.username == "ann" else REFUSED
    async with running(Config(authentication=(BuiltInDatabaseConfig(), METHOD))) as live:
        for username, expected in (("ann", 0), ("bob", 0x87)):
            async with open_client(live.broker, connect=False) as client:
                assert await let_in(client, username) == expected
        async with open_client(live.broker, properties={"authentication_method": "OTHER"}) as client:
            assert client.connack.reason_code == 0x8C
        metrics = live.broker.questions.authenticators.status(ID).metrics
        assert (metrics["total"], metrics["success"], metrics["failed"]) == (2, 1, 1)


async def test_the_verdict_has_its_id(script: Script, autojump_clock: MockClock) -> None:
    script.verdicts[ID] = lambda who: Verdict()
    async with running(Config(authentication=(METHOD,))) as live, open_client(live.broker, connect=False) as client:
        assert await let_in(client, "ann") == 0
        actor = await live.broker.questions._actor("c")
        assert actor is not None
        assert actor.verdict == Verdict(authenticator=ID)


async def test_who_names_no_method_gets_in_by_another_only(script: Script) -> None:
    async with running(Config(authentication=(METHOD,))) as live:
        async with open_client(live.broker) as client:
            assert client.connack.reason_code == 0x86
        await live.broker.questions.settings.change({"authentication": [{**_table(), "enable": False}]})
        async with open_client(live.broker) as client:
            assert client.connack.reason_code == 0


def _table() -> dict[str, Any]:
    table: dict[str, Any] = to_dict(Config(authentication=(METHOD,)))["authentication"][0]
    return table


class OwnMethod:
    """The program's; its name is that of the configured one."""

    method = "FAKE"

    def begin(self, credentials: Credentials) -> Conversation:
        return self

    async def respond(self, data: bytes | None) -> Challenge | Verdict:
        return Verdict(data=b"mine")


async def test_of_two_with_the_same_method_the_program_s_counts(script: Script, autojump_clock: MockClock) -> None:
    broker = Broker(Config(authentication=(METHOD,)), authenticators=[OwnMethod()])
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        async with open_client(broker, properties={"authentication_method": "FAKE"}) as client:
            assert client.connack.properties["authentication_data"] == b"mine"
        broker.close()


async def test_rights_are_those_of_the_last_authentication(script: Script, autojump_clock: MockClock) -> None:
    """A superuser that proves to be an ordinary user is one from then on, and what let it in may expire."""
    script.decisions["built_in_database"] = lambda subject, request: subject.client_attrs.get("may") == request.topic
    verdicts = iter([Verdict(superuser=True), Verdict(client_attrs={"may": "t"}), Verdict(expire_at=0.0)])
    script.verdicts[ID] = lambda who: next(verdicts)
    source = AuthorizationConfig(sources=(BuiltInSourceConfig(),))
    config = Config(authentication=(METHOD,), authorization=source)
    async with running(config) as live, open_client(live.broker, connect=False) as client:
        await let_in(client, "ann")
        assert await _publish(client, "t", "u") == [0x10, 0x10]
        await again(client, "ann")
        assert (await expect(client, Auth)).reason_code == 0
        assert await _publish(client, "t", "u") == [0x10, 0x87]
        await again(client, "ann")
        assert (await expect(client, Auth)).reason_code == 0
        assert (await end_of(client)).reason_code == 0x87


async def _publish(client: Client, *topics: str) -> list[int]:
    answers = [await client.publish(topic, b"", 1) for topic in topics]
    return [int(answer.reason_code) for answer in answers if isinstance(answer, PubAck)]


async def test_a_method_that_is_gone_cannot_be_used_again(script: Script, autojump_clock: MockClock) -> None:
    script.verdicts[ID] = lambda who: Verdict()
    async with running(Config(authentication=(METHOD,))) as live, open_client(live.broker, connect=False) as client:
        await let_in(client, "ann")
        await live.broker.questions.settings.change({"authentication": []})
        await client.send(auth(0x19))
        assert (await end_of(client)).reason_code == 0x87


async def test_a_superuser_is_asked_nothing(script: Script) -> None:
    script.decisions["built_in_database"] = lambda subject, request: False
    script.verdicts[id_of(BuiltInDatabaseConfig())] = lambda who: Verdict(superuser=who.username == "root")
    source = AuthorizationConfig(sources=(BuiltInSourceConfig(),))
    async with running(Config(authentication=(BuiltInDatabaseConfig(),), authorization=source)) as live:
        for username, expected in (("root", 0x10), ("ann", 0x87)):
            client = await live.connect(username, username=username)
            assert await _publish(client, "t") == [expected]
        assert [name for name, _ in script.asked] == ["built_in_database"]
