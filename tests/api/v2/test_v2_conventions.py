"""What holds for every operation of EMQ 2, also for those that are added tomorrow; and what is beside them."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trio
from api.live import ADMIN, PASSWORD, running
from api.older import BOSS, WATCHER, older
from api.v2.two import NODE, app_of, client_of
from trio.testing import MockClock

from trio_broker.actors.api_keys import Role
from trio_broker.actors.slow_hash import TooBusy
from trio_broker.api.routes import EVERYBODY, VIEWERS, Route, Router
from trio_broker.api.v2 import BASE_PATH, ROUTES
from trio_broker.errors import ActorGone, AskTimeout, StoreError

CHALLENGE = 'Basic Realm="emqx control center"'
REFUSED = (403, {"code": 102, "message": "You don't have permission to access this resource"})
ORIGIN = {"Origin": "https://elsewhere.example"}
ODD = [
    *("a/b", "/", "#", "+/#", "a b", " ", "%", "a%2Fb", "%41", "ü€😀", "a?b=c", "..", ".", "a:b", ":id", "a;b", "\\"),
    *("a&b", "\x00", "\n", "'\"<>", "$share/g/t", "x" * 300),
]
"""Identifiers and topics as clients have them."""


def routes(**wanted: bool) -> pytest.MarkDecorator:
    """Parametrizes with the routes that (do not) have these: `body`, `path`, `closed`, `viewers`."""

    def has(route: Route, what: str) -> bool:
        match what:
            case "body":
                return route.body is not None
            case "path":
                return bool(route.path_names)
            case "viewers":
                return route.access == VIEWERS
            case _:
                return route.access != EVERYBODY

    chosen = [route for route in ROUTES if all(has(route, what) is value for what, value in wanted.items())]
    return pytest.mark.parametrize("route", chosen, ids=lambda route: f"{route.method} {route.path}")


def encoded(text: str) -> str:
    """Every byte, the dots too: `/clients/..` would be made `/` before it is sent."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


def path_of(route: Route, segment: str = "x") -> str:
    return "/".join(encoded(segment) if part.startswith(":") else part for part in route.path.split("/"))


def is_nothing(answer: httpx.Response) -> bool:
    """404 as it always is: a text without a word."""
    assert (answer.status_code, answer.content) == (404, b"")
    assert answer.headers["content-type"].startswith("text/plain")
    return True


def is_unknown(answer: httpx.Response) -> bool:
    assert (answer.status_code, answer.content) == (401, b"")
    assert answer.headers["www-authenticate"] == CHALLENGE
    assert "content-type" not in answer.headers
    return True


# -- the envelope


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/management/nodes", list), (f"/monitoring/nodes/{NODE}", dict), ("/monitoring/stats", dict), ("/users", list)],
)
async def test_a_success(autojump_clock: MockClock, path: str, kind: type) -> None:
    async with running() as live, older(live, "v2") as v2:
        answer = await v2.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert set(answer.json()) == {"code", "result"}
        assert answer.json()["code"] == 0
        assert type(answer.json()["result"]) is kind
        for same in (f"{path}/", f"{path}?unknown=1"):
            assert set((await v2.get(same)).json()) == {"code", "result"}


async def test_a_refusal(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        answer = await v2.delete("/users/nobody")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json() == {"code": 105, "message": "User not found"}


# -- who may call


@routes(closed=True)
async def test_without_credentials(autojump_clock: MockClock, route: Route) -> None:
    async with running() as live, older(live, "v2") as v2:
        assert is_unknown(await v2.request(route.method, path_of(route), auth=None))


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "header",
    [
        *("", "Basic", "Basic ", "Basic !", "Basic ?=?=", "Basic YWI=", "Bearer x", "Digest x"),
        *("Basic \xff", basic("boss"), basic(f"boss:{PASSWORD}x"), basic(f"nobody:{PASSWORD}"), basic(":")),
        basic(":".join(ADMIN)),
    ],
)
async def test_wrong_credentials(mock_clock: MockClock, header: str) -> None:
    """A key of v5 is none of these, too."""
    async with running() as live, older(live, "v2") as v2:
        raw = [(b"Authorization", header.encode("latin-1"))]
        assert is_unknown(await v2.get("/users", headers=raw, auth=None))


