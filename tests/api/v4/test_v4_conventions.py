"""What holds for every operation of EMQX 4: statuses, credentials, roles, paths, parameters, bodies, faults."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from api.live import ADMIN, PASSWORD, VIEWER, Live, running
from api.older import BOSS, WATCHER, older
from trio.testing import MockClock

from trio_broker.api import v4 as generation
from trio_broker.api.app import make_older_app
from trio_broker.api.keys import Role
from trio_broker.api.routes import EVERYBODY, PUBLISHERS, VIEWERS, Route
from trio_broker.errors import ActorGone, AskTimeout

ODD = ["a/b", "#", "+/#", " ", "%", "%41", "ü€😀", "..", ":id", "\x00", "\n", "'\"<>", "$share/g/t", "x" * 300]
"""Identifiers and topics as clients have them, and worse."""
BODIES = [b"", b"{}", b"[]", b"[{}, 1, null]", b"null", b"5", b'"x"']
ODD_QUERY = {"_page": "x", "_limit": "-1", "clientid": "", "topic": "#/#", "qos": "9", "_match_topic": "+#", "node": ""}
PUBLISHER = ("publisher-key", "publisher-secret")
CHALLENGE = 'Basic Realm="minirest-server"'


@asynccontextmanager
async def app_of(live: Live, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The application made with these; paths are whole."""
    options = {"started": lambda: True} | options
    app = make_older_app("v4", live.broker.questions, **options)
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://broker", auth=ADMIN) as client:
        yield client


def path_of(route: Route, live: Live) -> str:
    node = live.broker.config.node.name
    segments = (node if part == ":node" else "x" if part.startswith(":") else part for part in route.path.split("/"))
    return "/".join(segments)


def is_plain(answer: httpx.Response, status: int, text: str) -> bool:
    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers["content-type"].split(";")[0] == "text/plain"
    return True


# -- beside the operations


async def test_health(autojump_clock: MockClock) -> None:
    up = True
    async with running() as live, app_of(live, started=lambda: up) as v4:
        name = live.broker.config.node.name
        for auth in (None, ("nobody", "wrong")):
            assert is_plain(await v4.get("/status", auth=auth), 200, f"Node {name} is started\nemqx is running")
        up = False
        answer = await v4.get("/status", auth=None)
        assert is_plain(answer, 503, f"Node {name} is stopped\nemqx is not_running")
        assert answer.headers["retry-after"] == "15"
        assert (await v4.request("POST", "/status", auth=None)).status_code == 401


@pytest.mark.parametrize("path", ["/api/v4", "/api/v4/", "//api//v4//"])
async def test_the_list_of_all_operations(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, older(live, "v4"), app_of(live) as v4:
        url = httpx.URL("http://broker").copy_with(raw_path=path.encode())
        answer = await v4.get(url)
        assert answer.status_code == 200
        rows = answer.json()["data"]
        assert answer.json() == {"code": 0, "data": rows}
        expected = [route for route in generation.ROUTES if not route.tokens_only]
        assert [(row["method"], row["path"]) for row in rows] == [(route.method, route.path) for route in expected]
        assert rows[0].keys() == {"name", "method", "path", "descr"}
        one = {"method": "GET", "path": "/clients/:clientid", "name": "lookup_client"}
        assert one | {"descr": "Lookup a client in the cluster"} in rows
        # A dashboard user finds what no application does.
        more = (await v4.get(url, auth=BOSS)).json()["data"]
        assert len(more) == len(generation.ROUTES)
        assert (await v4.get(url, auth=None)).status_code == 401
        assert is_plain(await v4.post(url), 400, "Bad Request")
        assert is_plain(await v4.put(url), 400, "Bad Request")


async def test_the_api_document(autojump_clock: MockClock) -> None:
    async with running() as live, app_of(live) as v4, app_of(live, api_docs=False) as closed:
        assert (await v4.get("/api-docs/swagger.json", auth=None)).json()["servers"] == [{"url": "/api/v4"}]
        assert (await v4.get("/api-docs/index.html", auth=None)).status_code == 200
        for path in ("/api-docs/swagger.json", "/api-docs/index.html"):
            assert is_plain(await closed.get(path), 404, "Not found.")
            assert is_plain(await closed.get(path, auth=None), 401, "UNAUTHORIZED")


# -- who may call


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("nobody:secret"),
        basic(f"{ADMIN[0]}:wrong"),
        basic(f"{ADMIN[0]}:"),
        basic(f"{BOSS[0]}:wrong"),
        basic("no colon"),
        {"Authorization": "Basic ?"},
        {"Authorization": "Basic"},
        {"Authorization": "Bearer x"},
    ],
)
async def test_who_is_nobody(autojump_clock: MockClock, headers: dict[str, str]) -> None:
    """For paths that there are not, too, and for wrong methods, nodes and bodies."""
    async with running() as live, older(live, "v4") as v4:
        v4.headers.update(headers)
        for method, path in (
            ("GET", "/clients"),
            ("GET", "/nothing/at/all"),
            ("PATCH", "/clients"),
            ("GET", "/nodes/other/clients"),
            ("POST", "/banned"),
            ("DELETE", "/clients/c1"),
        ):
            answer = await v4.request(method, path, auth=None, content=b"{" if method == "POST" else None)
            assert is_plain(answer, 401, "UNAUTHORIZED")
            assert answer.headers["www-authenticate"] == CHALLENGE


