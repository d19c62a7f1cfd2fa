"""Topics that others are put in the place of: of messages in every form they can have, and of subscriptions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from actors.flows import SESSION, joined, one, payloads, rest, settle
from api.live import Live, running
from trio.testing import MockClock

from trio_broker.access.authorization import Action
from trio_broker.broker import Broker
from trio_broker.config import Config, MqttConfig
from trio_broker.config.topics import RewriteConfig
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import PubAck, Publish, SubscribeFilter, Will
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import Client, open_client

Rule = tuple[str, str, str, str]


def rule(action: str, source_topic: str, regex: str, dest_topic: str) -> RewriteConfig:
    return RewriteConfig(action=action, source_topic=source_topic, re=regex, dest_topic=dest_topic)


@asynccontextmanager
async def rewriting(*rules: Rule, store: MemoryStore | None = None) -> AsyncIterator[Live]:
    async with running(Config(rewrite=tuple(rule(*one) for one in rules)), store) as live:
        yield live


async def topics_of(client: Client) -> list[str]:
    return [message.topic_name for message in await rest(client)]


async def filters_of(live: Live, client_id: str) -> list[str]:
    subscriptions = await live.broker.questions.client_subscriptions(client_id)
    assert subscriptions is not None
    return [subscription.topic_filter for subscription in subscriptions]


TO_Z: Rule = ("publish", "x/#", "^x/y/(.+)$", "z/y/$1")


# -- which rule, and what comes out


@pytest.mark.parametrize(
    ("rules", "topic", "arrives"),
    [
        ([TO_Z], "x/y/1", "z/y/1"),
        ([TO_Z], "x/y/1/2", "z/y/1/2"),
        ([TO_Z], "x/1", "x/1"),
        ([TO_Z], "a/x/y/1", "a/x/y/1"),
        # The last one that matches counts, whatever its expression says.
        ([TO_Z, ("publish", "x/y/+", "(.)$", "last/$1")], "x/y/1", "last/1"),
        ([TO_Z, ("publish", "x/y/+", "no", "last")], "x/y/1", "x/y/1"),
        ([TO_Z, ("publish", "x/y/+", "(.)$", "last/$1")], "x/y/1/2", "z/y/1/2"),
        ([TO_Z, ("subscribe", "x/#", "", "other")], "x/y/1", "z/y/1"),
        ([TO_Z, ("all", "x/#", "", "other")], "x/y/1", "other"),
        # What is not tied to the ends is found anywhere, and all of the topic is replaced.
        ([("publish", "#", "b", "found")], "abc", "found"),
        ([("publish", "#", "^(.)(.)(.)(.)(.)(.)(.)(.)(.)$", "$9$8$7$6$5$4$3$2$1")], "abcdefghi", "ihgfedcba"),
        ([("publish", "#", "(a)|(b)", "<$1|$2>")], "b", "<|b>"),
        ([("publish", "#", "(a)", "$2/$1$0/$1 1")], "a", "$2/a$0/a 1"),
        ([("publish", "#", "^t$", "${clientid}/${username}/${host}")], "t", "p/u/${host}"),
        # No topic that anybody may publish to.
        ([("publish", "#", "^t(.*)$", "$1")], "t", "t"),
        ([("publish", "+/#", "", "caught")], "$any/t", "$any/t"),
        ([("publish", "$any/#", "", "caught")], "$any/t", "caught"),
    ],
)
async def test_where_a_message_goes(autojump_clock: MockClock, rules: Sequence[Rule], topic: str, arrives: str) -> None:
    async with rewriting(*rules) as live:
        watcher, publisher = await live.connect("w"), await live.connect("p", username="u")
        await watcher.subscribe([SubscribeFilter("#"), SubscribeFilter("$any/#"), SubscribeFilter("$2/#")])
        for qos in (0, 1, 2):
            await publisher.publish(topic, b"1", qos)
        assert await topics_of(watcher) == [arrives] * 3


async def test_without_a_user_name_the_topic_stays(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """And what a client would make a wildcard; the log says so once for each rule."""
    async with rewriting(("publish", "t/#", "", "a/${username}"), ("publish", "s", "", "b/${clientid}")) as live:
        watcher = await live.connect("w")
        await watcher.subscribe("#")
        for client_id, username in (("p", None), ("p", "#"), ("p", "a+"), ("+", "ok")):
            publisher = await live.connect(client_id, username=username)
            for topic in ("t/1", "t/2", "s"):
                await publisher.publish(topic)
        assert await topics_of(watcher) == [*["t/1", "t/2", "b/p"] * 3, "a/ok", "a/ok", "s"]
    lines = [record.getMessage() for record in caplog.records if record.name == "trio_broker.rewrite"]
    assert lines == [
        "rewrite: 't/1' stays as it is by the rule for 't/#': nothing to fill in",
        "rewrite: 's' stays as it is by the rule for 's': nothing to fill in",
    ]


async def test_rules_act_at_once_and_no_more_when_they_are_gone(autojump_clock: MockClock) -> None:
    """Also for topics whose plan was made before."""
    async with rewriting() as live:
        watcher, publisher = await live.connect("w"), await live.connect("p")
        await watcher.subscribe("#")
        for rules in ([], [rule(*TO_Z)], [rule("publish", "x/#", "", "new")], []):
            await live.broker.questions.settings.change(
                {"rewrite": [{"action": "publish", **_plain(one)} for one in rules]}
            )
            await publisher.publish("x/y/1")
        assert await topics_of(watcher) == ["x/y/1", "z/y/1", "new", "x/y/1"]


def _plain(one: RewriteConfig) -> dict[str, str]:
    return {"source_topic": one.source_topic, "re": one.re, "dest_topic": one.dest_topic}


async def test_a_topic_that_no_rule_is_for_pays_nothing(autojump_clock: MockClock) -> None:
    async with rewriting(TO_Z) as live:
        core = live.broker._core
        assert core is not None
        await live.broker.publish("y", b"")
        await live.broker.publish("x/y/1", b"")
        assert core.router.table.plans["y"].special is None
        assert core.router.table.plans["x/y/1"].special == (core.topic_rewrite,)
        assert not core.topic_rewrite.concerns("$SYS/x")


# -- messages in every form


@pytest.mark.parametrize("level", [4, 5])
async def test_a_run_goes_through_in_its_order(autojump_clock: MockClock, level: int) -> None:
    """Many messages in one piece, acknowledged for where they went; with an id of their own each."""
    async with rewriting(TO_Z) as live:
        subscriber = await live.connect("s", level=level)
        await subscriber.subscribe("z/#", 2)
        publisher = await live.connect("p", level=level, auto_ack=False)
        seen: list[int] = []
        live.broker.hooks.published.append(lambda message: seen.append(message.message_id))
        sent = [Publish("x/y/1", b"%d" % number, 1, False, False, number) for number in range(1, 21)]
        await publisher.send_bytes(joined(level, *sent))
        assert payloads(await rest(subscriber)) == [b"%d" % number for number in range(1, 21)]
        acknowledgements = list(publisher.inbox)
        assert acknowledgements == [PubAck(number) for number in range(1, 21)]
        assert seen == sorted(set(seen))
        assert len(seen) == 20
        metrics = await live.broker.questions.metrics()
        assert metrics["messages.publish"] == 20
        assert metrics["messages.dropped"] == 0


async def test_nobody_there_is_told_by_its_code(autojump_clock: MockClock) -> None:
    async with rewriting(TO_Z) as live:
        publisher = await live.connect("p")
        await publisher.subscribe("x/#")
        answer = await publisher.publish("x/y/1", qos=1)
        assert answer is not None
        assert answer.reason_code == 0x10
        answer = await publisher.publish("x/1", qos=1)
        assert answer is not None
        assert answer.reason_code == 0


async def test_topic_aliases_stand_for_what_the_client_named(autojump_clock: MockClock) -> None:
    async with rewriting(TO_Z, ("publish", "z/#", "", "twice")) as live:
        watcher, publisher = await live.connect("w"), await live.connect("p")
        await watcher.subscribe("#")
        await publisher.publish("x/y/1", b"1", 1, properties={"topic_alias": 3})
        await publisher.publish("", b"2", 1, properties={"topic_alias": 3})
        await publisher.publish("", b"3", 2, properties={"topic_alias": 3, "user_property": [("a", "b")]})
        messages = await rest(watcher)
        assert [message.topic_name for message in messages] == ["z/y/1"] * 3
        assert payloads(messages) == [b"1", b"2", b"3"]
        assert messages[2].properties == {"user_property": [("a", "b")]}


async def test_retained_messages_are_kept_under_the_new_topic(autojump_clock: MockClock) -> None:
    async with rewriting(TO_Z) as live:
        publisher = await live.connect("p")
        await publisher.publish("x/y/1", b"on", 1, True, {"message_expiry_interval": 100})
        assert await live.broker.questions.retained_message("x/y/1") is None
        late = await live.connect("late")
        await late.subscribe("#")
        message = await one(late)
        assert (message.topic_name, message.payload, message.retain) == ("z/y/1", b"on", True)
        assert message.properties == {"message_expiry_interval": 100}
        await publisher.publish("x/y/1", b"", 0, True)
        await settle()
        assert await live.broker.questions.retained_message("z/y/1") is None


async def test_no_local_still_knows_who_published(autojump_clock: MockClock) -> None:
    async with rewriting(TO_Z) as live:
        client, other = await live.connect("c"), await live.connect("o")
        await client.subscribe("z/#", no_local=True)
        await client.publish("x/y/1", b"own", 1)
        await other.publish("x/y/1", b"other", 1)
        assert payloads(await rest(client)) == [b"other"]


@pytest.mark.parametrize("level", [3, 4, 5])
async def test_wills(autojump_clock: MockClock, level: int) -> None:
    async with rewriting(("publish", "x/#", "^x/(.*)", "w/$1/${clientid}/${username}")) as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe("#")
        client = await live.connect("c", username="u", level=level, will=Will("x/gone", b"bye", 1))
        await client.stream.aclose()
        message = await one(watcher)
        assert (message.topic_name, message.payload) == ("w/gone/c/u", b"bye")


async def test_what_rest_and_the_program_publish(autojump_clock: MockClock) -> None:
    async with rewriting(("publish", "x/#", "^x/(.*)", "${clientid}/$1")) as live:
        watcher = await live.connect("w")
        await watcher.subscribe("#")
        body = {"topic": "x/1", "payload": "rest", "qos": 1, "retain": True}
        assert (await live.api.post("/publish", json=body)).status_code == 200
        published = await live.broker.publish("x/2", b"program")
        assert published.matched == 1
        first, second = await rest(watcher)
        assert (first.topic_name.endswith("/1"), first.payload) == (True, b"rest")
        assert second.topic_name == f"{live.broker.config.node.name}/2"


async def test_a_delayed_message_is_rewritten_when_it_is_due(autojump_clock: MockClock) -> None:
    async with rewriting(TO_Z) as live:
        watcher, publisher = await live.connect("w"), await live.connect("p")
        await watcher.subscribe("#")
        await publisher.publish("$delayed/5/x/y/1", b"1", 1)
        assert await topics_of(watcher) == []
        await trio.sleep(6)
        assert await topics_of(watcher) == ["z/y/1"]


class Only:
    """Allows what begins with x, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def authorize(self, client: Origin, action: Action, topic: str) -> bool:
        self.asked.append(topic)
        return topic.startswith("x")


