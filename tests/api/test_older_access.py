"""Who may call what in the older generations: every route with credentials of every kind that will not do for it."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import pytest
from api.conftest import PUBLISHER
from api.live import ADMIN, PASSWORD, VIEWER, Live, running
from api.older import BOSS, WATCHER, older
from trio.testing import MockClock

from trio_broker.api import v2, v4
from trio_broker.api.keys import Role
from trio_broker.api.routes import EVERYBODY, PUBLISHERS, VIEWERS, Route

CHALLENGES = {"v2": 'Basic Realm="emqx control center"', "v4": 'Basic Realm="minirest-server"'}
TEXTS = {"v2": "", "v4": "UNAUTHORIZED"}
ROUTES = {"v2": v2.ROUTES, "v4": v4.ROUTES}
both = pytest.mark.parametrize("name", ["v2", "v4"])


def closed(name: str) -> Iterator[Route]:
    """Those that not everybody may call."""
    yield from (route for route in ROUTES[name] if route.access != EVERYBODY)


def path_of(route: Route) -> str:
    return "/".join("x" if part.startswith(":") else part for part in route.path.split("/"))


def unknown_caller(answer: httpx.Response, name: str) -> bool:
    assert (answer.status_code, answer.text) == (401, TEXTS[name]), answer.request.url
    assert answer.headers["www-authenticate"] == CHALLENGES[name]
    return True


def too_weak(answer: httpx.Response) -> bool:
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/json"), answer.request.url
    body = answer.json()
    assert (set(body), body["code"]) == ({"code", "message"}, 102)
    assert "don't have permission" in body["message"]
    return True


def not_there(answer: httpx.Response, name: str) -> bool:
    assert (answer.status_code, answer.text) == (404, {"v2": "", "v4": "Not found."}[name]), answer.request.url
    return True


def header(text: str) -> dict[str, str]:
    return {"Authorization": text}


def basic(text: str) -> dict[str, str]:
    return header("Basic " + base64.b64encode(text.encode()).decode())


async def who_is_nobody(live: Live, clock: MockClock) -> list[httpx.Auth]:
    """Credentials that were good, and are not any more."""
    questions = live.broker.questions
    _, disabled = await questions.api_keys.create("off", enable=False)
    _, expired = await questions.api_keys.create("over", expired_at=questions.api_keys.now() + 60)
    _, deleted = await questions.api_keys.create("gone")
    await questions.dashboard_users.create("gone", PASSWORD)
    assert await questions.api_keys.check(expired.api_key, expired.api_secret) is Role.ADMINISTRATOR
    assert (await questions.dashboard_users.recognize("gone", PASSWORD)).username == "gone"
    assert await questions.api_keys.delete("gone")
    assert await questions.dashboard_users.delete("gone")
    clock.jump(61)
    made = [httpx.BasicAuth(key.api_key, key.api_secret) for key in (disabled, expired, deleted)]
    return [*made, httpx.BasicAuth("gone", PASSWORD)]


# -- all routes


@both
async def test_nobody_gets_in_without_credentials(autojump_clock: MockClock, name: str) -> None:
    async with running() as live, older(live, name) as api:
        for route in closed(name):
            assert unknown_caller(await api.request(route.method, path_of(route), auth=None), name)


@both
async def test_nobody_gets_in_with_wrong_ones(mock_clock: MockClock, name: str) -> None:
    async with running() as live, older(live, name) as api:
        void = [*await who_is_nobody(live, mock_clock), httpx.BasicAuth(ADMIN[0], "wrong")]
        if name == "v2":  # an application is nobody there
            void.append(httpx.BasicAuth(*ADMIN))
        void += [httpx.BasicAuth(f"nobody-{number}", PASSWORD) for number in range(2)]
        for route in closed(name):
            for auth in void:
                assert unknown_caller(await api.request(route.method, path_of(route), auth=auth), name)
                mock_clock.jump(1000)  # as long as nobody is locked out: that looks the same
        for headers in (
            *(header("Basic"), header("Basic ?"), header("Bearer x"), header("Digest x"), header("Basic Og=")),
            *(
                basic(":"),
                basic("boss"),
                basic(""),
                basic("boss:"),
                basic(f"boss:{PASSWORD} "),
                basic(f"BOSS:{PASSWORD}"),
            ),
        ):
            answer = await api.get("/brokers" if name == "v4" else "/users", headers=headers, auth=None)
            assert unknown_caller(answer, name)
            mock_clock.jump(1000)


@both
async def test_a_viewer_sees_and_changes_nothing(autojump_clock: MockClock, name: str) -> None:
    async with running() as live, older(live, name) as api:
        callers = [httpx.BasicAuth(*WATCHER)] + ([httpx.BasicAuth(*VIEWER)] if name == "v4" else [])
        for route in closed(name):
            for auth in callers:
                answer = await api.request(route.method, path_of(route), auth=auth)
                if route.tokens_only and auth is not callers[0]:
                    assert not_there(answer, name)
                elif route.own is not None:
                    assert too_weak(answer)  # it is about somebody else
                elif route.access == VIEWERS:
                    assert route.method == "GET"
                    assert answer.status_code not in (401, 403), route.path
                else:
                    assert too_weak(answer)


async def test_a_publishers_key_publishes_and_no_more(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as api:
        live.broker.questions.api_keys.add(*PUBLISHER, Role.PUBLISHER)
        allowed = set()
        for route in closed("v4"):
            answer = await api.request(route.method, path_of(route), json={}, auth=PUBLISHER)
            if route.tokens_only:
                assert not_there(answer, "v4")
            elif route.access == PUBLISHERS:
                assert answer.status_code == 200
                allowed.add(f"{route.method} {route.path}")
            else:
                assert too_weak(answer)
    assert allowed == {"POST /mqtt/publish", "POST /mqtt/publish_batch"}


@both
async def test_an_administrator_is_let_in_everywhere(autojump_clock: MockClock, name: str) -> None:
    async with running() as live, older(live, name, user=True) as api:
        for route in closed(name):
            callers = [BOSS] if name == "v2" or route.tokens_only else [BOSS, ADMIN]
            for auth in callers:
                answer = await api.request(route.method, path_of(route), auth=auth)
                assert answer.status_code not in (401, 403), route.path


async def test_applications_do_not_find_what_is_for_dashboard_users(autojump_clock: MockClock) -> None:
    """They are not even told that there is something, also not under the paths of the Cloud, or in other spellings."""
    only = [route for route in v4.ROUTES if route.tokens_only]
    assert {"/apps", "/apps/:appid", "/users"} <= {route.path for route in only}
    async with running() as live, older(live, "v4", cloud=True) as api:
        for route in only:
            spelled = path_of(route)
            for path in (
                *(f"/api/v4{spelled}", f"/api{spelled}", f"/api//v4{spelled}/", f"//api/v4/{spelled}"),
                "/api/v4" + "".join(f"%{ord(one):02x}" if one.isalpha() else one for one in spelled),
            ):
                assert not_there(await api.request(route.method, f"http://broker{path}", auth=ADMIN), "v4"), path
        answer = await api.get("http://broker/api/apps", auth=BOSS)
        assert (answer.status_code, answer.json()["code"]) == (200, 0)


# -- other ways to the same door


@both
async def test_other_spellings_and_methods_lead_around_nothing(autojump_clock: MockClock, name: str) -> None:
    spellings = [
        *(
            "/clients/x",
            "/clients/x/",
            "/%63lients/x",
            "//clients/x",
            "/clients//x",
            "/./clients/x",
            "/../v5/clients/x",
        ),
        *("/clients/x?_method=GET", "/clients/x;a=b", "/clients/x%00", "/CLIENTS/x", "/clients\\x", "/clients/%2e%2e"),
        *("/../../api/v5/clients/x", "/users/..%2fclients%2fx"),
    ]
    override = {"X-HTTP-Method-Override": "GET", "X-HTTP-Method": "GET", "X-Original-URL": "/status"}
    async with running() as live, older(live, name) as api:
        connected = await live.connect("x")
        for path in spellings:
            raw = httpx.URL(f"http://broker/api/{name}").copy_with(raw_path=f"/api/{name}{path}".encode())
            answers = [
                await api.request("DELETE", raw, auth=auth, headers=headers)
                for auth in (None, WATCHER)
                for headers in ({}, override)
            ]
            assert {answer.status_code for answer in answers} <= {401, 403, 404}, path
        assert connected.disconnected is None
        assert await live.broker.questions.client("x") is not None


@both
async def test_a_generation_answers_under_its_own_paths_only(autojump_clock: MockClock, name: str) -> None:
    async with running() as live, older(live, name, user=True) as api:
        for path in (
            "/api/v5/nodes",
            "/api/v5/status",
            "/api/v3/nodes",
            "/api/nodes",
            "/nodes",
            "/api",
            "/x/api/v4/nodes",
        ):
            assert not_there(await api.get(f"http://broker{path}"), name), path
        other = {"v2": "/api/v4/brokers", "v4": "/api/v2/management/nodes"}[name]
        assert not_there(await api.get(f"http://broker{other}"), name)


@both
async def test_a_page_of_another_site_changes_nothing(autojump_clock: MockClock, name: str) -> None:
    """A browser would send the credentials that it remembers with it."""
    async with running() as live, older(live, name, user=True) as api:
        connected = await live.connect("x")
        answer = await api.delete("/clients/x", headers={"Sec-Fetch-Site": "cross-site"})
        assert (answer.status_code, answer.json()["code"]) == (403, 102)
        assert connected.disconnected is None
        origin = {"Origin": "https://elsewhere.example"}
        assert "access-control-allow-origin" not in (await api.get("/nodes", headers=origin)).headers
