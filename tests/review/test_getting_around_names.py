"""Attacks on access rules: names that mean more than they should, sessions, and what the broker does by itself.

What is denied here is looked at from both sides: what the client is told, and what arrives.
"""

from __future__ import annotations

import unicodedata

import pytest
import trio
from api.live import running
from review.contract import KEPT, away, done, got
from review.rights import (
    WITNESS,
    add_file,
    allow,
    arrived,
    cached,
    for_all,
    for_client,
    for_user,
    guarded,
    may_publish,
    may_subscribe,
    rule,
    settings,
)
from trio.testing import MockClock

from trio_broker.testing import Client

TRICKY = [
    "+",
    "#",
    "a/b",
    "a/+",
    "/",
    "$SYS",
    "$share",
    "a/#",
    "+a",
    "a#",
    "${username}",
    "${clientid}",
    "%c",
    "%u",
    "$1",
]


async def denied_everywhere(client: Client, *topics: str) -> None:
    """Each as a topic to publish to (where it is one), and as a filter."""
    for topic in topics:
        assert not await may_subscribe(client, topic), topic
        assert not await may_subscribe(client, f"$share/g/{topic}"), topic
        if not set(topic) & {"+", "#"}:
            assert not await may_publish(client, topic), topic


@pytest.mark.parametrize("key", ["clientid", "username", "%"])
async def test_names_do_not_become_wildcards_or_levels(key: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live, no_match="deny")
        name = "%c" if key == "%" else f"${{{key}}}"
        topics = (f"room/{name}/#", f"{name}/door", f"x/{name}")
        if key == "%":
            await add_file(live, *[f'{{allow, all, all, ["{topic}"]}}.' for topic in topics])
        else:
            await for_all(live, *[allow(topic) for topic in (*topics, f"dev-{name}", f"eq text/{name}")])
        others = (
            *("room/other/1", "room/+/1", "room/#", "room/+/#", "other/door", "+/door", "#", "x/+", "x/#", "x/a/b"),
            *("x/other", "dev-other", "text/+", "text/#", "text/other", "$SYS/door", "$SYS/#", f"x/{name}/a"),
        )
        for attacker in TRICKY[:10]:
            client = await live.connect("c" if key == "username" else attacker, username=attacker)
            assert client.connack.reason_code == 0, attacker
            await denied_everywhere(client, *others)
            await client.disconnect()
        good = await live.connect("me", username="me")
        assert [one for one in ("room/me/1", "me/door", "x/me") if not await may_publish(good, one)] == []
        if key != "%":
            assert await may_subscribe(good, "room/me/#")


async def test_a_name_fits_its_own_rules_only(autojump_clock: MockClock) -> None:
    """Rules of the client id and the user name are found by the whole name, whatever is in it."""
    async with running() as live:
        await guarded(live, no_match="deny")
        await for_client(live, "a", allow("of/client"))
        await for_user(live, "a", allow("of/user"))
        await add_file(live, '{allow, {clientid, "a"}, all, ["of/client"]}.', '{allow, {user, "a"}, all, ["of/user"]}.')
        for name in (*TRICKY, "A", "a ", " a", "a\n", "a\t", "a\u0301", "\uff41", "\u0430", "a\u200b"):
            client = await live.connect(name, username=name)
            if client.connack.reason_code:  # it may well refuse control characters
                assert name in ("a\n", "a\t")
            else:
                await denied_everywhere(client, "of/client", "of/user")
        good = await live.connect("a", username="a")
        assert await may_publish(good, "of/client")
        assert await may_publish(good, "of/user")


async def test_expressions_look_at_the_whole_text(autojump_clock: MockClock) -> None:
    """`$` is the end of the text, and not what comes before a line break."""
    async with running() as live:
        await guarded(live, allow("t", clientid_re="^a$"), allow("t", username_re="^a$"), no_match="deny")
        await add_file(
            live, '{allow, {username, {re, "^a$"}}, all, ["t"]}.', '{allow, {clientid, {re, "^a$"}}, all, ["t"]}.'
        )
        for name in ("a\n", "a\r\n", "b\na", "a\nb", "a\u2028", "\na", "a\u0085"):
            client = await live.connect(name, username=name)
            if client.connack.reason_code == 0:
                await denied_everywhere(client, "t")
        good = await live.connect("a", username="a")
        assert await may_publish(good, "t")


