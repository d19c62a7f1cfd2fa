"""What clients are subscribed to when they connect, without having asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from actors.flows import SESSION, joined, one, payloads, rest, settle
from api.live import Live, running
from store.restart_world import open_world
from trio.testing import MockClock

from trio_broker.access.authorization import Action
from trio_broker.actors.gate import ConnectionInfo
from trio_broker.broker import Broker
from trio_broker.config import Config, MqttConfig
from trio_broker.config.topics import AutoSubscribeConfig, AutoSubscribeTopicConfig, RewriteConfig
from trio_broker.listeners.memory import memory_pair
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import Connect, Publish, Subscribe, SubscribeFilter
from trio_broker.routing.subscription import Subscription
from trio_broker.store.memory import MemoryStore
from trio_broker.store.operations import Operation
from trio_broker.testing import open_client


def config(*topics: str | dict[str, Any], **more: Any) -> Config:
    """A text is a topic with the defaults."""
    made = [AutoSubscribeTopicConfig(**({"topic": one} if isinstance(one, str) else one)) for one in topics]
    return Config(auto_subscribe=AutoSubscribeConfig(topics=tuple(made)), **more)


async def held(live: Live, client_id: str = "c") -> list[Subscription]:
    await settle()
    subscriptions = await live.broker.questions.client_subscriptions(client_id)
    assert subscriptions is not None
    return subscriptions


async def filters(live: Live, client_id: str = "c") -> list[str]:
    return [subscription.topic_filter for subscription in await held(live, client_id)]


@pytest.mark.parametrize("level", [3, 4, 5])
async def test_each_client_has_them(autojump_clock: MockClock, level: int) -> None:
    """With their options, and nothing but CONNACK is sent."""
    async with running(
        config("c/${clientid}", {"topic": "$share/g/x", "qos": 2}, {"topic": "n", "qos": 1, "rh": 2, "rap": 1, "nl": 1})
    ) as live:
        client = await live.connect("c", level=level)
        assert await held(live) == [
            Subscription("c/c", "c/c"),
            Subscription("$share/g/x", "x", "g", 2),
            Subscription("n", "n", None, 1, True, True, 2),
        ]
        assert list(client.inbox) == []
        await live.broker.publish("c/c", b"1", qos=1)
        await live.broker.publish("x", b"2", qos=2)
        await client.publish("n", b"own")
        assert [(message.payload, message.qos) for message in await rest(client)] == [(b"1", 0), (b"2", 2)]
        other = await live.connect("d", level=level)
        assert await filters(live, "d") == ["c/d", "$share/g/x", "n"]
        await client.publish("n", b"3", retain=True)
        assert [(message.payload, message.retain) for message in await rest(other)] == [(b"3", True)]
        assert (await client.unsubscribe("n")).packet_identifier
        assert await filters(live) == ["c/c", "$share/g/x"]


async def test_what_is_filled_in(autojump_clock: MockClock) -> None:
    async with running(config("/${clientid}/${username}/${host}/${port}/${other}/${clientid}")) as live:
        core = live.broker._core
        assert core is not None
        ours, theirs = memory_pair()
        info = ConnectionInfo("tcp:default", "::1", 4711, enable_authn=False)
        core.sessions_nursery.start_soon(core.door.serve_stream, theirs, info)
        async with open_client(ours, client_id="a/${username}", username="ü") as client:
            assert client.connack.reason_code == 0
            # What is filled in is not looked at again.
            assert await filters(live, "a/${username}") == ["/a/${username}/ü/::1/4711/${other}/a/${username}"]


async def test_an_assigned_client_id_is_filled_in(autojump_clock: MockClock) -> None:
    async with running(config("${clientid}")) as live:
        client = await live.connect("")
        assert client.client_id.startswith("auto-")
        assert await filters(live, client.client_id) == [client.client_id]


@pytest.mark.parametrize(
    ("client_id", "username", "has"),
    [
        ("c", None, ["plain", "i/c"]),
        ("c", "", ["plain", "u/", "i/c"]),
        ("c", "#", ["plain", "i/c"]),
        ("c", "a/+/b", ["plain", "i/c"]),
        ("+", "u", ["plain", "u/u"]),
        ("a#b", "u", ["plain", "u/u"]),
    ],
)
async def test_what_cannot_be_filled_in_is_left_out(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, client_id: str, username: str | None, has: list[str]
) -> None:
    """A client makes itself no wildcard; the log says what is missing, and the client is in all the same."""
    async with running(config("plain", "u/${username}", "i/${clientid}")) as live:
        client = await live.connect(client_id, username=username)
        assert client.connack.reason_code == 0
        assert await filters(live, client_id) == has
    assert caplog.text.count("is not subscribed to") == 3 - len(has)


async def test_a_filter_that_is_none_once_it_is_filled_in(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(config("${username}", "$share/${username}/t", "${username}t")) as live:
        await live.connect("c", username="")
        assert await filters(live) == ["t"]
        await live.connect("d", username="a/b")
        assert await filters(live, "d") == ["a/b", "$share/a/b/t", "a/bt"]
    assert caplog.text.count("there is no such filter") == 2


async def test_who_is_connected_keeps_what_it_has(autojump_clock: MockClock) -> None:
    async with running(config("old")) as live:
        await live.connect("c")
        await live.broker.questions.settings.change({"auto_subscribe": {"topics": [{"topic": "new"}]}})
        assert await filters(live) == ["old"]
        await live.connect("d")
        assert await filters(live, "d") == ["new"]
        await live.broker.questions.settings.change({"auto_subscribe": {"topics": []}})
        await live.connect("e")
        assert await filters(live, "e") == []


async def test_a_session_that_comes_back_has_them_too(autojump_clock: MockClock) -> None:
    """Also where it had taken them back; what it had in another way is as the configuration has it."""
    async with running() as live:
        client = await live.connect("c", properties=SESSION)
        await client.subscribe([SubscribeFilter("a", 2), SubscribeFilter("own", 1)])
        await client.disconnect()
        topics = [{"topic": "a", "qos": 1}, {"topic": "b", "qos": 1}]
        await live.broker.questions.settings.change({"auto_subscribe": {"topics": topics}})
        for _ in range(2):
            client = await live.connect("c", clean_start=False, properties=SESSION)
            assert client.session_present
            assert {one.topic_filter: one.qos for one in await held(live)} == {"a": 1, "own": 1, "b": 1}
            await client.unsubscribe("b")
            await client.disconnect()
            await settle()
        assert sorted(await filters(live)) == ["a", "own"]


@pytest.mark.parametrize(("rh", "first", "second"), [(0, [b"r"], [b"r"]), (1, [b"r"], []), (2, [], [])])
async def test_retained_messages(autojump_clock: MockClock, rh: int, first: list[bytes], second: list[bytes]) -> None:
    """By the retain handling, as for any subscription; a shared one gets none."""
    async with running(config({"topic": "r/#", "rh": rh}, {"topic": "$share/g/r/#", "rh": rh})) as live:
        await live.broker.publish("r/1", b"r", retain=True)
        client = await live.connect("c", properties=SESSION)
        assert payloads(await rest(client)) == first
        await client.disconnect()
        client = await live.connect("c", clean_start=False, properties=SESSION)
        assert payloads(await rest(client)) == second


async def test_they_are_in_force_before_what_the_client_sends_ahead(autojump_clock: MockClock) -> None:
    """In one piece with its CONNECT: a message for itself, and a SUBSCRIBE that has the last word."""
    async with running(config({"topic": "t", "qos": 1})) as live:
        async with open_client(live.broker, client_id="c", connect=False) as client:
            subscribe = Subscribe(1, [SubscribeFilter("t", 0, retain_as_published=True)])
            await client.send_bytes(joined(5, Connect("c"), Publish("t", b"self"), subscribe))
            assert payloads([await one(client)]) == [b"self"]
            assert await held(live) == [Subscription("t", "t", qos=0, retain_as_published=True)]


async def test_a_kept_session_has_them_while_it_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """They are in the store like any other: what comes after a restart waits for it."""
    async with open_world(("sqlite", "kill"), tmp_path, monkeypatch) as world:
        topics = [{"topic": "c/${clientid}", "qos": 1}]
        await world.broker.questions.settings.change({"auto_subscribe": {"topics": topics}})
        async with world.client("c"):
            await settle()
        await settle()
        await world.broker._core.durable()  # type: ignore[union-attr]
        await world.restart()
        assert await world.rows("sub") == 1
        assert world.broker.config.auto_subscribe.topics[0].topic == "c/${clientid}"
        await world.broker.publish("c/c", b"1", qos=1)
        async with world.client("c") as client:
            assert payloads([await one(client)]) == [b"1"]


async def test_a_session_that_comes_back_unchanged_writes_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    async with running(config({"topic": "a", "rh": 1}), store) as live:
        client = await live.connect("c", properties=SESSION)
        await client.disconnect()
        await settle()
        written: list[str] = []
        write = store.write

        def noted(*operations: Operation) -> None:
            written.extend(type(operation).__name__ for operation in operations)
            write(*operations)

        monkeypatch.setattr(store, "write", noted)
        client = await live.connect("c", clean_start=False, properties=SESSION)
        await settle()
        assert client.session_present
        assert "PutSubscription" not in written
        assert written


class Nothing:
    def authorize(self, client: Origin, action: Action, topic: str) -> bool:
        return False


async def test_access_rules_are_not_asked(autojump_clock: MockClock) -> None:
    broker = Broker(config("t"), authorizer=Nothing(), store=MemoryStore())
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        async with open_client(broker, client_id="c") as client:
            assert (await client.subscribe("t")).reason_codes == [0x87]
            await broker.publish("t", b"1")
            assert payloads([await one(client)]) == [b"1"]
        broker.close()


async def test_the_qos_is_one_that_the_broker_grants(autojump_clock: MockClock) -> None:
    async with running(config({"topic": "t", "qos": 2}, mqtt=MqttConfig(max_qos_allowed=1))) as live:
        await live.connect("c")
        assert [one.qos for one in await held(live)] == [1]


async def test_they_are_rewritten_as_all_subscriptions_are(autojump_clock: MockClock) -> None:
    rewrite = [RewriteConfig(action="subscribe", source_topic="x/+", re="^x/(.+)", dest_topic="z/$1")]
    async with running(config("x/${clientid}", "$share/g/x/1", rewrite=rewrite)) as live:
        await live.connect("c")
        assert await filters(live) == ["z/c", "$share/g/z/1"]


async def test_each_counts_as_a_subscription(autojump_clock: MockClock) -> None:
    async with running(config("a", "$share/g/b")) as live:
        await live.connect("c")
        await settle()
        stats = await live.broker.questions.stats()
        assert (stats["subscriptions.count"], stats["subscriptions.shared.count"]) == (2, 1)
        metrics = await live.broker.questions.metrics()
        assert metrics["packets.suback.sent"] == 0
        assert metrics["client.subscribe"] == 1
