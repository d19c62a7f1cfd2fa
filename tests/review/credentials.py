"""What the tests of administrators have in common: headers as an attacker writes them, keys, users.

Invariant: nothing here looks at the broker but through REST.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import httpx
import pytest
import trio
from api.live import PASSWORD, Bearer, Live
from review.contract import done, failed
from trio.testing import MockClock

REALM = 'Basic Realm="emqx-dashboard"'
HEADER_ERROR = "Support authorization: basic/bearer "
WRONG_KEY = "Check api_key/api_secret"
NO_TOKEN = "Get a token by POST /login"
TIME_OUT = "Token expired, get new token by POST /login"
WEAK_USER = "You don't have permission to access this resource"
WEAK_KEY = "This API Key don't have permission to access this resource"
KEYS, USERS = "/api_key", "/users"
ROLES = ("administrator", "viewer", "publisher")
LOOK = "/sessions_count"


def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made slow on purpose is quick: these tests make some hundred hashes, and none is about their strength."""
    real = hashlib.scrypt

    def scrypt(password: bytes, *, salt: bytes, dklen: int = 64, **_: Any) -> bytes:
        return real(password, salt=salt, n=2, r=1, p=1, dklen=dklen)

    monkeypatch.setattr(hashlib, "scrypt", scrypt)


async def later(clock: MockClock, seconds: float) -> None:
    """Time goes by, and not while a hash is made: a clock that jumps by itself takes the thread for idleness."""
    clock.jump(seconds)
    await trio.testing.wait_all_tasks_blocked()


def basic(text: str | bytes, scheme: str = "Basic") -> str:
    return f"{scheme} " + base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def pair(key: dict[str, Any]) -> tuple[str, str]:
    """Of an answer of POST /api_key, for `auth=`."""
    return key["api_key"], key["api_secret"]


async def ask(live: Live, *headers: str | bytes, path: str = LOOK, method: str = "GET", **more: Any) -> httpx.Response:
    """A request with exactly these `Authorization` headers."""
    fields = [(b"authorization", each.encode() if isinstance(each, str) else each) for each in headers]
    return await live.api.request(method, path, headers=fields, auth=None, **more)


def refused(answer: httpx.Response, code: str, message: str) -> None:
    """401, with the header that browsers ask for a password after."""
    failed(answer, 401, code, message)
    assert answer.headers["www-authenticate"] == REALM


def wrong_key(answer: httpx.Response) -> None:
    refused(answer, "BAD_API_KEY_OR_SECRET", WRONG_KEY)


def bad_token(answer: httpx.Response) -> None:
    failed(answer, 401, "BAD_TOKEN", NO_TOKEN)


async def got_as(live: Live, path: str, auth: httpx.Auth) -> Any:
    """The JSON of a GET that succeeds for this caller."""
    answer = await live.api.get(path, auth=auth)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def new_key(live: Live, boss: httpx.Auth, name: str = "k1", **fields: Any) -> dict[str, Any]:
    answer = await live.api.post(KEYS, json={"name": name, "enable": True, "desc": "", **fields}, auth=boss)
    assert answer.status_code == 200, answer.text
    key: dict[str, Any] = answer.json()
    return key


async def new_user(live: Live, boss: httpx.Auth, username: str = "vera", **fields: Any) -> dict[str, Any]:
    answer = await live.api.post(USERS, json={"username": username, "password": PASSWORD, **fields}, auth=boss)
    assert answer.status_code == 200, answer.text
    user: dict[str, Any] = answer.json()
    return user


async def login(
    live: Live, username: Any, password: Any = PASSWORD, api: httpx.AsyncClient | None = None, **more: Any
) -> httpx.Response:
    body = {"username": username, "password": password}
    return await (api or live.api).request("POST", "/login", json=body, auth=None, **more)


async def token(live: Live, username: str, password: str = PASSWORD) -> Bearer:
    answer = await login(live, username, password)
    assert answer.status_code == 200, answer.text
    return Bearer(answer.json()["token"])


async def works(live: Live, auth: httpx.Auth | tuple[str, str]) -> bool:
    """Whether these credentials are taken; where not, it is 401."""
    answer = await live.api.get(LOOK, auth=auth)
    assert answer.status_code in (200, 401), answer.text
    return answer.status_code == 200


async def new_password(live: Live, auth: httpx.Auth, username: str, old: Any, new: Any) -> httpx.Response:
    return await live.api.post(f"{USERS}/{username}/change_pwd", json={"old_pwd": old, "new_pwd": new}, auth=auth)


async def deleted(live: Live, auth: httpx.Auth, path: str) -> None:
    done(await live.api.delete(path, auth=auth))
