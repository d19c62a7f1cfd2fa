"""The REST contract, read afresh: SCRAM over AUTH packets of MQTT 5.0, with somebody else's client."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
from typing import Any

import pytest
import trio
from api.live import Live, running
from api.operations import shows
from review.authn import (
    BAD_METHOD,
    BAD_USER,
    BOTH_BAD,
    IN,
    NOT_AUTHORIZED,
    PASSWORDS,
    SCRAM,
    SCRAM_ID,
    add,
    codes,
    deny_the_rest,
    ended,
    may,
    path,
    stays,
    user,
)
from review.contract import KEPT, done, got
from scramp import ScramClient  # type: ignore[import-untyped]

from trio_broker.protocol.packets import Auth, ConnAck, Connect, Disconnect, Properties
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import Client, ConnectionEnded, open_client

USERS = path(SCRAM_ID, "users")


async def challenge(client: Client, method: str, first: str, username: str | None, **options: Any) -> Auth | int:
    """CONNECT with the client's first message: the AUTH that comes back, or why there is none."""
    properties: Any = {"authentication_method": method, "authentication_data": first.encode(), **options}
    await client.send(Connect(client.client_id, username=username, properties=properties))
    answer = (await waited(client))[0]
    if isinstance(answer, Auth):
        assert answer.reason_code == 0x18
        assert answer.properties["authentication_method"] == method
        return answer
    assert isinstance(answer, ConnAck)
    return answer.reason_code


async def waited(client: Client) -> list[Any]:
    """The next packet, AUTH or CONNACK or DISCONNECT."""
    with trio.fail_after(60):
        while not client.inbox:
            if client.disconnected is not None:
                raise ConnectionEnded(client.disconnected, "authenticating")
            await trio.sleep(0.001)
    return [client.inbox.popleft()]


async def authenticate(
    client: Client, name: str, password: str, method: str = "SCRAM-SHA-256", username: str | None = None, **options: Any
) -> int:
    """The whole exchange; the broker has to prove itself too. Gives the code of CONNACK."""
    side = ScramClient([method], name, password)
    answer = await challenge(client, method, side.get_client_first(), username, **options)
    if not isinstance(answer, Auth):
        return answer
    side.set_server_first(bytes(answer.properties["authentication_data"]).decode())
    last = side.get_client_final()
    properties: Properties = {"authentication_method": method, "authentication_data": last.encode()}
    await client.send(Auth(0x18, properties))
    (connack,) = await waited(client)
    assert isinstance(connack, ConnAck)
    if connack.reason_code == IN:
        side.set_server_final(bytes(connack.properties["authentication_data"]).decode())  # raises where it lies
        assert connack.properties["authentication_method"] == method
    return connack.reason_code


async def scram(live: Live, name: str, password: str, method: str = "SCRAM-SHA-256", **options: Any) -> int:
    async with open_client(live.broker, client_id="c", connect=False) as client:
        return await authenticate(client, name, password, method, **options)


@pytest.mark.parametrize(("algorithm", "method"), [("sha256", "SCRAM-SHA-256"), ("sha512", "SCRAM-SHA-512")])
@shows("POST /authentication", "POST /authentication/:id/users")
async def test_who_knows_the_password(algorithm: str, method: str) -> None:
    async with running() as live:
        made = await add(live, SCRAM, algorithm=algorithm, iteration_count=4097)
        assert (made["algorithm"], made["iteration_count"]) == (algorithm, 4097)
        await user(live, "u1", "pässword ", at=SCRAM_ID)
        await user(live, "a=b,c", "p", at=SCRAM_ID)
        assert await scram(live, "u1", "pässword ", method) == IN
        assert await scram(live, "u1", "pässword ", method, username="another") == IN
        assert await scram(live, "a=b,c", "p", method) == IN
        assert await scram(live, "u1", "password ", method) in (BAD_USER, NOT_AUTHORIZED)
        assert await scram(live, "nobody", "pässword ", method) in (BAD_USER, NOT_AUTHORIZED)
        other = "SCRAM-SHA-512" if algorithm == "sha256" else "SCRAM-SHA-256"
        assert await scram(live, "u1", "pässword ", other) == BAD_METHOD
        assert await codes(live, "u1", "pässword ") == BOTH_BAD  # that is no password in CONNECT
        assert await codes(live, None, None) == BOTH_BAD


