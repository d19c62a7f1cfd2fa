"""The OpenAPI document says what is served, and is a valid one; the page needs no network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Annotated, Any

import httpx
import msgspec
import pytest
from api.live import running
from api.openapi_checks import (
    agrees,
    operations,
    operations_are_well_formed,
    schemas_are_of_openapi_3_0,
    template_of,
)

from trio_broker.api import v5
from trio_broker.api.failures import Failure
from trio_broker.api.openapi import document
from trio_broker.api.routes import EVERYBODY, Documented, Reply, Route, Router, Routes
from trio_broker.api.v5.dialect import DIALECT

DOCUMENT = document(v5.ROUTES, v5.BASE_PATH, DIALECT, version="5.8.9")


async def test_it_is_served_without_credentials(api: httpx.AsyncClient) -> None:
    answer = await api.get("http://broker/api-docs/swagger.json", auth=None)
    assert (answer.status_code, answer.json()) == (200, DOCUMENT)
    assert DOCUMENT["openapi"] == "3.0.0"
    assert DOCUMENT["info"] == {"title": "trio-broker API", "version": "5.8.9"}
    assert DOCUMENT["servers"] == [{"url": "/api/v5"}]
    assert set(DOCUMENT["components"]["securitySchemes"]) == {"basicAuth", "bearerAuth"}


@pytest.mark.parametrize("route", v5.ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_in_it(route: Any) -> None:
    operation = DOCUMENT["paths"][template_of(route.path)][route.method.lower()]
    assert ("requestBody" in operation) is (route.body is not None)
    assert (operation["security"] == []) is (route.access == EVERYBODY)
    for failure in route.failures:
        assert failure.code in operation["responses"][str(failure.status)]["description"]
    if route.access != EVERYBODY:
        assert {"401", "403", "503"} <= set(operation["responses"])


def test_nothing_else_is_in_it() -> None:
    assert sum(1 for _ in operations(DOCUMENT)) == len(v5.ROUTES)


def test_it_is_well_formed() -> None:
    operations_are_well_formed(DOCUMENT)
    schemas_are_of_openapi_3_0(DOCUMENT)


def test_the_documented_parameters_are_those_of_the_contract() -> None:
    parameters = {p["name"]: p for p in DOCUMENT["paths"]["/clients"]["get"]["parameters"]}
    assert set(parameters) == {
        *("page", "limit", "node", "clientid", "username", "ip_address", "conn_state", "clean_start", "proto_ver"),
        *("like_clientid", "like_username", "gte_created_at", "lte_created_at"),
        *("gte_connected_at", "lte_connected_at", "fields"),
    }
    assert parameters["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 100}
    assert parameters["clientid"]["schema"] == {"type": "array", "items": {"type": "string"}}
    publish = DOCUMENT["paths"]["/publish"]["post"]["responses"]
    assert set(publish) == {"200", "202", "400", "401", "403", "408", "413", "415", "500", "503"}


VALUES = {
    ":clientid": "c1",
    ":node": "trio_broker@127.0.0.1",
    ":topic": "t1",
    ":id": "tcp:default",
    ":code": "NOT_FOUND",
}
MESSAGE = {"topic": "t/1", "payload": "p"}
BODIES: dict[str, Any] = {
    "/publish": MESSAGE,
    "/publish/bulk": [MESSAGE],
    "/clients/kickout/bulk": ["c1"],
    "/clients/:clientid/keepalive": {"interval": 30},
    "/clients/:clientid/subscribe": {"topic": "a"},
    "/clients/:clientid/unsubscribe": {"topic": "a"},
    "/clients/:clientid/subscribe/bulk": [{"topic": "a"}, {"topic": "#a"}],
    "/clients/:clientid/unsubscribe/bulk": [{"topic": "a"}],
}
FOUND = (
    *("/clients/:clientid", "/nodes/:node", "/topics/:topic", "/mqtt/retainer/message/:topic", "/error_codes/:code"),
    "/monitor_current/nodes/:node",
)
"""What is below these is there, and has to be found."""


@pytest.mark.parametrize("route", v5.ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_answers_are_as_documented(route: Route, autojump_clock: object) -> None:
    """Status, type, and every key; where we know what to ask for, it is a success."""
    async with running() as live:
        c1 = await live.connect("c1", username="u1", properties={"receive_maximum": 1})
        for topic_filter in ("t/#", "t1", "$share/g/t1"):
            await c1.subscribe(topic_filter, qos=1)
        for _ in range(3):
            await live.broker.publish("t/1", b"waits", qos=1)
        await live.broker.publish("t1", b"x", retain=True)
        path = "/".join(VALUES.get(part, part) for part in route.path.split("/"))
        body = BODIES.get(route.path, {} if route.body is not None else None)
        answer = await live.api.request(route.method, path, json=body, params={"format": "json"})
    if route.path in BODIES or (route.path.startswith(FOUND) and route.body is None):
        assert answer.status_code in {200, 204}, answer.text
    documented = DOCUMENT["paths"][template_of(route.path)][route.method.lower()]["responses"][str(answer.status_code)]
    if answer.content == b"":
        assert "content" not in documented
        return
    content_type = answer.headers["content-type"].partition(";")[0]
    assert content_type in documented["content"]
    if content_type == "application/json":
        assert agrees(answer.json(), documented["content"]["application/json"]["schema"], DOCUMENT), answer.text


class Links(HTMLParser):
    """Everything the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in {"src", "href", "action"}]


