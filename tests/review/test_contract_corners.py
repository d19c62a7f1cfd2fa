"""The REST contract, read afresh: its corners, where several of its statements meet."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from api.live import running
from api.operations import shows
from review.contract import CLIENT_KEYS, KEPT, away, done, got, invalid, listed, post
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.mqtt import MqttConfig
from trio_broker.protocol.packets import (
    Disconnect,
    Publish,
    PubRel,
    Will,
)


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CST-8")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@shows("GET /clients/:clientid", "GET /mqtt/retainer/messages", "POST /trace")
async def test_times_have_the_local_offset(far_east: None, autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1")
        row = await got(live, "/clients/c1")
        assert row["connected_at"].endswith("+08:00")
        assert row["created_at"].endswith("+08:00")
        assert await listed(live, "/clients", gte_created_at=row["created_at"]) == {"c1"}
        await post(live, "r", retain=True)
        assert (await got(live, "/mqtt/retainer/messages"))["data"][0]["publish_at"].endswith("+08:00")
        body = {"name": "t", "type": "clientid", "clientid": "x"}
        assert (await live.api.post("/trace", json=body)).json()["start_at"].endswith("+08:00")


@shows("GET /clients/:clientid")
async def test_a_session_that_never_ends(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1", properties={"session_expiry_interval": 0xFFFFFFFF})
        row = await got(live, "/clients/c1")
        assert type(row["expiry_interval"]) is int
        assert row["expiry_interval"] >= 0xFFFFFFFF
        assert row["is_persistent"] is True


@shows("GET /clients/:clientid")
async def test_a_disconnect_that_changes_the_expiry(autojump_clock: MockClock) -> None:
    async with running() as live:
        first = await live.connect("c1", **KEPT)
        await first.disconnect(0, {"session_expiry_interval": 20})
        await trio.sleep(1)
        assert (await got(live, "/clients/c1"))["expiry_interval"] == 20
        second = await live.connect("c2", **KEPT)
        await second.disconnect(0, {"session_expiry_interval": 0})
        await trio.sleep(1)
        assert await listed(live, "/clients") == {"c1"}
        await trio.sleep(25)
        assert await listed(live, "/clients") == set()


@shows("GET /clients/:clientid")
async def test_the_keep_alive_that_the_broker_wants(autojump_clock: MockClock) -> None:
    async with running(Config(mqtt=MqttConfig(server_keepalive=77))) as live:
        client = await live.connect("c1", keep_alive=10)
        assert client.connack.properties["server_keep_alive"] == 77
        assert (await got(live, "/clients/c1"))["keepalive"] == 77


@shows("GET /clients/:clientid")
async def test_what_waits_for_pubrel(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        for identifier in (1, 2):
            await client.send(Publish("t", b"", 2, packet_identifier=identifier))
        await client.ping()
        row = await got(live, "/clients/c1")
        assert (row["awaiting_rel_cnt"], row["recv_msg.qos2"]) == (2, 2)
        await client.send(PubRel(1))
        await client.ping()
        assert (await got(live, "/clients/c1"))["awaiting_rel_cnt"] == 1


@shows("GET /clients/:clientid")
async def test_limits_of_the_configuration(autojump_clock: MockClock) -> None:
    mqtt = MqttConfig(max_mqueue_len=7, max_inflight=3, max_awaiting_rel=9, max_subscriptions=5)
    async with running(Config(mqtt=mqtt)) as live:
        await live.connect("c1")
        row = await got(live, "/clients/c1")
        limits = [row[f"{name}_max"] for name in ("mqueue", "inflight", "awaiting_rel", "subscriptions")]
        assert limits == [7, 3, 9, 5]
    async with running(Config(mqtt=MqttConfig(max_mqueue_len=0))) as live:
        await live.connect("c1")
        assert (await got(live, "/clients/c1"))["mqueue_max"] == 0


@shows("GET /clients/:clientid", "GET /stats")
async def test_a_takeover(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1", level=4, clean_start=False)
        second = await live.connect("c1", level=5, clean_start=False, username="new", **KEPT)
        await second.subscribe("t", 1)
        await second.subscribe("t", 2)
        await trio.sleep(3)
        row = await got(live, "/clients/c1")
        assert (row["proto_ver"], row["username"], row["connected"], row["subscriptions_cnt"]) == (5, "new", True, 1)
        assert row.keys() == CLIENT_KEYS
        stats = await got(live, "/stats?aggregate=true")
        names = ("connections", "live_connections", "sessions", "subscriptions", "suboptions")
        assert [stats[f"{name}.count"] for name in names] == [1, 1, 1, 1, 1]
        await live.connect("c1", clean_start=True)
        await trio.sleep(3)
        stats = await got(live, "/stats?aggregate=true")
        assert [stats[f"{name}.count"] for name in names] == [1, 1, 1, 0, 0]
        assert (await got(live, "/topics"))["meta"]["count"] == 0


@shows("DELETE /clients/:clientid", "GET /mqtt/retainer/message/:topic", "GET /metrics")
async def test_a_retained_will_of_who_is_thrown_out(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1", username="u1", will=Will("w", b"bye", 1, True), **KEPT)
        done(await live.api.delete("/clients/c1"))
        assert (await client.expect(Disconnect)).reason_code == 0x98
        await trio.sleep(1)
        row = await got(live, "/mqtt/retainer/message/w")
        assert (row["from_clientid"], row["from_username"], row["qos"]) == ("c1", "u1", 1)
        assert (await got(live, "/metrics?aggregate=true"))["messages.publish"] == 1


@shows("DELETE /clients/:clientid")
async def test_throwing_out_before_the_will_of_who_is_away(autojump_clock: MockClock) -> None:
    """The session's end ends the delay of the will."""
    async with running() as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe("w", 1)
        will = Will("w", b"bye", 1, properties={"will_delay_interval": 1000})
        client = await live.connect("c1", will=will, **KEPT)
        await client.drop()
        await trio.sleep(5)
        await watcher.ping()
        assert not watcher.inbox
        done(await live.api.delete("/clients/c1"))
        with trio.fail_after(5):
            assert (await watcher.receive()).payload == b"bye"


