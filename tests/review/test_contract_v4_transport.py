"""The contract of `/api/v4`, read afresh: statuses, credentials, paths, parameters."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
import pytest
from api.live import ADMIN, PASSWORD, VIEWER, running
from api.older import BOSS, WATCHER, older
from api.operations import shows
from review.doors_v4 import NODE, UNKNOWN, body, data, done, doors, got, not_found, refused, unauthorized
from trio.testing import MockClock

from trio_broker.api.app import make_older_app

ONLY_FOR_USERS = [
    ("GET", "/apps"),
    ("POST", "/apps"),
    ("GET", "/apps/x"),
    ("PUT", "/apps/x"),
    ("DELETE", "/apps/x"),
    ("POST", "/auth"),
    ("GET", "/users"),
    ("POST", "/users"),
    ("PUT", "/users/x"),
    ("DELETE", "/users/x"),
    ("PUT", "/change_pwd/x"),
]
SERVED = """
GET /clients; GET /nodes/:node/clients; GET /clients/:clientid; DELETE /clients/:clientid
GET /nodes/:node/clients/:clientid; GET /clients/username/:username; GET /nodes/:node/clients/username/:username
GET /clients/:clientid/acl_cache; DELETE /clients/:clientid/acl_cache; POST /clients/:clientid/ratelimit
DELETE /clients/:clientid/ratelimit; POST /clients/:clientid/quota; DELETE /clients/:clientid/quota
PUT /clients/:clientid/keepalive; DELETE /acl-cache; DELETE /nodes/:node/acl-cache; GET /subscriptions
GET /nodes/:node/subscriptions; GET /subscriptions/:clientid; GET /nodes/:node/subscriptions/:clientid
GET /routes; GET /routes/:topic; GET /banned; POST /banned; DELETE /banned/:as/:who; POST /mqtt/publish
POST /mqtt/publish_batch; POST /mqtt/subscribe; POST /mqtt/subscribe_batch; POST /mqtt/unsubscribe
POST /mqtt/unsubscribe_batch; GET /brokers; GET /brokers/:node; GET /nodes; GET /nodes/:node; GET /metrics
GET /nodes/:node/metrics; GET /stats; GET /nodes/:node/stats; GET /listeners; GET /nodes/:node/listeners
PUT /listeners/:identifier/restart; PUT /nodes/:node/listeners/:identifier/restart; GET /alarms
GET /alarms/activated; GET /alarms/deactivated; GET /nodes/:node/alarms; GET /nodes/:node/alarms/activated
GET /nodes/:node/alarms/deactivated; POST /alarms/deactivated; DELETE /alarms/deactivated
DELETE /nodes/:node/alarms/deactivated; GET /plugins; GET /nodes/:node/plugins
PUT /nodes/:node/plugins/:plugin/load; PUT /nodes/:node/plugins/:plugin/unload
PUT /nodes/:node/plugins/:plugin/reload; PUT /plugins/:plugin/unload; PUT /plugins/:plugin/reload; GET /modules
GET /nodes/:node/modules; PUT /modules/:module/load; PUT /modules/:module/unload; PUT /modules/:module/reload
PUT /nodes/:node/modules/:module/load; PUT /nodes/:node/modules/:module/unload
PUT /nodes/:node/modules/:module/reload; GET /data/export; POST /data/export; POST /data/import; POST /data/file
GET /data/file/:filename; DELETE /data/file/:filename; GET /topic-metrics; POST /topic-metrics
DELETE /topic-metrics; GET /topic-metrics/:topic; DELETE /topic-metrics/:topic; GET /slow_subscriptions
DELETE /slow_subscriptions; GET /trace; POST /trace; DELETE /trace; DELETE /trace/:name; PUT /trace/:name/stop
GET /trace/:name/detail; GET /trace/:name/download; GET /trace/:name/log; GET /telemetry/status
PUT /telemetry/status; GET /telemetry/data; GET /emqx_prometheus
"""


async def test_the_catalogue(autojump_clock: MockClock) -> None:
    async with doors() as at:
        rows = await got(at.app, "")
        for row in rows:
            assert row.keys() == {"name", "method", "path", "descr"}
            assert all(isinstance(value, str) and value for value in row.values())
        listed = {f"{row['method']} {row['path'].rstrip('/')}" for row in rows}
        expected = {line.strip() for line in SERVED.replace("\n", ";").split(";") if line.strip()}
        assert expected <= listed
        for path in ("/", "//"):
            assert data(await at.app.get(f"http://broker/api/v4{path}")) == rows
        unauthorized(await at.app.get("", auth=None))
        for_users = {f"{row['method']} {row['path'].rstrip('/')}" for row in await got(at.user, "")}
        assert {"GET /apps", "POST /auth", "GET /users", "PUT /change_pwd/:username"} <= for_users
        assert expected <= for_users


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_another_method_for_the_catalogue(method: str, autojump_clock: MockClock) -> None:
    async with doors() as at:
        answer = await at.app.request(method, "")
        assert answer.status_code == 400


async def test_status(autojump_clock: MockClock) -> None:
    async with running() as live:
        for started in (True, False):
            app = make_older_app("v4", live.broker.questions, started=partial(bool, started))
            transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://broker") as nobody:
                answer = await nobody.get("/status")
                assert answer.headers["content-type"].startswith("text/plain")
                if started:
                    assert answer.status_code == 200
                    assert answer.text == f"Node {NODE} is started\nemqx is running"
                else:
                    assert answer.status_code == 503
                    assert answer.text.endswith("emqx is not_running")


@shows("GET /api/v4/brokers")
async def test_credentials(autojump_clock: MockClock) -> None:
    async with doors() as at:
        for auth in (ADMIN, VIEWER, BOSS, WATCHER):
            data(await at.app.get("/brokers", auth=auth))
        for wrong in (None, ("admin", "public"), (ADMIN[0], "x"), ("x", ADMIN[1]), (ADMIN[0], ""), ("", "")):
            for method, path in (("GET", "/brokers"), ("GET", "/nowhere"), ("PUT", "/brokers"), ("GET", "/apps")):
                unauthorized(await at.app.request(method, path, auth=wrong))
            unauthorized(await at.app.request("POST", "/topic-metrics", content=b"{", auth=wrong))
        for header in ("Basic", "Basic !", "Basic YWRtaW4=", "Bearer x", "Digest x"):
            unauthorized(await at.app.get("/brokers", auth=None, headers={"Authorization": header}))
        token = await at.live.log_in()
        unauthorized(await at.app.get("/brokers", auth=token))


@shows("GET /api/v4/brokers")
async def test_what_there_is_not(autojump_clock: MockClock) -> None:
    async with doors() as at:
        for method, path in (
            ("GET", "/nowhere"),
            ("GET", f"/nodes/{NODE}/nowhere"),
            ("POST", "/brokers"),
            ("DELETE", "/nodes"),
            ("PUT", "/metrics"),
            ("PATCH", "/alarms/deactivated"),
            ("GET", "/mqtt/publish"),
            ("GET", "/modules/emqx_mod_delayed/load"),
            ("PUT", "/plugins/emqx_retainer/load"),
            ("GET", "/lwm2m_channels"),
            ("GET", f"/nodes/{NODE}/lwm2m_channels"),
            ("GET", "/lookup_cmd/ep"),
            ("GET", "/sasl"),
        ):
            not_found(await at.app.request(method, path))
        for path in ("/", "/api", "/api/v3/brokers", "/api/brokers", "/api/v5/nodes"):
            assert (await at.app.get(f"http://broker{path}")).status_code in (401, 404)


@shows("GET /api/v4/nodes/:node")
async def test_a_node_that_was_never_seen(autojump_clock: MockClock) -> None:
    below = ["", "/metrics", "/stats", "/listeners", "/alarms", "/alarms/activated", "/alarms/deactivated"]
    below += ["/plugins", "/modules", "/clients", "/clients/c1", "/subscriptions", "/subscriptions/c1"]
    async with doors() as at:
        not_found(await at.app.get(f"/brokers/{UNKNOWN}"))
        for path in below:
            body(await at.app.get(f"/nodes/{NODE}{path}"))
            not_found(await at.app.get(f"/nodes/{UNKNOWN}{path}"))
        for path in (
            "listeners/mqtt:tcp:default/restart",
            "plugins/emqx_retainer/load",
            "plugins/emqx_retainer/unload",
            "plugins/emqx_retainer/reload",
            "modules/emqx_mod_delayed/load",
            "modules/emqx_mod_delayed/unload",
            "modules/emqx_mod_delayed/reload",
        ):
            not_found(await at.app.put(f"/nodes/{UNKNOWN}/{path}"))
        for path in ("alarms/deactivated", "acl-cache"):
            not_found(await at.app.delete(f"/nodes/{UNKNOWN}/{path}"))


@shows("GET /api/v4/apps", "GET /api/v4/users")
async def test_only_for_dashboard_users(autojump_clock: MockClock) -> None:
    async with doors() as at:
        for method, path in ONLY_FOR_USERS:
            if path != "/auth":
                not_found(await at.app.request(method, path, json={}))
                body(await at.user.request(method, path, json={}))
                unauthorized(await at.user.request(method, path, auth=None))


@shows("POST /api/v4/auth")
async def test_the_login_asks_for_no_credentials(autojump_clock: MockClock) -> None:
    """So nobody knows whether an application sends it, which would not find it on a port of its own."""
    async with doors() as at:
        body = {"username": BOSS[0], "password": PASSWORD}
        for auth in (None, httpx.BasicAuth("nobody", "x")):
            assert (await at.app.request("POST", "/auth", json=body, auth=auth)).json() == {"code": 0}


@shows("GET /api/v4/nodes", "GET /api/v4/topic-metrics/:topic")
async def test_segments(autojump_clock: MockClock) -> None:
    async with doors() as at:
        await at.live.connect("c1")
        whole = await got(at.app, "/metrics")
        for path in ("/metrics/", "//metrics", "///metrics//", f"/nodes//{NODE}/metrics", f"/nodes/{NODE}/metrics/"):
            url = f"http://broker/api/v4{path}"
            assert data(await at.app.get(url)) == (whole if "nodes" not in path else whole[0]["metrics"])
        for path in ("http://broker//api/v4/metrics", "http://broker/api//v4/metrics"):
            assert data(await at.app.get(path)) == whole
        for topic, path in (("a/b", "a%2Fb"), ("ä/%", "%C3%A4%2F%25"), ("p", "%70")):
            done(await at.app.post("/topic-metrics", json={"topic": topic}))
            assert "messages.in.count" in data(await at.app.get(f"/topic-metrics/{path}"))
        not_found(await at.app.get("/topic-metrics/a/b"))
        await at.live.connect("a+b c")
        [row] = await got(at.app, "/clients/a+b%20c")
        assert row["clientid"] == "a+b c"


@shows("POST /api/v4/topic-metrics")
async def test_parameters(autojump_clock: MockClock) -> None:
    async with doors() as at:

        async def topics() -> set[str]:
            found = {row["topic"] for row in await got(at.app, "/topic-metrics")}
            done(await at.app.delete("/topic-metrics"))
            return found

        done(await at.app.post("/topic-metrics", params={"topic": "q"}))
        assert await topics() == {"q"}
        done(await at.app.post("/topic-metrics", params={"topic": "q"}, json={"topic": "b"}))
        assert await topics() == {"q"}
        done(await at.app.post("/topic-metrics?topic=one&topic=two"))
        assert await topics() == {"one"}
        done(await at.app.post("/topic-metrics?unknown=1", json={"topic": "b", "more": [1]}))
        assert await topics() == {"b"}
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/xml", ""):
            headers = {"content-type": kind} if kind else {}
            done(await at.app.post("/topic-metrics", content=b'{"topic":"ct"}', headers=headers))
            assert await topics() == {"ct"}


BODIES: list[Any] = [b"{", b"topic=x", b"{'a': 1}", b"\xff", b'{"a": 1} x', b"nul"]


@shows("POST /api/v4/topic-metrics", "POST /api/v4/trace", "POST /api/v4/apps", "PUT /api/v4/telemetry/status")
@pytest.mark.parametrize("content", BODIES)
async def test_what_is_not_json(content: bytes, autojump_clock: MockClock) -> None:
    async with doors() as at:
        for method, path in (
            ("POST", "/topic-metrics"),
            ("POST", "/trace"),
            ("POST", "/alarms/deactivated"),
            ("POST", "/data/import"),
            ("POST", "/data/file"),
            ("POST", "/apps"),
            ("PUT", "/apps/admin-key"),
            ("POST", "/users"),
            ("POST", "/auth"),
            ("PUT", "/telemetry/status"),
            ("PUT", "/modules/emqx_mod_delayed/reload"),
        ):
            answer = await at.user.request(method, path, content=content)
            assert answer.status_code == 400, path
            assert answer.json().keys() == {"code", "message"}
            assert answer.json()["code"] == 109


@shows("POST /api/v4/topic-metrics", "POST /api/v4/apps", "POST /api/v4/users")
@pytest.mark.parametrize("value", [[], [1], [{"topic": 1}], "x", 5, None, True, {}])
async def test_json_that_is_no_object_or_says_nothing(value: Any, autojump_clock: MockClock) -> None:
    async with doors() as at:
        for path in ("/topic-metrics", "/alarms/deactivated", "/data/import", "/data/file", "/apps"):
            refused(await at.user.post(path, json=value), (107, 108))
        refused(await at.user.post("/users", json=value), (104, 107, 108))


@shows("GET /api/v4/brokers", "PUT /api/v4/modules/:module/unload", "POST /api/v4/topic-metrics")
async def test_the_cloud(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", cloud=True) as v4:
        for base in ("http://broker/api", "http://broker/api/v4"):
            data(await v4.get(f"{base}/brokers"))
            assert (await v4.get(f"{base}/topic-metrics")).json() == {"code": 0, "data": []}
            done(await v4.post(f"{base}/topic-metrics", json={"topic": "t"}))
            done(await v4.delete(f"{base}/topic-metrics/t"))
            not_found(await v4.get(f"{base}/nowhere"))
            unauthorized(await v4.get(f"{base}/brokers", auth=None))
