"""The OpenAPI documents of the older generations: valid ones, which say what is served, and what is answered."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from api.live import ADMIN, running
from api.older import BOSS, older
from api.openapi_checks import (
    agrees,
    operations,
    operations_are_well_formed,
    schemas_are_of_openapi_3_0,
    template_of,
)
from trio.testing import MockClock

from trio_broker.api import v2, v4
from trio_broker.api.openapi import document
from trio_broker.api.routes import EVERYBODY, Route
from trio_broker.api.v2.dialect import DIALECT as TWO
from trio_broker.api.v4.dialect import DIALECT as FOUR

DOCUMENTS = {
    "v2": document(v2.ROUTES, v2.BASE_PATH, TWO, version="2.3.11"),
    "v4": document(v4.ROUTES, v4.BASE_PATH, FOUR, version="4.4.19"),
}
ALL = [(name, route) for name, routes in (("v2", v2.ROUTES), ("v4", v4.ROUTES)) for route in routes]
BASIC = {"v2": "Dashboard user and password", "v4": "AppID and AppSecret"}
both = pytest.mark.parametrize("name", DOCUMENTS)
every = pytest.mark.parametrize(
    ("name", "route"), ALL, ids=[f"{name} {route.method} {route.path}" for name, route in ALL]
)


@both
async def test_it_is_served_without_credentials(autojump_clock: MockClock, name: str) -> None:
    async with running() as live, older(live, name) as api:
        answer = await api.get("http://broker/api-docs/swagger.json", auth=None)
    shown = answer.json()
    assert (answer.status_code, shown) == (200, DOCUMENTS[name])
    assert shown["servers"] == [{"url": f"/api/{name}"}]
    assert shown["info"]["title"] == {"v2": "trio-broker API (EMQ 2)", "v4": "trio-broker API (EMQX 4)"}[name]
    assert shown["components"]["securitySchemes"] == {
        "basicAuth": {"type": "http", "scheme": "basic", "description": BASIC[name]}
    }


@both
def test_it_is_well_formed(name: str) -> None:
    operations_are_well_formed(DOCUMENTS[name])
    schemas_are_of_openapi_3_0(DOCUMENTS[name])


@every
def test_every_route_is_in_it(name: str, route: Route) -> None:
    operation = DOCUMENTS[name]["paths"][template_of(route.path)][route.method.lower()]
    responses = operation["responses"]
    assert (operation["security"] == []) is (route.access == EVERYBODY)
    assert ("401" in responses) is (route.access != EVERYBODY)
    assert {"404", "503"} <= set(responses)
    if route.path in ("/mqtt/publish", "/mqtt/subscribe"):
        assert "requestBody" in operation
    for failure in route.failures:
        if isinstance(failure.code, int):
            assert f"`{failure.code}`" in responses[str(failure.status)]["description"]
        if failure.status == 200 and route.result is not None:
            assert responses["200"]["description"].startswith("`0`: success")


@both
def test_nothing_else_is_in_it(name: str) -> None:
    routes = {"v2": v2.ROUTES, "v4": v4.ROUTES}[name]
    assert sum(1 for _ in operations(DOCUMENTS[name])) == len(routes)


def test_parameters_are_where_they_are_looked_for() -> None:
    clients = DOCUMENTS["v4"]["paths"]["/clients"]["get"]
    assert {"_page", "_limit", "clientid", "_like_username"} <= {one["name"] for one in clients["parameters"]}
    assert "requestBody" not in clients
    subscribe = DOCUMENTS["v4"]["paths"]["/mqtt/subscribe"]["post"]
    assert (subscribe["parameters"], subscribe["requestBody"]["required"]) == ([], False)
    assert subscribe["description"].endswith("Parameters may also be in the query.")
    publish = DOCUMENTS["v2"]["paths"]["/mqtt/publish"]["post"]
    assert (publish["parameters"], publish["requestBody"]["required"]) == ([], True)
    for name, path in (("v4", "/apps"), ("v4", "/users")):
        assert "no application will do" in DOCUMENTS[name]["paths"][path]["get"]["description"]


def test_what_a_handler_reads_for_itself_is_documented() -> None:
    for route in v4.ROUTES:
        if "params" in route.handler.__annotations__:
            assert route.takes is not None or route.query is not None, route.path
    paths = DOCUMENTS["v4"]["paths"]
    message = {"$ref": "#/components/schemas/Message"}
    assert paths["/mqtt/publish"]["post"]["requestBody"]["content"]["application/json"]["schema"] == message
    batch = paths["/mqtt/publish_batch"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert batch == {"type": "array", "items": message}
    assert "return" in DOCUMENTS["v4"]["components"]["schemas"]["Message"]["properties"]


VALUES = {
    **dict.fromkeys((":clientid", ":client_id"), "c1"),
    **dict.fromkeys((":node", ":node_name"), "trio_broker@127.0.0.1"),
    ":topic": "t1",
    ":username": "u1",
}
BODIES: dict[str, Any] = {
    "/mqtt/publish": {"topic": "t/1", "payload": "p"},
    "/mqtt/publish_batch": [{"topic": "t/1", "payload": "p"}],
    "/mqtt/subscribe": {"topic": "a", "clientid": "c1", "client_id": "c1"},
    "/mqtt/subscribe_batch": [{"topic": "a", "clientid": "c1"}],
    "/mqtt/unsubscribe": {"topic": "a", "clientid": "c1", "client_id": "c1"},
    "/mqtt/unsubscribe_batch": [{"topic": "a", "clientid": "c1"}],
    "/banned": {"who": "c2", "as": "clientid", "reason": "r"},
}


def bodies_of(route: Route) -> list[Any]:
    return [BODIES.get(route.path, {}), {}]


@every
async def test_answers_are_as_documented(autojump_clock: MockClock, name: str, route: Route) -> None:
    """Status, type, and every key, also of what is refused."""
    async with running() as live, older(live, name, user=True) as api:
        c1 = await live.connect("c1", username="u1", properties={"receive_maximum": 1})
        for topic_filter in ("t/#", "t1", "$share/g/t1"):
            await c1.subscribe(topic_filter, qos=1)
        await live.broker.publish("t1", b"x", retain=True)
        path = "/".join(VALUES.get(part, part.removeprefix(":")) for part in route.path.split("/"))
        answers = [await api.request(route.method, path, json=body) for body in bodies_of(route)]
        answers.append(await api.request(route.method, path, content=b"{"))
        if not route.tokens_only and name == "v4":
            answers.append(await api.request(route.method, path, auth=ADMIN))
        answers.append(await api.request(route.method, path, auth=("nobody", "x")))
        unknown = "/".join("nobody" if part.startswith(":") else part for part in route.path.split("/"))
        answers.append(await api.request(route.method, unknown, json={}, auth=BOSS))
    documented = DOCUMENTS[name]["paths"][template_of(route.path)][route.method.lower()]["responses"]
    for answer in answers:
        is_documented(answer, documented, name)


def is_documented(answer: httpx.Response, documented: dict[str, Any], name: str) -> None:
    assert str(answer.status_code) in documented, answer.text
    response = documented[str(answer.status_code)]
    if answer.content == b"":
        return
    content_type = answer.headers["content-type"].partition(";")[0]
    assert content_type in response["content"], answer.text
    if content_type == "application/json":
        assert agrees(answer.json(), response["content"][content_type]["schema"], DOCUMENTS[name]), answer.text
