"""The REST contract, read afresh: configuration, retainer settings and alarms."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from api.live import Live, running
from api.operations import shows
from review.contract import NODE, TIME_MS, away, done, failed, got, post
from trio.testing import MockClock

from cases.zone_defaults import ZONE_DEFAULTS
from trio_broker.store.memory import MemoryStore
from trio_broker.store.sqlite import SqliteStore
from trio_broker.testing import Client

HOCON = {"content-type": "text/plain"}
ZONE, RETAINER = "/configs/global_zone", "/mqtt/retainer"
SYS: dict[str, Any] = {
    "sys_msg_interval": "1m",
    "sys_heartbeat_interval": "30s",
    "sys_event_messages": {
        "client_connected": True,
        "client_disconnected": True,
        "client_subscribed": False,
        "client_unsubscribed": False,
    },
}


async def hocon(live: Live, text: str, **query: Any) -> httpx.Response:
    return await live.api.put("/configs", content=text.encode(), headers=HOCON, params=query or None)


async def taken(live: Live, text: str, **query: Any) -> None:
    answer = await hocon(live, text, **query)
    assert (answer.status_code, answer.content) == (200, b""), answer.text


async def mqtt(live: Live, key: str) -> Any:
    return (await got(live, ZONE))["mqtt"][key]


@shows("GET /configs/global_zone")
async def test_the_defaults_of_mqtt(autojump_clock: MockClock) -> None:
    async with running() as live:
        zone = await got(live, ZONE)
        assert zone.keys() == {"mqtt", "flapping_detect", "force_shutdown", "force_gc", "durable_sessions"}
        assert zone["mqtt"].keys() >= ZONE_DEFAULTS.keys()
        assert {
            key: (zone["mqtt"][key], value) for key, value in ZONE_DEFAULTS.items() if zone["mqtt"][key] != value
        } == {
            # a QoS 2 message never comes twice, unless somebody says so
            "await_rel_timeout": ("infinity", "300s")
        }


@shows("GET /configs")
async def test_the_whole_in_two_forms(autojump_clock: MockClock) -> None:
    async with running() as live:
        for accept in ("*/*", "text/plain"):
            answer = await live.api.get("/configs", headers={"accept": accept})
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/plain")
            assert "max_inflight = 32" in answer.text
        answer = await live.api.get("/configs?key=mqtt", headers={"accept": "text/plain"})
        assert "max_inflight = 32" in answer.text
        assert "sys_msg_interval" not in answer.text
        answer = await live.api.get("/configs?key=mqtt", headers={"accept": "application/json"})
        whole = answer.json()
        roots = "mqtt listeners log dashboard retainer delayed rewrite auto_subscribe sysmon sys_topics alarm slow_subs"
        assert whole.keys() >= {*roots.split(), "topic_metrics", "prometheus", "node"}  # `key` is ignored
        assert whole["mqtt"]["max_inflight"] == 32
        assert (await live.api.get("/configs", params={"node": NODE})).status_code == 200
        failed(await live.api.get("/configs?node=a@b"), 500, "BAD_NODE")
        failed(await live.api.get("/configs?key=nothing"), 404, "NOT_FOUND")
        failed(await live.api.get("/configs", headers={"accept": "image/png"}), 400, "INVALID_ACCEPT")


@shows("PUT /configs", "GET /configs", "POST /configs_reset/:rootname")
@pytest.mark.parametrize("kind", ["memory", "disk"])
async def test_hocon_in_and_out(kind: str, tmp_path: Path, autojump_clock: MockClock) -> None:
    memory = MemoryStore()
    text = """
    # a comment
    mqtt { max_inflight = 7, max_qos_allowed: 1 }
    mqtt.response_information = "a \\"b\\" # no comment"
    delayed { max_delayed_messages = 5 }  // another
    alarm.validity_period = 1h
    auto_subscribe.topics = [{topic = "c/x"}]
    """
    async with running(store=memory if kind == "memory" else SqliteStore(tmp_path)) as live:
        await taken(live, text)
        assert (await mqtt(live, "max_inflight"), await mqtt(live, "max_qos_allowed")) == (7, 1)
        assert await mqtt(live, "response_information") == 'a "b" # no comment'
        assert await got(live, "/mqtt/delayed") == {"enable": True, "max_delayed_messages": 5}
        assert [row["topic"] for row in await got(live, "/mqtt/auto_subscribe")] == ["c/x"]
        shown = (await live.api.get("/configs")).text
        await taken(live, shown)  # what was shown can be sent back, and changes nothing
        assert (await live.api.get("/configs")).text == shown
    async with running(store=memory if kind == "memory" else SqliteStore(tmp_path)) as live:
        assert (await live.api.get("/configs")).text == shown
        c1 = await live.connect("c1")
        assert c1.connack.properties["maximum_qos"] == 1
        for path in ("mqtt?conf_path=max_qos_allowed", "delayed"):
            assert (await live.api.post(f"/configs_reset/{path}")).status_code == 200
        assert (await mqtt(live, "max_inflight"), await mqtt(live, "max_qos_allowed")) == (7, 2)
        assert (await got(live, "/mqtt/delayed"))["max_delayed_messages"] == 0
    async with running(store=memory if kind == "memory" else SqliteStore(tmp_path)) as live:
        assert (await mqtt(live, "max_inflight"), await mqtt(live, "max_qos_allowed")) == (7, 2)


@shows("PUT /configs")
async def test_merge_and_replace(autojump_clock: MockClock) -> None:
    async with running() as live:
        await taken(live, "mqtt.max_inflight = 7\ndelayed.enable = false")
        await taken(live, "mqtt.max_topic_levels = 9", mode="merge")
        assert (await mqtt(live, "max_inflight"), await mqtt(live, "max_topic_levels")) == (7, 9)
        await taken(live, "mqtt.max_topic_levels = 8", mode="replace")
        assert (await mqtt(live, "max_inflight"), await mqtt(live, "max_topic_levels")) == (32, 8)
        assert (await got(live, "/mqtt/delayed"))["enable"] is False
        assert (await hocon(live, "mqtt.max_inflight = 8", mode="dance")).status_code == 400
        assert (await hocon(live, "mqtt.max_inflight = 8", ignore_readonly="perhaps")).status_code == 400
        for bad in ("mqtt {", "mqtt.max_inflight = many", "mqtt.nothing = 1", "nothing.at_all = 1", "mqtt = 5"):
            answer = await hocon(live, f"mqtt.max_topic_levels = 7\n{bad}")
            assert answer.status_code == 400
            assert "UPDATE_FAILED" in answer.text or answer.headers["content-type"].startswith("text/plain")
        assert await mqtt(live, "max_topic_levels") == 8  # as a whole, or not at all
        failed(await live.api.post("/configs_reset/mqtt?conf_path=nothing"), 400, "NO_DEFAULT_VALUE")
        assert (await live.api.post("/configs_reset/nothing")).status_code in (400, 404)
        viewer = await live.api.put("/configs", content=b"mqtt {}", headers=HOCON, auth=live.as_viewer())
        failed(viewer, 403, "UNAUTHORIZED_ROLE")


@shows("PUT /configs/global_zone")
async def test_a_zone_acts_on_clients(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        wanted = {"mqtt": {"max_qos_allowed": 1, "server_keepalive": 77, "retain_available": False}}
        answer = await live.api.put(ZONE, json=wanted)
        assert answer.status_code == 200
        assert answer.json() == await got(live, ZONE)
        assert await mqtt(live, "max_inflight") == 32
        failed(await live.api.put(ZONE, json={"mqtt": {"max_qos_allowed": 3}}), 400, "UPDATE_FAILED")
        failed(await live.api.put(ZONE, json={"mqtt": {"nothing": 3}}), 400, "BAD_REQUEST")  # the validator's
        again = await live.api.put(ZONE, json=await got(live, ZONE))
        assert again.status_code == 200
    async with running(store=store) as live:
        properties = (await live.connect("c1")).connack.properties
        assert (properties["maximum_qos"], properties["server_keep_alive"], properties["retain_available"]) == (
            1,
            77,
            0,
        )


@shows("GET /configs/sys_topics", "PUT /configs/sys_topics", "GET /configs/alarm", "PUT /configs/alarm")
async def test_roots(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        assert (await got(live, "/configs/sys_topics")).keys() == SYS.keys()
        alarm = {"actions": ["log", "publish"], "size_limit": 1000, "validity_period": "24h"}
        assert await got(live, "/configs/alarm") == alarm
        wanted = {"actions": ["publish"], "size_limit": 3000, "validity_period": "7d"}
        for path, body in (("sys_topics", SYS), ("alarm", wanted)):
            answer = await live.api.put(f"/configs/{path}", json=body)
            assert (answer.status_code, answer.json()) == (200, body)
            failed(await live.api.put(f"/configs/{path}", json={"nothing": 1}), 400, "BAD_REQUEST")
        for bad in ({"size_limit": 0}, {"size_limit": 3001}, {"actions": ["dance"]}, {"validity_period": "x"}):
            failed(await live.api.put("/configs/alarm", json=bad), 400, "UPDATE_FAILED")
        for root in ("dashboard", "log", "sysmon"):
            body = await got(live, f"/configs/{root}")
            assert (await live.api.put(f"/configs/{root}", json=body)).status_code == 200
        assert (await live.api.get("/configs/nothing")).status_code == 404
    async with running(store=store) as live:
        assert (await got(live, "/configs/sys_topics"), await got(live, "/configs/alarm")) == (SYS, wanted)


@shows("GET /mqtt/retainer", "PUT /mqtt/retainer")
async def test_retainer_settings(autojump_clock: MockClock) -> None:
    defaults = {
        "enable": True,
        "msg_expiry_interval": "0s",
        "msg_expiry_interval_override": "disabled",
        "allow_never_expire": True,
        "msg_clear_interval": "0s",
        "max_payload_size": "1MB",
        "stop_publish_clear_msg": False,
        "delivery_rate": "infinity",
        "max_publish_rate": "infinity",
        "backend": {
            "type": "built_in_database",
            "storage_type": "disc",
            "max_retained_messages": 0,
            "index_specs": [[1, 2, 3], [1, 3], [2, 3], [3]],
            "enable": True,
        },
    }
    store = MemoryStore()
    async with running(store=store) as live:
        assert await got(live, RETAINER) == defaults
        wanted = defaults | {"msg_expiry_interval": "1m", "max_payload_size": "1KB", "stop_publish_clear_msg": True}
        wanted["backend"] = {**wanted["backend"], "max_retained_messages": 2}  # type: ignore[dict-item]
        answer = await live.api.put(RETAINER, json=wanted)
        assert (answer.status_code, answer.json()) == (200, wanted)
        for bad in ({"enable": "x"}, {"more": 1}):
            failed(await live.api.put(RETAINER, json=bad), 400, "BAD_REQUEST")  # the validator's
        wrong: list[dict[str, Any]] = [
            {"max_payload_size": "much"},
            {"backend": {"type": "mongo"}},
            {"backend": {"max_retained_messages": -1}},
            {"delivery_rate": "fast"},
        ]
        for body in wrong:
            failed(await live.api.put(RETAINER, json=body), 400, "UPDATE_FAILED")
    async with running(store=store) as live:
        assert await got(live, RETAINER) == wanted
        sub = await live.connect("sub")
        await sub.subscribe("r/#")
        await post(live, "r/1", "x" * 1024, retain=True)
        await post(live, "r/2", "x" * 1025, retain=True)
        await post(live, "r/3", "x", retain=True)
        await post(live, "r/4", "x", retain=True)
        await post(live, "r/1", "new", retain=True)
        listing = await got(live, "/mqtt/retainer/messages")
        assert sorted(row["topic"] for row in listing["data"]) == ["r/1", "r/3"]
        assert base64.b64decode((await got(live, "/mqtt/retainer/message/r%2F1"))["payload"]) == b"new"
        await post(live, "r/3", "", retain=True)
        with trio.fail_after(600):
            assert [(await sub.receive()).topic_name for _ in range(5)] == [f"r/{n}" for n in (1, 2, 3, 4, 1)]
        await trio.sleep(5)
        assert not sub.inbox  # what clears is passed on to nobody
        await trio.sleep(60)
        assert (await got(live, "/mqtt/retainer/messages"))["data"] == []


@shows("PUT /mqtt/retainer", "GET /mqtt/retainer")
@pytest.mark.parametrize("text", ["64KB", "2048KB", "1536KB"])
async def test_sizes_are_shown_as_they_were_given(text: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        assert (await live.api.put(RETAINER, json={"max_payload_size": text})).status_code == 200
        assert (await got(live, RETAINER))["max_payload_size"] == text


@shows("PUT /configs")
async def test_words_side_by_side_are_one_text(autojump_clock: MockClock) -> None:
    """HOCON puts unquoted values on one line together as they are written."""
    async with running() as live:
        await taken(live, "mqtt.response_information = true false")
        assert await mqtt(live, "response_information") == "true false"
        await taken(live, "mqtt.response_information = a b  c")
        assert await mqtt(live, "response_information") == "a b  c"


async def alarm_of(client: Client) -> str:
    with trio.fail_after(600):
        return (await client.receive()).topic_name


@shows("GET /alarms", "DELETE /alarms", "POST /alarms/force_deactivate")
async def test_an_alarm_comes_and_goes(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        empty = {"data": [], "meta": {"page": 1, "limit": 100, "count": 0, "hasnext": False}}
        assert await got(live, "/alarms") == empty
        sub = await live.connect("sub")
        await sub.subscribe(f"$SYS/brokers/{NODE}/alarms/#")
        watch = "sysmon.os { sysmem_high_watermark = 1%, mem_check_interval = 10s }"
        await taken(live, watch)
        assert await alarm_of(sub) == f"$SYS/brokers/{NODE}/alarms/activate"
        await trio.sleep(5)
        listing = await got(live, "/alarms", activated="true")
        (row,) = listing["data"]
        assert row.keys() == {"node", "name", "message", "details", "duration", "activate_at"}
        assert (row["node"], row["name"]) == (NODE, "high_system_memory_usage")
        assert isinstance(row["duration"], int)
        assert row["duration"] >= 5000
        assert TIME_MS.fullmatch(row["activate_at"])
        assert row["details"]["high_watermark"] == 1
        assert listing["meta"] == {"page": 1, "limit": 100, "count": 1, "hasnext": False}
        assert await got(live, "/alarms", activated="false") == empty
        done(await live.api.delete("/alarms"))
        assert len((await got(live, "/alarms"))["data"]) == 1  # the history only
        done(await live.api.post("/alarms/force_deactivate", json={"name": row["name"]}))
        assert await alarm_of(sub) == f"$SYS/brokers/{NODE}/alarms/deactivate"
        (past,) = (await got(live, "/alarms", activated="false"))["data"]
        assert past.keys() == {*row, "deactivate_at"}
        assert TIME_MS.fullmatch(past["deactivate_at"])
        name_missing = await live.api.post("/alarms/force_deactivate", json={})
        failed(name_missing, 400, "INVALID_PARAMETER", "name is required")
        failed(await live.api.post("/alarms/force_deactivate", json={"name": "x"}), 400, "NOT_FOUND")
        assert (await live.api.get("/alarms?activated=perhaps")).status_code == 400
        assert (await live.api.get("/alarms?limit=0")).status_code == 400
    async with running(store=store) as live:
        rows = (await got(live, "/alarms", activated="false"))["data"]
        assert past["activate_at"] in [row["activate_at"] for row in rows]
        await taken(live, "sysmon.os.sysmem_high_watermark = 100%\nalarm.validity_period = 1h")
        await away(live, "c1")
        await trio.sleep(7200)
        done(await live.api.delete("/alarms"))
        assert (await got(live, "/alarms", activated="false"))["data"] == []
