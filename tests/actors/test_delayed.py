"""Delayed publish in one life of a broker: when it comes, what comes, and what never does."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from actors.flows import one, payloads, rest, settle
from api.live import running

from trio_broker.broker import Broker
from trio_broker.config import Config
from trio_broker.config.features import DelayedConfig
from trio_broker.protocol.delayed_topic import parse_delayed
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import PubAck, Will
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import open_client


@pytest.mark.parametrize(
    ("topic_name", "parsed"),
    [
        ("$delayed/15/a/b", (15, "a/b")),
        ("$delayed/0/t", (0, "t")),
        ("$delayed/007/t", (7, "t")),
        ("$delayed/4294967/t", (4294967, "t")),
        ("$delayed/1//t", (1, "/t")),
        ("$delayed/15", None),
        ("$delayed/15/", None),
        ("$delayed//t", None),
        ("$delayed/-1/t", None),
        ("$delayed/+1/t", None),
        ("$delayed/1.5/t", None),
        ("$delayed/1_0/t", None),
        ("$delayed/x/t", None),
        ("$delayed/\u0661/t", None),
        ("$delayed/\u00b2/t", None),
        ("$delayed/" + "9" * 5000 + "/t", None),
        ("$delayed/1/$delayed/1/t", None),
    ],
)
def test_the_topic_names(topic_name: str, parsed: tuple[int, str] | None) -> None:
    assert parse_delayed(topic_name) == parsed


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_it_comes_when_it_is_due_and_as_it_was(qos: int, autojump_clock: object) -> None:
    async with running() as live:
        subscriber = await live.connect("subscriber")
        publisher = await live.connect("publisher")
        await subscriber.subscribe("#", 2, retain_as_published=True)
        properties: Any = {
            "payload_format_indicator": 1,
            "content_type": "text",
            "response_topic": "answers",
            "correlation_data": b"\x00\xff",
            "user_property": [("a", "1"), ("a", "2")],
        }
        begun = trio.current_time()
        answer = await publisher.publish("$delayed/60/t/1", "häuser".encode(), qos, True, properties)
        if qos == 1:
            assert isinstance(answer, PubAck)
            assert answer.reason_code == 0x10
        assert await rest(subscriber) == []
        with trio.fail_after(61):
            packet = await subscriber.receive()
        assert trio.current_time() - begun == pytest.approx(60, abs=0.1)
        assert (packet.topic_name, packet.payload, packet.qos, packet.retain) == ("t/1", "häuser".encode(), qos, True)
        assert packet.properties == properties
        await settle()
        rows, _ = await live.broker.questions.retained(None, 0, 10)
        assert [(row.topic_name, row.from_client_id) for row in rows] == [("t/1", "publisher")]


async def test_it_keeps_its_publisher(autojump_clock: object) -> None:
    """No Local still knows who it was, though the connection is long over."""
    async with running() as live:
        await live.connect("away", clean_start=False, properties={"session_expiry_interval": 1000})
        own = await live.connect("own", username="u1")
        await own.subscribe("t", 1, no_local=True)
        other = await live.connect("away")
        await other.subscribe("t", 1)
        await own.publish("$delayed/5/t", b"1", 1)
        await trio.sleep(6)
        assert await rest(own) == []
        assert payloads(await rest(other)) == [b"1"]


async def test_the_order_is_that_in_which_they_are_due(autojump_clock: object) -> None:
    async with running() as live:
        subscriber = await live.connect("subscriber")
        await subscriber.subscribe("#", 1)
        publisher = await live.connect("publisher")
        for number, delay in enumerate([30, 10, 20, 10, 0]):
            await publisher.publish(f"$delayed/{delay}/t", b"%d" % number, 1)
        await trio.sleep(31)
        assert payloads(await rest(subscriber)) == [b"4", b"1", b"3", b"2", b"0"]


async def test_a_large_number_is_a_time(autojump_clock: object) -> None:
    async with running() as live:
        core = live.broker._core
        assert core is not None
        now = round(core.clock.wall_ms(core.clock.now()) / 1000)
        subscriber = await live.connect("subscriber")
        await subscriber.subscribe("#", 1)
        publisher = await live.connect("publisher")
        await publisher.publish(f"$delayed/{now + 100}/t", b"later", 1)
        await publisher.publish(f"$delayed/{now - 100}/t", b"past", 1)
        await publisher.publish(f"$delayed/{now + 4294967 + 10}/t", b"never", 1)
        await publisher.publish("$delayed/99999999999999999999/t", b"never", 1)
        await settle()
        rows, _ = await live.broker.questions.delayed.page(0, 10)
        assert [row.interval for row in rows] == [100]
        assert payloads(await rest(subscriber)) == [b"past"]
        await trio.sleep(102)
        assert payloads(await rest(subscriber)) == [b"later"]


@pytest.mark.parametrize("topic_name", ["$delayed/x/t", "$delayed/1", "$delayed/1/$delayed/1/t", "$delayed/-1/t"])
async def test_what_is_malformed_is_dropped_and_said(
    topic_name: str, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("#", 1)
        await client.subscribe("$delayed/#", 1)
        with caplog.at_level(logging.WARNING, "trio_broker.delayed"):
            for _ in range(100):
                answer = await client.publish(topic_name, b"1", 1)
        assert isinstance(answer, PubAck)
        assert answer.reason_code == 0x10
        assert await rest(client) == []
        assert (await live.broker.questions.metrics())["messages.dropped"] == 100
        assert len(caplog.records) == 1  # the others are told with the next one, in a while
        assert repr(topic_name) in caplog.text


async def test_switched_off_it_is_a_topic_as_any_other(autojump_clock: object) -> None:
    """What waited before still comes."""
    async with running(Config(delayed=DelayedConfig(enable=False))) as live:
        client = await live.connect("c1")
        await client.subscribe("$delayed/#", 1)
        await client.subscribe("t", 1)
        await client.publish("$delayed/5/t", b"1", 1)
        assert (await one(client)).topic_name == "$delayed/5/t"
        settings = live.broker.questions.settings
        await settings.change({"delayed": {"enable": True}})
        await client.publish("$delayed/5/t", b"2", 1)
        await settings.change({"delayed": {"enable": False}})
        await client.publish("$delayed/5/t", b"3", 1)
        assert [(packet.topic_name, packet.payload) for packet in await rest(client)] == [("$delayed/5/t", b"3")]
        await trio.sleep(6)
        assert [(packet.topic_name, packet.payload) for packet in await rest(client)] == [("t", b"2")]


async def test_no_more_wait_than_may(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    async with running(Config(delayed=DelayedConfig(max_delayed_messages=2))) as live:
        client = await live.connect("c1")
        await client.subscribe("t", 1)
        for payload in (b"1", b"2", b"3", b"4"):
            await client.publish("$delayed/5/t", payload, 1)
        figures = await live.broker.questions.metrics()
        assert (figures["messages.delayed"], figures["messages.dropped"]) == (2, 2)
        assert "max_delayed_messages" in caplog.text
        await trio.sleep(6)
        assert payloads(await rest(client)) == [b"1", b"2"]
        await client.publish("$delayed/5/t", b"5", 1)
        await trio.sleep(6)
        assert payloads(await rest(client)) == [b"5"]


async def test_the_figures_are_true(autojump_clock: object) -> None:
    async with running() as live:
        client = await live.connect("c1")
        for delay in (10, 20, 20, 1000):
            await client.publish(f"$delayed/{delay}/t", b"", 1)

        async def figures() -> tuple[int, int, int]:
            stats = await live.broker.questions.stats()
            metrics = await live.broker.questions.metrics()
            return stats["delayed.count"], stats["delayed.max"], metrics["messages.delayed"]

        assert await figures() == (4, 4, 4)
        await trio.sleep(11)
        assert await figures() == (3, 4, 4)
        await trio.sleep(10)
        assert await figures() == (1, 4, 4)
        rows, _ = await live.broker.questions.delayed.page(0, 10)
        await live.broker.questions.delayed.delete(rows[0].message_id)
        assert await figures() == (0, 4, 4)


async def test_the_expiry_begins_when_it_comes_to_the_broker(autojump_clock: object) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("t", 1)
        await client.publish("$delayed/10/t", b"lives", 1, properties={"message_expiry_interval": 30})
        await client.publish("$delayed/10/t", b"dies", 1, True, properties={"message_expiry_interval": 5})
        await client.publish("t", b"", 1, True)
        assert payloads(await rest(client)) == [b""]
        await trio.sleep(11)
        packet = await one(client)
        assert packet.payload == b"lives"
        assert packet.properties == {"message_expiry_interval": 20}
        assert await rest(client) == []
        assert (await live.broker.questions.metrics())["messages.dropped"] == 1
        assert await live.broker.questions.retained(None, 0, 10) == ([], 0)


async def test_a_will_and_a_program_may_delay_too(autojump_clock: object) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("t", 1)
        other = await live.connect("c2", will=Will("$delayed/10/t", b"will", 1, False))
        await other.drop()
        published = await live.broker.publish("$delayed/10/t", b"program", qos=1)
        assert published.matched == 0
        await settle()
        assert await rest(client) == []
        await trio.sleep(11)
        assert sorted(payloads(await rest(client))) == [b"program", b"will"]


async def test_a_retained_one_replaces_what_came_meanwhile(autojump_clock: object) -> None:
    """It is retained when it is published, not under the topic it was sent to."""
    async with running() as live:
        client = await live.connect("c1")
        await client.publish("$delayed/10/t", b"delayed", 1, True)
        await client.publish("t", b"direct", 1, True)
        await settle()
        rows, _ = await live.broker.questions.retained(None, 0, 10)
        assert [row.topic_name for row in rows] == ["t"]
        await trio.sleep(11)
        found = await live.broker.questions.retained_message("t")
        assert found is not None
        assert found.payload == b"delayed"
        await client.subscribe("t", 1)
        assert payloads(await rest(client)) == [b"delayed"]


async def test_rules_are_about_the_topic_behind(autojump_clock: object) -> None:
    class Rules:
        asked: list[str] = []  # noqa: RUF012

        def authorize(self, client: Origin, action: str, topic: str) -> bool:
            self.asked.append(topic)
            return topic != "secret"

    rules = Rules()
    async with trio.open_nursery() as nursery:
        broker = Broker(authorizer=rules, store=MemoryStore())
        await nursery.start(broker.run)
        async with open_client(broker) as client:
            assert await reason(client, "$delayed/5/secret") == 0x87
            assert await reason(client, "$delayed/5/open") == 0x10
            assert await reason(client, "$delayed/x/secret") != 0x87
            await client.subscribe("$delayed/5/secret", 1)
            assert rules.asked == ["secret", "open", "$delayed/x/secret", "$delayed/5/secret"]
        broker.close()


async def reason(client: Any, topic_name: str) -> int:
    answer = await client.publish(topic_name, b"", 1)
    assert isinstance(answer, PubAck)
    return answer.reason_code


async def test_nothing_comes_of_a_client_that_was_banned_meanwhile(autojump_clock: object) -> None:
    async with running() as live:
        subscriber = await live.connect("subscriber")
        await subscriber.subscribe("t")
        for client_id in ("good", "bad"):
            await (await live.connect(client_id)).publish("$delayed/10/t", client_id.encode(), 1)
        assert (await live.api.post("/banned", json={"as": "clientid", "who": "bad"})).status_code == 200
        await trio.sleep(11)
        assert payloads(await rest(subscriber)) == [b"good"]
        assert (await live.broker.questions.stats())["delayed.count"] == 0


async def test_many_are_published_in_turns(autojump_clock: object) -> None:
    """One timer, and whoever else has something to say is heard between."""
    async with running() as live:
        core = live.broker._core
        assert core is not None
        client = await live.connect("c1")
        await client.subscribe("done/#", 1)
        publisher = await live.connect("c2")
        timers = len(core.timers)
        for _ in range(1000):
            await publisher.publish("$delayed/100/t", b"x")
        await settle()
        assert len(core.timers) <= timers + 1
        turns: list[int] = []
        take = core.router.take

        def taken(entries: list[Any]) -> None:
            turns.append(len(entries))
            take(entries)

        core.router.take = taken  # type: ignore[method-assign]
        await trio.sleep(101)
        assert (await live.broker.questions.stats())["delayed.count"] == 0
        assert sum(turns) == 1000 + len(turns)
        assert max(turns) <= 65


async def test_places_of_deleted_ones_are_swept(autojump_clock: object) -> None:
    async with running() as live:
        delayed = live.broker.questions.delayed
        client = await live.connect("c1")
        for number in range(3000):
            await client.publish(f"$delayed/100/{'t' if number else 'u'}", b"x")
        await settle()
        assert await delayed.delete_topic("t") == 2999
        assert len(delayed._heap) < 2000
        await client.subscribe("#")
        await trio.sleep(101)
        assert [packet.topic_name for packet in await rest(client)] == ["u"]


async def test_nothing_is_published_while_the_store_fails(autojump_clock: object) -> None:
    """Then it comes, once, when the store can be written again."""
    store = MemoryStore()
    async with running(store=store) as live:
        client = await live.connect("c1")
        await client.subscribe("t", 1)
        await client.publish("$delayed/10/t", b"1", 1)
        store.failure = "no space left"
        refused = await client.publish("$delayed/10/t", b"2", 1)
        assert isinstance(refused, PubAck)
        assert refused.reason_code == 0x97
        await trio.sleep(20)
        assert await rest(client) == []
        store.failure = None
        await trio.sleep(2)
        assert payloads(await rest(client)) == [b"1"]


async def test_it_is_due_by_the_wall_clock(autojump_clock: object) -> None:
    async with running() as live:
        core = live.broker._core
        assert core is not None
        client = await live.connect("c1")
        await client.subscribe("t", 1)
        await client.publish("$delayed/1000/t", b"1", 1)
        core.clock._offset += 995
        core.clock_was_set()
        await trio.sleep(6)
        assert payloads(await rest(client)) == [b"1"]
