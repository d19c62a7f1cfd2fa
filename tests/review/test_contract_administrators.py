"""The REST contract, read afresh: who may call it, with which header, and in which role."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from api.live import ADMIN, PASSWORD, VIEWER, running
from api.operations import shows
from review.contract import done, failed, got
from review.credentials import (
    HEADER_ERROR,
    KEYS,
    ROLES,
    USERS,
    WEAK_KEY,
    WEAK_USER,
    ask,
    bad_token,
    basic,
    cheap_hashes,
    got_as,
    new_key,
    pair,
    refused,
    works,
)
from trio.testing import MockClock

from trio_broker.api.keys import Role

ROOT = Path(__file__).parents[2]
OBJECT = {"name", "api_key", "enable", "desc", "created_at", "expired_at", "expired", "role"}
NOT_FOUND = (404, "NOT_FOUND", "Name NOT FOUND")
HELLO = {"topic": "a", "payload": "x"}


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashes(monkeypatch)


def operations() -> list[tuple[str, str, str]]:
    """Method, path and weakest role of all there is, from the table that is published."""
    rows = []
    for line in (ROOT / "docs/reference/rest-api.md").read_text().splitlines():
        if line.startswith("| `") and line.count("|") == 4 and " /" in line:
            operation, _, role = (cell.strip() for cell in line.strip("|").split("|"))
            method, path = operation.strip("`").split()
            rows.append((method, path, role))
    assert len(rows) > 100
    return rows


def filled(path: str) -> str:
    return "/".join("nothing" if segment.startswith(":") else segment for segment in path.split("/"))


def managed(path: str) -> str | None:
    """Where no API key will do."""
    first = path.split("/")[1]
    return first if first in ("users", "logout", "api_key") else None


# --- the header


@shows("GET /sessions_count")
@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        "nonsense",
        "Digest username=admin-key",
        "Negotiate abc",
        "admin-key:admin:secret",
        "Basically YWRtaW4=",
        "Bearerabc",
        "Token abc",
        b"\xff\xfe",
    ],
)
async def test_another_scheme(header: str | bytes, autojump_clock: MockClock) -> None:
    async with running() as live:
        refused(await ask(live, header), "AUTHORIZATION_HEADER_ERROR", HEADER_ERROR)
        refused(await ask(live), "AUTHORIZATION_HEADER_ERROR", HEADER_ERROR)


@shows("GET /sessions_count")
async def test_a_scheme_in_other_letters(autojump_clock: MockClock) -> None:
    """Names of schemes are case-insensitive in HTTP (RFC 9110, 11.1)."""
    async with running() as live:
        boss = await live.log_in()
        for scheme in ("Basic", "basic", "BASIC"):
            assert (await ask(live, basic(":".join(ADMIN), scheme))).status_code == 200
        for scheme in ("Bearer", "bearer", "BEARER"):
            assert (await ask(live, f"{scheme} {boss.token}")).status_code == 200


NO_CREDENTIALS: list[Any] = [
    "Basic",
    "Basic ",
    "Basic %%%",
    "Basic YWRtaW4ta2V5",  # no colon
    "Basic YWRtaW4ta2V5OmFkbWluOnNlY3JldA",  # the right ones without their padding, or with too much of it
    "Basic YWRtaW4ta2V5OmFkbWluOnNlY3JldA====x",
    basic(b"\xff\xfe:\xfd"),
    basic(b":"),
    basic(b"::::"),
    basic("admin-key:"),
    basic("admin-key:admin"),
    basic("admin-key:admin:secret:"),
    basic("admin-key:admin:secret\n"),
    basic("admin-key:admin:secret\0"),
    basic("admin-key\0:admin:secret"),
    basic(" admin-key:admin:secret"),
    basic("ADMIN-KEY:admin:secret"),
    basic("admin-key:ADMIN:SECRET"),
    basic("admin-key:admin\uff1asecret"),
    basic("\uff41dmin-key:admin:secret"),
    basic("admin-key:viewer-secret"),
    basic("' OR '1'='1:' OR '1'='1"),
    basic('{"$ne":null}:{"$ne":null}'),
    basic("%:%"),
    basic("*:*"),
    basic(f"boss:{PASSWORD}"),
    basic("generated-key:admin:secret"),
    basic("from_bootstrap_file_b3814169681d7803:admin:secret"),
    "Basic " + "A" * 20_000,
    basic("admin-key:" + "x" * 20_000),
    basic("x" * 20_000),
    f"{basic('admin-key:admin:secret')}, Bearer x",
    "Bearer " + "A" * 20_000,
    "Bearer admin-key:admin:secret",
    "Bearer",
    "Bearer null",
    "Bearer a.b.c",
    b"Bearer \xff\xfe",
    "Bearer ' OR 1=1 --",
    'Bearer {"sub":"boss"}',
]


@shows("GET /sessions_count", "POST /login")
async def test_credentials_that_are_none(autojump_clock: MockClock) -> None:
    """A user's name and password with Basic are among them; a login does not look at them."""
    async with running() as live:
        await live.log_in()
        for header in NO_CREDENTIALS:
            answer = await ask(live, header)
            assert answer.status_code == 401, header
            bearer = header[:6] in (b"Bearer", "Bearer")
            codes = {"BAD_TOKEN"} if bearer else {"BAD_API_KEY_OR_SECRET"}
            assert answer.json()["code"] in codes | {"AUTHORIZATION_HEADER_ERROR"}, header
            assert bearer or "www-authenticate" in answer.headers, header
            body = {"username": "boss", "password": PASSWORD}
            assert (await ask(live, header, method="POST", path="/login", json=body)).status_code == 200, header


