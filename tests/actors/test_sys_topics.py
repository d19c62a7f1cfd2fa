"""`$SYS` topics: off, at an interval, at once for who subscribes, and never for a wildcard at the first level.

Invariant: the clock is the mock clock's, so each report comes when the interval says.
"""

from __future__ import annotations

import itertools
import json

import pytest
import trio
from actors.flows import SESSION, rest, settle
from trio.testing import MockClock

from trio_broker.actors.load_average import LoadAverage
from trio_broker.config import Config
from trio_broker.errors import ConfigError
from trio_broker.testing import Client, open_broker
from trio_broker.version import __version__

ON = {"sys_msg_interval": "1m", "sys_heartbeat_interval": "30s"}
NODE = "trio_broker@127.0.0.1"
MINE = f"$SYS/brokers/{NODE}"


async def told(client: Client) -> dict[str, bytes]:
    """The newest payload of each topic that has come."""
    messages = await rest(client)
    assert all((message.qos, message.retain) == (0, False) for message in messages)
    return {message.topic_name: message.payload for message in messages}


async def test_who_subscribes_is_told_at_once_and_then_at_the_interval(autojump_clock: MockClock) -> None:
    async with open_broker(sys_topics=ON) as running, running.client("s") as subscriber:
        await subscriber.subscribe("$SYS/#", 1)
        first = await told(subscriber)
        assert first["$SYS/brokers"] == NODE.encode()
        assert first[f"{MINE}/version"] == __version__.encode()
        assert first[f"{MINE}/stats/subscriptions/count"] == b"1"
        assert first[f"{MINE}/metrics/packets/subscribe/received"] == b"1"
        assert first["$SYS/broker/version"] == f"trio-broker version {__version__}".encode()
        assert first["$SYS/broker/clients/connected"] == b"1"
        assert first["$SYS/broker/subscriptions/count"] == b"1"
        assert first["$SYS/broker/uptime"] == b"0 seconds"
        async with running.client("p") as publisher:
            for _ in range(10):
                await publisher.publish("t", b"x", 1)
            await told(subscriber)
            await trio.sleep(61)
            second = await told(subscriber)
        assert second["$SYS/broker/publish/messages/received"] == b"10"
        assert second["$SYS/broker/clients/connected"] == b"2"
        assert int(second[f"{MINE}/uptime"]) >= 60_000
        assert float(second["$SYS/broker/load/publish/received/1min"]) == pytest.approx(
            10 * (1 - 2.718281828**-1), 0.02
        )


async def test_the_heartbeat_has_an_interval_of_its_own(autojump_clock: MockClock) -> None:
    async with open_broker(sys_topics=ON | {"sys_msg_interval": "disabled"}) as running:
        async with running.client("s") as subscriber:
            await subscriber.subscribe(f"{MINE}/uptime", 0)
            await told(subscriber)
            uptimes = []
            for _ in range(3):
                await trio.sleep(30)
                uptimes.append(int((await told(subscriber))[f"{MINE}/uptime"]))
            assert [later - earlier for earlier, later in itertools.pairwise(uptimes)] == [30_000] * 2


@pytest.mark.parametrize("topic_filter", ["#", "+/#", "+/broker/uptime", "+/brokers", "/#"])
async def test_wildcards_at_the_first_level_do_not_match(autojump_clock: MockClock, topic_filter: str) -> None:
    """[MQTT-4.7.2-1]"""
    async with open_broker(sys_topics=ON) as running:
        async with running.client("s") as subscriber, running.client("other") as other:
            await subscriber.subscribe(topic_filter, 2)
            await other.subscribe("$SYS/#")
            await trio.sleep(100)
            assert await told(other)
            assert await told(subscriber) == {}


async def test_off_is_the_default_of_an_embedded_broker(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("$SYS/#")
        async with running.client("c"):
            await trio.sleep(1000)
        assert await told(subscriber) == {}


async def test_a_client_may_use_sys_topics_itself(autojump_clock: MockClock) -> None:
    async with open_broker(sys_topics=ON) as running, running.client("s") as subscriber:
        await subscriber.subscribe("$SYS/mine/+")
        await told(subscriber)
        await subscriber.publish("$SYS/mine/x", b"1", 1)
        assert await told(subscriber) == {"$SYS/mine/x": b"1"}


@pytest.mark.parametrize("level", [3, 4, 5])
async def test_clients_that_come_and_go(autojump_clock: MockClock, level: int) -> None:
    async with open_broker(sys_topics=ON) as running, running.client("s") as subscriber:
        await subscriber.subscribe(f"{MINE}/clients/#")
        async with running.client("c/1", level=level, username="anna", keep_alive=60) as client:
            (topic,) = events = await told(subscriber)
            assert topic == f"{MINE}/clients/c/1/connected"
            content = json.loads(events[topic])
            assert content["clientid"] == "c/1"
            assert content["username"] == "anna"
            assert content["proto_ver"] == level
            assert content["proto_name"] == ("MQIsdp" if level == 3 else "MQTT")
            assert content["keepalive"] == 60
            await client.subscribe("t")
            await client.drop()
        (topic,) = events = await told(subscriber)
        assert topic == f"{MINE}/clients/c/1/disconnected"
        content = json.loads(events[topic])
        assert content["clientid"] == "c/1"
        assert content["reason"]
        assert content["disconnected_at"] >= content["connected_at"]


async def test_subscriptions_are_told_if_that_is_wanted(autojump_clock: MockClock) -> None:
    events = {"client_connected": False, "client_subscribed": True, "client_unsubscribed": True}
    async with open_broker(sys_topics=ON | {"sys_event_messages": events}) as running:
        async with running.client("s") as subscriber, running.client("c") as client:
            await subscriber.subscribe(f"{MINE}/clients/c/+")
            await told(subscriber)
            await client.subscribe("t/#", 1)
            told_of = await told(subscriber)
            content = json.loads(told_of.pop(f"{MINE}/clients/c/subscribed"))
            assert (content["topic"], content["subopts"]["qos"]) == ("t/#", 1)
            assert told_of == {}
            await client.unsubscribe("t/#")
            content = json.loads((await told(subscriber))[f"{MINE}/clients/c/unsubscribed"])
            assert content["topic"] == "t/#"


async def test_it_is_not_kept(autojump_clock: MockClock) -> None:
    """Nothing is retained, and what nobody is subscribed to is not counted as dropped."""
    async with open_broker(sys_topics=ON) as running:
        async with running.client("s", properties=SESSION) as subscriber:
            await subscriber.subscribe("$SYS/brokers")
            await settle()
            await trio.sleep(200)
        assert (await running.broker.questions.stats())["retained.count"] == 0
        assert (await running.broker.questions.metrics())["messages.dropped"] == 0


def test_the_service_has_them() -> None:
    assert Config.service().sys_topics.is_enabled
    assert not Config().sys_topics.is_enabled


async def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sys_topics\.sys_msg_interval"):
        async with open_broker(sys_topics={"sys_msg_interval": "0s"}):
            raise AssertionError("it started")


def test_an_average_tends_to_the_rate() -> None:
    load = LoadAverage()
    for minute in range(1, 100):
        load.update(minute * 600, 60)
    assert load.rates == pytest.approx([600, 600, 600], rel=0.01)
    before = list(load.rates)
    load.update(99 * 600, 0)
    assert load.rates == before
    load.update(99 * 600, 60)
    assert load.rates[0] < load.rates[1] < load.rates[2] < 600