async def test_credentials_in_any_case(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        text = base64.b64encode(":".join(BOSS).encode()).decode()
        for header in (f"Basic {text}", f"bAsIc  {text} "):
            assert (await v2.get("/users", headers={"Authorization": header}, auth=None)).status_code == 200


@routes(closed=True, viewers=False)
async def test_what_viewers_may_not(autojump_clock: MockClock, route: Route) -> None:
    async with running() as live, older(live, "v2") as v2:
        answer = await v2.request(route.method, path_of(route), auth=WATCHER)
        assert (answer.status_code, answer.json()) == REFUSED


@routes(closed=True, viewers=True)
async def test_what_viewers_may(autojump_clock: MockClock, route: Route) -> None:
    async with running() as live, older(live, "v2") as v2:
        answer = await v2.request(route.method, path_of(route, "watcher"), auth=WATCHER)
        assert answer.status_code in (200, 404)


async def test_who_is_refused_changes_nothing(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        body = {"username": "eve", "password": "password", "tags": ""}
        assert (await v2.post("/users", json=body, auth=WATCHER)).status_code == 403
        assert (await v2.delete("/users/boss", auth=WATCHER)).status_code == 403
        assert [user["username"] for user in (await v2.get("/users")).json()["result"]] == ["boss", "watcher"]


# -- what became void


@pytest.mark.parametrize("change", ["delete", "password", "role"])
async def test_credentials_that_become_void(mock_clock: MockClock, change: str) -> None:
    """At once, and also while the body of a request is on its way."""
    async with running() as live, older(live, "v2") as v2:
        users = live.broker.questions.dashboard_users
        await users.create("vera", PASSWORD)
        vera = ("vera", PASSWORD)
        assert (await v2.get("/users", auth=vera)).status_code == 200

        async def slowly() -> AsyncIterator[bytes]:
            yield b'{"username": "eve", "password": "password", '
            if change == "delete":
                await users.delete("vera")
            elif change == "password":
                await users.change_password("vera", PASSWORD, "another-1")
            else:
                await users.update("vera", "", Role.VIEWER)
            yield b'"tags": ""}'

        answer = await v2.post("/users", content=slowly(), auth=vera)
        again = await v2.post("/users", json={}, auth=vera)
        if change == "role":
            assert (answer.status_code, answer.json()) == (again.status_code, again.json()) == REFUSED
        else:
            assert is_unknown(answer)
            assert is_unknown(again)
        assert users.get("eve") is None


# -- what there is not


@pytest.mark.parametrize("path", ["/nowhere", "", "/", "/monitoring", "/users/%FF", "/%2Fusers", "//users"])
async def test_unknown_paths(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, older(live, "v2") as v2:
        for who in (BOSS, None):
            assert is_nothing(await v2.get(f"http://broker{BASE_PATH}{path}", auth=who))
        for other in ("/api/v5/nodes", "/api/v4/brokers", "/v2/users"):
            assert is_nothing(await v2.get(f"http://broker{other}"))


@routes()
async def test_methods_that_are_not_offered(autojump_clock: MockClock, route: Route) -> None:
    """Without credentials too: nothing is there to need them for."""
    offered = {one.method for one in ROUTES if one.path == route.path}
    async with running() as live, older(live, "v2") as v2:
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"} - offered:
            if method in ("GET", "DELETE", "PUT", "POST") and any(_fits(one, route, method) for one in ROUTES):
                continue  # a variable of another path stands for it
            assert is_nothing(await v2.request(method, path_of(route), auth=None))


def _fits(one: Route, route: Route, method: str) -> bool:
    router = Router(several=True)
    router.add(one.path, one)
    found = router.find(path_of(route).encode())
    return found is not None and method in found.routes


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("secret"), 404),
        (KeyError("secret"), 404),
        (ActorGone("it ended"), 503),
        (AskTimeout("it does not answer"), 503),
        (StoreError("it cannot be read"), 503),
    ],
)
async def test_faults(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
) -> None:
    async def node() -> None:
        raise error

    async with running() as live, older(live, "v2") as v2:
        monkeypatch.setattr(live.broker.questions, "node", node)
        caplog.set_level(logging.WARNING)
        answer = await v2.get("/management/nodes")
        assert "/management/nodes" in caplog.text
        if status == 404:
            assert is_nothing(answer)
            assert "Traceback" in caplog.text
        else:
            assert (answer.status_code, answer.json()) == (503, {"code": 102, "message": "The broker did not answer"})


