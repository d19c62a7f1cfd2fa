"""Whatever is sent to the older generations is no fault of ours: odd names, values, bodies and queries."""

from __future__ import annotations

import json
from typing import Any, get_args

import httpx
import msgspec
import pytest
from api.live import running
from api.older import older
from trio.testing import MockClock

from trio_broker.api import v2, v4
from trio_broker.api.routes import Route

ROUTES = {"v2": v2.ROUTES, "v4": v4.ROUTES}
both = pytest.mark.parametrize("name", ["v2", "v4"])

SEGMENTS = [
    *("a/b", "#", "+/#", " ", "%", "a%2Fb", "ü€😀", "a?b=c", "..", ".", "a:b", ":id", "\\", "\x00", "\n", "'\"<>"),
    *(
        "$share/g/t",
        "$queue/t",
        "$share//",
        "x" * 300,
        "0",
        "-1",
        "true",
        "null",
        "trio_broker@127.0.0.1",
        "mqtt:tcp:x",
    ),
]
VALUES: list[Any] = [
    *(None, True, 0, -1, 3, 2**40, 2**70, 1.5, "", "x", "1", "-1", "#", "+", "a/b", "$share/g", "\x00", "\ud800", "ü"),
    *("x" * 70_000, "undefined", "2026-01-01T00:00:00Z", [], ["x"], {}, {"a": {"b": []}}),
]
BODIES = [
    b"",
    b"{",
    b"[]",
    b"[{}]",
    b'[{"x": 1}, 1, null, []]',
    b"null",
    b"1",
    b'"x"',
    b"\xff",
    b"[" * 5000,
    b"{}{}",
    b"NaN",
]


def fields_of(route: Route) -> list[str]:
    """The names of all that an operation may take."""
    found: list[str] = []
    types = [route.query, route.body, route.takes]
    while types:
        one = types.pop()
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            found += [field.encode_name for field in msgspec.structs.fields(one)]
        else:
            types += get_args(one)
    return found


def path_of(route: Route, segment: str = "x") -> str:
    encoded = "".join(f"%{byte:02X}" for byte in segment.encode())
    return "/".join(encoded if part.startswith(":") else part for part in route.path.split("/"))


def is_answer(answer: httpx.Response, what: object) -> None:
    """One that the contract knows: no fault, and a code wherever it is JSON."""
    assert answer.status_code in (200, 400, 403, 404, 413), (what, answer.status_code, answer.text)
    if answer.status_code == 200 and answer.headers["content-type"] == "application/json":
        body = answer.json()
        if "code" in body and body["code"] != 0:
            assert isinstance(body["code"], int | str), what
            assert isinstance(body.get("message", ""), str), what
    assert "Traceback" not in answer.text


def without_surrogates(value: Any) -> bool:
    return not (isinstance(value, str) and "\ud800" in value)


@both
async def test_odd_segments_are_never_a_fault(autojump_clock: MockClock, name: str) -> None:
    async with running() as live, older(live, name, user=True) as api:
        for route in ROUTES[name]:
            for segment in SEGMENTS if route.path_names else ():
                answer = await api.request(route.method, path_of(route, segment), json={})
                is_answer(answer, (route.method, route.path, segment))


@both
async def test_odd_values_are_never_a_fault(autojump_clock: MockClock, name: str) -> None:
    """Each parameter with each of them, in the body and in the query, and all of them together."""
    async with running() as live, older(live, name, user=True) as api:
        for route in ROUTES[name]:
            fields = fields_of(route)
            for value in VALUES if fields else ():
                content = [json.dumps({field: value}).encode() for field in fields]
                content.append(json.dumps(dict.fromkeys(fields, value)).encode())
                for raw in content:
                    answer = await api.request(route.method, path_of(route), content=raw)
                    is_answer(answer, (route.method, route.path, raw[:100]))
                if without_surrogates(value) and len(str(value)) < 1000:
                    answer = await api.request(route.method, path_of(route), params=dict.fromkeys(fields, str(value)))
                    is_answer(answer, (route.method, route.path, "query", value))


@both
async def test_odd_bodies_are_never_a_fault(autojump_clock: MockClock, name: str) -> None:
    async with running() as live, older(live, name, user=True) as api:
        for route in ROUTES[name]:
            for raw in BODIES:
                answer = await api.request(route.method, path_of(route), content=raw)
                is_answer(answer, (route.method, route.path, raw[:100]))


@both
@pytest.mark.parametrize(
    "query", ["%FF", "a=%FF", "=", "&&", "_page=%FF", "curr_page=%C3", "topic=%ED%A0%80", "a" * 9000]
)
async def test_odd_queries_are_never_a_fault(autojump_clock: MockClock, name: str, query: str) -> None:
    async with running() as live, older(live, name, user=True) as api:
        for route in ROUTES[name]:
            base = f"http://broker/api/{name}{path_of(route)}"
            url = httpx.URL(base).copy_with(query=query.encode())
            is_answer(await api.request(route.method, url), (route.method, route.path, query))


@both
async def test_bodies_that_are_too_large(autojump_clock: MockClock, name: str) -> None:
    """Also of strangers, who have less room."""
    async with running() as live, older(live, name, user=True) as api:
        answer = await api.post("/mqtt/publish", content=b" " * (16 * 1024 * 1024 + 1))
        assert (answer.status_code, answer.json()["code"]) == (413, 102)
        answer = await api.request("POST", "/auth", content=b" " * 65_537, auth=None)
        assert (answer.status_code, answer.json()["code"]) == (413, 102)
