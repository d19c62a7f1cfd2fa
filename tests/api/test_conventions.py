"""What holds for every operation, also for those that are added tomorrow: each test runs over all routes there are."""

from __future__ import annotations

import json
from functools import partial
from urllib.parse import quote

import httpx
import pytest
import trio
from api.conftest import ADMIN, PUBLISHER, VIEWER
from api.fake_questions import FakeQuestions
from api.live import PASSWORD, Bearer, running
from trio.testing import MockClock

from trio_broker.api import v5
from trio_broker.api.app import WebApp, make_app
from trio_broker.api.bodies import is_special
from trio_broker.api.keys import Role
from trio_broker.api.paging import Paging
from trio_broker.api.routes import EVERYBODY, PUBLISHERS, VIEWERS, Route, Router
from trio_broker.api.server import serve
from trio_broker.errors import StoreError
from trio_broker.testing import open_broker

ODD = [
    *("a/b", "/", "#", "+/#", "a b", " ", "%", "a%2Fb", "%41", "ü€😀", "a?b=c", "..", ".", "a:b", ":id", "a;b", "\\"),
    *("a&b", "\x00", "\n", "'\"<>", "$share/g/t", "x" * 300),
]
"""Identifiers and topics as clients have them."""
AUTH = b"authorization: Basic YWRtaW4ta2V5OmFkbWluOnNlY3JldA==\r\n"


def routes(**wanted: bool) -> pytest.MarkDecorator:
    """Parametrizes with the routes that (do not) have these: `body` (JSON), `other`, `path`, `paging`, `closed`."""

    def has(route: Route, what: str) -> bool:
        match what:
            case "body":
                return route.body is not None and not is_special(route.body)
            case "other":
                return route.body is not None and is_special(route.body)
            case "path":
                return bool(route.path_names)
            case "paging":
                return isinstance(route.query, type) and issubclass(route.query, Paging)
            case _:
                return route.access != EVERYBODY

    chosen = [route for route in v5.ROUTES if all(has(route, what) is value for what, value in wanted.items())]
    return pytest.mark.parametrize("route", chosen, ids=lambda route: f"{route.method} {route.path}")


def encoded(text: str) -> str:
    """Every byte, the dots too: `/clients/..` would be made `/` before it is sent."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


def path_of(route: Route, segment: str = "x") -> str:
    return "/".join(encoded(segment) if part.startswith(":") else part for part in route.path.split("/"))


def is_failure(answer: httpx.Response, status: int, code: str) -> bool:
    """A failure as all are: JSON with `code` and `message`, and nothing of what went on inside."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    body = answer.json()
    assert (body["code"], type(body["message"])) == (code, str)
    assert "Traceback" not in answer.text
    return True


# -- who may call


@routes(closed=True)
async def test_without_credentials(api: httpx.AsyncClient, route: Route) -> None:
    answer = await api.request(route.method, path_of(route), auth=None)
    assert is_failure(answer, 401, "AUTHORIZATION_HEADER_ERROR")
    assert answer.headers["www-authenticate"] == 'Basic Realm="emqx-dashboard"'


KEY_TOO_WEAK = (403, "UNAUTHORIZED_ROLE", "This API Key don't have permission to access this resource")
USER_TOO_WEAK = (403, "UNAUTHORIZED_ROLE", "You don't have permission to access this resource")
BAD_KEY = (401, "BAD_API_KEY_OR_SECRET", "Check api_key/api_secret")
BAD_TOKEN = (401, "BAD_TOKEN", "Get a token by POST /login")
TIME_OUT = (401, "TOKEN_TIME_OUT", "Token expired, get new token by POST /login")


def no_key(route: Route) -> tuple[int, str, str]:
    path = route.path.split("/")[1]
    told = f"Please use bearer Token instead, using API key/secret in {path} path is not permitted"
    return 401, "API_KEY_NOT_ALLOW", told