async def test_too_many_hashes_at_a_time(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def recognize(*_: str) -> None:
        raise TooBusy

    async with running() as live, older(live, "v2") as v2:
        monkeypatch.setattr(live.broker.questions.dashboard_users, "recognize", recognize)
        answer = await v2.get("/users")
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, 102, "1")


# -- bodies


@routes(body=True)
async def test_the_order_of_checks(autojump_clock: MockClock, route: Route) -> None:
    """Not JSON, then what is missing, then what has a wrong type; whatever the content type is."""
    async with running() as live, older(live, "v2") as v2:

        async def said(raw: bytes, content_type: str = "application/json") -> dict[str, Any]:
            headers = {"content-type": content_type}
            answer = await v2.request(route.method, path_of(route, "watcher"), content=raw, headers=headers)
            assert answer.status_code == 200
            found: dict[str, Any] = answer.json()
            return found

        deep = b"[" * 50_000
        for raw in (b"{", b"x", b'{"a":1,}', b'{"a":"\xff"}', b"{} {}", b"'a'", b'{"a":NaN}', deep):
            assert await said(raw) == {"code": 109, "message": "Body not json"}
        for raw in (b"", b" \r\n", b"{}", b"[]", b"[1]", b"null", b"1", b'"x"', b'{"unknown": 1}'):
            for content_type in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
                assert await said(raw, content_type) == {"code": 107, "message": "params error"}


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'{"username": 1', 109),
        (b'{"username": 1}', 107),
        (b'{"username": 1, "password": "password", "tags": ""}', 108),
        (b'{"username": "u1", "password": "password", "tags": null}', 108),
        (b'{"username": "u1", "password": "password", "tags": "", "more": [{}]}', 0),
    ],
)
async def test_one_thing_after_the_other(autojump_clock: MockClock, raw: bytes, code: int) -> None:
    async with running() as live, older(live, "v2") as v2:
        assert (await v2.post("/users", content=raw)).json()["code"] == code