async def test_iterations_are_those_that_are_set() -> None:
    async with running() as live:
        await add(live, SCRAM, iteration_count=5000)
        await user(live, "u1", "p", at=SCRAM_ID)
        async with open_client(live.broker, client_id="c", connect=False) as client:
            first = ScramClient(["SCRAM-SHA-256"], "u1", "p").get_client_first()
            answer = await challenge(client, "SCRAM-SHA-256", first, None)
            assert isinstance(answer, Auth)
            fields = dict(
                part.split("=", 1) for part in bytes(answer.properties["authentication_data"]).decode().split(",")
            )
            assert fields["i"] == "5000"
            assert len(base64.b64decode(fields["s"])) >= 16
            assert fields["r"].startswith(first.split("r=")[1])


async def test_beside_the_table_of_passwords() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        assert await scram(live, "u1", "p") == BAD_METHOD
        await add(live, SCRAM)
        await user(live, "u1", "by password")
        await user(live, "u1", "by scram", at=SCRAM_ID)
        assert await codes(live, "u1", "by password") == (IN, IN)
        assert await codes(live, "u1", "by scram") == BOTH_BAD
        assert await scram(live, "u1", "by scram") == IN
        assert await scram(live, "u1", "by password") in (BAD_USER, NOT_AUTHORIZED)
        done(await live.api.put(path(SCRAM_ID), json=SCRAM | {"enable": False}))
        assert await scram(live, "u1", "by scram") == BAD_METHOD
        assert await codes(live, "u1", "by password") == (IN, IN)


async def test_the_user_of_the_exchange_is_who_it_is() -> None:
    async with running() as live:
        await add(live, SCRAM)
        await deny_the_rest(live)
        for name, superuser in (("root", True), ("u1", False)):
            await user(live, name, "p", superuser, at=SCRAM_ID)
        for name, other in (("root", "u1"), ("u1", "root")):
            client = await live.connect(name, connect=False)
            assert await authenticate(client, name, "p", username=other) == IN
            assert (await got(live, f"/clients/{name}"))["username"] == name
            assert await may(client, "t") is (name == "root")


async def test_changes_and_a_restart() -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await add(live, SCRAM)
        for name in ("u1", "u2", "u3"):
            await user(live, name, "old", at=SCRAM_ID)
        stay, gone = await live.connect("stay", connect=False), await live.connect("gone", connect=False)
        assert await authenticate(stay, "u1", "old") == IN
        assert await authenticate(gone, "u2", "old", **KEPT["properties"]) == IN
        assert (await live.api.put(f"{USERS}/u1", json={"password": "new"})).status_code == 200
        done(await live.api.delete(f"{USERS}/u2"))
        assert await ended(gone) == NOT_AUTHORIZED
        await stays(stay)
        assert (await got(live, "/clients/gone"))["connected"] is False
    async with running(store=store) as live:
        assert await scram(live, "u1", "new") == IN
        assert await scram(live, "u3", "old") == IN
        for name in ("u1", "u2"):
            assert await scram(live, name, "old") in (BAD_USER, NOT_AUTHORIZED)


async def test_there_is_no_import() -> None:
    async with running() as live:
        await add(live, SCRAM)
        for kind, row in (
            ("plain", {"user_id": "a", "password": "b"}),
            ("hash", {"user_id": "a", "password_hash": "b", "salt": "c"}),
        ):
            answer = await live.api.post(path(SCRAM_ID, "import_users"), params={"type": kind}, json=[row])
            assert answer.status_code == 400
            body = answer.json()  # `reason` beside it says why
            assert (body["code"], body["message"]) == ("BAD_REQUEST", "User error: unsupported_operation")
        assert (await got(live, USERS))["data"] == []


