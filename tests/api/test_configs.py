"""`/configs`: showing and changing the configuration, as a whole and by roots, with what that leads to."""

from __future__ import annotations

import copy
from typing import Any

import httpx
import pytest
import trio
from api.live import Live, running
from api.operations import shows

from cases.zone_defaults import ZONE_DEFAULTS
from trio_broker.api.hocon import read, write
from trio_broker.config import Config, Layers, to_dict
from trio_broker.config.load import load
from trio_broker.store.memory import MemoryStore
from trio_broker.store.ticket import DONE, Ticket

TEXT = {"content-type": "text/plain"}
ROOTS = ("alarm", "dashboard", "log", "sysmon", "sys_topics")

CHANGED: dict[str, dict[str, Any]] = {
    "alarm": {"actions": ["log"], "size_limit": 7, "validity_period": "1h"},
    "dashboard": {
        "cors": True,
        "swagger_support": False,
        "sample_interval": "1m",
        "default_username": "root",
        "default_password": "a-password-1",
        "token_expired_time": "5m",
        "unsuccessful_login_max_attempts": 3,
        "unsuccessful_login_lock_duration": "1m",
        "unsuccessful_login_interval": "2m",
    },
    "log": {
        "level": "error",
        "format": "json",
        "file": "/tmp/never-opened.log",
        "rotation_size": "1MB",
        "rotation_count": 3,
        "rate_limit": 5,
        "rate_interval": "1m",
    },
    "sysmon": {
        "memory_high_watermark": "3GB",
        "os": {
            "cpu_check_interval": "2m",
            "cpu_high_watermark": "90%",
            "cpu_low_watermark": "50%",
            "mem_check_interval": "3m",
            "sysmem_high_watermark": "75%",
            "procmem_high_watermark": "6%",
        },
        "vm": {
            "process_check_interval": "31s",
            "process_high_watermark": "81%",
            "process_low_watermark": "61%",
            "long_gc": "1s",
            "long_schedule": "disabled",
            "large_heap": "64MB",
            "busy_port": False,
            "busy_dist_port": False,
        },
    },
    "sys_topics": {
        "sys_msg_interval": "2m",
        "sys_heartbeat_interval": "40s",
        "sys_event_messages": {
            "client_connected": False,
            "client_disconnected": False,
            "client_subscribed": True,
            "client_unsubscribed": True,
        },
    },
}
"""Another value for each key that can be set over REST."""

ZONE: dict[str, dict[str, Any]] = {
    "mqtt": {
        "allow_anonymous": True,
        "idle_timeout": "20s",
        "max_packet_size": "2MB",
        "max_clientid_len": 100,
        "max_topic_levels": 16,
        "max_topic_alias": 5,
        "retain_available": False,
        "wildcard_subscription": False,
        "shared_subscription": False,
        "shared_subscription_strategy": "sticky",
        "shared_subscription_initial_sticky_pick": "local",
        "exclusive_subscription": True,
        "ignore_loop_deliver": True,
        "strict_mode": True,
        "response_information": "r",
        "server_keepalive": 30,
        "keepalive_multiplier": 2.0,
        "keepalive_check_interval": "10s",
        "retry_interval": "30s",
        "use_username_as_clientid": True,
        "peer_cert_as_username": "cn",
        "peer_cert_as_clientid": "dn",
        "client_attrs_init": [{"expression": "clientid", "set_as_attr": "a"}],
        "session_expiry_interval": "1h",
        "message_expiry_interval": "1m",
        "max_awaiting_rel": 10,
        "max_qos_allowed": 1,
        "mqueue_priorities": {"t/1": 10},
        "mqueue_default_priority": "highest",
        "mqueue_store_qos0": False,
        "max_mqueue_len": 10,
        "max_inflight": 5,
        "max_subscriptions": 3,
        "upgrade_qos": True,
        "await_rel_timeout": "1m",
    },
    "flapping_detect": {"enable": True, "window_time": "2m", "max_count": 5, "ban_time": "1m"},
    "force_shutdown": {"enable": False, "max_mailbox_size": 5, "max_heap_size": "1MB"},
    "force_gc": {"enable": False, "count": 5, "bytes": "1MB"},
    "durable_sessions": {
        "enable": True,
        "batch_size": 5,
        "idle_poll_interval": "1s",
        "heartbeat_interval": "1s",
        "session_gc_interval": "1m",
        "session_gc_batch_size": 5,
        "message_retention_period": "1h",
    },
}


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and key not in ("mqueue_priorities", "headers"):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def message_of(answer: httpx.Response) -> str:
    return str(answer.json()["message"])


