"""The contract of `/api/v4`, read afresh: plugins and modules, and what is different when they run."""

from __future__ import annotations

import pytest
import trio
from api.operations import shows
from review.doors_v4 import NODE, Doors, both, done, doors, got, not_found, refused
from trio.testing import MockClock

MODULES = {
    "emqx_mod_acl_internal",
    "emqx_mod_delayed",
    "emqx_mod_presence",
    "emqx_mod_rewrite",
    "emqx_mod_subscription",
    "emqx_mod_topic_metrics",
    "emqx_mod_slow_subs",
    "emqx_mod_trace",
}
HERE = f"/nodes/{NODE}"


async def active(at: Doors, kind: str, name: str) -> bool:
    rows = {row["name"]: row for row in await got(at.app, f"{HERE}/{kind}")}
    return bool(rows[name]["active"])


@shows("GET /api/v4/plugins", "GET /api/v4/nodes/:node/plugins")
async def test_plugins(autojump_clock: MockClock) -> None:
    async with doors() as at:
        rows = await both(at.app, "/plugins", "plugins")
        assert rows
        for row in rows:
            assert row.keys() - {"version"} == {"name", "description", "active", "type"}
            assert isinstance(row["description"], str)
            assert type(row["active"]) is bool
            assert row["type"] in ("auth", "bridge", "feature", "protocol")
        names = [row["name"] for row in rows]
        assert len(set(names)) == len(names)
        assert {"emqx_auth_mnesia", "emqx_management", "emqx_retainer", "emqx_dashboard"} <= {*names}
        assert {row["name"]: row["type"] for row in rows}["emqx_auth_mnesia"] == "auth"


@shows("GET /api/v4/modules", "GET /api/v4/nodes/:node/modules")
async def test_modules(autojump_clock: MockClock) -> None:
    async with doors() as at:
        rows = await both(at.app, "/modules", "modules")
        assert {row["name"] for row in rows} == MODULES
        for row in rows:
            assert row.keys() == {"name", "description", "active"}
            assert isinstance(row["description"], str)
            assert type(row["active"]) is bool


@shows(
    "PUT /api/v4/nodes/:node/plugins/:plugin/load",
    "PUT /api/v4/nodes/:node/plugins/:plugin/unload",
    "PUT /api/v4/nodes/:node/plugins/:plugin/reload",
)
@pytest.mark.parametrize("name", ["emqx_retainer", "emqx_auth_mnesia"])
async def test_a_plugin_of_a_node(name: str, autojump_clock: MockClock) -> None:
    async with doors() as at:
        path = f"{HERE}/plugins/{name}"
        if not await active(at, "plugins", name):
            done(await at.app.put(f"{path}/load"))
        refused(await at.app.put(f"{path}/load"), 110, "already_started")
        assert await active(at, "plugins", name)
        done(await at.app.put(f"{path}/unload"))
        assert not await active(at, "plugins", name)
        refused(await at.app.put(f"{path}/unload"), 111, "not_started")
        for _ in range(2):
            done(await at.app.put(f"{path}/reload"))
            assert await active(at, "plugins", name)


@shows("PUT /api/v4/plugins/:plugin/unload", "PUT /api/v4/plugins/:plugin/reload")
async def test_a_plugin_of_all_nodes(autojump_clock: MockClock) -> None:
    async with doors() as at:
        path = "/plugins/emqx_retainer"
        done(await at.app.put(f"{path}/unload"))
        assert not await active(at, "plugins", "emqx_retainer")
        refused(await at.app.put(f"{path}/unload"), 111, "not_started")
        done(await at.app.put(f"{path}/reload"))
        assert await active(at, "plugins", "emqx_retainer")
        not_found(await at.app.put(f"{path}/load"))


@shows("PUT /api/v4/plugins/:plugin/unload", "PUT /api/v4/modules/:module/load")
async def test_what_there_is_not(autojump_clock: MockClock) -> None:
    async with doors() as at:
        for kind in ("plugins", "modules"):
            for base in (f"/{kind}/nothing", f"{HERE}/{kind}/nothing", f"{HERE}/{kind}/emqx_nothing"):
                for verb in ("load", "unload", "reload"):
                    answer = await at.app.put(f"{base}/{verb}")
                    if (kind, base[:9], verb) == ("plugins", "/plugins/", "load") or answer.status_code == 404:
                        not_found(answer)
                    else:
                        refused(answer, 102, "not_found")