async def test_a_client_without_a_name(autojump_clock: MockClock) -> None:
    async with running() as live:
        topics = [allow(f"u/{name}/x") for name in ("${username}", "a-${username}", "${clientid}")]
        await guarded(live, *topics, allow("re", username_re=""), allow("re", username_re="^$"), no_match="deny")
        for username in (None, ""):
            client = await live.connect("", username=username)
            own = client.connack.properties["assigned_client_identifier"]
            assert await may_publish(client, f"u/{own}/x")
            await denied_everywhere(client, "u//x", "u/x", "u/undefined/x", "u/None/x", "u/null/x", "u/a-/x", "u/+/x")


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize(
    "name", [b"\x00", b"a\x00b", b"\xc0\xaf", b"\xed\xa0\x80", b"\xff", b"\xf4\x90\x80\x80", b"secret\xe0\x80\xafx"]
)
async def test_names_and_topics_that_are_no_utf8(name: bytes, level: int, autojump_clock: MockClock) -> None:
    """Overlong forms, surrogates, NUL: nothing of it reaches a rule, let alone a subscriber."""

    def text(value: bytes) -> bytes:
        return len(value).to_bytes(2, "big") + value

    def packet(first: int, body: bytes) -> bytes:
        return bytes([first, len(body)]) + body

    none = b"\x00" if level == 5 else b""
    async with running() as live:
        await guarded(live, rule("secret/x"), rule("a"))
        witness = await live.connect("w", username=WITNESS)
        await witness.subscribe("#", 1)
        for first, body in (
            (0x30, text(name) + none + b"forged"),
            (0x30, text(b"open/" + name) + none + b"forged"),
            (0x82, b"\x00\x01" + none + text(name) + b"\x01"),
            (0x82, b"\x00\x01" + none + text(b"$share/g/" + name) + b"\x01"),
        ):
            client = await live.connect("c1", level=level)
            await client.send_bytes(packet(first, body))
            with trio.fail_after(60):
                assert (await client.wait_ended()).how in ("disconnect", "eof", "broken")
        for flags, fields in ((0x02, text(name)), (0x82, text(b"c2") + text(name))):
            client = await live.connect("", level=level, connect=False)
            await client.send_bytes(packet(0x10, text(b"MQTT") + bytes([level, flags, 0, 0]) + none + fields))
            with trio.fail_after(60):
                await client.wait_ended()
        assert await arrived(witness) == []


async def test_look_alikes_are_other_topics(autojump_clock: MockClock) -> None:
    """Neither side folds anything: what passes for another topic is delivered as that, and only as that."""
    async with running() as live:
        composed = "caf\u00e9/x"
        await guarded(live, rule(composed), rule("secret/x"), rule("Straße"))
        witness = await live.connect("w", username=WITNESS)
        for topic in (composed, "secret/x", "Straße"):
            await witness.subscribe(topic, 1)
        client = await live.connect("c1")
        alike = [
            unicodedata.normalize("NFD", composed),
            "ѕecret/x",  # noqa: RUF001 - a Cyrillic letter
            "secret／x",  # noqa: RUF001 - a wide slash
            "ｓecret/x",  # noqa: RUF001 - a wide letter
            "secret/x\u0301",
            "secret/\u200bx",
            "\ufeffsecret/x",
            "secret/x\u200d",
            "\u202esecret/x",
            "se\u00adcret/x",
            "Secret/x",
            "STRASSE",
            "Strasse",
            "secret∕x",  # noqa: RUF001 - a division slash
        ]
        for topic in alike:
            assert await may_publish(client, topic), ascii(topic)
            assert await may_subscribe(client, topic), ascii(topic)
        for topic in (composed, "secret/x", "Straße"):
            assert not await may_publish(client, topic)
            assert not await may_subscribe(client, topic)
        assert await arrived(witness) == []
        for topic in (composed, "secret/x", "Straße"):
            await witness.publish(topic, b"hidden", 1)
        assert {topic for topic, payload in await arrived(client) if payload == b"hidden"} == set()


