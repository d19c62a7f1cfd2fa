"""Who may call what, and what everybody else is told: paths, methods, credentials, roles, bodies, faults."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from api.conftest import PUBLISHER, VIEWER
from api.fake_questions import FakeQuestions

from trio_broker.errors import ActorGone, AskTimeout

CHALLENGE = 'Basic Realm="emqx-dashboard"'


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("accept", "content_type", "text"),
    [
        ("application/json", "application/json", '{"code":"NOT_FOUND","message":"Request Path Not Found"}'),
        ("application/json, */*", "application/json", '{"code":"NOT_FOUND","message":"Request Path Not Found"}'),
        ("text/plain", "text/plain", "404 - NOT FOUND"),
        ("*/*", "text/html", "<h1>404 Not Found</h1>"),
        ("", "text/html", "<h1>404 Not Found</h1>"),
    ],
)
@pytest.mark.parametrize("path", ["/nothing", "/clients/a/b", "//clients", "/mqtt/retainer/message/a/b"])
async def test_an_unknown_path_needs_no_credentials(
    api: httpx.AsyncClient, path: str, accept: str, content_type: str, text: str
) -> None:
    answer = await api.get("http://broker/api/v5" + path, headers={"Accept": accept}, auth=None)
    assert answer.status_code == 404
    assert answer.headers["content-type"].split(";")[0] == content_type
    assert text in answer.text


@pytest.mark.parametrize("path", ["/api/v4/nodes", "/nodes", "/api/v5x/nodes", "/api/v2/nodes", "/", "/api/v5"])
async def test_other_generations_are_not_here(api: httpx.AsyncClient, path: str) -> None:
    answer = await api.get("http://broker" + path)
    assert answer.status_code == 404


async def test_one_slash_at_the_end_does_not_count(api: httpx.AsyncClient) -> None:
    assert (await api.get("/nodes/")).status_code == 200
    assert (await api.get("/nodes//")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/nodes", "GET"),
        ("PATCH", "/clients/c1", "DELETE, GET"),
        ("HEAD", "/clients", "GET"),
        ("OPTIONS", "/clients", "GET"),
        ("GET", "/publish", "POST"),
        ("ODD", "/status", "GET"),
    ],
)
async def test_a_wrong_method_is_told_before_credentials(
    api: httpx.AsyncClient, method: str, path: str, allow: str
) -> None:
    answer = await api.request(method, path, auth=None)
    assert (answer.status_code, answer.content, answer.headers["allow"]) == (405, b"", allow)


@pytest.mark.parametrize(
    ("headers", "code", "message", "challenge"),
    [
        ({}, "AUTHORIZATION_HEADER_ERROR", "Support authorization: basic/bearer ", CHALLENGE),
        (
            {"Authorization": "Digest x"},
            "AUTHORIZATION_HEADER_ERROR",
            "Support authorization: basic/bearer ",
            CHALLENGE,
        ),
        ({"Authorization": "Basic ?"}, "AUTHORIZATION_HEADER_ERROR", "Support authorization: basic/bearer ", CHALLENGE),
        ({"Authorization": "Basic"}, "BAD_API_KEY_OR_SECRET", "Check api_key/api_secret", CHALLENGE),
        (basic("admin-key:wrong"), "BAD_API_KEY_OR_SECRET", "Check api_key/api_secret", CHALLENGE),
        (basic("nobody:secret"), "BAD_API_KEY_OR_SECRET", "Check api_key/api_secret", CHALLENGE),
        (basic("admin-key"), "BAD_API_KEY_OR_SECRET", "Check api_key/api_secret", CHALLENGE),
        (basic(":"), "BAD_API_KEY_OR_SECRET", "Check api_key/api_secret", CHALLENGE),
        ({"Authorization": "Bearer abc"}, "BAD_TOKEN", "Get a token by POST /login", None),
    ],
)
async def test_no_or_wrong_credentials(
    api: httpx.AsyncClient, headers: dict[str, str], code: str, message: str, challenge: str | None
) -> None:
    answer = await api.get("/nodes", headers=headers, auth=None)
    assert answer.status_code == 401
    assert answer.json() == {"code": code, "message": message}
    assert answer.headers.get("www-authenticate") == challenge


async def test_a_secret_may_hold_a_colon_and_the_scheme_is_in_any_case(api: httpx.AsyncClient) -> None:
    header = basic("admin-key:admin:secret")["Authorization"].replace("Basic", "bASIC")
    assert (await api.get("/nodes", headers={"Authorization": header}, auth=None)).status_code == 200


@pytest.mark.parametrize(
    ("auth", "method", "path", "status"),
    [
        (VIEWER, "GET", "/clients", 200),
        (VIEWER, "GET", "/mqtt/retainer/messages", 200),
        (VIEWER, "POST", "/publish", 403),
        (VIEWER, "DELETE", "/clients/c1", 403),
        (VIEWER, "POST", "/clients/kickout/bulk", 403),
        (PUBLISHER, "POST", "/publish", 202),
        (PUBLISHER, "POST", "/publish/bulk", 202),
        (PUBLISHER, "GET", "/clients", 403),
        (PUBLISHER, "GET", "/nodes", 403),
        (PUBLISHER, "POST", "/clients/c1/subscribe", 403),
        (PUBLISHER, "DELETE", "/mqtt/retainer/messages", 403),
    ],
)
async def test_roles(api: httpx.AsyncClient, auth: tuple[str, str], method: str, path: str, status: int) -> None:
    message = {"topic": "t", "payload": "p"}
    body = {"/publish": message, "/publish/bulk": [message]}.get(path)
    answer = await api.request(method, path, json=body, auth=auth)
    assert answer.status_code == status
    if status == 403:
        assert answer.json() == {
            "code": "UNAUTHORIZED_ROLE",
            "message": "This API Key don't have permission to access this resource",
        }


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_a_body_of_another_type(api: httpx.AsyncClient, content_type: str) -> None:
    answer = await api.post("/publish", content=b'{"topic":"t"}', headers={"Content-Type": content_type})
    assert answer.status_code == 415
    assert answer.json() == {
        "code": "UNSUPPORTED_MEDIA_TYPE",
        "message": "content-type:application/json Required",
    }


async def test_a_charset_beside_the_type_is_fine(api: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    answer = await api.post("/publish", content=b'{"topic":"t","payload":"p"}', headers=headers)
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[" * 100_000,
        b'{"topic":"\xff"}',
        b'{"topic":"\\ud800","payload":""}',
        b"{} {}",
        b'{"qos":1e999}',
        b"NaN",
    ],
)
async def test_malformed_json(api: httpx.AsyncClient, raw: bytes) -> None:
    answer = await api.post("/publish", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json() == {"code": "BAD_REQUEST", "message": "Invalid json message received"}


async def test_a_body_that_is_too_large(api: httpx.AsyncClient) -> None:
    async def chunked() -> AsyncIterator[bytes]:
        for _ in range(60):
            yield b" " * 65_536

    for content in (b" " * 3_000_001, chunked()):
        answer = await api.post("/publish", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "EXCEED_LIMIT")


@pytest.mark.parametrize("fault", [ActorGone("session_manager"), AskTimeout("router"), AskTimeout()])
async def test_a_broker_that_does_not_answer(
    api: httpx.AsyncClient, questions: FakeQuestions, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    questions.fault = fault
    answer = await api.get("/clients")
    assert answer.status_code == 503
    assert answer.json() == {"code": "SERVICE_UNAVAILABLE", "message": "The broker did not answer"}
    assert [(record.levelno, record.exc_info) for record in caplog.records] == [(logging.WARNING, None)]


@pytest.mark.parametrize(
    "fault", [RuntimeError("secret detail"), ExceptionGroup("many", [ValueError("secret detail")])]
)
async def test_a_fault_of_ours_is_logged_and_not_shown(
    api: httpx.AsyncClient, questions: FakeQuestions, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    questions.fault = fault
    answer = await api.get("/clients/a%0Ab")
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL_ERROR")
    assert "secret detail" not in answer.text
    assert "secret detail" in caplog.text
    assert "a%0Ab" in caplog.records[0].getMessage()


async def test_no_cors_headers(api: httpx.AsyncClient) -> None:
    answer = await api.get("/nodes", headers={"Origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/clients/%FF", "/clients?clientid=%FF", "/topics/%C3%28"])
async def test_paths_and_queries_that_are_not_utf8(api: httpx.AsyncClient, path: str) -> None:
    answer = await api.get(path)
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