async def test_who_may_not(mock_clock: MockClock) -> None:
    """Every route with credentials of every kind that will not do for it."""
    async with running() as live:
        questions = live.broker.questions
        questions.api_keys.add(*PUBLISHER, Role.PUBLISHER)
        boss = await live.log_in()
        expired_token, logged_out = await live.log_in(), await live.log_in()
        made = {}
        for name, body in (("disabled", {"enable": False}), ("expired", {"expired_at": questions.api_keys.now() + 60})):
            answer = await live.api.post("/api_key", json={"name": name, **body}, auth=boss)
            made[name] = httpx.BasicAuth(answer.json()["api_key"], answer.json()["api_secret"])
        assert (await live.api.get("/nodes", auth=made["expired"])).status_code == 200
        mock_clock.jump(3601)
        viewer = await live.log_in("vera", Role.VIEWER)
        logged_out = await live.log_in()
        assert (await live.api.post("/logout", json={"username": "boss"}, auth=logged_out)).status_code == 204

        asked = 0
        for route in v5.ROUTES:
            if route.access == EVERYBODY:
                continue
            keys = [
                (httpx.BasicAuth("nobody", "secret"), BAD_KEY),
                (httpx.BasicAuth(ADMIN[0], "wrong"), BAD_KEY),
                (made["disabled"], BAD_KEY),
                (made["expired"], BAD_KEY),
            ]
            if route.access != VIEWERS:
                keys.append((httpx.BasicAuth(*VIEWER), KEY_TOO_WEAK))
            if route.access != PUBLISHERS:
                keys.append((httpx.BasicAuth(*PUBLISHER), KEY_TOO_WEAK))
            if route.tokens_only:
                keys = [(key, no_key(route)) for key in (*(key for key, _ in keys), httpx.BasicAuth(*ADMIN))]
            users: list[tuple[httpx.Auth, tuple[int, str, str]]] = [
                (Bearer("unknown"), BAD_TOKEN),
                (logged_out, BAD_TOKEN),
                (expired_token, TIME_OUT),
            ]
            if route.access != VIEWERS or "change_pwd" in route.path:
                users.append((viewer, USER_TOO_WEAK))
            for auth, (status, code, message) in (*keys, *users):
                asked += 1
                json_ = {"old_pwd": "old", "new_pwd": "new"} if "change_pwd" in route.path else None
                answer = await live.api.request(route.method, path_of(route), json=json_, auth=auth)
                assert is_failure(answer, status, code), route.path
                assert answer.json()["message"] == message
                challenge = 'Basic Realm="emqx-dashboard"' if code in (BAD_KEY[1], no_key(route)[1]) else None
                assert answer.headers.get("www-authenticate") == challenge
        assert asked > 8 * len([route for route in v5.ROUTES if route.access != EVERYBODY])


async def test_who_may(autojump_clock: object) -> None:
    """A viewer's key and token every `GET` that is for viewers, a publisher's what it is for: nothing is 401 or 403."""
    async with running() as live:
        live.broker.questions.api_keys.add(*PUBLISHER, Role.PUBLISHER)
        boss, viewer = await live.log_in(), await live.log_in("vera", Role.VIEWER)
        for route in v5.ROUTES:
            if route.access == EVERYBODY or route.path in ("/logout", "/users/:username/change_pwd"):
                continue
            callers: list[httpx.Auth] = [boss] if route.tokens_only else [boss, httpx.BasicAuth(*ADMIN)]
            if route.access == VIEWERS:
                assert route.method == "GET"
                callers += [viewer] if route.tokens_only else [viewer, httpx.BasicAuth(*VIEWER)]
            elif route.access == PUBLISHERS:
                callers.append(httpx.BasicAuth(*PUBLISHER))
            for auth in callers:
                answer = await live.api.request(route.method, path_of(route), auth=auth)
                assert answer.status_code not in (401, 403), f"{route.method} {route.path} {answer.text}"


@pytest.mark.parametrize("path", sorted({route.path for route in v5.ROUTES}))
async def test_a_method_that_is_not_there(api: httpx.AsyncClient, path: str) -> None:
    """Told before anything else is looked at, with those that are."""
    there = sorted(route.method for route in v5.ROUTES if route.path == path)
    sent = path.replace(":", "x")
    for method in ("PATCH", "HEAD", "OPTIONS", "BREW"):
        answer = await api.request(method, sent, auth=None)
        assert (answer.status_code, answer.content) == (405, b"")
        assert answer.headers["allow"] == ", ".join(there)