async def test_wide_wildcards_are_no_wildcards(autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live, allow("＋/x"), allow("＃"), allow("a/＃"), no_match="deny")  # noqa: RUF001
        client = await live.connect("c1")
        await denied_everywhere(client, "a/x", "b/x", "#", "a/#", "+/x", "a/b")


async def test_empty_levels(autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live, rule("secret/#"), rule("one/+"), rule("+/end"), rule("/lead"))
        client = await live.connect("c1")
        await denied_everywhere(
            client, "secret", "secret/", "secret//", "secret//x", "secret/x/", "one/", "/end", "/lead"
        )
        for topic in ("one", "one//", "/one/", "end", "//end", "lead", "//lead", "/secret"):
            assert await may_publish(client, topic), topic
        for topic_filter in ("/", "//", "/+/", "one//+"):
            assert await may_subscribe(client, topic_filter), topic_filter
        await denied_everywhere(client, "+//", "+/+", "+/", "/+", "one/#")


@pytest.mark.parametrize("level", [4, 5])
async def test_what_the_broker_says_of_itself(level: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live, rule("$SYS/#"), allow("#"))
        events = {"client_connected": True, "client_disconnected": True}
        change = {"sys_msg_interval": "5s", "sys_heartbeat_interval": "5s", "sys_event_messages": events}
        answer = await live.api.put("/configs/sys_topics", json=change)
        assert answer.status_code == 200, answer.text
        witness = await live.connect("w", username=WITNESS)
        await witness.subscribe("$SYS/#")
        client = await live.connect("c1", level=level)
        for topic_filter in (
            "$SYS/#",
            "$SYS/+/x",
            "$SYS/brokers",
            "$SYS/+/+/version",
            "$SYS/broker/+",
            "$SYS",
            "$SYS/+/#",
            "$share/g/$SYS/#",
            "$queue/$SYS/#",
            "$share/g/$SYS/brokers",
        ):
            assert not await may_subscribe(client, topic_filter), topic_filter
        for topic_filter in ("#", "+/#", "+/brokers", "+/+/+/version", "$share/g/#", "$share/g/+/brokers"):
            assert await may_subscribe(client, topic_filter), topic_filter
        await client.publish("$SYS/brokers", b"forged", 1)
        await client.publish("$delayed/1/$SYS/brokers", b"forged", 1)
        await trio.sleep(20)
        told = await arrived(witness)
        assert told
        assert all(payload != b"forged" for _, payload in told)
        assert [topic for topic, _ in await arrived(client) if topic.startswith("$")] == []
        await for_all(live, allow("$SYS/brokers/#"), rule("$SYS/#"))
        assert await may_subscribe(client, "$SYS/brokers/+")
        assert not await may_subscribe(client, "$SYS/+/x")
        assert not await may_subscribe(client, "$SYS/#")


async def test_a_rule_for_everything_leaves_dollar_topics(autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live, allow("#"), allow("+/brokers"), allow("eq $SYS"), no_match="deny")
        client = await live.connect("c1")
        await denied_everywhere(client, "$SYS/brokers", "$SYS/#", "$SYS/+", "$other/x", "$x")
        assert await may_subscribe(client, "$SYS")


async def test_rewriting_does_not_free_what_is_denied(autojump_clock: MockClock) -> None:
    """Rules are asked for the topic that the client named; it is not to be reached under another name of its choice."""
    async with running() as live:
        await guarded(live, rule("secret/#"))
        rewrites = [
            {"action": "all", "source_topic": "secret/#", "re": "^secret/(.+)$", "dest_topic": "open/$1"},
            {"action": "all", "source_topic": "of/+", "re": "^of/(.+)$", "dest_topic": "own/${clientid}/$1"},
            {"action": "all", "source_topic": "me/+", "re": "^me/(.+)$", "dest_topic": "${username}/$1"},
        ]
        assert (await live.api.put("/mqtt/topic_rewrite", json=rewrites)).status_code == 200
        witness = await live.connect("w", username=WITNESS)
        await witness.subscribe("#", 1)
        for name in ("+", "#", "secret", "secret/x", "../secret"):
            client = await live.connect(name, username=name)
            for topic in ("secret/x", "$delayed/1/secret/x", "secret/$1"):
                assert not await may_publish(client, topic)
            for topic in ("secret/x", "$share/g/secret/x", "$queue/secret/#", "secret/+"):
                assert not await may_subscribe(client, topic)
            if name in "+#":
                await may_subscribe(client, "of/x")
                await may_subscribe(client, "me/x")
            await witness.publish("own/other/x", b"hidden", 1)
            await witness.publish("other/x", b"hidden", 1)
            assert await arrived(client) == []
            await client.disconnect()


