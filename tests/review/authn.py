"""What the tests of the contract of authentication have in common: authenticators, users, tokens, CONNECTs.

Invariant: nothing here looks at the broker but through MQTT and REST.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import jwt
import trio
from api.live import Live

from trio_broker.protocol.packets import ConnAck, Packet
from trio_broker.testing import Client, open_client

PASSWORD_ID, SCRAM_ID = "password_based:built_in_database", "scram:built_in_database"
PASSWORDS: dict[str, Any] = {"mechanism": "password_based", "backend": "built_in_database"}
SCRAM: dict[str, Any] = {"mechanism": "scram", "backend": "built_in_database"}
SECRET = "a secret of the issuer, 32 bytes and more"
JWT: dict[str, Any] = {"mechanism": "jwt", "use_jwks": False, "algorithm": "hmac-based", "secret": SECRET}

# The test client shows return code 4 of MQTT 3.1.1 as 0x86, and 5 as 0x87.
IN, BAD_USER, NOT_AUTHORIZED, BAD_METHOD = 0, 0x86, 0x87, 0x8C
LEVELS = (4, 5)


def path(authenticator: str, *more: str) -> str:
    return "/".join(["/authentication", *(quote(part, safe="") for part in (authenticator, *more))])


USERS, IMPORT = path(PASSWORD_ID, "users"), path(PASSWORD_ID, "import_users")


async def add(live: Live, *configs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Puts these behind the others; gives the last one as it was answered."""
    body: dict[str, Any] = {}
    for config in configs:
        answer = await live.api.post("/authentication", json=config | more)
        assert answer.status_code == 200, answer.text
        body = answer.json()
    return body


async def user(live: Live, user_id: str, password: str, superuser: bool = False, at: str = PASSWORD_ID) -> None:
    body = {"user_id": user_id, "password": password, "is_superuser": superuser}
    answer = await live.api.post(path(at, "users"), json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"user_id": user_id, "is_superuser": superuser}


async def code(
    live: Live, username: str | None, password: str | bytes | None, client_id: str = "c", level: int = 5
) -> int:
    """What CONNACK says."""
    shown = password.encode() if isinstance(password, str) else password
    with trio.fail_after(120):
        async with open_client(
            live.broker, client_id=client_id, username=username, password=shown, level=level
        ) as client:
            return client.connack.reason_code


async def codes(
    live: Live, username: str | None, password: str | bytes | None, client_id: str = "c"
) -> tuple[int, int]:
    """The same with MQTT 3.1.1 and 5.0."""
    return (
        await code(live, username, password, client_id, level=4),
        await code(live, username, password, client_id, level=5),
    )


BOTH_IN, BOTH_BAD = (IN, IN), (BAD_USER, BAD_USER)


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def connect_bytes(client_id: bytes, username: bytes | None, password: bytes | None, level: int) -> bytes:
    """A CONNECT of bytes that no library would write."""
    flags = 2 | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = text(b"MQTT") + bytes([level, flags]) + b"\0\0" + (b"\0" if level == 5 else b"") + text(client_id)
    body += b"".join(text(part) for part in (username, password) if part is not None)
    size, length = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        length.append(digit | (0x80 if size else 0))
        if not size:
            return b"\x10" + bytes(length) + body


async def answers(
    live: Live, client_id: bytes, username: bytes | None, password: bytes | None, level: int
) -> list[Packet]:
    """All that comes back before the connection ends, or the CONNACK that lets it in."""
    with trio.fail_after(120):
        async with open_client(live.broker, level=level, connect=False) as client:
            await client.send_bytes(connect_bytes(client_id, username, password, level))
            while client.disconnected is None and not client.inbox:  # noqa: ASYNC110 - there is no event for it
                await trio.sleep(0.001)
            first = client.inbox[0] if client.inbox else None
            if not isinstance(first, ConnAck) or first.reason_code != IN:
                await client.wait_ended()
            return list(client.inbox)


async def ended(client: Client) -> int | None:
    with trio.fail_after(3600):
        return (await client.wait_ended()).reason_code


async def stays(client: Client) -> None:
    with trio.fail_after(60):
        await client.ping()
    assert client.disconnected is None


def token(secret: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    return jwt.encode(claims, secret, algorithm=algorithm, headers=headers)


def now() -> int:
    return int(time.time())


async def verdict(live: Live, shown: str | bytes, username: str = "stranger", client_id: str = "c") -> str:
    """How the first authenticator judges; behind it has to stand the table of users, without this user name."""
    password = shown.decode() if isinstance(shown, bytes) else shown
    if (first := await code(live, username, shown, client_id)) == IN:
        return "accept"
    await user(live, username, password)
    second = await code(live, username, shown, client_id)
    assert (await live.api.delete(path(PASSWORD_ID, "users", username))).status_code == 204
    if second == IN:
        return "ignore"
    assert first == second
    return "reject"


async def may(client: Client, topic: str) -> bool:
    """Whether it may publish there; asked with QoS 1, so MQTT 5.0 only."""
    answer = await client.publish(topic, b"x", qos=1)
    assert answer is not None
    return answer.reason_code < 0x80


async def may_subscribe(client: Client, topic_filter: str) -> bool:
    return (await client.subscribe(topic_filter)).reason_codes[0] < 0x80


async def deny_the_rest(live: Live) -> None:
    """What no rule allows is denied, from now on; the settings are whole ones."""
    settings = (await live.api.get("/authorization/settings")).json()
    answer = await live.api.put("/authorization/settings", json=settings | {"no_match": "deny"})
    assert answer.status_code == 200, answer.text