def is_refused(answer: httpx.Response, status: int, code: str, *words: str) -> bool:
    """A failure of this code whose message has these words."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return all(word in message_of(answer) for word in words)


# -- set, shown, kept -------------------------------------------------------------------------------------------


@shows(
    "GET /configs/alarm",
    "PUT /configs/alarm",
    "GET /configs/dashboard",
    "PUT /configs/dashboard",
    "GET /configs/log",
    "PUT /configs/log",
    "GET /configs/sysmon",
    "PUT /configs/sysmon",
    "GET /configs/sys_topics",
    "PUT /configs/sys_topics",
)
@pytest.mark.parametrize("root", ROOTS)
async def test_each_key_of_a_root_is_set_shown_and_kept(root: str, autojump_clock: object) -> None:
    store = MemoryStore()
    wanted = CHANGED[root]
    async with running(store=store) as live:
        before = (await live.api.get(f"/configs/{root}")).json()
        expected = set(flat(before)) - {key for key in flat(before) if key.startswith("listeners.")}
        assert set(flat(wanted)) == expected, "each key is tried"
        assert all(flat(wanted)[key] != flat(before)[key] for key in expected)
        answer = await live.api.put(f"/configs/{root}", json=wanted)
        assert answer.status_code == 200, answer.text
        hidden = {key: "******" for key in flat(wanted) if key.endswith("password")}
        assert flat(answer.json()).items() >= (flat(wanted) | hidden).items()
        assert (await live.api.get(f"/configs/{root}")).json() == answer.json()
    async with running(store=store) as live:
        assert (await live.api.get(f"/configs/{root}")).json() == answer.json()
        # What is left out of a PUT is as the file has it.
        assert (await live.api.put(f"/configs/{root}", json={})).json() == before


@shows("GET /configs/global_zone", "PUT /configs/global_zone")
async def test_each_key_of_the_zone_is_set_shown_and_kept(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        before = (await live.api.get("/configs/global_zone")).json()
        assert set(flat(ZONE)) == set(flat(before))
        assert all(flat(ZONE)[key] != flat(before)[key] for key in flat(ZONE))
        answer = await live.api.put("/configs/global_zone", json=ZONE)
        assert answer.status_code == 200, answer.text
        assert answer.json() == ZONE
        # What is left out stays as it is.
        answer = await live.api.put("/configs/global_zone", json={"mqtt": {"max_inflight": 6}})
        wanted = copy.deepcopy(ZONE)
        wanted["mqtt"]["max_inflight"] = 6
        assert answer.json() == wanted
    async with running(store=store) as live:
        assert (await live.api.get("/configs/global_zone")).json() == wanted


@shows("GET /configs/global_zone")
async def test_the_zone_has_the_defaults_of_emqx(autojump_clock: object) -> None:
    async with running() as live:
        zone = (await live.api.get("/configs/global_zone")).json()
    mqtt = zone.pop("mqtt")
    assert mqtt.pop("allow_anonymous") == "loopback"
    assert mqtt.pop("await_rel_timeout") == "infinity"
    assert mqtt == {key: value for key, value in ZONE_DEFAULTS.items() if key != "await_rel_timeout"}
    assert set(zone) == {"flapping_detect", "force_shutdown", "force_gc", "durable_sessions"}


@shows("PUT /configs/global_zone", "PUT /configs/alarm", "PUT /configs/sysmon", "PUT /configs/log")
@pytest.mark.parametrize(
    ("path", "body", "code", "words"),
    [
        ("global_zone", {"mqtt": {"max_inflight": 0}}, "UPDATE_FAILED", ["mqtt.max_inflight"]),
        ("global_zone", {"mqtt": {"idle_timeout": "soon"}}, "UPDATE_FAILED", ["mqtt.idle_timeout", "soon"]),
        ("global_zone", {"mqtt": {"max_inflght": 5}}, "BAD_REQUEST", ["root.mqtt", "max_inflght"]),
        ("global_zone", {"log": {}}, "BAD_REQUEST", ["unknown_fields"]),
        ("global_zone", {"mqtt": {"max_inflight": "x"}}, "BAD_REQUEST", ["root.mqtt.max_inflight"]),
        ("global_zone", {"mqtt": []}, "BAD_REQUEST", ["root.mqtt"]),
        ("alarm", {"actions": ["shout"]}, "UPDATE_FAILED", ["alarm.actions"]),
        ("alarm", {"size_limit": 3001}, "UPDATE_FAILED", ["alarm.size_limit"]),
        ("alarm", {"size_limit": 0}, "UPDATE_FAILED", ["alarm.size_limit"]),
        ("sysmon", {"memory_high_watermark": "101%"}, "UPDATE_FAILED", ["sysmon.memory_high_watermark"]),
        ("sysmon", {"os": {"cpu_high_watermark": "50%"}}, "UPDATE_FAILED", ["sysmon.os.cpu_low_watermark"]),
        ("sysmon", {"os": {"mem_check_interval": "1ms"}}, "UPDATE_FAILED", ["sysmon.os.mem_check_interval"]),
        ("sys_topics", {"sys_msg_interval": "1ms"}, "UPDATE_FAILED", ["sys_topics.sys_msg_interval"]),
        ("log", {"level": "loud"}, "UPDATE_FAILED", ["log.level"]),
        ("dashboard", {"listeners": {"http": {"bind": "127.0.0.1:1"}}}, "UPDATE_FAILED", ["dashboard.listeners"]),
    ],
)
async def test_what_is_wrong_is_named_and_changes_nothing(
    path: str, body: Any, code: str, words: list[str], autojump_clock: object
) -> None:
    async with running() as live:
        assert is_refused(await live.api.put(f"/configs/{path}", json=body), 400, code, *words)
        assert live.broker.questions.settings.config == Config()
        assert live.broker.questions.settings.stored == {}


@shows("GET /configs/file_transfer", "PUT /configs/file_transfer")
async def test_there_is_no_file_transfer(autojump_clock: object) -> None:
    async with running() as live:
        assert (await live.api.get("/configs/file_transfer")).json() == {"enable": False}
        assert (await live.api.put("/configs/file_transfer", json={"enable": False})).status_code == 200
        answer = await live.api.put("/configs/file_transfer", json={"enable": True})
        assert is_refused(answer, 400, "UPDATE_FAILED", "file_transfer.enable")
        assert (await live.api.get("/configs/broker")).status_code == 404


@shows("PUT /configs/global_zone", "PUT /configs/sysmon", "PUT /configs")
async def test_what_has_no_effect_is_told(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    async with running() as live:
        answer = await live.api.put("/configs/global_zone", json={"mqtt": {"retry_interval": "30s"}})
        assert answer.headers["warning"] == '299 - "mqtt.retry_interval: no effect in this version"'
        answer = await live.api.put("/configs/global_zone", json={"force_gc": {"count": 1, "enable": True}})
        assert "force_gc.count:" in answer.headers["warning"]
        answer = await live.api.put("/configs", content="sysmon.vm.busy_port = false", headers=TEXT)
        assert "sysmon.vm.busy_port:" in answer.headers["warning"]
        answer = await live.api.put("/configs/alarm", json={"size_limit": 5})
        assert "warning" not in answer.headers
    for key in ("mqtt.retry_interval", "force_gc.count", "sysmon.vm.busy_port"):
        assert caplog.text.count(f"{key} has no effect in this version") == 1


@shows("PUT /configs/alarm", "PUT /configs/global_zone", "PUT /configs", "POST /configs_reset/:rootname")
async def test_what_the_environment_says_is_not_overridden(autojump_clock: object) -> None:
    environ = {"TRIO_BROKER_ALARM__SIZE_LIMIT": "7", "TRIO_BROKER_MQTT__MAX_INFLIGHT": "7"}
    layers = Layers.gather(None, environ, base=Config())
    async with running(layers.config(), layers=layers) as live:
        assert is_refused(await live.api.put("/configs/alarm", json={"size_limit": 5}), 403, "UPDATE_FAILED", "alarm")
        answer = await live.api.put("/configs/global_zone", json={"mqtt": {"max_inflight": 5}})
        assert is_refused(answer, 403, "UPDATE_FAILED", "mqtt")
        answer = await live.api.put("/configs", content="alarm.size_limit = 5", headers=TEXT)
        assert is_refused(answer, 403, "UPDATE_FAILED", "alarm")
        answer = await live.api.post("/configs_reset/alarm?conf_path=size_limit")
        assert is_refused(answer, 403, "REST_FAILED", "alarm.size_limit")
        # All of it sent back, with another key changed, says nothing else than the environment does.
        shown = (await live.api.get("/configs/alarm")).json()
        answer = await live.api.put("/configs/alarm", json={**shown, "validity_period": "1h"})
        assert (answer.status_code, answer.json()["validity_period"], answer.json()["size_limit"]) == (200, "1h", 7)
        assert (await live.api.post("/configs_reset/alarm")).status_code == 200


@shows("GET /configs/alarm", "PUT /configs/alarm", "GET /configs", "PUT /configs", "POST /configs_reset/:rootname")
async def test_viewers_look_and_change_nothing(autojump_clock: object) -> None:
    async with running() as live:
        viewer = live.as_viewer()
        assert (await live.api.get("/configs", auth=viewer)).status_code == 200
        assert (await live.api.get("/configs/alarm", auth=viewer)).status_code == 200
        for method, path in (("PUT", "/configs"), ("PUT", "/configs/alarm"), ("POST", "/configs_reset/alarm")):
            assert is_refused(await live.api.request(method, path, auth=viewer), 403, "UNAUTHORIZED_ROLE")


# -- all of it --------------------------------------------------------------------------------------------------


@shows("GET /configs")
@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/plain"),
        ("*/*", "text/plain"),
        ("text/plain", "text/plain"),
        ("text/html, text/plain;q=0.9", "text/plain"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain"),
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        ("text/html, application/json, text/plain", "application/json"),
    ],
)
async def test_the_form_is_what_is_asked_for(accept: str | None, kind: str, autojump_clock: object) -> None:
    async with running() as live:
        headers = {} if accept is None else {"accept": accept}
        answer = await live.api.get("/configs", headers=headers)
        assert answer.headers["content-type"].startswith(kind)
        shown = answer.json() if kind == "application/json" else read(answer.text)
        assert shown == to_dict(live.broker.config)


@shows("GET /configs")
async def test_a_form_that_there_is_not(autojump_clock: object) -> None:
    async with running() as live:
        for accept in ("text/html", "image/*", "x"):
            assert is_refused(await live.api.get("/configs", headers={"accept": accept}), 400, "INVALID_ACCEPT")


@shows("GET /configs")
async def test_one_root_and_one_node(autojump_clock: object) -> None:
    async with running() as live:
        answer = await live.api.get("/configs", params={"key": "alarm", "node": "trio_broker@127.0.0.1"})
        assert read(answer.text) == {"alarm": to_dict(live.broker.config)["alarm"]}
        assert is_refused(await live.api.get("/configs?key=nothing"), 404, "NOT_FOUND", "nothing")
        assert is_refused(await live.api.get("/configs?node=other@x"), 500, "BAD_NODE", "other@x")
        # Where all of it is shown anyway, the key does not count.
        answer = await live.api.get("/configs?key=nothing", headers={"accept": "application/json"})
        assert answer.json() == to_dict(live.broker.config)


@shows("PUT /configs")
async def test_a_text_is_merged_or_put_in_the_place_of_what_was_set(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        text = "mqtt { max_inflight = 5, idle_timeout = 20s }\nalarm.size_limit: 7 # why not\n"
        answer = await live.api.put("/configs", content=text, headers=TEXT)
        assert (answer.status_code, answer.content) == (200, b"")
        answer = await live.api.put("/configs?mode=merge", content="mqtt.max_qos_allowed = 1", headers=TEXT)
        mqtt = live.broker.questions.settings.config.mqtt
        assert (mqtt.max_inflight, mqtt.idle_timeout, mqtt.max_qos_allowed) == (5, 20.0, 1)
        answer = await live.api.put("/configs?mode=replace", content="mqtt.max_inflight = 6", headers=TEXT)
        assert answer.status_code == 200
    async with running(store=store) as live:
        config = live.broker.config
        assert (config.mqtt.max_inflight, config.mqtt.idle_timeout, config.mqtt.max_qos_allowed) == (6, 15.0, 2)
        assert config.alarm.size_limit == 7


@shows("GET /configs", "PUT /configs")
async def test_what_is_shown_can_be_sent_back(autojump_clock: object) -> None:
    """Nothing has changed then, not even what cannot be changed."""
    base = load(environ={}, overrides=["listeners.tcp.default.enable=false", "listeners.ws.default.enable=false"])
    config = load(overrides=['node.data_dir=""', "dashboard.listeners.http.enable=false"], base=base)
    async with running(config) as live:
        for query in ("", "?mode=replace"):
            text = (await live.api.get("/configs")).text
            answer = await live.api.put(f"/configs{query}", content=text, headers=TEXT)
            assert answer.status_code == 200, answer.text
            assert live.broker.questions.settings.config == config


@shows("PUT /configs")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mqtt.max_inflight = 0", ["mqtt.max_inflight"]),
        ("mqtt.max_inflght = 1", ["mqtt.max_inflght", "max_inflight"]),
        ("nothing.x = 1", ["nothing"]),
        ("mqtt = 1", ["mqtt"]),
        ("mqtt {", ["HOCON"]),
        ('mqtt.response_information = "x', ["end"]),
        ("mqtt.response_information = ${HOME}", ["substitutions"]),
        ('include "/etc/passwd"', ["include"]),
        ('mqtt { include file("/etc/passwd") }', ["include"]),
        ("a = " + "[" * 100 + "]" * 100, ["within each other"]),
        ("x = 1\n" * 50_000, ["longer than"]),
        ("[1]", ["table"]),
        ('node.name = "a@b"', ["node", "while it runs"]),
        ("store.durability = normal", ["store", "while it runs"]),
        ("dashboard.listeners.http.enable = false", ["dashboard.listeners", "while it runs"]),
        ("shutdown_timeout = 1s", ["shutdown_timeout", "while it runs"]),
        ("api_key.bootstrap_file = x", ["api_key", "while it runs"]),
        ("cluster.name = x", ["cluster"]),
    ],
)
async def test_a_text_that_is_refused_changes_nothing(text: str, words: list[str], autojump_clock: object) -> None:
    async with running() as live:
        answer = await live.api.put("/configs", content=f"alarm.size_limit = 5\n{text}", headers=TEXT)
        if text == "[1]":
            answer = await live.api.put("/configs", content=text, headers=TEXT)
        assert is_refused(answer, 400, "UPDATE_FAILED", *words), message_of(answer)
        assert live.broker.questions.settings.stored == {}


@shows("PUT /configs")
async def test_what_cannot_be_changed_may_be_left_out(autojump_clock: object) -> None:
    async with running() as live:
        text = 'node.name = "a@b"\ncluster.name = x, rpc { mode = async }\nalarm.size_limit = 5\nshutdown_timeout = 1s'
        answer = await live.api.put("/configs?ignore_readonly=true", content=text, headers=TEXT)
        assert answer.status_code == 200, answer.text
        config = live.broker.questions.settings.config
        assert (config.alarm.size_limit, config.node.name) == (5, Config().node.name)
        assert list(live.broker.questions.settings.stored) == ["alarm"]


@shows("PUT /configs")
async def test_bodies_that_are_no_text(autojump_clock: object) -> None:
    async with running() as live:
        answer = await live.api.put("/configs", json={"alarm": {"size_limit": 5}})
        assert is_refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE", "text/plain")
        answer = await live.api.put("/configs", content=b"\xff", headers=TEXT)
        assert is_refused(answer, 400, "BAD_REQUEST", "UTF-8")
        answer = await live.api.put("/configs?mode=both", content="", headers=TEXT)
        assert is_refused(answer, 400, "BAD_REQUEST", "mode")
        assert (await live.api.put("/configs", content=b"")).status_code == 200


@shows("GET /configs", "PUT /configs")
async def test_secrets_are_hidden_and_stay(autojump_clock: object) -> None:
    """Also one that was set over REST, when all is sent back."""
    store = MemoryStore()
    tls = '{ enable = false, bind = "127.0.0.1:0", ssl_options { certfile = a, keyfile = b, password = "s3cret" } }'
    async with running(store=store) as live:
        answer = await live.api.put("/configs", content=f"listeners.ssl.x = {tls}", headers=TEXT)
        assert answer.status_code == 200, answer.text
        for accept in ("text/plain", "application/json"):
            shown = (await live.api.get("/configs", headers={"accept": accept})).text
            assert "s3cret" not in shown
            assert "******" in shown
        for mode in ("merge", "replace"):
            tables = read((await live.api.get("/configs?key=listeners")).text)
            tables["listeners"]["ssl"]["x"]["max_connections"] = 5
            answer = await live.api.put(f"/configs?mode={mode}", content=write(tables), headers=TEXT)
            assert answer.status_code == 200, answer.text
            assert live.broker.questions.settings.config.listeners["ssl"]["x"].ssl_options.password == "s3cret"
    async with running(store=store) as live:
        listener = live.broker.config.listeners["ssl"]["x"]
        assert (listener.ssl_options.password, listener.max_connections) == ("s3cret", 5)


@shows("POST /configs_reset/:rootname")
async def test_a_root_or_a_key_is_reset(autojump_clock: object) -> None:
    """To what the file has."""
    base = load(overrides=["sys_topics.sys_msg_interval=3m"], base=Config())
    store = MemoryStore()
    async with running(base, store) as live:
        body = {"sys_msg_interval": "5m", "sys_event_messages": {"client_connected": False, "client_subscribed": True}}
        await live.api.put("/configs/sys_topics", json=body)
        answer = await live.api.post("/configs_reset/sys_topics?conf_path=sys_event_messages.client_connected")
        assert (answer.status_code, answer.content) == (200, b"")
        shown = (await live.api.get("/configs/sys_topics")).json()
        assert (shown["sys_msg_interval"], shown["sys_event_messages"]["client_connected"]) == ("5m", True)
        assert shown["sys_event_messages"]["client_subscribed"] is True
        await live.api.post("/configs_reset/sys_topics?conf_path=sys_heartbeat_interval")  # never set
        assert (await live.api.get("/configs/sys_topics")).json() == shown
        assert (await live.api.post("/configs_reset/sys_topics")).status_code == 200
        assert live.broker.questions.settings.config == base
        assert is_refused(await live.api.post("/configs_reset/nothing"), 400, "NO_DEFAULT_VALUE", "nothing")
        answer = await live.api.post("/configs_reset/mqtt?conf_path=a.b")
        assert is_refused(answer, 400, "NO_DEFAULT_VALUE", "mqtt.a.b")
        assert is_refused(await live.api.post("/configs_reset/node"), 400, "REST_FAILED", "while it runs")
        answer = await live.api.post("/configs_reset/dashboard?conf_path=listeners.http")
        assert answer.status_code == 400
    async with running(base, store) as live:
        assert live.broker.config == base


# -- durable ----------------------------------------------------------------------------------------------------


class HeldStore(MemoryStore):
    """What is written while `held` is durable when that is done."""

    held: Ticket | None = None

    @property
    def ticket(self) -> Ticket:
        return DONE if self.held is None else self.held


@shows(
    "PUT /configs", "PUT /configs/alarm", "PUT /configs/global_zone", "POST /configs_reset/:rootname", "DELETE /alarms"
)
@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("PUT", "/configs/alarm", {"json": {"size_limit": 5}}),
        ("PUT", "/configs/global_zone", {"json": {"mqtt": {"max_inflight": 5}}}),
        ("PUT", "/mqtt/retainer", {"json": {"enable": False}}),
        ("POST", "/configs_reset/alarm", {}),
        ("DELETE", "/alarms", {}),
    ],
)
async def test_it_is_answered_when_it_is_durable(
    method: str, path: str, options: dict[str, Any], autojump_clock: object
) -> None:
    """Not before; and where that takes too long, it is not said to be done."""
    store = HeldStore()
    answers: list[int] = []

    async def ask(live: Live) -> None:
        answers.append((await live.api.request(method, path, **options)).status_code)

    async with running(store=store) as live:
        store.held = Ticket()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, live)
            await trio.sleep(1)
            assert answers == []
            store.held.resolve()
        assert answers in ([200], [204])
        store.held = Ticket()
        await ask(live)
        assert answers[1:] == [503]
        store.held = None