async def test_auto_subscribe_gives_nobody_the_topics_of_others(autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live, no_match="deny")
        topics = [{"topic": "c/${clientid}", "qos": 1}, {"topic": "u/${username}/#", "qos": 1}]
        assert (await live.api.put("/mqtt/auto_subscribe", json=topics)).status_code == 200
        witness = await live.connect("w", username=WITNESS)
        for name in ("+", "#", "a/+", "a/#", "$share/g/x"):
            client = await live.connect(name, username=name)
            for topic in ("c/other", "c/a/b", "u/other/1", "u/a/b", "c/x", "c/a/x"):
                await witness.publish(topic, b"hidden", 1)
            assert await arrived(client) == []
            assert not await may_subscribe(client, "c/other")
            await client.disconnect()


async def test_a_session_and_a_client_id_do_not_bring_rights(autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live, no_match="deny")
        await for_user(live, "ann", allow("secret/#"))
        ann = await live.connect("c1", username="ann", **KEPT)
        for _ in range(2):
            assert await may_publish(ann, "secret/x")
            assert await may_publish(ann, "secret/x", 2, retain=True)
        assert await may_subscribe(ann, "secret/y")
        assert (await cached(live, "c1"))["secret/x"] == "allow"
        bob = await live.connect("c1", username="bob", clean_start=False, **KEPT)  # takes it over
        assert bob.session_present
        await denied_everywhere(bob, "secret/x", "secret/y", "secret/#")
        await bob.disconnect()
        nobody = await live.connect("c1", clean_start=False, **KEPT)
        await denied_everywhere(nobody, "secret/x", "secret/y")
        await nobody.disconnect()
        ann = await live.connect("c1", username="ann", clean_start=False, **KEPT)
        assert await may_publish(ann, "secret/x")


async def test_a_resumed_session_asks_anew(autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live)
        await away(live, "c1", "news")
        await for_all(live, rule("news"), rule("secret/#"))
        client = await live.connect("c1", clean_start=False, **KEPT)
        assert client.session_present
        await denied_everywhere(client, "news", "secret/x")
        done(await live.api.post("/clients/c1/unsubscribe", json={"topic": "news"}))
        assert not await may_subscribe(client, "news")
        assert await got(live, "/clients/c1/subscriptions") == []


async def test_a_message_that_was_denied_is_not_freed_by_sending_it_again(autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live, rule("secret/x"))
        witness = await live.connect("w", username=WITNESS)
        await witness.subscribe("#", 2)
        client = await live.connect("c1", level=4, clean_start=False)
        await client.publish("secret/x", b"forged", 2, packet_identifier=7)
        for dup in (False, True):
            await client.publish("secret/x", b"forged", 2, packet_identifier=8, dup=dup)
            await client.publish("secret/x", b"forged", 1, packet_identifier=8, dup=dup)
        await client.drop()
        client = await live.connect("c1", level=4, clean_start=False)
        await client.publish("secret/x", b"forged", 2, packet_identifier=7, dup=True)
        assert await arrived(witness) == []


async def test_nobody_gets_in_between_the_change_of_two_rules(autojump_clock: MockClock) -> None:
    """While lists are replaced again and again, a topic that both forbid is never free."""
    async with running() as live:
        await guarded(live, rule("secret/#"))
        client = await live.connect("c1", username="u1")
        freed: list[int] = []
        over = trio.Event()

        async def attack() -> None:
            number = 0
            while not over.is_set():
                number += 1
                if await may_publish(client, "secret/x"):
                    freed.append(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(attack)
            for number in range(20):
                await for_all(live, allow(f"t/{number}"), rule("secret/#" if number % 2 else "secret/x"))
                await settings(live, "allow" if number % 3 else "deny", ttl=f"{number + 1}s")
                done(await live.api.delete("/authorization/cache"))
            over.set()
        assert freed == []