async def test_every_operation_asks_who_calls(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        for route in generation.ROUTES:
            if route.access != EVERYBODY:
                answer = await v4.request(route.method, path_of(route, live), auth=None)
                assert is_plain(answer, 401, "UNAUTHORIZED"), route.path


async def test_what_each_role_may(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        live.broker.questions.api_keys.add(*PUBLISHER, Role.PUBLISHER)
        asked = 0
        for route in generation.ROUTES:
            if route.access == EVERYBODY or route.closed is not None:
                continue
            for auth, may in ((VIEWER, {VIEWERS}), (PUBLISHER, {PUBLISHERS}), (WATCHER, {VIEWERS})):
                if route.access in may or route.own is not None or (route.tokens_only and auth is not WATCHER):
                    continue
                answer = await v4.request(route.method, path_of(route, live), auth=auth)
                assert (answer.status_code, answer.json()["code"]) == (403, 102), (route.path, auth)
                assert answer.json().keys() == {"code", "message"}
                asked += 1
        assert asked > 10


async def test_viewers_see_and_publishers_do_not(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        live.broker.questions.api_keys.add(*PUBLISHER, Role.PUBLISHER)
        for auth in (VIEWER, WATCHER, BOSS):
            assert (await v4.get("/clients", auth=auth)).json()["code"] == 0
        for method, path in (("DELETE", "/clients/c1"), ("POST", "/banned"), ("PUT", "/clients/c1/keepalive")):
            for auth in (VIEWER, WATCHER, PUBLISHER):
                answer = await v4.request(method, path, auth=auth, content=b"{")
                assert (answer.status_code, answer.json()["code"]) == (403, 102)
        assert (await v4.get("/clients", auth=PUBLISHER)).status_code == 403


async def test_publishers_publish_and_no_more(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        live.broker.questions.api_keys.add(*PUBLISHER, Role.PUBLISHER)
        theirs = {route.path for route in generation.ROUTES if route.access == PUBLISHERS}
        assert theirs == {"/mqtt/publish", "/mqtt/publish_batch"}
        for path in theirs:
            for auth in (PUBLISHER, ADMIN, BOSS):
                assert (await v4.post(path, json={}, auth=auth)).status_code == 200
            for auth in (VIEWER, WATCHER):
                answer = await v4.post(path, json={}, auth=auth)
                assert (answer.status_code, answer.json()["code"]) == (403, 102)


async def test_guessing(autojump_clock: MockClock) -> None:
    """It locks a user for the address it came from, and no application."""
    async with running() as live, older(live, "v4") as v4:
        for name in (BOSS[0], ADMIN[0]):
            for number in range(10):
                assert (await v4.get("/clients", auth=(name, f"wrong{number}"))).status_code == 401
        assert (await v4.get("/clients", auth=BOSS)).status_code == 401
        assert (await v4.get("/clients", auth=ADMIN)).status_code == 200


async def test_what_is_only_for_people(autojump_clock: MockClock) -> None:
    """The operations of port 18083."""
    async with running() as live, older(live, "v4") as v4:
        for route in generation.ROUTES:
            if route.tokens_only and route.access != EVERYBODY:
                assert is_plain(await v4.request(route.method, path_of(route, live)), 404, "Not found."), route.path


async def test_applications_that_are_not_to_be_used(mock_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        keys = live.broker.questions.api_keys
        made = {}
        for name, options in (
            ("disabled", {"enable": False}),
            ("expiring", {"expired_at": keys.now() + 60}),
            ("lasting", {"expired_at": keys.now() + 3600}),
        ):
            _, secret = await keys.create(name, **options)
            made[name] = (secret.api_key, secret.api_secret)
        statuses = {name: (await v4.get("/clients", auth=auth)).status_code for name, auth in made.items()}
        assert statuses == {"disabled": 401, "expiring": 200, "lasting": 200}
        mock_clock.jump(61)
        statuses = {name: (await v4.get("/clients", auth=auth)).status_code for name, auth in made.items()}
        assert statuses == {"disabled": 401, "expiring": 401, "lasting": 200}
        await keys.delete("lasting")
        assert (await v4.get("/clients", auth=made["lasting"])).status_code == 401


async def test_what_becomes_void_while_the_body_comes(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        keys, users = live.broker.questions.api_keys, live.broker.questions.dashboard_users
        await users.create("second", PASSWORD, Role.ADMINISTRATOR)

        async def gone() -> AsyncIterator[bytes]:
            yield b'{"who": "c1", '
            await keys.delete("app")
            yield b'"as": "clientid"}'

        async def weaker() -> AsyncIterator[bytes]:
            yield b'{"who": "c1", '
            await users.update("second", "", Role.VIEWER)
            yield b'"as": "clientid"}'

        _, secret = await keys.create("app")
        answer = await v4.post("/banned", content=gone(), auth=(secret.api_key, secret.api_secret))
        assert is_plain(answer, 401, "UNAUTHORIZED")
        answer = await v4.post("/banned", content=weaker(), auth=("second", PASSWORD))
        assert (answer.status_code, answer.json()["code"]) == (403, 102)
        assert (await v4.get("/banned")).json()["data"] == []


# -- paths


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "HEAD", "OPTIONS", "ODD"])
async def test_paths_and_methods_that_there_are_not(autojump_clock: MockClock, method: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        for path in ("/nothing", "/clients/c1/nothing", "/nodes/x/y/z"):
            answer = await v4.request(method, path)
            assert is_plain(answer, 404, "" if method == "HEAD" and not answer.text else "Not found.")
        if method != "GET":
            answer = await v4.request(method, "/clients")
            assert is_plain(answer, 404, "" if method == "HEAD" and not answer.text else "Not found.")


@pytest.mark.parametrize("path", ["/api/v5/clients", "/api/v2/clients", "/api/clients", "/clients", "/"])
async def test_other_generations_are_not_here(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, app_of(live) as v4:
        assert is_plain(await v4.get(path), 404, "Not found.")


@pytest.mark.parametrize(
    "path",
    [b"/api/v4/clients/", b"/api/v4//clients", b"//api/v4/clients", b"/api///v4/clients///", b"/api/v4/%63lients"],
)
async def test_empty_segments_do_not_count(autojump_clock: MockClock, path: bytes) -> None:
    async with running() as live, app_of(live) as v4:
        url = httpx.URL("http://broker").copy_with(raw_path=path)
        assert (await v4.get(url)).json()["meta"]["count"] == 0


async def test_segments_are_decoded_after_the_split(autojump_clock: MockClock) -> None:
    async with running() as live, app_of(live) as v4:
        odd = ["a/b", "a b", "a+b", "a%2Fb", "ü€😀", "#", "..", "a?b=c"]
        for client_id in odd:
            await live.connect(client_id)
        for client_id in odd:
            raw = "".join(f"%{byte:02X}" for byte in client_id.encode())
            url = httpx.URL("http://broker").copy_with(raw_path=f"/api/v4/clients/{raw}".encode())
            assert [row["clientid"] for row in (await v4.get(url)).json()["data"]] == [client_id]
        url = httpx.URL("http://broker").copy_with(raw_path=b"/api/v4/clients/a+b")
        assert [row["clientid"] for row in (await v4.get(url)).json()["data"]] == ["a+b"]
        # What is not UTF-8 is the name of nothing.
        url = httpx.URL("http://broker").copy_with(raw_path=b"/api/v4/clients/%ff")
        assert is_plain(await v4.get(url), 404, "Not found.")
        assert is_plain(await v4.get(url, auth=None), 401, "UNAUTHORIZED")


async def test_a_name_of_the_node_may_be_encoded(autojump_clock: MockClock) -> None:
    async with running() as live, app_of(live) as v4:
        name = live.broker.config.node.name
        for sent in (name, name.replace("@", "%40")):
            url = httpx.URL("http://broker").copy_with(raw_path=f"/api/v4/nodes/{sent}/clients".encode())
            assert (await v4.get(url)).json()["code"] == 0


async def test_the_paths_of_the_cloud(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", cloud=True) as v4, app_of(live, cloud=False) as other:
        await live.connect("c1")
        for base in ("http://broker/api/v4", "http://broker/api"):
            answer = await v4.get(f"{base}/clients")
            assert [row["clientid"] for row in answer.json()["data"]] == ["c1"]
            assert (await v4.get(f"{base}/clients", auth=None)).status_code == 401
            assert len((await v4.get(base)).json()["data"]) > 10
            banned = {"who": "c9", "as": "clientid"}
            assert (await v4.post(f"{base}/banned", json=banned)).json()["code"] == 0
        assert (await other.get("/api/clients")).status_code == 404


# -- parameters and bodies


async def test_query_and_body_are_one(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await live.connect("c1", keep_alive=5)

        async def keepalive() -> int:
            [row] = (await v4.get("/clients/c1")).json()["data"]
            found = row["keepalive"]
            assert isinstance(found, int)
            return found

        await v4.put("/clients/c1/keepalive?interval=10", json={"interval": 20})
        assert await keepalive() == 10
        await v4.put("/clients/c1/keepalive?interval=30&interval=40")
        assert await keepalive() == 30
        # What kind of body it is said to be does not matter.
        await v4.put("/clients/c1/keepalive", content=b' {"interval": 50} ', headers={"content-type": "text/plain"})
        assert await keepalive() == 50
        # A GET may have a body, too.
        answer = await v4.request("GET", "/clients", json={"_limit": 1, "clientid": "nobody"})
        assert answer.json() == {"code": 0, "data": [], "meta": {"page": 1, "limit": 1, "count": -1, "hasnext": False}}
        # No body, and one that is no object, say nothing.
        for content in (b"", b" \r\n", b"[]", b"5", b'"text"', b"null"):
            answer = await v4.put("/clients/c1/keepalive", content=content)
            assert answer.json() == {"code": 107, "message": "params_not_found"}


async def test_texts_in_the_query(autojump_clock: MockClock) -> None:
    async with running() as live, app_of(live) as v4:
        await live.connect("ü b")
        for query in (b"clientid=%C3%BC+b", b"clientid=%C3%BC%20b"):
            url = httpx.URL("http://broker").copy_with(raw_path=b"/api/v4/clients?" + query)
            assert [row["clientid"] for row in (await v4.get(url)).json()["data"]] == ["ü b"]
        for query in (b"clientid=%ff", b"clientid", b"&&=&", b"%"):
            url = httpx.URL("http://broker").copy_with(raw_path=b"/api/v4/clients?" + query)
            assert (await v4.get(url)).json()["code"] == 0


@pytest.mark.parametrize("content", [b"{", b"not json", b"{'a': 1}", b"\xff", b'{"a": "\xff"}', b"[" * 100_000])
async def test_a_body_that_is_not_json(autojump_clock: MockClock, content: bytes) -> None:
    async with running() as live, older(live, "v4") as v4:
        for method, path in (("POST", "/banned"), ("PUT", "/clients/c1/keepalive"), ("DELETE", "/clients/c1")):
            answer = await v4.request(method, path, content=content)
            assert (answer.status_code, answer.json()) == (400, {"code": 109, "message": "Bad Request"})


async def test_bodies_that_are_too_large(autojump_clock: MockClock) -> None:
    async with running() as live, app_of(live, largest_body=1000) as v4:
        answer = await v4.post("/api/v4/banned", content=b" " * 1001)
        assert (answer.status_code, answer.json()["code"]) == (413, 102)
        assert (await v4.post("/api/v4/banned", content=b" " * 1000)).json()["code"] == 107


def odd_path(route: Route, live: Live, segment: str) -> bytes:
    """Its variables are `segment`, but for the node; every byte is encoded: `/clients/..` would be made `/`."""
    node = live.broker.config.node.name
    shown = "".join(f"%{byte:02X}" for byte in segment.encode())
    parts = (node if part == ":node" else shown if part.startswith(":") else part for part in route.path.split("/"))
    return (generation.BASE_PATH + "/".join(parts)).encode()


@pytest.mark.parametrize("auth", [ADMIN, BOSS], ids=["application", "person"])
async def test_nothing_that_is_sent_is_a_fault_of_ours(autojump_clock: MockClock, auth: tuple[str, str]) -> None:
    async with running() as live, older(live, "v4") as v4:
        for route in generation.ROUTES:
            for segment in ODD if ":" in route.path else ("x",):
                url = httpx.URL("http://broker").copy_with(raw_path=odd_path(route, live, segment))
                answer = await v4.request(route.method, url, params=ODD_QUERY, auth=auth)
                assert answer.status_code in (200, 400, 403, 404), (route.method, route.path, segment)
            for body in BODIES:
                answer = await v4.request(route.method, url, content=body, auth=auth)
                assert answer.status_code in (200, 400, 403, 404), (route.method, route.path, body)


# -- browsers


async def test_another_site_changes_nothing(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4, app_of(live, cors=True) as open_to_all:
        cross = {"sec-fetch-site": "cross-site"}
        for method, path in (("DELETE", "/clients/c1"), ("POST", "/banned"), ("PUT", "/clients/c1/keepalive")):
            answer = await v4.request(method, path, headers=cross)
            assert (answer.status_code, answer.json()["code"]) == (403, 102)
            for site in ("same-origin", "same-site", "none"):
                assert (await v4.request(method, path, headers={"sec-fetch-site": site})).status_code == 200
            answer = await open_to_all.request(method, "/api/v4" + path, headers=cross)
            assert answer.status_code == 200
        assert (await v4.get("/clients", headers=cross)).status_code == 200


async def test_pages_of_other_origins(autojump_clock: MockClock) -> None:
    origin = {"Origin": "http://elsewhere"}
    asks = origin | {"Access-Control-Request-Method": "DELETE"}
    async with running() as live, older(live, "v4") as v4, app_of(live, cors=True) as open_to_all:
        answer = await open_to_all.request("OPTIONS", "/api/v4/clients/c1", headers=asks, auth=None)
        assert (answer.status_code, answer.headers["access-control-allow-methods"]) == (204, "DELETE, GET")
        answer = await open_to_all.get("/api/v4/clients", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert (await v4.request("OPTIONS", "/clients/c1", headers=asks, auth=None)).status_code == 401
        assert "access-control-allow-origin" not in (await v4.get("/clients", headers=origin)).headers


# -- faults


async def test_a_fault_of_ours(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as live, older(live, "v4") as v4:

        async def fails(*_: object) -> None:
            raise RuntimeError("the secret inside")

        monkeypatch.setattr(live.broker.questions, "client", fails)
        with caplog.at_level(logging.ERROR):
            answer = await v4.get("/clients/c1")
        assert is_plain(answer, 500, "Internal Error")
        assert "the secret inside" in caplog.text


@pytest.mark.parametrize("error", [AskTimeout("nobody answers"), ActorGone("router")])
async def test_a_broker_that_does_not_answer(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async with running() as live, older(live, "v4") as v4:

        async def fails(*_: object) -> None:
            raise error

        monkeypatch.setattr(live.broker.questions, "client", fails)
        answer = await v4.get("/clients/c1")
        assert (answer.status_code, answer.json()["code"]) == (503, 102)
        assert "Traceback" not in answer.text