async def test_a_body_where_none_is_wanted_is_not_looked_at(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        assert (await v2.request("GET", "/users", content=b"\xff{")).json()["code"] == 0
        assert (await v2.request("DELETE", "/users/watcher", content=b"x")).json() == {"code": 0, "result": []}


async def test_bodies_that_are_too_large(autojump_clock: MockClock) -> None:
    async def chunked(size: int) -> AsyncIterator[bytes]:
        for _ in range(0, size, 4096):
            yield b" " * 4096

    async with running() as live, older(live, "v2"):
        async with client_of(app_of(live, largest_body=100_000)) as v2:
            for content in (b" " * 100_001, chunked(110_000)):
                answer = await v2.post("/users", content=content)
                assert (answer.status_code, answer.json()["code"]) == (413, 102)
            # Who has shown nothing has less room.
            for content in (b" " * 65_537, chunked(70_000)):
                answer = await v2.request("POST", "/auth", content=content, auth=None)
                assert (answer.status_code, answer.json()) == (
                    413,
                    {"code": 102, "message": "The request body is too large"},
                )
            assert (await v2.post("/users", content=b" " * 65_537)).json()["code"] == 107


@pytest.mark.parametrize(("path", "who"), [("/users", BOSS), ("/auth", None)])
async def test_a_body_that_does_not_come(autojump_clock: MockClock, path: str, who: tuple[str, str] | None) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await trio.sleep(100)
        yield b"}"

    async with running() as live, older(live, "v2") as v2:
        answer = await v2.request("POST", path, content=never(), auth=who)
        assert (answer.status_code, answer.json()["code"]) == (408, 102)


# -- paths


@routes(path=True)
def test_segments_reach_the_handler_as_they_were_meant(route: Route) -> None:
    router = Router(several=True)
    for one in ROUTES:
        router.add(BASE_PATH + one.path, one)
    for segment in ODD:
        for sent in (quote(segment, safe=""), quote(segment, safe=":;&$'"), encoded(segment), encoded(segment).lower()):
            raw = "/".join(sent if part.startswith(":") else part for part in route.path.split("/"))
            for slash in ("", "/"):
                found = router.find((BASE_PATH + raw + slash).encode())
                assert found is not None
                assert found.routes[route.method] is route
                assert found.values == [segment] * len(route.path_names)


@pytest.mark.parametrize("name", ["a/b", "a/b/c", "a%2Fb", "a%2fb/c", "users/x", "/a", "a//b"])
async def test_a_raw_slash_in_a_variable(autojump_clock: MockClock, name: str) -> None:
    async with running() as live, older(live, "v2") as v2:
        raw = f"http://broker{BASE_PATH}"
        assert (await v2.put(f"{raw}/users/{name}", json={"tags": ""})).json()["code"] == 105
        assert (await v2.get(f"{raw}/users/{name}")).json() == {"code": 0, "result": []}
        assert (await v2.get(f"{raw}/users/{name}/")).json() == {"code": 0, "result": []}


async def test_odd_segments_are_never_a_fault(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "trio_broker.api")
    async with running() as live, older(live, "v2") as v2:
        for route in ROUTES:
            for segment in ODD if route.path_names else ():
                answer = await v2.request(
                    route.method, path_of(route, segment), json={} if route.body is not None else None
                )
                assert answer.status_code in (200, 404), f"{route.method} {path_of(route, segment)}: {answer.text}"
    assert caplog.text == ""


# -- browsers


async def test_another_site_changes_nothing(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        there = {"sec-fetch-site": "cross-site"}
        for method, path in (("DELETE", "/users/watcher"), ("POST", "/auth"), ("PUT", "/change_pwd/boss")):
            answer = await v2.request(method, path, headers=there)
            assert (answer.status_code, answer.json()["code"]) == (403, 102)
            assert "dashboard.cors" in answer.json()["message"]
        for site in ("same-origin", "same-site", "none"):
            assert (await v2.post("/auth", json={}, headers={"sec-fetch-site": site})).status_code == 200
        assert (await v2.get("/users", headers=there)).status_code == 200
        async with client_of(app_of(live, cors=True)) as let:
            assert (await let.delete("/users/watcher", headers=there)).json()["code"] == 0


async def test_a_browser_asks_first(autojump_clock: MockClock) -> None:
    asked = {**ORIGIN, "Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "authorization"}
    async with running() as live, older(live, "v2") as closed:
        assert is_nothing(await closed.request("OPTIONS", "/users/x", auth=None, headers=asked))
        assert "access-control-allow-origin" not in (await closed.get("/users", headers=ORIGIN)).headers
        async with client_of(app_of(live, cors=True)) as v2:
            answer = await v2.request("OPTIONS", "/users/x", auth=None, headers=asked)
            assert (answer.status_code, answer.content) == (204, b"")
            assert answer.headers["access-control-allow-origin"] == "*"
            assert answer.headers["access-control-allow-methods"] == "DELETE, GET, PUT"
            assert answer.headers["access-control-allow-headers"] == "authorization, content-type"
            assert is_nothing(await v2.request("OPTIONS", "/users/x", auth=None, headers=ORIGIN))
            for path, who, status in (("/users", BOSS, 200), ("/users", None, 401), ("/nowhere", BOSS, 404)):
                answer = await v2.get(path, auth=who, headers=ORIGIN)
                assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, "*")


# -- beside it


async def test_the_health_check(autojump_clock: MockClock) -> None:
    async with running() as live:
        for started, status, text in (
            (True, 200, f"Node {NODE} is started\nemqttd is running"),
            (False, 503, f"Node {NODE} is stopped\nemqttd is not_running"),
        ):
            async with client_of(app_of(live, started=lambda started=started: started), base="") as client:
                for path in ("/status", "/status/"):
                    answer = await client.get(path, auth=None)
                    assert (answer.status_code, answer.text) == (status, text)
                    assert answer.headers["content-type"].startswith("text/plain")
                    assert answer.headers.get("retry-after") == (None if started else "15")
                assert is_nothing(await client.post("/status"))


async def test_the_list_of_paths(autojump_clock: MockClock) -> None:
    async with running() as live, client_of(app_of(live), base="") as client:
        answer = await client.get("/", auth=None)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert list(answer.json()) == ["paths"]
        paths = answer.json()["paths"]
        assert paths[0] == "api/v2/management/nodes"
        assert "api/v2/monitoring/nodes/{node}" in paths
        assert (len(paths), set(paths)) == (len(set(paths)), set(paths))
        assert len(paths) == len({route.path for route in ROUTES})


async def test_the_documents_can_be_left_out(autojump_clock: MockClock) -> None:
    path = "/api-docs/swagger.json"
    async with running() as live:
        async with client_of(app_of(live), base="") as client:
            assert (await client.get(path, auth=None)).json()["servers"] == [{"url": "/api/v2"}]
        async with client_of(app_of(live, api_docs=False), base="") as client:
            assert is_nothing(await client.get(path, auth=None))
