"""`PUT /configs/...`: what a setting that is changed leads to, at once and after a restart."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import trio
from actors.flows import SESSION, payloads, rest, settle
from api.live import Live, running
from api.operations import shows

from trio_broker.config import Config
from trio_broker.protocol.packets import Publish
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import Client


async def set_mqtt(live: Live, **mqtt: Any) -> None:
    answer = await live.api.put("/configs/global_zone", json={"mqtt": mqtt})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("mqtt", "told", "value"),
    [
        ({"max_packet_size": "2KB"}, "maximum_packet_size", 2048),
        ({"max_topic_alias": 7}, "topic_alias_maximum", 7),
        ({"max_awaiting_rel": 5}, "receive_maximum", 5),
        ({"max_qos_allowed": 1}, "maximum_qos", 1),
        ({"retain_available": False}, "retain_available", 0),
        ({"wildcard_subscription": False}, "wildcard_subscription_available", 0),
        ({"shared_subscription": False}, "shared_subscription_available", 0),
        ({"server_keepalive": 33}, "server_keep_alive", 33),
        ({"response_information": "here"}, "response_information", "here"),
    ],
)
async def test_new_connections_are_told_the_new_limits(
    mqtt: dict[str, Any], told: str, value: object, autojump_clock: object
) -> None:
    asked = {"request_response_information": 1}
    async with running() as live:
        before = await live.connect("before", properties=asked)
        await set_mqtt(live, **mqtt)
        after = await live.connect("after", properties=asked)
        assert dict(after.connack.properties)[told] == value
        assert before.connack.properties.get(told) != value


async def test_a_connection_keeps_to_what_it_was_told(autojump_clock: object) -> None:
    async with running() as live:
        c1 = await live.connect("c1")
        await set_mqtt(live, max_qos_allowed=0, max_packet_size="1KB", max_topic_levels=1)
        assert (await c1.publish("a/b/c", b"x" * 5000, qos=2)) is not None
        assert (await c1.subscribe("a/b/#", qos=2)).reason_codes == [2]
        assert c1.disconnected is None


async def test_a_message_from_outside_goes_by_the_limit_of_now(autojump_clock: object) -> None:
    async with running() as live:
        await set_mqtt(live, max_packet_size="1KB")
        body = {"topic": "t", "payload": "x" * 2000}
        assert (await live.api.post("/publish", json=body)).status_code == 400
        await set_mqtt(live, max_packet_size="4KB")
        assert (await live.api.post("/publish", json=body)).status_code == 202


Check = Callable[[Live], Awaitable[None]]


async def check_client_id(live: Live) -> None:
    client = await live.connect("x" * 24)
    assert client.connack.reason_code == 0x85


async def check_topic_levels(live: Live) -> None:
    client = await live.connect("c")
    assert (await client.subscribe("a/b/c")).reason_codes == [0x8F]


async def check_subscriptions(live: Live) -> None:
    client = await live.connect("c")
    assert (await client.subscribe("a")).reason_codes == [0]
    assert (await client.subscribe("b")).reason_codes == [0x97]


async def check_upgrade(live: Live) -> None:
    client = await live.connect("c")
    await client.subscribe("t", qos=1)
    await client.publish("t", b"x", qos=0)
    assert [message.qos for message in await rest(client)] == [1]


async def check_loop(live: Live) -> None:
    client = await live.connect("c", level=4)
    await client.subscribe("t")
    await client.publish("t", b"x")
    assert await rest(client) == []


async def check_session_expiry(live: Live) -> None:
    await live.connect("c", level=4, clean_start=False)
    assert (await live.api.get("/clients/c")).json()["expiry_interval"] == 60


async def check_username(live: Live) -> None:
    await live.connect("c", username="somebody")
    assert (await live.api.get("/clients/somebody")).status_code == 200


async def check_anonymous(live: Live) -> None:
    assert (await live.connect("c")).connack.reason_code == 0x87


async def queued(live: Live, count: int, qos: int = 1) -> list[bytes]:
    """What of `count` messages a session keeps whose client is away."""
    client = await live.connect("away", properties=SESSION)
    await client.subscribe("q", qos=1)
    await client.disconnect()
    publisher = await live.connect("publisher")
    for number in range(count):
        await publisher.publish("q", b"%d" % number, qos=qos)
    await trio.sleep(10)
    back = await live.connect("away", clean_start=False, properties=SESSION)
    return payloads(await rest(back))


async def check_queue(live: Live) -> None:
    assert await queued(live, 3) == [b"1", b"2"]


async def check_qos0(live: Live) -> None:
    assert await queued(live, 3, qos=0) == []


async def check_expiry(live: Live) -> None:
    assert await queued(live, 3) == []


async def check_inflight(live: Live) -> None:
    client = await live.connect("c", auto_ack=False)
    await client.subscribe("t", qos=1)
    for _ in range(5):
        await client.publish("t", b"x", qos=1)
    await settle()
    assert sum(isinstance(packet, Publish) for packet in client.inbox) == 2


async def check_keep_alive(live: Live) -> None:
    client = await live.connect("c", keep_alive=10)
    await trio.sleep(25)
    assert client.disconnected is None
    await trio.sleep(10)
    assert client.disconnected is not None
    assert client.disconnected.reason_code == 0x8D


async def check_idle(live: Live) -> None:
    client = await live.connect("", connect=False)
    start = trio.current_time()
    with trio.fail_after(10):
        await client.wait_ended()
    assert trio.current_time() - start == pytest.approx(3, abs=1)


async def check_awaiting(live: Live) -> None:
    client = await live.connect("c")
    await client.send(Publish("t", b"x", qos=2, packet_identifier=7))
    await settle()
    assert (await live.api.get("/clients/c")).json()["awaiting_rel_cnt"] == 1
    await trio.sleep(10)
    assert (await live.api.get("/clients/c")).json()["awaiting_rel_cnt"] == 0


@pytest.mark.parametrize(
    ("mqtt", "check"),
    [
        ({"max_clientid_len": 23}, check_client_id),
        ({"max_topic_levels": 2}, check_topic_levels),
        ({"max_subscriptions": 1}, check_subscriptions),
        ({"upgrade_qos": True}, check_upgrade),
        ({"ignore_loop_deliver": True}, check_loop),
        ({"session_expiry_interval": "1m"}, check_session_expiry),
        ({"use_username_as_clientid": True}, check_username),
        ({"allow_anonymous": False}, check_anonymous),
        ({"max_mqueue_len": 2}, check_queue),
        ({"mqueue_store_qos0": False}, check_qos0),
        ({"message_expiry_interval": "5s"}, check_expiry),
        ({"max_inflight": 2}, check_inflight),
        ({"keepalive_multiplier": 3}, check_keep_alive),
        ({"idle_timeout": "3s"}, check_idle),
        ({"await_rel_timeout": "5s"}, check_awaiting),
    ],
)
async def test_a_setting_acts_at_once_and_after_a_restart(
    mqtt: dict[str, Any], check: Check, autojump_clock: object
) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        with pytest.raises((AssertionError, BaseExceptionGroup, trio.TooSlowError)):
            await check(live)  # without it
    store = MemoryStore()
    async with running(store=store) as live:
        await set_mqtt(live, **mqtt)
        await check(live)
    async with running(store=store) as live:
        await check(live)


async def test_a_session_takes_new_limits_with_its_next_connection(autojump_clock: object) -> None:
    """What it has beyond them stays."""
    async with running() as live:
        c1 = await live.connect("c1", properties=SESSION)
        await c1.subscribe("t", qos=1)
        await c1.disconnect()
        for number in range(4):
            await live.api.post("/publish", json={"topic": "t", "payload": str(number), "qos": 1})
        await set_mqtt(live, max_mqueue_len=2, max_inflight=1)
        shown = (await live.api.get("/clients/c1")).json()
        assert (shown["mqueue_max"], shown["inflight_max"], shown["mqueue_len"]) == (1000, 32, 4)
        back = await live.connect("c1", clean_start=False, properties=SESSION, auto_ack=False)
        await settle()
        shown = (await live.api.get("/clients/c1")).json()
        assert (shown["mqueue_max"], shown["inflight_max"], shown["inflight_cnt"]) == (2, 1, 1)
        back.auto_ack = True
        back.acknowledge(await back.receive(ack=False))
        assert payloads(await rest(back)) == [b"1", b"2", b"3"]


async def shares(live: Live, members: list[Client]) -> list[int]:
    """How many of ten messages on one topic each member got."""
    for _ in range(10):
        await live.api.post("/publish", json={"topic": "t", "payload": "x", "qos": 1})
    return [len(await rest(member)) for member in members]


async def test_shared_subscriptions_that_are_there_take_another_strategy(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        members = [await live.connect(name) for name in ("a", "b")]
        for member in members:
            await member.subscribe("$share/g/t", qos=1)
        assert await shares(live, members) == [5, 5]
        await set_mqtt(live, shared_subscription_strategy="hash_topic")
        assert sorted(await shares(live, members)) == [0, 10]
        await set_mqtt(live, shared_subscription_strategy="sticky")
        assert sorted(await shares(live, members)) == [0, 10]
        await set_mqtt(live, shared_subscription_strategy="round_robin")
        assert await shares(live, members) == [5, 5]
        await set_mqtt(live, shared_subscription_strategy="hash_topic")
    async with running(store=store) as live:
        members = [await live.connect(name) for name in ("a", "b")]
        for member in members:
            await member.subscribe("$share/g/t", qos=1)
        assert sorted(await shares(live, members)) == [0, 10]


@shows("PUT /configs/sysmon")
async def test_the_memory_mark_moves(autojump_clock: object) -> None:
    async with running() as live:
        assert (await live.api.put("/configs/sysmon", json={"memory_high_watermark": "1KB"})).status_code == 200
        c1 = await live.connect("c1")
        assert c1.connack.reason_code == 0x89 or (await live.connect("c2")).connack.reason_code == 0x89
        alarms = (await live.api.get("/alarms")).json()["data"]
        assert [alarm["name"] for alarm in alarms] == ["high_process_memory_usage"]
        assert (await live.api.put("/configs/sysmon", json={"memory_high_watermark": "500GB"})).status_code == 200
        await trio.sleep(2)
        await live.connect("c3")
        await trio.sleep(2)
        assert (await live.connect("c4")).connack.reason_code == 0
        assert (await live.api.get("/alarms")).json()["data"] == []


# -- $SYS -------------------------------------------------------------------------------------------------------


async def topics(client: Client) -> set[str]:
    return {message.topic_name.removeprefix("$SYS/brokers/trio_broker@127.0.0.1/") for message in await rest(client)}


@shows("PUT /configs/sys_topics")
async def test_sys_topics_begin_and_end_at_run_time(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe("$SYS/#")
        await trio.sleep(600)
        assert await topics(watcher) == set()
        on = {"sys_msg_interval": "10m", "sys_heartbeat_interval": "1m"}
        await live.api.put("/configs/sys_topics", json=on)
        assert {"version", "uptime"} <= await topics(watcher)
        await trio.sleep(61)
        assert await topics(watcher) == {"uptime", "datetime", "$SYS/broker/uptime"}
        await trio.sleep(540)
        assert "version" in await topics(watcher)
        await live.api.put("/configs/sys_topics", json={"sys_heartbeat_interval": "10s"})
        await topics(watcher)
        await trio.sleep(11)
        assert await topics(watcher) == {"uptime", "datetime", "$SYS/broker/uptime"}
        await live.api.put("/configs/sys_topics", json={})
        await topics(watcher)
        await trio.sleep(1200)
        await live.connect("other")
        assert await topics(watcher) == set()
        await live.api.put("/configs/sys_topics", json=on)
    async with running(store=store) as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe("$SYS/#")
        assert {"version", "uptime"} <= await topics(watcher)


@shows("PUT /configs/sys_topics")
async def test_each_event_can_be_set(autojump_clock: object) -> None:
    async with running() as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe("$SYS/brokers/+/clients/c1/#")
        for chosen in ("connected", "disconnected", "subscribed", "unsubscribed"):
            events = {f"client_{event}": event == chosen for event in ("connected", "disconnected", "subscribed")}
            events["client_unsubscribed"] = chosen == "unsubscribed"
            body = {"sys_heartbeat_interval": "1h", "sys_event_messages": events}
            await live.api.put("/configs/sys_topics", json=body)
            c1 = await live.connect("c1")
            await c1.subscribe("t")
            await c1.unsubscribe("t")
            await c1.disconnect()
            assert await topics(watcher) == {f"clients/c1/{chosen}"}


@shows("PUT /configs/dashboard")
async def test_settings_of_the_api_itself(autojump_clock: object) -> None:
    """Over the application that the broker has opened, on its own socket."""
    from trio_broker.broker import Broker
    from trio_broker.testing.running import make_config

    broker = Broker(make_config(Config(), {"dashboard": {"listeners": {"http": {"bind": "127.0.0.1:0"}}}}))
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(broker.run)
        key = addresses.generated_key
        auth = (key.api_key, key.api_secret)
        base = f"http://127.0.0.1:{addresses.api[1]}"
        async with httpx.AsyncClient(base_url=base, auth=auth, headers={"origin": "http://x"}) as api:
            assert (await api.get("/api-docs/swagger.json")).status_code == 200
            shown = (await api.get("/api/v5/configs/dashboard")).json()
            answer = await api.put("/api/v5/configs/dashboard", json={**shown, "cors": True, "swagger_support": False})
            assert answer.status_code == 200, answer.text
            answer = await api.get("/api-docs/swagger.json")
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (404, "*")
            assert (await api.put("/api/v5/configs/dashboard", json=shown)).status_code == 200
            answer = await api.get("/api-docs/swagger.json")
            assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (200, None)
        broker.close()


@shows("PUT /configs/log")
async def test_the_log_file_is_shown_with_the_node(autojump_clock: object) -> None:
    async with running() as live:
        assert (await live.api.put("/configs/log", json={"file": "/tmp/x/broker.log"})).status_code == 200
        assert json.loads((await live.api.get("/nodes")).text)[0]["log_path"] == "/tmp/x/broker.log"


async def test_who_is_connected_stays_so(autojump_clock: object) -> None:
    async with running() as live:
        c1 = await live.connect("c1")
        await set_mqtt(live, allow_anonymous=False, max_clientid_len=23, wildcard_subscription=False)
        await c1.publish("t", b"x", qos=1)
        assert c1.disconnected is None
        assert (await live.connect("c2")).connack.reason_code == 0x87