@shows("GET /sessions_count")
async def test_two_headers_give_no_more_than_one(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        good, other = basic(":".join(ADMIN)), f"Bearer {boss.token}"
        for headers in [("Basic x", "Bearer x"), (basic("a:b"), basic("c:d")), ("Bearer a", "Bearer b")]:
            assert (await ask(live, *headers)).status_code == 401
        for headers in [(good, other), (other, good), (good, "Bearer x"), ("Bearer x", good), (good, basic("a:b"))]:
            assert (await ask(live, *headers)).status_code in (200, 400, 401)
        viewer = basic(":".join(VIEWER))
        for headers in [(viewer, viewer), (viewer, "Bearer x"), ("Bearer x", viewer)]:
            assert (await ask(live, *headers, path="/clients/c1", method="DELETE")).status_code in (400, 401, 403)
        for headers in [(viewer, other), (other, viewer)]:
            assert (await ask(live, *headers, path=KEYS)).status_code in (200, 400, 401)


@shows("POST /publish", "POST /api_key")
async def test_credentials_come_before_the_body(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        for path in ("/publish", KEYS):
            answer = await ask(live, path=path, method="POST", content=b"{")
            refused(answer, "AUTHORIZATION_HEADER_ERROR", HEADER_ERROR)
            bad_token(await ask(live, "Bearer x", path=path, method="POST", content=b"{"))
        for path in (KEYS, USERS, "/logout"):
            headers = {"content-type": "text/plain"}
            answer = await live.api.post(path, content=b"{}", headers=headers, auth=boss)
            failed(answer, 415, "UNSUPPORTED_MEDIA_TYPE", "content-type:application/json Required")
            headers = {"content-type": "application/json"}
            answer = await live.api.post(path, content=b"{", headers=headers, auth=boss)
            failed(answer, 400, "BAD_REQUEST", "Invalid json message received")


async def test_another_method_comes_before_credentials(autojump_clock: MockClock) -> None:
    async with running() as live:
        for path, allowed in [
            (KEYS, {"GET", "POST"}),
            (f"{KEYS}/a", {"GET", "PUT", "DELETE"}),
            (USERS, {"GET", "POST"}),
            (f"{USERS}/a", {"PUT", "DELETE"}),
            (f"{USERS}/a/change_pwd", {"POST"}),
            ("/login", {"POST"}),
            ("/logout", {"POST"}),
        ]:
            answer = await ask(live, path=path, method="PATCH")
            assert (answer.status_code, answer.content) == (405, b"")
            assert set(answer.headers["allow"].split(", ")) - {"HEAD", "OPTIONS"} == allowed


# --- roles


async def test_without_credentials_nothing_but_what_is_for_all(autojump_clock: MockClock) -> None:
    async with running() as live:
        for method, path, role in operations():
            answer = await ask(live, path=filled(path), method=method)
            if role == "all":
                assert answer.json()["code"] != "AUTHORIZATION_HEADER_ERROR" if answer.status_code == 401 else True, (
                    path
                )
            else:
                refused(answer, "AUTHORIZATION_HEADER_ERROR", HEADER_ERROR)


@pytest.mark.parametrize("role", ROLES)
async def test_what_a_key_may(role: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        auth = pair(await new_key(live, await live.log_in(), role=role))
        for method, path, weakest in operations():
            answer = await live.api.request(method, filled(path), auth=auth)
            place = managed(path)
            allowed = (
                weakest == "all"
                or role == "administrator"
                or (role == "viewer" and method == "GET" and path != "/data/files/:filename")
                or (role == "publisher" and path in ("/publish", "/publish/bulk"))
            )
            if weakest == "all":
                assert answer.status_code != 403, path
            elif place is not None:
                message = "Please use bearer Token instead, using API key/secret in {} path is not permitted"
                refused(answer, "API_KEY_NOT_ALLOW", message.format(place))
            elif allowed:
                assert answer.status_code not in (401, 403), (method, path)
            else:
                failed(answer, 403, "UNAUTHORIZED_ROLE", WEAK_KEY)


@pytest.mark.parametrize("role", [Role.ADMINISTRATOR, Role.VIEWER])
async def test_what_a_user_may(role: Role, autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.log_in("other")
        auth = await live.log_in("boss", role)
        for method, path, weakest in operations():
            answer = await live.api.request(method, filled(path), auth=auth)
            looks = method == "GET" and path != "/data/files/:filename"
            if weakest == "all" or role is Role.ADMINISTRATOR or looks or path == "/logout":
                assert answer.status_code not in (401, 403) or path == "/login", (method, path)
            elif path != "/users/:username/change_pwd":
                failed(answer, 403, "UNAUTHORIZED_ROLE", WEAK_USER)
        assert await works(live, auth)


@shows("POST /users/:username/change_pwd")
@pytest.mark.parametrize("body", [{}, {"old_pwd": 5}, {"old_pwd": PASSWORD, "new_pwd": "battery staple 2"}])
async def test_the_role_comes_before_the_body(body: dict[str, Any], autojump_clock: MockClock) -> None:
    """A viewer is told 403 of what is not its own, whatever it sends: the order of docs/reference/rest/errors.md."""
    async with running() as live:
        await live.log_in()
        vera = await live.log_in("vera", Role.VIEWER)
        for username in ("boss", "Vera", "nobody"):
            answer = await live.api.post(f"{USERS}/{username}/change_pwd", json=body, auth=vera)
            failed(answer, 403, "UNAUTHORIZED_ROLE", WEAK_USER)


@shows("POST /publish", "POST /publish/bulk", "DELETE /clients/:clientid", "GET /clients")
async def test_roles_over_one_client(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        keys = {role: pair(await new_key(live, boss, role, role=role)) for role in ROLES}
        vera = await live.log_in("vera", Role.VIEWER)
        c1 = await live.connect("c1")
        await c1.subscribe("a", 1)
        assert (await live.api.post("/publish", json=HELLO, auth=keys["publisher"])).status_code == 200
        assert (await live.api.post("/publish/bulk", json=[HELLO], auth=keys["publisher"])).status_code == 200
        viewers: list[tuple[Any, str]] = [(keys["viewer"], WEAK_KEY), (vera, WEAK_USER)]
        for auth, message in viewers:
            failed(await live.api.post("/publish", json=HELLO, auth=auth), 403, "UNAUTHORIZED_ROLE", message)
            failed(await live.api.delete("/clients/c1", auth=auth), 403, "UNAUTHORIZED_ROLE", message)
            assert (await live.api.get("/clients", auth=auth)).json()["meta"]["count"] == 1
        failed(await live.api.get("/clients", auth=keys["publisher"]), 403, "UNAUTHORIZED_ROLE", WEAK_KEY)
        assert [(await c1.receive()).payload for _ in range(2)] == [b"x", b"x"]
        done(await live.api.delete("/clients/c1", auth=keys["administrator"]))


@pytest.mark.parametrize("path", [
    "//users", "/users/", "/%75sers", "/%2Fusers", "/USERS", "/Users", "/./users", "/clients/../users",
    "/clients/%2E%2E/users", "/users%2F", "/users;x", "/users%00", "/users%20", "/users?x", "/ap%69_key",
    "/api_key/", "/%61pi_key/k1", "/api_key%2Fk1", "/clients/..%2Fapi_key", "/API_KEY", "/api%5Fkey",
])  # fmt: skip
async def test_no_other_spelling_of_a_path_lets_a_key_in(path: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        publisher = pair(await new_key(live, boss, role="publisher"))
        before = await got_as(live, KEYS, boss)
        for method in ("GET", "POST", "PUT", "DELETE"):
            for auth in (ADMIN, publisher):
                url = httpx.URL("http://broker/x").copy_with(raw_path=f"/api/v5{path}".encode())
                body = {"name": "evil", "username": "evil", "password": PASSWORD, "description": "", "enable": False}
                answer = await live.api.request(method, url, json=body, auth=auth)
                assert answer.status_code in (301, 307, 308, 400, 401, 403, 404, 405), answer.text
                assert "boss" not in answer.text
        assert await got_as(live, KEYS, boss) == before
        assert [user["username"] for user in await got_as(live, USERS, boss)] == ["boss"]


async def test_a_method_cannot_be_overridden(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1")
        names = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
        headers = dict.fromkeys(names, "DELETE")
        await live.api.get("/clients/c1?_method=DELETE", headers=headers, auth=VIEWER)
        assert (await got(live, "/clients"))["meta"]["count"] == 1
        publisher = pair(await new_key(live, await live.log_in(), role="publisher"))
        for method in ("HEAD", "OPTIONS"):
            for path in ("/clients", KEYS, USERS):
                answer = await live.api.request(method, path, auth=publisher)
                assert answer.status_code in (401, 403, 405)
                assert (await ask(live, path=path, method=method)).status_code in (401, 405)