async def test_unknown_users_look_like_known_ones() -> None:
    """Same packets, same code, the same kind of salt, and the same salt again."""
    async with running() as live:
        await add(live, SCRAM)
        await user(live, "known", "p", at=SCRAM_ID)
        seen: dict[str, tuple[str, Any]] = {}
        for name in ("known", "unknown", "unknown"):
            async with open_client(live.broker, client_id="c", connect=False) as client:
                side = ScramClient(["SCRAM-SHA-256"], name, "wrong")
                answer = await challenge(client, "SCRAM-SHA-256", side.get_client_first(), None)
                assert isinstance(answer, Auth)
                data = bytes(answer.properties["authentication_data"]).decode()
                side.set_server_first(data)
                fields = dict(part.split("=", 1) for part in data.split(","))
                properties: Properties = {
                    "authentication_method": "SCRAM-SHA-256",
                    "authentication_data": side.get_client_final().encode(),
                }
                await client.send(Auth(0x18, properties))
                with trio.fail_after(60):
                    await client.wait_ended()
                told = [(type(packet).__name__, getattr(packet, "reason_code", None)) for packet in client.inbox]
                reasons = [packet.properties for packet in client.inbox if isinstance(packet, ConnAck)]
                row = (fields["i"], len(fields["s"]), len(fields["r"]), told, reasons)
                assert seen.setdefault(name, (fields["s"], row)) == (fields["s"], row)
        assert seen["known"][1] == seen["unknown"][1]
        assert seen["known"][0] != seen["unknown"][0]


