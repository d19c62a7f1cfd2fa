"""The REST contract, read afresh: transport, credentials, errors, validation, pages, status, documents."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from api.live import ADMIN, running
from api.operations import shows
from review.contract import NODE, done, failed, got, invalid, words
from trio.testing import MockClock

JSON = {"content-type": "application/json"}
REALM = 'Basic Realm="emqx-dashboard"'
CATALOGUE = words("""
BAD_USERNAME_OR_PWD BAD_API_KEY_OR_SECRET BAD_REQUEST NOT_MATCH ALREADY_EXISTS BAD_CONFIG_SCHEMA BAD_LISTENER_ID
BAD_NODE_NAME BAD_RPC BAD_TOPIC EXCEED_LIMIT INVALID_PARAMETER CONFLICT NO_DEFAULT_VALUE DEPENDENCY_EXISTS
MESSAGE_ID_SCHEMA_ERROR INVALID_ID MESSAGE_ID_NOT_FOUND NOT_FOUND CLIENTID_NOT_FOUND CLIENT_NOT_FOUND
RESOURCE_NOT_FOUND TOPIC_NOT_FOUND USER_NOT_FOUND INTERNAL_ERROR SERVICE_UNAVAILABLE SOURCE_ERROR UPDATE_FAILED
REST_FAILED CLIENT_NOT_RESPONSE UNSUPPORTED_MEDIA_TYPE
""")


@shows("POST /publish", "POST /clients/:clientid/subscribe", "POST /clients/kickout/bulk", "POST /trace")
@pytest.mark.parametrize("path", ["/publish", "/clients/c1/subscribe", "/clients/kickout/bulk", "/trace"])
@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}])
async def test_a_body_of_another_type(path: str, headers: dict[str, str], autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await live.api.post(path, content=b'{"topic":"a","payload":"b"}', headers=headers)
        failed(answer, 415, "UNSUPPORTED_MEDIA_TYPE", "content-type:application/json Required")


@shows("POST /publish")
async def test_a_type_may_have_parameters(autojump_clock: MockClock) -> None:
    async with running() as live:
        headers = {"content-type": "application/json; charset=utf-8"}
        answer = await live.api.post("/publish", content=b'{"topic":"a","payload":"b"}', headers=headers)
        assert answer.status_code == 202


@shows("POST /publish")
@pytest.mark.parametrize("body", [b"{", b"nothing", b'{"topic":"a","payload":"b"', b'{"topic": "\xff"}'])
async def test_malformed_json(body: bytes, autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await live.api.post("/publish", content=body, headers=JSON)
        failed(answer, 400, "BAD_REQUEST", "Invalid json message received")


@shows("POST /publish")
async def test_an_absent_body_is_an_empty_object(autojump_clock: MockClock) -> None:
    async with running() as live:
        told = json.loads(failed(await live.api.post("/publish", content=b"", headers=JSON), 400, "BAD_REQUEST"))
        assert {each["path"] for each in (told if isinstance(told, list) else [told])} & {"root.topic", "root.payload"}


@pytest.mark.parametrize(
    ("accept", "kind", "text"),
    [
        ("application/json", "application/json", '{"code":"NOT_FOUND","message":"Request Path Not Found"}'),
        ("application/json, */*", "application/json", '{"code":"NOT_FOUND","message":"Request Path Not Found"}'),
        ("text/plain", "text/plain", "404 - NOT FOUND"),
        ("*/*", "text/html", None),
        ("image/png", "text/html", None),
        (None, "text/html", None),
    ],
)
async def test_an_unknown_path(accept: str | None, kind: str, text: str | None, autojump_clock: MockClock) -> None:
    async with running() as live:
        request = live.api.build_request("GET", "/nowhere/at/all")
        del request.headers["accept"]
        if accept is not None:
            request.headers["accept"] = accept
        answer = await live.api.send(request, auth=None)
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith(kind)
        if text is not None:
            assert answer.text.replace(" ", "") == text.replace(" ", "")
        else:
            assert "<" in answer.text


@shows("GET /clients", "GET /clients/:clientid", "POST /publish")
async def test_another_method_comes_before_credentials(autojump_clock: MockClock) -> None:
    async with running() as live:
        for method, path, allowed in [
            ("DELETE", "/clients", {"GET"}),
            ("PATCH", "/clients/c1", {"GET", "DELETE"}),
            ("GET", "/publish", {"POST"}),
            ("PUT", "/mqtt/retainer/messages", {"GET", "DELETE"}),
        ]:
            answer = await live.api.request(method, path, auth=None)
            assert (answer.status_code, answer.content) == (405, b"")
            assert set(answer.headers["allow"].split(", ")) - {"HEAD", "OPTIONS"} == allowed


@shows("GET /clients")
@pytest.mark.parametrize("header", [None, "Digest abc", "nonsense", ""])
async def test_no_credentials(header: str | None, autojump_clock: MockClock) -> None:
    async with running() as live:
        headers = {} if header is None else {"authorization": header}
        live.api.auth = None  # type: ignore[assignment]
        answer = await live.api.get("/clients", headers=headers)
        failed(answer, 401, "AUTHORIZATION_HEADER_ERROR", "Support authorization: basic/bearer ")
        assert answer.headers["www-authenticate"] == REALM


@shows("GET /clients")
@pytest.mark.parametrize("pair", ["admin-key:wrong", "nobody:x", "admin:public", "admin-key:", "admin-key"])
async def test_wrong_credentials(pair: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        header = "Basic " + base64.b64encode(pair.encode()).decode()
        live.api.auth = None  # type: ignore[assignment]
        answer = await live.api.get("/clients", headers={"authorization": header})
        failed(answer, 401, "BAD_API_KEY_OR_SECRET", "Check api_key/api_secret")
        assert answer.headers["www-authenticate"] == REALM


@shows("GET /clients")
async def test_an_unknown_token(autojump_clock: MockClock) -> None:
    async with running() as live:
        live.api.auth = None  # type: ignore[assignment]
        answer = await live.api.get("/clients", headers={"authorization": "Bearer abc"})
        failed(answer, 401, "BAD_TOKEN", "Get a token by POST /login")


@shows("GET /clients", "DELETE /clients/:clientid", "POST /publish", "DELETE /trace", "DELETE /mqtt/retainer/messages")
async def test_a_viewer_only_looks(autojump_clock: MockClock) -> None:
    async with running() as live:
        message = "This API Key don't have permission to access this resource"
        for method, path in [
            ("DELETE", "/clients/c1"),
            ("POST", "/publish"),
            ("POST", "/clients/kickout/bulk"),
            ("DELETE", "/trace"),
            ("DELETE", "/monitor"),
            ("DELETE", "/mqtt/retainer/messages"),
            ("PUT", "/prometheus"),
        ]:
            failed(await live.api.request(method, path, auth=live.as_viewer()), 403, "UNAUTHORIZED_ROLE", message)
        for path in ("/clients", "/subscriptions", "/metrics", "/stats", "/nodes", "/trace", "/mqtt/retainer/messages"):
            assert (await live.api.get(path, auth=live.as_viewer())).status_code == 200


@shows("GET /error_codes", "GET /error_codes/:code")
async def test_the_catalogue(autojump_clock: MockClock) -> None:
    async with running() as live:
        live.api.auth = None  # type: ignore[assignment]
        catalogue = await got(live, "/error_codes")
        assert [each["code"] for each in catalogue] == CATALOGUE
        assert all(each.keys() == {"code", "description"} and each["description"] for each in catalogue)
        for each in catalogue:
            assert await got(live, f"/error_codes/{each['code']}") == each
        assert (await live.api.get("/error_codes/CLIENT_SHUTDOWN")).status_code == 400


@shows("POST /publish")
@pytest.mark.parametrize(
    ("body", "path", "reason"),
    [
        ({"payload": "x"}, "root.topic", "required_field"),
        ({"topic": "a"}, "root.payload", "required_field"),
        ({"topic": None, "payload": "x"}, "root.topic", "required_field"),
        ({"topic": "a", "payload": "x", "qos": 3}, "root.qos", ""),
        ({"topic": "a", "payload": "x", "qos": -1}, "root.qos", ""),
        ({"topic": "a", "payload": "x", "qos": "one"}, "root.qos", ""),
        ({"topic": "a", "payload": "x", "retain": 1}, "root.retain", ""),
        ({"topic": "a", "payload": "x", "payload_encoding": "hex"}, "root.payload_encoding", "not_a_enum_symbol"),
        ({"topic": "a", "payload": "x", "properties": {"payload_format_indicator": 2}}, None, ""),
        ({"topic": "a", "payload": "x", "properties": {"colour": "red"}}, "root.properties", "unknown_fields"),
        ({"topic": "a", "payload": "x", "colour": "red"}, "root", "unknown_fields"),
        ({"topic": 7, "payload": "x"}, "root.topic", ""),
        ({"topic": "a", "payload": {"a": 1}}, "root.payload", ""),
    ],
)
async def test_validation(body: dict[str, Any], path: str | None, reason: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await live.api.post("/publish", json=body)
        invalid(answer, path or "root.properties.payload_format_indicator", reason)


@shows("POST /publish/bulk")
async def test_items_of_a_list_count_from_one(autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await live.api.post("/publish/bulk", json=[{"topic": "a", "payload": "x"}, {"payload": "x"}])
        invalid(answer, "root.2.topic", "required_field")


@shows("POST /publish")
async def test_null_is_absent_and_texts_of_digits_are_numbers(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("a", 2)
        body = {"topic": "a", "payload": "x", "qos": "1", "retain": None, "properties": None, "clientid": None}
        answer = await live.api.post("/publish", json=body)
        assert answer.status_code == 200, answer.text
        assert (await client.receive()).qos == 1


PAGED = ["/clients", "/subscriptions", "/topics", "/mqtt/retainer/messages"]


@shows("GET /clients", "GET /subscriptions", "GET /topics", "GET /mqtt/retainer/messages")
@pytest.mark.parametrize("path", PAGED)
@pytest.mark.parametrize("query", ["page=0", "page=-1", "page=x", "limit=0", "limit=10001", "limit=ten", "page=1.5"])
async def test_paging_out_of_range(path: str, query: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        invalid(await live.api.get(f"{path}?{query}"), query.split("=")[0])


@shows("GET /clients", "GET /subscriptions", "GET /topics", "GET /mqtt/retainer/messages")
@pytest.mark.parametrize("path", PAGED)
async def test_pages(path: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        for index in range(5):
            client = await live.connect(f"c{index}")
            await client.subscribe(f"t/{index}")
            await client.publish(f"r/{index}", b"x", 1, retain=True)
        assert (await got(live, path))["meta"] == {"page": 1, "limit": 100, "count": 5, "hasnext": False}
        rows = []
        for page, hasnext, size in [(1, True, 2), (2, True, 2), (3, False, 1), (4, False, 0), (1000, False, 0)]:
            answer = await got(live, path, page=page, limit=2)
            assert answer.keys() == {"data", "meta"}
            assert answer["meta"] == {"page": page, "limit": 2, "count": 5, "hasnext": hasnext}
            assert len(answer["data"]) == size
            rows += answer["data"]
        assert len({json.dumps(row, sort_keys=True) for row in rows}) == 5
        assert not (await got(live, path, page=1, limit=10000))["meta"]["hasnext"]


@shows("GET /clients")
async def test_unknown_parameters_are_ignored_and_repeated_ones_taken_once(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1")
        assert (await got(live, "/clients?colour=red"))["meta"]["count"] == 1
        assert (await got(live, "/clients?limit=7&limit=9"))["meta"]["limit"] in (7, 9)


@shows("GET /clients", "GET /subscriptions")
async def test_another_node(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1")
        for path in ("/clients", "/subscriptions"):
            answer = await live.api.get(path, params={"node": "nope@10.0.0.1"})
            failed(answer, 500, "NODE_DOWN", 'bad rpc call nope@10.0.0.1, Reason <<"invalid node">>')
            assert (await live.api.get(path, params={"node": NODE})).status_code == 200


@shows("GET /clients/:clientid", "DELETE /clients/:clientid", "GET /clients/:clientid/subscriptions")
@pytest.mark.parametrize("client_id", ["a/b", "a#b", "a+b", "a:b", "a b", "ä€", "50%", "?x=1", "..", "a%2Fb"])
async def test_percent_encoded_ids(client_id: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect(client_id)
        path = "/clients/" + quote(client_id, safe="")
        url = httpx.URL("http://broker/api/v5/x").copy_with(raw_path=f"/api/v5{path}".replace("..", "%2E%2E").encode())
        answer = await live.api.get(url)
        assert answer.json()["clientid"] == client_id
        done(await live.api.delete(url))


@shows("GET /clients/:clientid")
async def test_a_colon_may_be_sent_as_it_is(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("a:b")
        assert (await got(live, "/clients/a:b"))["clientid"] == "a:b"


@shows("GET /status")
@pytest.mark.parametrize("url", ["http://broker/status", "http://broker/api/v5/status"])
async def test_status(url: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        live.api.auth = None  # type: ignore[assignment]
        for query in ("", "?format=text"):
            answer = await live.api.get(url + query)
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/plain")
            assert answer.text == f"Node {NODE} is started\nemqx is running"
        answer = await live.api.get(url + "?format=json")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("application/json")
        told = answer.json()
        told.pop("trio_broker_version")
        assert told == {
            "node_name": NODE,
            "rel_vsn": "v5.8.9",
            "broker_status": "started",
            "app_status": "running",
        }


async def test_the_documents(autojump_clock: MockClock) -> None:
    async with running() as live:
        live.api.auth = None  # type: ignore[assignment]
        page = await live.api.get("http://broker/api-docs/index.html")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        document = (await live.api.get("http://broker/api-docs/swagger.json")).json()
        assert document["openapi"] == "3.0.0"
        assert document["info"]["title"].endswith(" API")
        assert document["info"]["version"]
        assert [server["url"] for server in document["servers"]] == ["/api/v5"]
        assert {"basicAuth", "bearerAuth"} <= document["components"]["securitySchemes"].keys()
        paths = document["paths"]
        assert {"get", "delete"} <= paths["/clients/{clientid}"].keys()
        for path in ("/subscriptions", "/publish/bulk", "/mqtt/retainer/message/{topic}", "/nodes/{node}/stats"):
            assert path in paths
        assert (await live.api.get("http://broker/api-docs/swagger.json", auth=ADMIN)).status_code == 200
