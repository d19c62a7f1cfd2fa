"""The REST contract, read afresh: who decides, in which order, on what, and what a client hears of it."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
import trio
from api.live import Live, running
from review.contract import done, got
from review.rights import (
    RULES,
    SOURCES,
    TABLE,
    WITNESS,
    add_file,
    add_source,
    allow,
    arrived,
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

from trio_broker.protocol.packets import Publish, PubRec, Subscribe, SubscribeFilter
from trio_broker.store.memory import MemoryStore

SECRET = "0123456789abcdef0123456789abcdef"
LEVELS = pytest.mark.parametrize("level", [4, 5])


async def tokens(live: Live, **more: Any) -> None:
    """Clients have to bring a token from now on."""
    chain = {"mechanism": "jwt", "use_jwks": False, "algorithm": "hmac-based", "secret": SECRET, "from": "password"}
    answer = await live.api.post("/authentication", json=chain | more)
    assert answer.status_code == 200, answer.text


def token(**claims: Any) -> bytes:
    return jwt.encode({"sub": "x", **claims}, SECRET, algorithm="HS256").encode()


async def test_client_ids_are_asked_before_user_names_and_all(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        await settings(live, "deny")
        c1 = await live.connect("c1", username="u1")
        other = await live.connect("c2", username="u2")
        await for_all(live, rule("a"), allow("b"), allow("c"))
        await for_user(live, "u1", allow("a"), rule("b"), rule("d"))
        assert [await may_publish(c1, topic) for topic in "abcd"] == [True, False, True, False]
        await for_client(live, "c1", rule("a"), allow("b"), rule("c"), allow("e"))
        assert [await may_publish(c1, topic) for topic in "abcde"] == [False, True, False, False, True]
        assert [await may_publish(other, topic) for topic in "abcde"] == [False, True, True, False, False]
        done(await live.api.delete(f"{RULES}/clients/c1"))
        done(await live.api.delete(f"{RULES}/all"))
        assert [await may_publish(c1, topic) for topic in "abcde"] == [True, False, False, False, False]
        await for_user(live, "c1", allow("#"))
        await for_client(live, "u1", allow("#"))
        assert not await may_publish(c1, "e")


async def test_the_first_rule_that_holds_decides(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        await for_all(
            live,
            allow("t/1", "subscribe"),
            rule("t/1", qos=[2]),
            allow("t/1", "publish", retain=True),
            rule("t/1"),
            allow("t/1"),
            rule("t/+"),
            allow("#"),
        )
        c1 = await live.connect("c1")
        assert await may_subscribe(c1, "t/1", 2)
        assert not await may_publish(c1, "t/1", 2, retain=True)
        assert await may_publish(c1, "t/1", 1, retain=True)
        assert not await may_publish(c1, "t/1", 1)
        assert not await may_publish(c1, "t/2")
        assert await may_publish(c1, "t/2/3")


async def test_sources_are_asked_in_their_order(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        await add_file(live, '{deny, all, all, ["a"]}.', '{allow, all, all, ["b"]}.')
        await for_all(live, allow("a"), rule("b"), rule("c"))
        c1 = await live.connect("c1")
        assert [await may_publish(c1, topic) for topic in "abcd"] == [False, True, False, True]
        await settings(live, "deny")
        assert [await may_publish(c1, topic) for topic in "abcd"] == [False, True, False, False]
        done(await live.api.put(TABLE, json={"type": "built_in_database", "enable": False}))
        await settings(live, "allow")
        assert [await may_publish(c1, topic) for topic in "abcd"] == [False, True, True, True]


async def test_a_superuser_may_do_everything(autojump_clock: MockClock) -> None:
    async with running() as live:
        chain = {"mechanism": "password_based", "backend": "built_in_database"}
        assert (await live.api.post("/authentication", json=chain)).status_code == 200
        for name, power in (("root", True), ("user", False)):
            body = {"user_id": name, "password": "pw", "is_superuser": power}
            path = "/authentication/password_based:built_in_database/users"
            assert (await live.api.post(path, json=body)).status_code == 201
        await guarded(live, rule("#"), rule("$SYS/#"), no_match="deny")
        await settings(live, "deny", "disconnect")
        root = await live.connect("c1", username="root", password=b"pw")
        assert await may_publish(root, "t")
        assert await may_subscribe(root, "#")
        assert await may_subscribe(root, "$SYS/#")
        await settings(live, "deny")
        user = await live.connect("c2", username="user", password=b"pw")
        assert not await may_publish(user, "t")
        assert (await got(live, "/metrics"))[0]["authorization.superuser"] >= 3


async def test_rules_of_the_token_come_before_the_sources(autojump_clock: MockClock) -> None:
    async with running() as live:
        await tokens(live)
        await guarded(live, allow("a"), rule("b"), rule("c"))
        acl = [
            {"permission": "deny", "action": "publish", "topic": "a"},
            {"permission": "allow", "action": "publish", "topic": "b", "qos": [1], "retain": False},
        ]
        c1 = await live.connect("c1", username="u", password=token(acl=acl))
        assert [await may_publish(c1, topic) for topic in "abcd"] == [False, True, False, True]
        assert not await may_publish(c1, "b", 2)
        assert not await may_publish(c1, "b", 1, retain=True)
        assert await may_subscribe(c1, "a")
        root = await live.connect("c2", username="u", password=token(is_superuser=True))
        assert await may_publish(root, "c")


@pytest.mark.parametrize("kind", ["publish", "subscribe", "all"])
async def test_actions(kind: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live, rule("t", action=kind))
        c1 = await live.connect("c1")
        assert await may_publish(c1, "t") is (kind == "subscribe")
        assert await may_subscribe(c1, "t") is (kind == "publish")


async def test_qos_and_retain_are_conditions(autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(
            live,
            rule("q", qos=[1]),
            rule("r", retain=True),
            rule("n", retain=False),
            rule("qr", "deny", "publish", qos=[2], retain=True),
        )
        c1 = await live.connect("c1")
        assert [await may_subscribe(c1, "q", qos) for qos in (0, 1, 2)] == [True, False, True]
        assert [await may_publish(c1, "q", qos) for qos in (1, 2)] == [False, True]
        assert [await may_publish(c1, "r", 1, retain) for retain in (False, True)] == [True, False]
        assert [await may_publish(c1, "n", 1, retain) for retain in (False, True)] == [False, True]
        assert [await may_publish(c1, "qr", qos, True) for qos in (1, 2)] == [True, False]
        assert await may_publish(c1, "qr", 2)
        assert await may_subscribe(c1, "qr", 2)
        assert [await may_subscribe(c1, topic) for topic in ("r", "n")] == [False, False]


CONDITIONS = [
    ({"username_re": "^u"}, True),
    ({"username_re": "^1"}, False),
    ({"clientid_re": "1$"}, True),
    ({"clientid_re": "C"}, False),
    ({"clientid_re": "1$", "username_re": "^1"}, False),
    ({"ipaddr": "127.0.0.1"}, True),
    ({"ipaddr": "127.0.0.0/8"}, True),
    ({"ipaddr": "10.0.0.0/8"}, False),
    ({"ipaddr": "::1"}, False),
    ({"zone": "default"}, True),
    ({"zone": "other"}, False),
    ({"zone_re": "fault$"}, True),
    ({"zone_re": "^$"}, False),
    ({"listener": "memory:internal"}, True),
    ({"listener": "tcp:default"}, False),
    ({"listener_re": "^memory:"}, True),
    ({"listener_re": "^tcp:"}, False),
]


async def test_further_conditions(autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live)
        c1 = await live.connect("c1", username="u1")
        nameless = await live.connect("n1")
        for condition, holds in CONDITIONS:
            await for_all(live, rule("t", **condition))
            assert await may_publish(c1, "t") is not holds, condition
            assert await may_publish(nameless, "t") is not (holds and "username_re" not in condition), condition


async def test_eq_compares_literally(autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live, rule("eq t/#"), rule("eq k/+"), rule("eq plain"), rule("eq  two"))
        c1 = await live.connect("c1")
        for topic_filter, free in (
            ("t/#", False),
            ("t/1", True),
            ("t/+", True),
            ("#", True),
            ("k/+", False),
            ("k/#", True),
            ("plain", False),
        ):
            assert await may_subscribe(c1, topic_filter) is free, topic_filter
        assert not await may_publish(c1, "plain")
        assert await may_publish(c1, "t/1")


async def test_wildcards_of_subscriptions_and_rules(autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live, allow("t/#"), allow("k/+"), allow("a/+/c"), allow("+"), no_match="deny")
        c1 = await live.connect("c1")
        for topic_filter in ("t", "t/#", "t/+", "t/+/x/#", "k/+", "k/1", "a/+/c", "a/b/c", "x", "+", "/", "k/"):
            expected = topic_filter != "/"
            assert await may_subscribe(c1, topic_filter) is expected, topic_filter
        for topic_filter in ("#", "+/#", "k/#", "k", "a/#", "a/+/+", "k/+/+", "tt/1", "T/1", "$SYS"):
            expected = topic_filter == "k"
            assert await may_subscribe(c1, topic_filter) is expected, topic_filter


async def test_placeholders(autojump_clock: MockClock) -> None:
    async with running() as live:
        await tokens(live)
        topics = (
            "c/${clientid}/#",
            "u/${username}",
            "dev-${clientid}-${username}/x",
            "z/${zone}",
            "s/${client_attrs.site}/#",
            "n/${cert_common_name}",
            "eq e/${clientid}",
        )
        await guarded(live, *[allow(topic) for topic in topics], no_match="deny")
        c1 = await live.connect("c1", username="u1", password=token(client_attrs={"site": "berlin"}))
        may = ("c/c1", "c/c1/x", "u/u1", "dev-c1-u1/x", "z/default", "s/berlin/1")
        assert [topic for topic in may if not await may_publish(c1, topic)] == []
        not_ = ("c/c2/x", "c/${clientid}/x", "u/u2", "u/", "dev-c1-u2/x", "z/", "s/paris/1", "s/", "n/", "n/undefined")
        assert [topic for topic in not_ if await may_publish(c1, topic)] == []
        plain = await live.connect("c3", password=token())
        assert [
            topic for topic in ("u/", "u/undefined", "s//1", "s/undefined/1") if await may_publish(plain, topic)
        ] == []
        assert await may_publish(plain, "c/c3/x")


@LEVELS
async def test_what_a_denied_client_hears(level: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live, rule("no/#"))
        witness = await live.connect("w", username=WITNESS)
        await witness.subscribe("#", 2)
        c1 = await live.connect("c1", level=level)
        suback = await c1.subscribe([SubscribeFilter("a"), SubscribeFilter("no/1", 1), SubscribeFilter("b", 2)])
        assert suback.reason_codes == [0, 0x87 if level == 5 else 0x80, 2]
        assert len(await got(live, "/clients/c1/subscriptions")) == 2
        for qos in (0, 1, 2):
            answer = await c1.publish("no/2", b"x", qos, retain=True)
            if level == 5 and qos:
                assert answer is not None
                assert (type(answer), answer.reason_code) == (type(answer), 0x87)
                assert isinstance(answer, PubRec) is (qos == 2)
        await c1.publish("yes", b"x", 1)
        assert await arrived(witness) == [("yes", b"x")]
        assert (await live.api.get("/mqtt/retainer/message/no%2F2")).status_code == 404
        counted = (await got(live, "/metrics"))[0]
        assert (counted["packets.publish.auth_error"], counted["packets.subscribe.auth_error"]) == (3, 1)
        assert counted["authorization.deny"] == 4
        await c1.ping()
        assert c1.disconnected is None


@LEVELS
@pytest.mark.parametrize("what", ["publish 0", "publish 1", "publish 2", "subscribe 1"])
async def test_denied_clients_can_be_cut_off(level: int, what: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live, rule("no/#"))
        await settings(live, "allow", "disconnect")
        witness = await live.connect("w", username=WITNESS)
        await witness.subscribe("#", 2)
        c1 = await live.connect("c1", level=level)
        await c1.publish("yes", b"x", 1)
        kind, qos = what.split()
        if kind == "publish":
            await c1.send(Publish("no/1", b"x", int(qos), packet_identifier=7 if int(qos) else 0))
        else:
            await c1.send(Subscribe(7, [SubscribeFilter("no/1", int(qos))]))
        with trio.fail_after(60):
            ended = await c1.wait_ended()
        assert ended.how == ("disconnect" if level == 5 else "eof")
        if level == 5:
            assert ended.reason_code == 0x87
        assert await arrived(witness) == [("yes", b"x")]
        answer = await live.api.get("/clients/c1")
        assert answer.status_code == 404 or answer.json()["connected"] is False


async def test_changes_are_in_force_for_live_clients_at_once(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        c1 = await live.connect("c1", username="u1")
        old = await live.connect("c2", username="u1", level=4)

        async def may() -> tuple[bool, bool, bool]:
            return await may_publish(c1, "t"), await may_subscribe(c1, "t"), await may_subscribe(old, "t")

        free, shut = (True, True, True), (False, False, False)
        assert await may() == free
        await for_all(live, rule("t"))
        assert await may() == shut
        await for_user(live, "u1", allow("t"))
        assert await may() == free
        await for_client(live, "c1", rule("t"))
        assert await may() == (False, False, True)
        done(await live.api.delete(f"{RULES}/clients/c1"))
        assert await may() == free
        done(await live.api.delete(f"{RULES}/users/u1"))
        assert await may() == shut
        done(await live.api.put(TABLE, json={"type": "built_in_database", "enable": False}))
        assert await may() == free
        done(await live.api.put(TABLE, json={"type": "built_in_database", "enable": True}))
        assert await may() == shut
        done(await live.api.delete(f"{RULES}/all"))
        assert await may() == free
        done(await live.api.post(f"{RULES}/users", json=[{"username": "u1", "rules": [rule("t")]}]))
        assert await may() == shut
        done(await live.api.delete(f"{SOURCES}/built_in_database"))
        assert await may() == free


async def test_rules_decide_after_a_restart(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await guarded(live, allow("ok/${clientid}"), rule("file"), no_match="deny")
        await add_file(live, '{allow, {user, "u1"}, publish, ["file"]}.')
    async with running(store=store) as live:
        c1 = await live.connect("c1", username="u1")
        told = [await may_publish(c1, topic) for topic in ("ok/c1", "ok/c2", "file", "other")]
        assert told == [True, False, True, False]
        done(await live.api.delete(f"{SOURCES}/file"))
        assert not await may_publish(c1, "file")


@pytest.mark.parametrize("acl", [[{"permission": "allow", "action": "all", "topic": "t"}], {"all": ["t"]}])
async def test_what_is_kept_does_not_outlive_a_token(acl: Any, autojump_clock: MockClock) -> None:
    async with running() as live:
        await tokens(live, disconnect_after_expire=False)
        await settings(live, "deny", ttl="1h")
        c1 = await live.connect("c1", username="u", password=token(acl=acl, exp=time.time() + 30))
        assert await may_publish(c1, "t")
        assert await may_subscribe(c1, "t")
        await trio.sleep(35)
        assert not await may_publish(c1, "t")
        assert not await may_subscribe(c1, "t")


async def test_of_those_who_add_the_same_at_once_one_succeeds(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        told: list[int] = []

        async def add(number: int) -> None:
            body = [{"username": f"u{number}", "rules": []}, {"username": "same", "rules": [rule(f"t/{number}")]}]
            told.append((await live.api.post(f"{RULES}/users", json=body)).status_code)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(add, number)
        assert sorted(told) == [204, 409, 409, 409, 409]
        assert len((await got(live, f"{RULES}/users"))["data"]) == 2
