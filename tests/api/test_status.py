"""`/status` and `/error_codes`: what answers without credentials."""

from __future__ import annotations

import httpx
import pytest
from api.conftest import Started
from api.fake_questions import NODE


@pytest.mark.parametrize("base", ["http://broker", "http://broker/api/v5"])
async def test_running(api: httpx.AsyncClient, base: str) -> None:
    answer = await api.get(base + "/status", auth=None)
    assert (answer.status_code, answer.text) == (200, f"Node {NODE} is started\nemqx is running")
    assert answer.headers["content-type"] == "text/plain"
    answer = await api.get(base + "/status?format=json", auth=None)
    assert answer.json() == {
        "node_name": NODE,
        "rel_vsn": "v5.8.9",
        "trio_broker_version": "0.1.0",
        "broker_status": "started",
        "app_status": "running",
    }


async def test_not_yet_running(api: httpx.AsyncClient, started: Started) -> None:
    started.value = False
    answer = await api.get("/status", auth=None)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "15")
    assert answer.text == f"Node {NODE} is stopped\nemqx is not_running"
    answer = await api.get("/status?format=json", auth=None)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "15")
    assert (answer.json()["broker_status"], answer.json()["app_status"]) == ("stopped", "not_running")


async def test_error_codes(api: httpx.AsyncClient) -> None:
    codes = (await api.get("/error_codes", auth=None)).json()
    assert len(codes) == 31
    assert [codes[0]["code"], codes[-1]["code"]] == ["BAD_USERNAME_OR_PWD", "UNSUPPORTED_MEDIA_TYPE"]
    assert all(set(one) == {"code", "description"} and one["description"] for one in codes)
    one = await api.get("/error_codes/NOT_FOUND", auth=None)
    assert (one.status_code, one.json()["code"]) == (200, "NOT_FOUND")
    unknown = await api.get("/error_codes/NO_SUCH_CODE", auth=None)
    assert (unknown.status_code, unknown.json()["code"]) == (400, "BAD_REQUEST")