async def test_the_page_works_offline(api: httpx.AsyncClient) -> None:
    answer = await api.get("http://broker/api-docs/index.html", auth=None)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    links = Links()
    links.feed(answer.text)
    assert links.found == ["swagger.json"]
    assert "//" not in re.sub(r"(?m)^\s*//.*$", "", answer.text).replace("http://www.w3.org", "")


def test_two_routes_of_one_name_are_refused() -> None:
    router = Router()
    router.add("/a/:b", v5.ROUTES[0])
    with pytest.raises(ValueError, match="two routes for GET /a/:c"):
        router.add("/a/:c", v5.ROUTES[0])


async def text_or_json(api: Any) -> list[int] | Reply:
    raise NotImplementedError


async def made(api: Any, name: str) -> Reply:
    raise NotImplementedError


async def nothing(api: Any) -> None:
    raise NotImplementedError


def test_statuses_and_forms_beyond_the_usual() -> None:
    routes = Routes("Test")
    routes.get("/a", "a", answers=[Documented(200, "As text", content_type="text/plain")])(text_or_json)
    created = Documented(201, "Created", list[int])
    file = Documented(200, "A file", content_type="application/octet-stream")
    routes.post("/b/:name", "b", answers=[created, file], failures=[Failure(409, "CONFLICT", "There is one")])(made)
    routes.delete("/c", "c", answers=[Documented(503, "Not now")])(nothing)
    paths = document(routes.all, "/api", DIALECT, version="1")["paths"]
    numbers, text = {"type": "array", "items": {"type": "integer"}}, {"type": "string"}
    assert paths["/a"]["get"]["responses"]["200"] == {
        "description": "As text",
        "content": {"application/json": {"schema": numbers}, "text/plain": {"schema": text}},
    }
    responses = paths["/b/{name}"]["post"]["responses"]
    assert set(responses) == {"200", "201", "400", "401", "403", "409", "500", "503"}
    assert responses["201"] == {"description": "Created", "content": {"application/json": {"schema": numbers}}}
    assert responses["200"]["content"] == {"application/octet-stream": {"schema": {**text, "format": "binary"}}}
    responses = paths["/c"]["delete"]["responses"]
    assert responses["204"] == {"description": "Done"}
    assert responses["503"]["description"].endswith("The broker did not answer; Not now")


class Odd(msgspec.Struct):
    above: Annotated[float, msgspec.Meta(gt=1, lt=2)]
    named: dict[Annotated[str, msgspec.Meta(pattern="^[a-z]+$")], int]
    pair: tuple[int, str]
    maybe: int | None = None


async def odd(api: Any, query: Odd) -> None:
    raise NotImplementedError


def test_newer_words_are_put_into_those_of_3_0() -> None:
    routes = Routes("Test")
    routes.get("/odd", "odd")(odd)
    properties = document(routes.all, "/api", DIALECT, version="1")["components"]["schemas"]["Odd"]["properties"]
    bounds = {"minimum": 1, "exclusiveMinimum": True, "maximum": 2, "exclusiveMaximum": True}
    assert properties["above"] == {"type": "number"} | bounds
    assert properties["named"] == {"type": "object", "additionalProperties": {"type": "integer"}}
    assert properties["pair"]["items"] == {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert properties["maybe"] == {"type": "integer", "nullable": True}
