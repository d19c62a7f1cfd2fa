"""Users for SCRAM in the broker's own database: an exchange over MQTT 5.0, and what is kept of a password."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from actors.flows import end_of, expect
from api.live import Live, running
from scramp import ScramClient  # type: ignore[import-untyped]

from trio_broker.access.passwords import PasswordError
from trio_broker.actors.authn.scram import ScramDatabase
from trio_broker.actors.authn.users import Unsupported
from trio_broker.config import Config
from trio_broker.config.authentication import BuiltInDatabaseConfig, ScramConfig
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import MQTT5, Auth, ConnAck, Connect
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import Client, open_client

ID = "scram:built_in_database"
METHODS = {"sha256": "SCRAM-SHA-256", "sha512": "SCRAM-SHA-512"}


def with_scram(*others: Any, **options: Any) -> Config:
    return Config(authentication=(*others, ScramConfig(**options)))


def database(live: Live) -> ScramDatabase:
    found = live.broker.questions.authn_users.found(ID)
    assert isinstance(found, ScramDatabase)
    return found


async def exchange(client: Client, method: str, name: str, password: str) -> int:
    """The reason code of the CONNACK. Where it is 0, the broker has shown that it knows the password, too."""
    peer = ScramClient([method], name, password)
    properties: Any = {"authentication_method": method, "authentication_data": peer.get_client_first().encode()}
    await client.send(Connect("c", MQTT5, True, 0, None, None, None, False, properties))
    challenge = await expect(client, Auth)
    peer.set_server_first(challenge.properties["authentication_data"].decode())
    properties["authentication_data"] = peer.get_client_final().encode()
    await client.send_bytes(encode(Auth(ReasonCode.CONTINUE_AUTHENTICATION, properties), MQTT5, "client"))
    connack = await expect(client, ConnAck)
    if connack.reason_code == 0:
        peer.set_server_final(connack.properties["authentication_data"].decode())
    return int(connack.reason_code)


async def code(live: Live, name: str, password: str, method: str = "SCRAM-SHA-256") -> int:
    async with open_client(live.broker, connect=False) as client:
        return await exchange(client, method, name, password)


@pytest.mark.parametrize("algorithm", list(METHODS))
async def test_both_sides_show_that_they_know_the_password(algorithm: str) -> None:
    async with running(with_scram(algorithm=algorithm)) as live:
        await database(live).add_user("anna", "pencil", is_superuser=True)
        method = METHODS[algorithm]
        assert await code(live, "anna", "pencil", method) == 0
        assert await code(live, "anna", "pen", method) == ReasonCode.NOT_AUTHORIZED
        assert await code(live, "bert", "pencil", method) == ReasonCode.NOT_AUTHORIZED
        async with open_client(live.broker, client_id="c", username="anna", password=b"pencil") as client:
            assert client.connack.reason_code == ReasonCode.BAD_USER_NAME_OR_PASSWORD


async def test_the_verdict_says_who_it_was() -> None:
    async with running(with_scram()) as live:
        await database(live).add_user("anna", "pencil", is_superuser=True)
        async with open_client(live.broker, connect=False) as client:
            assert await exchange(client, "SCRAM-SHA-256", "anna", "pencil") == 0
            actor = await live.broker.questions._actor("c")
            assert actor is not None
            assert actor.verdict is not None
            assert (actor.username, actor.verdict.superuser, actor.verdict.authenticator) == ("anna", True, ID)


async def test_it_stands_beside_the_other_database() -> None:
    """The users of one are none of the other."""
    async with running(with_scram(BuiltInDatabaseConfig())) as live:
        await database(live).add_user("anna", "pencil")
        other = live.broker.questions.authn_users.found("password_based:built_in_database")
        await other.add_user("anna", "secret")
        assert await code(live, "anna", "pencil") == 0
        assert await code(live, "anna", "secret") == ReasonCode.NOT_AUTHORIZED
        async with open_client(live.broker, client_id="c", username="anna", password=b"secret") as client:
            assert client.connack.reason_code == 0
        await other.delete_user("anna")
        assert await code(live, "anna", "pencil") == 0


async def test_users_are_there_after_a_restart_without_their_passwords() -> None:
    store = MemoryStore()
    async with running(with_scram(), store) as live:
        await database(live).add_user("anna", "topsecret")
        await database(live).add_user("bert", "first")
        await database(live).update_user("bert", "second", is_superuser=True)
        assert "topsecret" not in repr(database(live).users.all)
    kept = [document for document in await store.documents() if "scram" in document.kind]
    assert len(kept) == 2
    assert "topsecret" not in str(kept)
    async with running(with_scram(iteration_count=5000), store) as live:
        assert await code(live, "anna", "topsecret") == 0
        assert await code(live, "bert", "second") == 0
        assert await code(live, "bert", "first") == ReasonCode.NOT_AUTHORIZED
        assert database(live).users.all["bert"].is_superuser


async def test_another_algorithm_needs_new_passwords() -> None:
    store = MemoryStore()
    async with running(with_scram(), store) as live:
        await database(live).add_user("anna", "pencil")
    async with running(with_scram(algorithm="sha512"), store) as live:
        assert await code(live, "anna", "pencil", "SCRAM-SHA-512") == ReasonCode.NOT_AUTHORIZED
        await database(live).update_user("anna", "pencil")
        assert await code(live, "anna", "pencil", "SCRAM-SHA-512") == 0


async def test_a_user_that_is_deleted_is_thrown_out() -> None:
    async with running(with_scram()) as live:
        await database(live).add_user("anna", "pencil")
        async with open_client(live.broker, connect=False) as client:
            assert await exchange(client, "SCRAM-SHA-256", "anna", "pencil") == 0
            await database(live).delete_user("anna")
            assert (await end_of(client)).reason_code == ReasonCode.NOT_AUTHORIZED


@pytest.mark.parametrize("password", ["\u0007", "x" * 1025, "\ud800"])
async def test_passwords_that_cannot_be_kept(password: str) -> None:
    async with running(with_scram()) as live:
        with pytest.raises(PasswordError, match=r"forbidden|at most"):
            await database(live).add_user("anna", password)
        assert not database(live).users.all


async def test_files_have_no_users_for_it() -> None:
    async with running(with_scram()) as live:
        with pytest.raises(Unsupported):
            await database(live).import_users([], "plain")
        await trio.lowlevel.checkpoint()
