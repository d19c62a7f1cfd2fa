"""The built-in rules in a broker: in force at once for those who are connected, and no way around them."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
import trio
from actors.flows import SESSION, payloads, rest, settle
from api.live import Live, running
from trio.testing import MockClock

from trio_broker.access.asking import Request, Subject
from trio_broker.actors.authz.built_in import COMPILED, BuiltInRules, RuleItem
from trio_broker.config import Config
from trio_broker.config.authorization import AuthorizationConfig, BuiltInSourceConfig
from trio_broker.config.features import DelayedConfig
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import PubAck, Will
from trio_broker.store.memory import MemoryStore
from trio_broker.store.operations import PutDocument
from trio_broker.testing import Client

RULES = "/authorization/sources/built_in_database/rules"
ALLOWED, DENIED = 0, 0x87


def rule(permission: str, action: str, topic: str, **more: Any) -> RuleItem:
    return msgspec.convert({"permission": permission, "action": action, "topic": topic, **more}, RuleItem)


@asynccontextmanager
async def with_rules(store: MemoryStore | None = None, **more: Any) -> AsyncIterator[tuple[Live, BuiltInRules]]:
    access = AuthorizationConfig(sources=(BuiltInSourceConfig(),), **more)
    async with running(Config(authorization=access, delayed=DelayedConfig(enable=True)), store) as live:
        yield live, cast(BuiltInRules, live.broker.questions.authorization_sources.one("built_in_database"))


async def published(client: Client, topic: str, **more: Any) -> int:
    answer = await client.publish(topic, b"x", 1, **more)
    assert isinstance(answer, PubAck)
    return answer.reason_code if answer.reason_code >= 0x80 else ALLOWED


async def subscribed(client: Client, topic_filter: str) -> int:
    reason_code = (await client.subscribe(topic_filter, qos=1)).reason_codes[0]
    return reason_code if reason_code >= 0x80 else ALLOWED


async def test_the_rules_of_the_client_come_first_then_the_users_then_those_for_all(
    autojump_clock: MockClock,
) -> None:
    async with with_rules() as (live, rules):
        client = await live.connect("c1", username="u1")
        other = await live.connect("c2")
        await rules.put("all", {"all": [rule("deny", "all", "t")]})
        assert [await published(one, "t") for one in (client, other)] == [DENIED, DENIED]
        await rules.put("username", {"u1": [rule("allow", "all", "t")]})
        assert [await published(one, "t") for one in (client, other)] == [ALLOWED, DENIED]
        await rules.put("clientid", {"c1": [rule("deny", "all", "t")]})
        assert [await published(one, "t") for one in (client, other)] == [DENIED, DENIED]
        assert await rules.remove("clientid", "c1")
        assert [await published(one, "t") for one in (client, other)] == [ALLOWED, DENIED]
        assert await rules.remove("username", "u1")
        assert await published(client, "t") == DENIED
        assert await rules.remove("all")
        assert [await published(one, "t") for one in (client, other)] == [ALLOWED, ALLOWED]
        assert not await rules.remove("all")
        await rules.put("all", {"all": [rule("deny", "all", "t")]})
        await rules.clear()
        assert await published(client, "t") == ALLOWED
        # Whom a change did not concern went on by what was decided before.
        assert (rules.figures.total, rules.figures.allow, rules.figures.deny) == (9, 2, 4)


@pytest.mark.parametrize("level", [4, 5])
async def test_a_change_over_rest_is_in_force_when_it_is_answered(autojump_clock: MockClock, level: int) -> None:
    async with with_rules() as (live, _):
        client = await live.connect("c1", username="u1", level=level)
        watcher = await live.connect("w")
        await watcher.subscribe("t/#", qos=1)
        assert (await client.subscribe("s/1", qos=1)).reason_codes == [1]
        await client.publish("t/1", b"before", 1)
        deny = [{"topic": "#", "permission": "deny", "action": "all"}]
        for path, body in (("users", {"username": "u1"}), ("clients", {"clientid": "c1"})):
            url = f"{RULES}/{path}/{next(iter(body.values()))}"
            assert (await live.api.put(url, json={**body, "rules": deny})).status_code == 204
            await client.publish("t/1", b"denied", 1)
            refused = [0x87 if level == 5 else 0x80]
            assert (await client.subscribe("s/2", qos=1)).reason_codes == refused
            assert (await client.subscribe("s/1", qos=1)).reason_codes == refused
            assert (await live.api.delete(url)).status_code == 204
            await client.publish("t/1", b"after", 1)
        assert (await live.api.post(f"{RULES}/all", json={"rules": deny})).status_code == 204
        await client.publish("t/1", b"denied", 1)
        assert payloads(await rest(watcher)) == [b"before", b"after", b"after"]
        # Who is subscribed stays so.
        await live.broker.publish("s/1", b"still")
        assert payloads(await rest(client)) == [b"still"]


async def test_a_change_for_one_leaves_the_cache_of_others(autojump_clock: MockClock) -> None:
    async with with_rules() as (live, rules):
        clients = [await live.connect(f"c{number}", username=f"u{number}") for number in range(3)]
        for client in clients:
            assert await published(client, "t") == ALLOWED
        asked = rules.figures.total
        await rules.put("clientid", {"c0": [rule("deny", "all", "t")], "nobody": []})
        await rules.put("username", {"u1": [rule("deny", "all", "t")]})
        assert [await published(client, "t") for client in clients] == [DENIED, DENIED, ALLOWED]
        assert rules.figures.total == asked + 2


async def test_rules_are_in_force_after_a_restart_for_sessions_that_come_back(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with with_rules(store) as (live, rules):
        client = await live.connect("c1", username="u1", properties=SESSION)
        assert await subscribed(client, "t/#") == ALLOWED
        await rules.put("username", {"u1": [rule("deny", "all", "t/#")]})
        assert await published(client, "t/1") == DENIED
    async with with_rules(store) as (live, _):
        client = await live.connect("c1", username="u1", properties=SESSION, clean_start=False)
        assert client.session_present
        assert await published(client, "t/1") == DENIED
        assert await subscribed(client, "t/+") == DENIED


SECRET = [rule("deny", "all", "secret/#"), rule("allow", "all", "#")]
AROUND = ["#", "+/#", "+/a", "secret/a", "secret/#", "secret/+", "secret", "+", "+/+", "secret/a/#"]


@pytest.mark.parametrize("share", ["", "$share/g/", "$queue/"])
async def test_no_filter_leads_to_what_is_denied(autojump_clock: MockClock, share: str) -> None:
    async with with_rules() as (live, rules):
        await rules.put("username", {"spy": SECRET})
        owner = await live.connect("owner")
        await owner.publish("secret/a", b"retained", 1, True)
        spy = await live.connect("spy", username="spy")
        for topic_filter in AROUND:
            assert await subscribed(spy, share + topic_filter) == DENIED, topic_filter
        assert await subscribed(spy, share + "open/#") == ALLOWED
        await owner.publish("secret/a", b"live", 1)
        await owner.publish("open/a", b"open", 1)
        assert payloads(await rest(spy)) == [b"open"]


async def test_dollar_topics_have_rules_of_their_own(autojump_clock: MockClock) -> None:
    async with with_rules(no_match="deny") as (live, rules):
        await rules.put("all", {"all": [rule("allow", "all", "#")]})
        client = await live.connect("c1")
        assert await subscribed(client, "#") == ALLOWED
        for topic_filter in ("$SYS/#", "$SYS/brokers", "$share/g/$SYS/#", "$other/#"):
            assert await subscribed(client, topic_filter) == DENIED, topic_filter
        await rules.put("clientid", {"c1": [rule("allow", "subscribe", "$SYS/#")]})
        assert await subscribed(client, "$share/g/$SYS/+") == ALLOWED


async def test_no_way_of_publishing_leads_around_a_rule(autojump_clock: MockClock) -> None:
    """Later, retained, as a will: it is the same topic."""
    async with with_rules() as (live, rules):
        await rules.put("username", {"spy": [rule("deny", "publish", "secret/#"), rule("allow", "all", "#")]})
        watcher = await live.connect("w")
        assert await subscribed(watcher, "#") == ALLOWED
        spy = await live.connect("spy", username="spy", will=Will("secret/will", b"x", 1))
        for topic in ("secret/a", "secret", "$delayed/1/secret/a"):
            assert await published(spy, topic) == DENIED, topic
            assert await published(spy, topic, retain=True) == DENIED, topic
        assert await published(spy, "$delayed/1/open") == ALLOWED
        await spy.drop()
        await settle()
        await trio.sleep(2)
        assert [message.topic_name for message in await rest(watcher)] == ["open"]
        assert await live.broker.questions.retained_message("secret/a") is None


async def test_a_rule_may_be_about_retained_messages_and_qos(autojump_clock: MockClock) -> None:
    async with with_rules() as (live, rules):
        await rules.put(
            "all", {"all": [rule("deny", "all", "t", qos=[1], retain=True), rule("deny", "all", "q", qos=[2])]}
        )
        client = await live.connect("c1")
        assert await published(client, "t") == ALLOWED
        assert await published(client, "t", retain=True) == DENIED
        assert (await client.subscribe("q", qos=2)).reason_codes == [DENIED]
        assert (await client.subscribe("q", qos=1)).reason_codes == [1]
        assert (await client.subscribe("t", qos=1)).reason_codes == [DENIED]  # retain is not looked at


@pytest.mark.parametrize("name", ["+", "#", "a/b", "$SYS", "+/#", "b", "\uff0b"])
async def test_a_client_cannot_name_itself_into_the_topics_of_others(autojump_clock: MockClock, name: str) -> None:
    async with with_rules(no_match="deny") as (live, rules):
        own = [rule("allow", "all", f"{text}/#") for text in ("of/${username}", "${username}", "id/${clientid}")]
        await rules.put("all", {"all": own})
        client = await live.connect(name, username=name)
        for topic_filter in ("of/a/#", "of/+/#", "of/#", "#", "+/#", "a/#", "a/b/#", "$SYS/#", "id/a/b", "of/a/b/#"):
            assert await subscribed(client, topic_filter) == DENIED, topic_filter
        for topic in ("of/a/b", "a/b", "id/a/b", "of/x", "of//x", "id"):
            assert await published(client, topic) == DENIED, topic
        plain = name in ("b", "\uff0b", "$SYS")
        assert (await published(client, f"of/{name}/x") == ALLOWED if plain else True) is True


async def test_a_user_without_a_name_has_no_topics(autojump_clock: MockClock) -> None:
    async with with_rules(no_match="deny") as (live, rules):
        await rules.put("all", {"all": [rule("allow", "all", "of/${username}/#")]})
        for name in (None, ""):
            client = await live.connect("c", username=name)
            for topic_filter in ("of/#", "of//#", "of/None/#", "of/+/#"):
                assert await subscribed(client, topic_filter) == DENIED


# -- the store ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ['"no json"', "7", "null", '[{"topic":"t"}]', '"[{\\"topic\\":\\"t\\"}]"', '{"a":1}'])
async def test_rules_that_cannot_be_read_close_what_they_are_about(
    autojump_clock: MockClock, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    async with with_rules(store):
        store.write(PutDocument("authz_username", "u1", body))
    async with with_rules(store) as (live, rules):
        with caplog.at_level(logging.ERROR):
            client = await live.connect("c1", username="u1")
            assert await published(client, "t") == DENIED
            assert await published(client, "$x") == DENIED
            assert await published(await live.connect("c2"), "t") == ALLOWED
        assert [record.message[:62] for record in caplog.records] == [
            "the rules of username 'u1' in the store cannot be read, so all"
        ]
        assert [item.permission for item in rules.items("username", "u1")] == ["deny"]
        await rules.put("username", {"u1": []})
        assert await published(client, "t") == ALLOWED


async def test_a_hundred_thousand_users_have_rules(autojump_clock: MockClock) -> None:
    """They are text until somebody asks about them; a page of them is made of its rows."""
    store = MemoryStore()
    text = json.dumps('[{"topic":"t/${username}/#","permission":"allow","action":"all"}]')
    async with with_rules(store):
        for number in range(100_000):
            store.write(PutDocument("authz_username", f"u{number:06}", text))
    async with with_rules(store, no_match="deny") as (live, rules):
        page = (await live.api.get(f"{RULES}/users", params={"page": 1000, "limit": 100})).json()
        assert page["meta"] == {"page": 1000, "limit": 100, "count": 100_000, "hasnext": False}
        assert page["data"][-1]["username"] == "u099999"
        like = (await live.api.get(f"{RULES}/users", params={"like_username": "9999"})).json()
        assert len(like["data"]) == 19
        client = await live.connect("c", username="u012345")
        assert await published(client, "t/u012345/a") == ALLOWED
        assert await published(client, "t/u012346/a") == DENIED
        request = Request("publish", "t/x")
        for number in range(COMPILED + 100):
            name = f"u{number:06}"
            assert rules.authorize(Subject(Origin("c", name), "c", name), request) is None
        assert len(rules._compiled) <= COMPILED
