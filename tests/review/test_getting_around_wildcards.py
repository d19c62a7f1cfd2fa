"""Attacks on access rules with filters: every rule against every filter, compared with what they match.

What a rule denies must not come through any filter, and a rule must not allow a filter that reaches beyond it. Topics
are counted out here: all that four levels of a small alphabet give.
"""

from __future__ import annotations

from itertools import product

from api.live import Live, running
from review.rights import RULES as RULES_PATH
from review.rights import add_file, add_source, allow, for_all, may_publish, may_subscribe, rule, settings
from trio.testing import MockClock

from trio_broker.protocol.packets import SubscribeFilter
from trio_broker.testing import Client

NAMES = ["a", "b", "", "$a"]
TOPICS = ["/".join(levels) for count in (1, 2, 3, 4) for levels in product(NAMES, repeat=count)]
TOPICS = [topic for topic in TOPICS if topic and "/$" not in topic]
FILTERS = sorted(
    {
        "/".join([*levels, *end])
        for count in (0, 1, 2)
        for levels in product(["a", "b", "", "+", "$a"], repeat=count)
        for end in (["#"], [])
        if levels or end
    }
    - {""}
)
FILTERS = [one for one in FILTERS if "/$" not in one] + ["a/+/b", "+/+/+", "a/b/a", "+/b/+", "a/b/+", "a/+/#", "a//a"]
RULES = [
    "#",
    "+",
    "+/#",
    "a",
    "a/#",
    "a/+",
    "+/a",
    "a/b",
    "/",
    "/#",
    "+/",
    "a/",
    "+/+/#",
    "a/+/b",
    "$a/#",
    "$a",
    "$a/+",
]


def matches(topic_filter: str, topic: str) -> bool:
    """[MQTT-4.7.1, 4.7.2]"""
    wanted, there = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for number, level in enumerate(wanted):
        if level == "#":
            return True
        if number >= len(there) or level not in ("+", there[number]):
            return False
    return len(wanted) == len(there)


MATCHED = {one: frozenset(topic for topic in TOPICS if matches(one, topic)) for one in {*FILTERS, *RULES}}


async def granted(client: Client, prefix: str = "") -> set[str]:
    suback = await client.subscribe([SubscribeFilter(prefix + one) for one in FILTERS])
    assert set(suback.reason_codes) <= {0, 0x87}
    return {one for one, code in zip(FILTERS, suback.reason_codes, strict=True) if code == 0}


async def replace(live: Live, permission: str, topic: str) -> None:
    await for_all(live, rule(topic, permission))


async def test_what_is_denied_comes_through_no_filter(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        await settings(live, max_size=1000)
        client = await live.connect("c1")
        for topic in RULES:
            await replace(live, "deny", topic)
            told = await granted(client)
            assert told == {one for one in FILTERS if not MATCHED[one] & MATCHED[topic]}, topic
            assert await granted(client, "$share/g/") == told, topic
            assert await granted(client, "$queue/") == told, topic


async def test_what_is_allowed_reaches_no_further(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        await settings(live, "deny", max_size=1000)
        client = await live.connect("c1")
        for topic in RULES:
            await replace(live, "allow", topic)
            told = await granted(client)
            assert {one for one in told if not MATCHED[one] <= MATCHED[topic]} == set(), topic
            below = {one for one in FILTERS if one.startswith(topic[:-1]) and (one[0] == "$") is (topic[0] == "$")}
            assert told >= {topic} & set(FILTERS) | (below if topic.endswith("#") else set())
            assert await granted(client, "$share/g/") == told, topic


async def test_publishing_goes_by_what_matches(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        client = await live.connect("c1")
        names = [topic for topic in TOPICS if topic.count("/") < 2]
        for topic in RULES:
            await replace(live, "deny", topic)
            denied = {name for name in names if not await may_publish(client, name)}
            assert denied == MATCHED[topic] & set(names), topic


async def test_a_deny_behind_an_allow_and_the_other_way_round(autojump_clock: MockClock) -> None:
    """The first rule that holds decides: what comes before an allow is out of its reach, for each part of it."""
    async with running() as live:
        await add_source(live, "built_in_database")
        await settings(live, "deny")
        client = await live.connect("c1")
        await for_all(live, rule("t/secret"), allow("t/#"))
        for one in ("t/#", "t/+", "t/secret", "+/secret", "t/secret/#"):
            assert not await may_subscribe(client, one), one
        for one in ("t/x", "t/x/#", "t", "t/+/+"):
            assert await may_subscribe(client, one), one
        await for_all(live, allow("t/#"), rule("t/secret"))
        assert await may_subscribe(client, "t/#")
        await for_all(live, allow("t/+", qos=[0]), rule("t/secret"), allow("t/#"))
        assert await may_subscribe(client, "t/+", 0)
        assert not await may_subscribe(client, "t/+", 1)
        await for_all(live, rule("t/${clientid}"), rule("t/+/${clientid}/#"), allow("t/#"))
        for one, free in (("t/#", False), ("t/+", False), ("t/c1", False), ("t/+/+", False), ("t/a/c1/x", False)):
            assert await may_subscribe(client, one) is free, one
        assert await may_subscribe(client, "t/c2")


async def test_two_sources_do_not_make_a_hole(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        await for_all(live, allow("#"))
        await add_file(live, '{deny, all, subscribe, ["t/secret", {eq, "k/#"}]}.')
        client = await live.connect("c1")
        for one in ("#", "t/+", "+/secret", "k/#"):
            assert not await may_subscribe(client, one), one
        for one in ("t/x", "k/x", "k/+"):
            assert await may_subscribe(client, one), one


async def test_a_rule_about_a_way_to_a_topic_is_refused_or_holds(autojump_clock: MockClock) -> None:
    """A rule that denies and can never hold is a bad mistake: nobody may be told that it is in force."""
    async with running() as live:
        await add_source(live, "built_in_database")
        client = await live.connect("c1")
        silent: list[str] = []
        for topic in ("$share/g/x", "$share/+/x", "$queue/x", "eq $share/g/x", "eq $queue/x", "$share/g"):
            answer = await live.api.post(f"{RULES_PATH}/all", json={"rules": [rule(topic)]})
            asked = "$queue/x" if "queue" in topic else "$share/g/x"
            if answer.status_code != 400 and await may_subscribe(client, asked):
                silent.append(topic)
        for topic in ("$delayed/5/x", "eq $delayed/5/x", "$delayed/#", "$delayed/+/x"):
            answer = await live.api.post(f"{RULES_PATH}/all", json={"rules": [rule(topic)]})
            if answer.status_code != 400 and await may_publish(client, "$delayed/5/x"):
                silent.append(topic)
        assert silent == []
