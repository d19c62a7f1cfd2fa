"""`/status` and `/error_codes`: what answers without credentials."""

from __future__ import annotations

import httpx
import pytest
from api.conftest import Started
from api.fake_questions import NODE
from api.operations import shows


@shows("GET /status")
@pytest.mark.parametrize("base", ["http://broker", "http://broker/api/v5"])
async def test_running(api: httpx.AsyncClient, base: str) -> None:
    answer = await api.get(base + "/status", auth=None)
    assert (answer.status_code, answer.text) == (200, f"Node {NODE} is started\nemqx is running")
    assert answer.headers["content-type"] == "text/plain"
    assert (await api.get(base + "/status?format=text&format=json&other=1", auth=None)).text == answer.text
    answer = await api.get(base + "/status?format=json", auth=None)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "node_name": NODE,
        "rel_vsn": "v5.8.9",
        "trio_broker_version": "0.1.0",
        "broker_status": "started",
        "app_status": "running",
    }


@shows("GET /status")
async def test_not_yet_running(api: httpx.AsyncClient, started: Started) -> None:
    started.value = False
    answer = await api.get("/status", auth=None)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "15")
    assert answer.text == f"Node {NODE} is stopped\nemqx is not_running"
    answer = await api.get("/status?format=json", auth=None)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "15")
    assert (answer.json()["broker_status"], answer.json()["app_status"]) == ("stopped", "not_running")


CATALOGUE = """
    BAD_USERNAME_OR_PWD BAD_API_KEY_OR_SECRET BAD_REQUEST NOT_MATCH ALREADY_EXISTS BAD_CONFIG_SCHEMA BAD_LISTENER_ID
    BAD_NODE_NAME BAD_RPC BAD_TOPIC EXCEED_LIMIT INVALID_PARAMETER CONFLICT NO_DEFAULT_VALUE DEPENDENCY_EXISTS
    MESSAGE_ID_SCHEMA_ERROR INVALID_ID MESSAGE_ID_NOT_FOUND NOT_FOUND CLIENTID_NOT_FOUND CLIENT_NOT_FOUND
    RESOURCE_NOT_FOUND TOPIC_NOT_FOUND USER_NOT_FOUND INTERNAL_ERROR SERVICE_UNAVAILABLE SOURCE_ERROR UPDATE_FAILED
    REST_FAILED CLIENT_NOT_RESPONSE UNSUPPORTED_MEDIA_TYPE
"""


@shows("GET /error_codes", "GET /error_codes/:code")
async def test_error_codes(api: httpx.AsyncClient) -> None:
    codes = (await api.get("/error_codes", auth=None)).json()
    assert [one["code"] for one in codes] == CATALOGUE.split()
    for one in codes:
        assert (await api.get(f"/error_codes/{one['code']}", auth=None)).json() == one
    assert all(set(one) == {"code", "description"} and one["description"] for one in codes)
    one = await api.get("/error_codes/NOT_FOUND", auth=None)
    assert (one.status_code, one.json()["code"]) == (200, "NOT_FOUND")
    unknown = await api.get("/error_codes/NO_SUCH_CODE", auth=None)
    assert (unknown.status_code, unknown.json()["code"]) == (400, "BAD_REQUEST")
