"""Attacks on the rules that a client brings in its token, and on sources that cannot be asked."""

from __future__ import annotations

from typing import Any

import jwt
import trio
from api.live import Live, running
from review.contract import got
from review.rights import (
    SOURCES,
    WITNESS,
    add_source,
    allow,
    arrived,
    for_all,
    guarded,
    may_publish,
    may_subscribe,
    rule,
    settings,
)
from trio.testing import MockClock

from trio_broker.protocol.packets import PubAck, PubComp, Publish, PubRec, PubRel
from trio_broker.testing import Client

SECRET = "0123456789abcdef0123456789abcdef"
MALFORMED: list[Any] = [
    "x",
    1,
    ["t"],
    {"pub": "t"},
    {"pub": [1]},
    {"pub": ["t/#/x"]},
    {"pub": ["t/${nonsense}"]},
    {"nonsense": ["t"]},
    [{"permission": "deny"}],
    [{"permission": "DENY", "action": "publish", "topic": "t"}],
    [{"permission": "deny", "action": "write", "topic": "t"}],
    [{"permission": "deny", "action": "publish", "topic": "t/#/x"}],
    [{"permission": "deny", "action": "publish", "topic": "t", "qos": [7]}],
    [{"permission": "deny", "action": "publish", "topic": "t", "retain": "maybe"}],
]


async def tokens(live: Live) -> None:
    chain = {"mechanism": "jwt", "use_jwks": False, "secret": SECRET, "from": "password"}
    answer = await live.api.post("/authentication", json=chain)
    assert answer.status_code == 200, answer.text


async def with_token(live: Live, client_id: str, username: str | None = None, **claims: Any) -> Client:
    password = jwt.encode({"sub": "x", **claims}, SECRET, algorithm="HS256").encode()
    return await live.connect(client_id, username=username, password=password)


async def test_rules_that_are_not_understood_free_nobody(autojump_clock: MockClock) -> None:
    async with running() as live:
        await tokens(live)
        for acl in MALFORMED:
            client = await with_token(live, "c1", acl=acl)
            assert client.connack.reason_code or not await may_publish(client, "t"), acl


async def test_names_are_no_wildcards_in_rules_of_tokens(autojump_clock: MockClock) -> None:
    async with running() as live:
        await tokens(live)
        acl = {"all": ["room/${username}/#", "${clientid}/x", "eq e/${username}", "s/${client_attrs.site}/#"]}
        rules = [{"permission": "allow", "action": "all", "topics": acl["all"]}]
        await settings(live, "deny")
        for name in ("+", "#", "a/+", "a/b", "/", "$SYS", ""):
            brought: Any
            for brought in (acl, rules):
                client = await with_token(live, name, name, acl=brought, client_attrs={"site": name})
                others = [
                    "room/other/1",
                    "room/+/1",
                    "room/#",
                    "other/x",
                    "+/x",
                    "#",
                    "e/+",
                    "e/#",
                    "e/other",
                    "$SYS/x",
                ]
                others += ["s/other/1", "s/+/1", "s/#", "s//1", "e/+", "e/#", "e/other"]
                assert [one for one in others if await may_subscribe(client, one)] == [], name
                names = [one for one in others if not set(one) & {"+", "#"}]
                assert [one for one in names if await may_publish(client, one)] == [], name


async def test_wildcards_in_rules_of_tokens(autojump_clock: MockClock) -> None:
    async with running() as live:
        await tokens(live)
        client = await with_token(live, "c1", acl={"sub": ["t/+", "k/#"], "pub": ["p"]})
        for one in ("t/#", "#", "t/+/+", "$share/g/t/#", "$queue/#", "p", "$SYS/#"):
            assert not await may_subscribe(client, one), one
        for one in ("t/+", "t/1", "k", "k/#", "$share/g/k/+"):
            assert await may_subscribe(client, one), one
        for one in ("t/1", "k", "$delayed/1/k", "p/", "$SYS/p"):
            assert not await may_publish(client, one), one
        assert await may_publish(client, "$delayed/1/p")
        acl = [{"permission": "deny", "action": "subscribe", "topic": "t/secret"}]
        client = await with_token(live, "c2", acl=acl)
        for one in ("t/secret", "t/+", "#", "+/secret", "$share/g/t/#"):
            assert not await may_subscribe(client, one), one
        assert await may_subscribe(client, "t/other")


async def test_a_token_of_somebody_else_is_of_no_use_after_a_takeover(autojump_clock: MockClock) -> None:
    async with running() as live:
        await tokens(live)
        await settings(live, "deny", ttl="1h")
        mighty = await with_token(live, "c1", "ann", is_superuser=True)
        assert await may_publish(mighty, "t")
        rich = await with_token(live, "c1", "bob", acl={"all": ["t"]})
        assert await may_publish(rich, "t")
        assert not await may_publish(rich, "x")
        poor = await with_token(live, "c1", "bob")
        assert not await may_publish(poor, "t")
        assert not await may_subscribe(poor, "t")


async def test_a_source_that_cannot_be_asked_has_no_opinion(autojump_clock: MockClock) -> None:
    """And does not stand in the way of the next one."""
    async with running() as live:
        await add_source(live, "built_in_database")
        await for_all(live, rule("secret/#"), allow("open"))
        await add_source(live, "http", method="get", url="http://127.0.0.1:9/acl")
        client = await live.connect("c1")
        assert not await may_publish(client, "secret/x")
        assert await may_publish(client, "open")
        await settings(live, "deny")
        assert not await may_publish(client, "other")
        counted = (await got(live, f"{SOURCES}/http/status"))["metrics"]
        assert (counted["total"], counted["ignore"]) == (3, 3)


async def test_releasing_a_message_that_was_refused(autojump_clock: MockClock) -> None:
    async with running() as live:
        await guarded(live, rule("secret/x"))
        witness = await live.connect("w", username=WITNESS)
        await witness.subscribe("#", 2)
        for level in (4, 5):
            client = await live.connect("c1", level=level)
            await client.send(Publish("secret/x", b"forged", 2, packet_identifier=7))
            with trio.fail_after(60):
                refused = await client.expect(PubRec)
                assert refused.reason_code == (0x87 if level == 5 else 0)
                await client.send(PubRel(7))
                assert (await client.expect(PubComp)).packet_identifier == 7
                await client.send(Publish("open", b"fine", 1, packet_identifier=7))
                assert (await client.expect(PubAck)).packet_identifier == 7
        assert await arrived(witness) == [("open", b"fine"), ("open", b"fine")]


async def test_secrets_for_a_web_service_are_shown_to_nobody(autojump_clock: MockClock) -> None:
    """Neither in headers nor in the body; what is filled in for clients is no secret."""
    async with running() as live:
        headers = {"authorization": "Bearer hush-1", "x-api-key": "hush-2"}
        body = {"password": "hush-3", "secret": "hush-4", "token": "hush-5", "who": "${username}"}
        url = "http://127.0.0.1:9/acl"
        await add_source(live, "http", method="post", url=url, headers=headers, body=body, ssl={"password": "hush-6"})
        for path, accept in (
            (SOURCES, "application/json"),
            (f"{SOURCES}/http", "application/json"),
            ("/configs", "application/json"),
            ("/configs", "text/plain"),
        ):
            answer = await live.api.get(path, headers={"accept": accept}, auth=live.as_viewer())
            assert answer.status_code == 200
            assert "${username}" in answer.text
            assert [number for number in range(1, 7) if f"hush-{number}" in answer.text] == [], path