def final(first: str, server: str, password: str, nonce: str | None = None, header: str = "biws") -> str:
    """A client-final of our own (RFC 5802), which may be wrong in one place."""
    fields = dict(part.split("=", 1) for part in server.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    bare = f"c={header},r={nonce or fields['r']}"
    message = f"{first.removeprefix('n,,')},{server},{bare}".encode()
    signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    return f"{bare},p={base64.b64encode(proof).decode()}"


@pytest.mark.parametrize(
    "attack",
    [
        "none",
        "nonce of another",
        "own nonce only",
        "channel binding",
        "no proof",
        "empty",
        "zeros",
        "bytes",
        "replay",
        "again",
    ],
)
async def test_exchanges_that_lie(attack: str) -> None:
    async with running() as live:
        await add(live, SCRAM)
        await user(live, "u1", "p", at=SCRAM_ID)

        async def exchange(replayed: str | None = None) -> tuple[int | None, str]:
            async with open_client(live.broker, client_id="c", connect=False) as client:
                first = "n,,n=u1,r=clientnonce0123456789"
                answer = await challenge(client, "SCRAM-SHA-256", first, None)
                assert isinstance(answer, Auth)
                server = bytes(answer.properties["authentication_data"]).decode()
                good = final(first, server, "p")
                last: str | bytes = {
                    "nonce of another": final(first, server, "p", nonce="clientnonce0123456789" + "A" * 24),
                    "own nonce only": final(first, server, "p", nonce="clientnonce0123456789"),
                    "channel binding": final(first, server, "p", header=base64.b64encode(b"y,,").decode()),
                    "no proof": good.split(",p=")[0],
                    "empty": "",
                    "zeros": good.split(",p=")[0] + ",p=" + base64.b64encode(bytes(32)).decode(),
                    "again": first,
                }.get(attack, good)
                last = replayed or (b"\xff\xfe\x00=,,=" if attack == "bytes" else last)
                data = last if isinstance(last, bytes) else last.encode()
                properties: Properties = {"authentication_method": "SCRAM-SHA-256", "authentication_data": data}
                await client.send(Auth(0x18, properties))
                (packet,) = await waited(client)
                assert isinstance(packet, ConnAck | Disconnect)
                return packet.reason_code, good

        reason_code, good = await exchange()
        if attack == "replay":
            assert reason_code == IN
            reason_code, _ = await exchange(replayed=good)
        assert (reason_code == IN) is (attack == "none")
        assert attack == "none" or reason_code in (0x82, BAD_USER, NOT_AUTHORIZED)
        assert await scram(live, "u1", "p") == IN


BEGINNINGS: list[str] = [
        "", "n", "n,,", "n,,n=u1", "n,,r=abc", "n,,n=,r=abc", "n,,n=u1,r=", "p=tls-unique,,n=u1,r=abc",
        "n,a=root,n=u1,r=abc", "n,,m=ext,n=u1,r=abc", "n,,n=u=1,r=abc", "n,,n=u1\0,r=abc", "x" * 60000,
    ]  # fmt: skip


async def test_beginnings_that_cannot_be() -> None:
    """Refused, or led to an exchange that nobody can win; never a failure of the broker."""
    async with running() as live:
        await add(live, SCRAM)
        await user(live, "u1", "p", at=SCRAM_ID)
        for first in BEGINNINGS:
            async with open_client(live.broker, client_id="c", connect=False) as client:
                answer = await challenge(client, "SCRAM-SHA-256", first, "u1")
                assert isinstance(answer, Auth) or answer in (0x82, BAD_USER, NOT_AUTHORIZED)
        assert await scram(live, "u1", "p") == IN


async def test_its_figures() -> None:
    async with running() as live:
        await add(live, SCRAM)
        await user(live, "u1", "p", at=SCRAM_ID)
        for name, password in (("u1", "p"), ("u1", "x"), ("nobody", "p")):
            await scram(live, name, password)
        status = await got(live, path(SCRAM_ID, "status"))
        metrics = status["metrics"]
        assert (status["status"], metrics["total"], metrics["success"]) == ("connected", 3, 1)
        assert metrics["failed"] + metrics["nomatch"] == 2


async def test_a_user_who_is_deleted_in_the_middle_does_not_come_in() -> None:
    async with running() as live:
        await add(live, SCRAM)
        await user(live, "u1", "p", at=SCRAM_ID)
        async with open_client(live.broker, client_id="c", connect=False) as client:
            side = ScramClient(["SCRAM-SHA-256"], "u1", "p")
            answer = await challenge(client, "SCRAM-SHA-256", side.get_client_first(), None)
            assert isinstance(answer, Auth)
            side.set_server_first(bytes(answer.properties["authentication_data"]).decode())
            done(await live.api.delete(f"{USERS}/u1"))
            properties: Properties = {
                "authentication_method": "SCRAM-SHA-256",
                "authentication_data": side.get_client_final().encode(),
            }
            with contextlib.suppress(ConnectionEnded):
                await client.send(Auth(0x18, properties))
            assert await ended(client) in (None, BAD_USER, NOT_AUTHORIZED)
        assert (await live.api.get("/clients/c")).status_code == 404


async def test_nothing_can_be_done_in_the_middle() -> None:
    async with running() as live:
        await add(live, SCRAM)
        await user(live, "u1", "p", at=SCRAM_ID)
        watcher = await live.connect("watcher", connect=False)
        assert await authenticate(watcher, "u1", "p") == IN
        await watcher.subscribe("t", 1)
        async with open_client(live.broker, client_id="c", connect=False) as client:
            first = ScramClient(["SCRAM-SHA-256"], "u1", "p").get_client_first()
            assert isinstance(await challenge(client, "SCRAM-SHA-256", first, "u1"), Auth)
            with pytest.raises(ConnectionEnded):
                await client.publish("t", b"from nobody", qos=1)
        assert (await live.api.get("/clients/c")).status_code == 404
        await watcher.publish("t", b"from somebody", qos=1)
        assert (await watcher.receive()).payload == b"from somebody"