@shows("PUT /api/v4/nodes/:node/plugins/:plugin/unload")
async def test_retained_messages_need_a_plugin(autojump_clock: MockClock) -> None:
    async with doors() as at:
        done(await at.app.put("/plugins/emqx_retainer/unload"))
        done(await at.app.post("/mqtt/publish", json={"topic": "r", "payload": "off", "retain": True}))
        c1 = await at.live.connect("c1")
        await c1.subscribe("r")
        await trio.sleep(1)
        await c1.ping()
        assert not c1.inbox
        done(await at.app.put("/plugins/emqx_retainer/reload"))
        done(await at.app.post("/mqtt/publish", json={"topic": "r", "payload": "on", "retain": True}))
        assert (await c1.receive()).payload == b"on"
        await c1.subscribe("r")
        assert (await c1.receive()).retain


@shows("PUT /api/v4/nodes/:node/plugins/:plugin/load")
async def test_users_need_a_plugin(autojump_clock: MockClock) -> None:
    async with doors() as at:
        path = f"{HERE}/plugins/emqx_auth_mnesia"
        for table in ("/auth_username", "/auth_clientid", "/acl/username", "/acl/$all"):
            not_found(await at.app.get(table))
        done(await at.app.put(f"{path}/load"))
        user = {"username": "u1", "password": "secret"}
        done(await at.app.post("/auth_username", json=user))
        wrong = await at.live.connect("c1", username="u1", password=b"wrong")
        assert wrong.connack.reason_code != 0
        done(await at.app.put(f"{path}/unload"))
        not_found(await at.app.get("/auth_username"))
        right = await at.live.connect("c1", username="u1", password=b"wrong")
        assert right.connack.reason_code == 0


@shows("PUT /api/v4/modules/:module/load", "PUT /api/v4/modules/:module/unload", "PUT /api/v4/modules/:module/reload")
@pytest.mark.parametrize("base", ["/modules", f"{HERE}/modules"])
@pytest.mark.parametrize("name", ["emqx_mod_delayed", "emqx_mod_slow_subs"])
async def test_a_module(name: str, base: str, autojump_clock: MockClock) -> None:
    async with doors() as at:
        path = f"{base}/{name}"
        if not await active(at, "modules", name):
            done(await at.app.put(f"{path}/load"))
        refused(await at.app.put(f"{path}/load"), 110, "already_started")
        done(await at.app.put(f"{path}/reload"))
        assert await active(at, "modules", name)
        done(await at.app.put(f"{path}/unload"))
        assert not await active(at, "modules", name)
        refused(await at.app.put(f"{path}/unload"), 111, "not_started")
        done(await at.app.put(f"{path}/reload"))  # does nothing
        assert not await active(at, "modules", name)
        done(await at.app.put(f"{path}/load"))
        assert await active(at, "modules", name)


@shows(
    "PUT /api/v4/nodes/:node/modules/:module/load",
    "PUT /api/v4/nodes/:node/modules/:module/unload",
    "PUT /api/v4/nodes/:node/modules/:module/reload",
)
async def test_delayed_messages_need_a_module(autojump_clock: MockClock) -> None:
    async with doors() as at:
        c1 = await at.live.connect("c1")
        await c1.subscribe("#")
        for verb, topic in (("unload", "$delayed/5/t"), ("load", "t")):
            done(await at.app.put(f"{HERE}/modules/emqx_mod_delayed/{verb}"))
            await c1.publish("$delayed/5/t", verb.encode(), 1)
            await trio.sleep(10)
            await c1.ping()
            if topic == "t":
                assert (await c1.receive()).topic_name == "t"
            assert not [packet for packet in c1.inbox if getattr(packet, "topic_name", "") == "t"]
            c1.inbox.clear()