async def test_access_rules_are_asked_for_what_the_client_named(autojump_clock: MockClock) -> None:
    only = Only()
    broker = Broker(Config(rewrite=(rule("all", "x/#", "^x/(.*)", "z/$1"),)), authorizer=only)
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        async with open_client(broker, client_id="c", will=Will("x/w", b"")) as client:
            assert (await client.subscribe("x/#")).reason_codes == [0]
            assert (await client.subscribe("z/#")).reason_codes == [0x87]
            for topic, code in (("x/1", 0), ("z/1", 0x87)):
                answer = await client.publish(topic, qos=1)
                assert answer is not None
                assert answer.reason_code == code
            assert await topics_of(client) == ["z/1"]
        assert set(only.asked) == {"x/#", "z/#", "x/1", "z/1"}
        broker.close()


async def test_what_would_be_kept_is_refused_while_the_store_fails(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a message that had the new topic from the beginning."""
    store = MemoryStore()
    async with rewriting(TO_Z, ("publish", "x/gone", "", "nobody/there"), store=store) as live:
        kept = await live.connect("kept", properties=SESSION)
        await kept.subscribe([SubscribeFilter("z/#", 1), SubscribeFilter("$share/g/s/#", 1)])
        publisher = await live.connect("p")
        monkeypatch.setattr(store, "failure", "full")
        codes = []
        for topic in ("x/y/1", "z/1", "x/gone", "x/1"):
            answer = await publisher.publish(topic, qos=1)
            assert answer is not None
            codes.append(answer.reason_code)
        assert codes == [0x97, 0x97, 0x10, 0x10]
        monkeypatch.setattr(store, "failure", None)


# -- subscriptions


@pytest.mark.parametrize("level", [3, 4, 5])
async def test_the_session_has_the_new_filter(autojump_clock: MockClock, level: int) -> None:
    """With the options of the old one; UNSUBSCRIBE means the same one."""
    async with rewriting(("subscribe", "x/#", "^x/y/(.+)$", "z/y/$1")) as live:
        client = await live.connect("c", level=level)
        answer = await client.subscribe([SubscribeFilter("x/y/#", 1), SubscribeFilter("x/1", 2), SubscribeFilter("a")])
        assert answer.reason_codes == [1, 2, 0]
        assert await filters_of(live, "c") == ["z/y/#", "x/1", "a"]
        await live.broker.publish("z/y/1", b"1", qos=2)
        await live.broker.publish("x/y/1", b"2")
        [message] = await rest(client)
        assert (message.topic_name, message.qos) == ("z/y/1", 1)
        again = await client.unsubscribe("x/y/#", "a", "x/y/other")
        assert again.reason_codes in ([0, 0, 0x11], [])
        assert await filters_of(live, "c") == ["x/1"]
        assert await live.broker.questions.topics() == ["x/1"]


@pytest.mark.parametrize(
    ("asked", "has"),
    [
        ("$share/g/x/y/1", "$share/g/z/y/1"),
        ("$queue/x/y/#", "$queue/z/y/#"),
        ("$share/x/y/1", "$share/x/y/1"),
        ("x/y/+", "z/y/+"),
        ("x/bad/#", "x/bad/#"),
        ("x/bad/+", "x/bad/+"),
        ("x/bad/1", "bad1"),
        ("x/share", "x/share"),
        ("x/id", "of/c/u"),
        ("x/+/y", "x/+/y"),
    ],
)
async def test_what_becomes_of_a_filter(autojump_clock: MockClock, asked: str, has: str) -> None:
    async with rewriting(
        ("subscribe", "x/#", "^x/y/(.+)$", "z/y/$1"),
        ("subscribe", "x/bad/+", "(.)$", "bad$1"),
        ("subscribe", "x/share", "^(x)/share()$", "$2"),
        ("all", "x/id", "id", "of/${clientid}/${username}"),
    ) as live:
        client = await live.connect("c", username="u")
        assert (await client.subscribe(asked)).reason_codes == [0]
        assert await filters_of(live, "c") == [has]
        assert (await client.unsubscribe(asked)).reason_codes == [0]
        assert await filters_of(live, "c") == []


async def test_a_client_makes_itself_no_wildcard(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    async with rewriting(("subscribe", "me", "", "of/${clientid}/${username}")) as live:
        for client_id, username in (("#", "u"), ("c", "+"), ("d", None)):
            client = await live.connect(client_id, username=username)
            await client.subscribe("me")
            assert await filters_of(live, client_id) == ["me"]
    assert caplog.text.count("'me' stays as it is") == 1


async def test_two_filters_that_become_one(autojump_clock: MockClock) -> None:
    async with rewriting(("subscribe", "+", "^[ab]$", "one")) as live:
        client = await live.connect("c")
        answer = await client.subscribe([SubscribeFilter("a", 1), SubscribeFilter("b", 2), SubscribeFilter("c", 0)])
        assert answer.reason_codes == [1, 2, 0]
        assert await filters_of(live, "c") == ["one", "c"]
        await live.broker.publish("one", b"", qos=2)
        assert [message.qos for message in await rest(client)] == [2]
        assert (await client.unsubscribe("a", "b")).reason_codes == [0, 0x11]


async def test_a_limit_counts_what_the_session_has(autojump_clock: MockClock) -> None:
    config = Config(rewrite=(rule("subscribe", "+", "^[ab]$", "one"),), mqtt=MqttConfig(max_subscriptions=1))
    async with running(config) as live:
        client = await live.connect("c")
        answer = await client.subscribe([SubscribeFilter("a"), SubscribeFilter("b"), SubscribeFilter("c")])
        assert answer.reason_codes == [0, 0, 0x97]


async def test_retained_messages_are_those_of_the_new_filter(autojump_clock: MockClock) -> None:
    async with rewriting(("subscribe", "x/#", "^x/(.+)$", "z/$1")) as live:
        await live.broker.publish("z/1", b"new", retain=True)
        await live.broker.publish("x/1", b"old", retain=True)
        client = await live.connect("c")
        await client.subscribe("x/#", identifier=7)
        message = await one(client)
        assert (message.topic_name, message.properties) == ("z/1", {"subscription_identifier": [7]})
        assert await rest(client) == []
        # There before: retain handling 1 sends nothing.
        await client.subscribe("x/#", retain_handling=1)
        assert await rest(client) == []


async def test_what_was_there_before_the_rule_can_be_taken_back(autojump_clock: MockClock) -> None:
    async with rewriting() as live:
        client = await live.connect("c")
        await client.subscribe([SubscribeFilter("x/1"), SubscribeFilter("x/2")])
        rules = [{"action": "all", "source_topic": "x/#", "re": "^x", "dest_topic": "z"}]
        await live.broker.questions.settings.change({"rewrite": rules})
        assert await filters_of(live, "c") == ["x/1", "x/2"]
        assert (await client.unsubscribe("x/1")).reason_codes == [0]
        await live.api.post("/clients/c/unsubscribe", json={"topic": "x/2"})
        assert await filters_of(live, "c") == []


async def test_over_rest_the_same_rules_hold(autojump_clock: MockClock) -> None:
    async with rewriting(("subscribe", "x/#", "^x/(.+)$", "z/$1/${clientid}")) as live:
        client = await live.connect("c", properties=SESSION)
        for _ in range(2):
            answer = await live.api.post("/clients/c/subscribe", json={"topic": "$share/g/x/1", "qos": 1})
            assert (answer.status_code, answer.json()["topic"]) == (200, "$share/g/x/1")
        assert await filters_of(live, "c") == ["$share/g/z/1/c"]
        await live.broker.publish("z/1/c", b"1", qos=1)
        assert (await one(client)).topic_name == "z/1/c"
        await client.disconnect()
        await settle()
        assert (await live.api.post("/clients/c/unsubscribe", json={"topic": "$share/g/x/1"})).status_code == 204
        assert await filters_of(live, "c") == []


async def test_a_kept_session_has_it_after_a_restart(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with rewriting(("subscribe", "x/#", "^x", "z"), store=store) as live:
        client = await live.connect("c", properties=SESSION)
        await client.subscribe("x/1", 1)
        await client.disconnect()
    async with running(store=store) as live:
        assert await filters_of(live, "c") == ["z"]
        await live.broker.publish("z", b"1", qos=1)
        client = await live.connect("c", clean_start=False, properties=SESSION)
        assert (await one(client)).topic_name == "z"


async def test_a_request_of_many_filters(autojump_clock: MockClock) -> None:
    """It is done in parts."""
    async with rewriting(("subscribe", "x/#", "^x/(.+)$", "z/$1")) as live:
        client = await live.connect("c")
        names = [f"x/{number}" for number in range(600)]
        assert (await client.subscribe([SubscribeFilter(name) for name in names])).reason_codes == [0] * 600
        assert sorted(await filters_of(live, "c")) == sorted(name.replace("x", "z") for name in names)
        assert (await client.unsubscribe(*names)).reason_codes == [0] * 600
        assert await filters_of(live, "c") == []


async def test_a_bad_filter_is_refused_as_ever(autojump_clock: MockClock) -> None:
    async with rewriting(("subscribe", "#", "", "good")) as live:
        for bad in ("a#", "$share/g", "$share/+/a"):
            client = await live.connect("c")
            answer = await client.subscribe(bad)
            assert answer.reason_codes[0] >= 0x80
            assert await filters_of(live, "c") == []