@shows("POST /publish")
@pytest.mark.parametrize(
    "properties",
    [
        {"user_properties": {"a": 1}},
        {"user_properties": ["a"]},
        {"message_expiry_interval": -1},
        {"message_expiry_interval": "soon"},
        {"message_expiry_interval": 0x1_0000_0000},
        {"content_type": 3},
        {"response_topic": 3},
        {"response_topic": "a/#"},
        {"content_type": "a\0b"},
        {"payload_format_indicator": -1},
    ],
)
async def test_properties_that_are_refused(properties: dict[str, Any], autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("t")
        answer = await post(live, "t", properties=properties)
        assert answer.status_code == 400, answer.text
        await client.ping()
        assert not client.inbox


@shows("POST /publish")
@pytest.mark.parametrize("topic", ["a\0b", "x" * 65536, "\ud800"])
async def test_topics_that_are_no_mqtt_text(topic: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        body = json.dumps({"topic": topic, "payload": "x"})  # a lone surrogate is escaped
        answer = await live.api.post("/publish", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400, answer.text


@shows("POST /publish", "GET /clients/:clientid/mqueue_messages")
async def test_the_expiry_goes_on_while_a_message_waits(autojump_clock: MockClock) -> None:
    async with running() as live:
        await away(live, "c1", "t/#")
        await post(live, "t/1", qos=1, properties={"message_expiry_interval": 100})
        await post(live, "t/2", qos=1, properties={"message_expiry_interval": 10})
        await trio.sleep(30)
        client = await live.connect("c1", clean_start=False, **KEPT)
        packet = await client.receive()
        assert packet.topic_name == "t/1"
        assert packet.properties["message_expiry_interval"] == 70
        await client.ping()
        assert not client.inbox
        assert (await got(live, "/metrics?aggregate=true"))["delivery.dropped.expired"] == 1


@shows("POST /publish/bulk")
async def test_a_long_list_keeps_its_order(autojump_clock: MockClock) -> None:
    async with running(Config(mqtt=MqttConfig(max_mqueue_len=5000))) as live:
        await away(live, "c1", "t")
        body = [{"topic": "t", "payload": str(index), "qos": 1} for index in range(2500)]
        answer = await live.api.post("/publish/bulk", json=body)
        assert answer.status_code == 200
        rows = (await got(live, "/clients/c1/mqueue_messages?payload=plain&limit=10000"))["data"]
        assert [row["payload"] for row in rows] == [str(index) for index in range(2500)]
        assert [row["msgid"] for row in rows] == [item["id"] for item in answer.json()]


@shows("POST /publish", "GET /mqtt/retainer/messages")
async def test_retained_and_expired(autojump_clock: MockClock) -> None:
    """An expired message is not counted as retained for ever: the count is of those that are listed."""
    async with running() as live:
        await post(live, "a", retain=True, properties={"message_expiry_interval": 5})
        await post(live, "b", retain=True)
        await trio.sleep(3600)
        answer = await got(live, "/mqtt/retainer/messages")
        assert [row["topic"] for row in answer["data"]] == ["b"]
        assert answer["meta"]["hasnext"] is False
        assert answer["meta"]["count"] == 1


@shows("GET /clients")
async def test_values_in_queries(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1", username="a&b=c d")
        await live.connect("c2", username="")
        assert await listed(live, "/clients", username="a&b=c d") == {"c1"}
        assert await listed(live, "/clients?username=a%26b%3Dc+d") == {"c1"}
        invalid(await live.api.get("/clients?conn_state="), "conn_state")
        assert (await live.api.get("/clients?clean_start=TRUE")).status_code in (200, 400)


@shows("POST /clients/:clientid/subscribe", "GET /metrics")
async def test_retained_messages_reach_who_is_subscribed_over_rest(autojump_clock: MockClock) -> None:
    async with running() as live:
        for index in range(3):
            await post(live, f"r/{index}", "x", qos=2, retain=True)
        client = await live.connect("c1")
        await live.api.post("/clients/c1/subscribe", json={"topic": "r/#", "qos": 1, "rap": 1})
        with trio.fail_after(5):
            packets = [await client.receive() for _ in range(3)]
        assert [(p.qos, p.retain) for p in packets] == [(1, True)] * 3
        await post(live, "r/0", "y", retain=True)
        assert (await client.receive()).retain  # Retain As Published
        await live.api.post("/clients/c1/subscribe", json={"topic": "r/#", "qos": 1, "rh": 2})
        await post(live, "r/0", "z", retain=True)
        assert not (await client.receive()).retain


@shows("GET /clients/:clientid/mqueue_messages")
async def test_positions_without_payloads(autojump_clock: MockClock) -> None:
    async with running() as live:
        await away(live, "c1", "t")
        for _ in range(3):
            await post(live, "t", "x", qos=1)  # all in one moment: positions still differ
        rows = (await got(live, "/clients/c1/mqueue_messages?payload=none"))["data"]
        assert len({row["inserted_at"] for row in rows}) == 3
        position, seen = "none", 0
        for _ in range(5):
            answer = await got(live, "/clients/c1/mqueue_messages", payload="none", limit=1, position=position)
            seen += len(answer["data"])
            position = answer["meta"]["position"]
        assert seen == 3


@shows("POST /trace")
async def test_rules_are_not_traced_yet(autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await live.api.post("/trace", json={"name": "r", "type": "ruleid", "ruleid": "my_rule"})
        assert answer.status_code in (200, 409)
        if answer.status_code == 409:
            assert answer.json()["code"] == "BAD_TYPE"