async def test_a_store_that_cannot_be_written(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    questions.fault = StoreError("disk full")
    for method, path in (("GET", "/clients"), ("DELETE", "/mqtt/retainer/messages"), ("DELETE", "/clients/c1")):
        assert is_failure(await api.request(method, path), 503, "SERVICE_UNAVAILABLE")


async def test_an_answer_that_cannot_be_written_is_a_fault_like_others(
    api: httpx.AsyncClient, questions: FakeQuestions, caplog: pytest.LogCaptureFixture
) -> None:
    questions.add("c1", username="\ud800")
    assert is_failure(await api.get("/clients/c1"), 500, "INTERNAL_ERROR")
    assert "GET '/api/v5/clients/c1' failed" in caplog.text


# -- bodies


@pytest.fixture
async def boss(questions: FakeQuestions, api: httpx.AsyncClient) -> Bearer:
    """An administrator's token."""
    await questions.dashboard_users.create("boss", PASSWORD)
    answer = await api.request("POST", "/login", json={"username": "boss", "password": PASSWORD}, auth=None)
    return Bearer(answer.json()["token"])


@routes(body=True)
async def test_bodies_that_cannot_be_read(api: httpx.AsyncClient, route: Route, boss: Bearer) -> None:
    send = partial(api.request, route.method, path_of(route), auth=boss)
    json_ = {"content-type": "application/json"}
    for raw in (b"{", b"\xff", b"{}{}", b"\xef\xbb\xbf{}", b"[1,]", b"NaN"):
        answer = await send(content=raw, headers=json_)
        assert is_failure(answer, 400, "BAD_REQUEST")
        assert answer.json()["message"] == "Invalid json message received"
    for headers in ({"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}, {}):
        assert is_failure(await send(content=b"{}", headers=headers), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert is_failure(await send(content=b" " * 3_000_001, headers=json_), 413, "EXCEED_LIMIT")


@routes(other=True)
async def test_bodies_that_are_not_json(api: httpx.AsyncClient, route: Route) -> None:
    send = partial(api.request, route.method, path_of(route), content=b" " * 3_000_001)
    assert is_failure(await send(headers={"content-type": "application/json"}), 413, "EXCEED_LIMIT")
    answer = await api.request(route.method, path_of(route), content=b"x", headers={"content-type": "image/png"})
    assert is_failure(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@routes(body=True)
async def test_bodies_of_another_shape(api: httpx.AsyncClient, route: Route, boss: Bearer) -> None:
    """None of these is a body of any operation."""
    for raw in (b'"x"', b"1", b"true", b"[[[]]]", b"[1]"):
        answer = await api.request(
            route.method, path_of(route), content=raw, headers={"content-type": "application/json"}, auth=boss
        )
        assert is_failure(answer, 400, "BAD_REQUEST")


# -- parameters


@routes(paging=True)
@pytest.mark.parametrize(
    "query", ["page=0", "page=-1", "page=x", "page=1.5", "page=", "limit=0", "limit=10001", "limit=1_0", "limit=0x10"]
)
async def test_pages_that_are_none(api: httpx.AsyncClient, route: Route, query: str) -> None:
    answer = await api.request(route.method, f"{path_of(route)}?{query}")
    assert is_failure(answer, 400, "BAD_REQUEST")
    assert json.loads(answer.json()["message"])["path"] == query.partition("=")[0]


@routes(path=True)
def test_segments_reach_the_handler_as_they_were_meant(route: Route) -> None:
    router = Router()
    for one in v5.ROUTES:
        router.add(v5.BASE_PATH + one.path, one)
    for segment in ODD:
        for sent in (quote(segment, safe=""), quote(segment, safe=":;&$'"), encoded(segment), encoded(segment).lower()):
            raw = "/".join(sent if part.startswith(":") else part for part in route.path.split("/"))
            found = router.find((v5.BASE_PATH + raw).encode())
            assert found is not None
            assert found.routes[route.method] is route
            assert found.values == [segment] * len(route.path_names)


async def test_odd_segments_are_never_a_fault(autojump_clock: object) -> None:
    """Nothing of that name is there: whatever is answered, it is not 5xx, and not that the path is unknown."""
    async with running() as live:
        boss = await live.log_in()
        for route in v5.ROUTES:
            for segment in ODD if route.path_names else ():
                answer = await live.api.request(
                    route.method, path_of(route, segment), json={} if route.body is not None else None, auth=boss
                )
                what = f"{route.method} {path_of(route, segment)}: {answer.status_code} {answer.text}"
                assert answer.status_code < 500, what
                assert "Path Not Found" not in answer.text, what
                assert "404 Not Found" not in answer.text, what
                if answer.status_code >= 400:
                    assert "message" in answer.json(), what


async def test_clients_with_odd_identifiers(autojump_clock: object) -> None:
    odd = [client_id for client_id in ODD if "\x00" not in client_id]
    async with running() as live:
        for client_id in odd:
            await live.connect(client_id)
            path = "/clients/" + encoded(client_id)
            assert (await live.api.get(path)).json()["clientid"] == client_id
            done = (await live.api.post(f"{path}/subscribe", json={"topic": "t/#"})).json()
            assert (done["clientid"], done["topic"]) == (client_id, "t/#")
            assert [row["topic"] for row in (await live.api.get(f"{path}/subscriptions")).json()] == ["t/#"]
            for queue in ("mqueue_messages", "inflight_messages"):
                assert (await live.api.get(f"{path}/{queue}")).json()["data"] == []
            listed = await live.api.get("/clients", params={"clientid": client_id})
            assert [row["clientid"] for row in listed.json()["data"]] == [client_id]
            assert (await live.api.post(f"{path}/unsubscribe", json={"topic": "t/#"})).status_code == 204
        listed = await live.api.get("/clients", params={"fields": "clientid"})
        assert {row["clientid"] for row in listed.json()["data"]} == set(odd)
        for client_id in odd:
            assert (await live.api.delete("/clients/" + encoded(client_id))).status_code == 204
        assert (await live.api.get("/clients")).json()["meta"]["count"] == 0


async def test_topics_with_odd_names(autojump_clock: object) -> None:
    names = [name for name in ODD if not set(name) & {"#", "+", "\x00"} and not name.startswith("$")]
    async with running() as live:
        for name in names:
            answer = await live.api.post("/publish", json={"topic": name, "payload": name, "retain": True})
            assert answer.status_code == 202, name
        listed = (await live.api.get("/mqtt/retainer/messages")).json()
        assert {row["topic"] for row in listed["data"]} == set(names)
        client = await live.connect("c1")
        for name in names:
            path = "/mqtt/retainer/message/" + encoded(name)
            assert (await live.api.get(path)).json()["topic"] == name
            assert (await live.api.delete(path)).status_code == 204
            assert (await live.api.get(path)).status_code == 404
            await client.subscribe(name)
            answer = await live.api.get("/topics/" + encoded(name))
            assert answer.json() == [{"topic": name, "node": live.broker.config.node.name}]


@pytest.mark.parametrize(
    ("query", "topics"),
    [
        ("topic=t%2F1&topic=t%2F2", 1),  # a scalar that is repeated: one of them
        ("topic=t/1&unknown=1&unknown[]=2", 1),
        ("topic=t/%2B&limit=1&limit=2", 1),
        ("topic=t%2f%23", 2),
        ("limit=%31%30", 2),
    ],
)
async def test_queries(query: str, topics: int, autojump_clock: object) -> None:
    async with running() as live:
        for topic in ("t/1", "t/2"):
            await live.api.post("/publish", json={"topic": topic, "payload": "", "retain": True, "qos": "1"})
            await live.api.post("/publish", json={"topic": topic, "payload": "x", "retain": "true", "clientid": None})
        listed = (await live.api.get(f"/mqtt/retainer/messages?{query}")).json()
        assert len(listed["data"]) == topics


async def test_of_an_array_all_values_count(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    for client_id in ("a", "b", "c"):
        questions.add(client_id)
    for query, count in (("clientid=a&clientid=b", 2), ("clientid=c", 1), ("clientid=a&clientid=a", 1)):
        assert (await api.get(f"/clients?{query}")).json()["meta"]["count"] == count


async def test_null_is_absent_and_numbers_may_be_texts(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    body = {"topic": "t", "payload": "p", "qos": "2", "retain": None, "properties": {"content_type": None}}
    assert (await api.post("/publish", json=body)).status_code == 202
    (message,) = questions.published
    assert (message.qos, message.retain, dict(message.properties)) == (2, False, {})
    for raw in (b"", b"  \r\n", b"null", b"{}"):
        answer = await api.post("/publish", content=raw, headers={"content-type": "application/json"})
        assert is_failure(answer, 400, "BAD_REQUEST")


async def test_a_body_where_none_is_wanted_is_not_looked_at(api: httpx.AsyncClient) -> None:
    answer = await api.request("GET", "/nodes", content=b"\xff{", headers={"content-type": "text/plain"})
    assert answer.status_code == 200
    answer = await api.request("DELETE", "/mqtt/retainer/messages", content=b"x")
    assert answer.status_code == 204
    assert "content-type" not in answer.headers


# -- over a socket


async def exchange(address: tuple[str, int], request: bytes) -> bytes:
    """Send and read until the server closes."""
    with trio.fail_after(60):
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(request)
            return b"".join([chunk async for chunk in stream])


@pytest.fixture
async def address(app: WebApp, nursery: trio.Nursery) -> tuple[str, int]:
    app.config["BODY_TIMEOUT"] = 0.05
    where: tuple[str, int] = await nursery.start(serve, app, "127.0.0.1:0")
    return where


@pytest.mark.parametrize("body", [b"", b'{"topic":'])
@pytest.mark.parametrize("framing", [b"content-length: 20", b"transfer-encoding: chunked"])
async def test_a_body_that_does_not_come(
    address: tuple[str, int], nursery: trio.Nursery, body: bytes, framing: bytes
) -> None:
    """408, and the connection ends: what comes later is not taken for another request."""
    if body and b"chunked" in framing:
        body = b"%x\r\n%s\r\n" % (len(body), body)
    head = b"POST /api/v5/publish HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n" + AUTH
    answer = await exchange(address, head + framing + b"\r\n\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"The request body did not arrive in time" in answer
    assert answer.count(b"HTTP/1.1") == 1
    nursery.cancel_scope.cancel()


async def test_a_connection_goes_on_after_a_refusal(address: tuple[str, int], nursery: trio.Nursery) -> None:
    """Also where the body was never looked at: it is not taken for the next request."""
    post = (
        b"POST /api/v5/publish HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n%scontent-length: 2\r\n\r\n{}"
    )
    last = b"GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = await exchange(address, post % AUTH + post % b"" + post.replace(b"POST", b"PATCH") % b"" + last)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"400", b"401", b"405", b"200"]
    nursery.cancel_scope.cancel()


async def test_a_client_that_asks_before_it_sends(address: tuple[str, int], nursery: trio.Nursery) -> None:
    head = b"POST /api/v5/publish HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
    answer = await exchange(address, head + AUTH + b"expect: 100-continue\r\nconnection: close\r\n\r\n{}")
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"100", b"400"]
    nursery.cancel_scope.cancel()


# -- settings


def client_of(**settings: bool) -> httpx.AsyncClient:
    questions = FakeQuestions()
    questions.api_keys.add(*ADMIN, Role.ADMINISTRATOR)
    app = make_app(questions, started=lambda: True, **settings)  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://broker/api/v5", auth=ADMIN)


ORIGIN = {"Origin": "https://elsewhere.example"}


async def test_other_origins_may_read_where_they_are_let() -> None:
    async with client_of(cors=True) as api:
        for path, auth, status in (("/nodes", ADMIN, 200), ("/nodes", None, 401), ("/nowhere", None, 404)):
            answer = await api.get(path, auth=auth, headers=ORIGIN)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, "*")
        assert "access-control-allow-origin" not in (await api.get("/nodes")).headers
    async with client_of() as api:
        answer = await api.get("/nodes", auth=None, headers=ORIGIN)
        assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (401, None)


async def test_a_browser_asks_first() -> None:
    asked = {**ORIGIN, "Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "authorization"}
    async with client_of(cors=True) as api:
        answer = await api.request("OPTIONS", "/clients/c1", auth=None, headers=asked)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-allow-methods"] == "DELETE, GET"
        assert answer.headers["access-control-allow-headers"] == "authorization, content-type"
        assert (await api.request("OPTIONS", "/clients/c1", auth=None, headers=ORIGIN)).status_code == 405
    async with client_of() as api:
        assert (await api.request("OPTIONS", "/clients/c1", auth=None, headers=asked)).status_code == 405


async def test_the_documents_can_be_left_out() -> None:
    paths = ["http://broker/api-docs/swagger.json", "http://broker/api-docs/index.html"]
    async with client_of(api_docs=False) as api:
        assert [(await api.get(path)).status_code for path in paths] == [404, 404]
        assert (await api.get("/nodes")).status_code == 200


@pytest.mark.parametrize(
    ("settings", "documents", "origin"), [({}, 200, None), ({"cors": True, "swagger_support": False}, 404, "*")]
)
async def test_the_settings_reach_the_server(settings: dict[str, object], documents: int, origin: str | None) -> None:
    http = {"listeners": {"http": {"bind": "127.0.0.1:0"}}}
    async with open_broker(dashboard=http | settings) as broker:
        assert broker.api is not None
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{broker.api[1]}") as client:
            answer = await client.get("/api-docs/swagger.json", headers=ORIGIN)
            assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (documents, origin)
