"""The authorization sources of the configuration: whose word counts, and what changes for those who are connected."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio
from actors.fake_access import Script, fakes
from actors.flows import SESSION, end_of, rest, settle, take
from api.live import Live, running
from trio.testing import MockClock

from trio_broker.access.asking import Request, Subject
from trio_broker.actors import authorizing
from trio_broker.config import Config, to_dict
from trio_broker.config.authorization import (
    AuthorizationCacheConfig,
    AuthorizationConfig,
    BuiltInSourceConfig,
    FileSourceConfig,
    HttpSourceConfig,
)
from trio_broker.errors import AskTimeout, ConfigError
from trio_broker.protocol.packets import PubAck, PubComp, PubRec, Will
from trio_broker.testing import Client

RULES = BuiltInSourceConfig()
FILE = FileSourceConfig()
WEB = HttpSourceConfig(url="http://127.0.0.1:1/")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    return fakes(monkeypatch)


def authorization(*sources: Any, **changes: Any) -> Config:
    return Config(authorization=AuthorizationConfig(sources=sources, **changes))


def plain(*sources: Any) -> dict[str, Any]:
    """A change of the settings that makes these the sources."""
    return {"authorization": {"sources": to_dict(authorization(*sources))["authorization"]["sources"]}}


async def published(client: Client, topic: str = "t", qos: int = 1) -> int:
    """The reason code of what answers it."""
    answer = await client.publish(topic, b"x", qos)
    assert isinstance(answer, PubAck | PubRec | PubComp)
    return int(answer.reason_code)


async def subscribed(client: Client, topic_filter: str) -> int:
    return int((await client.subscribe(topic_filter, qos=1)).reason_codes[0])


ALLOWED, DENIED = 0x10, 0x87


@pytest.mark.parametrize("no_match", ["allow", "deny"])
async def test_whose_word_counts(script: Script, no_match: str) -> None:
    """The first of the enabled ones that has an opinion; where none has, `no_match`."""
    async with running(authorization(no_match=no_match)) as live:
        client = await live.connect("c")
        for first, second in itertools.product((True, False, None), repeat=2):
            for enabled in itertools.product((True, False), repeat=2):
                script.decisions.update(
                    file=lambda *_, word=first: word,
                    built_in_database=lambda *_, word=second: word,
                )
                tables = plain(FILE, RULES)["authorization"]["sources"]
                for table, enable in zip(tables, enabled, strict=True):
                    table["enable"] = enable
                await live.broker.questions.settings.change({"authorization": {"sources": tables}})
                said = [word for word, enable in zip((first, second), enabled, strict=True) if enable]
                decided = next((word for word in said if word is not None), no_match == "allow")
                assert await published(client) == (ALLOWED if decided else DENIED), (first, second, enabled)


async def test_who_was_free_until_now_obeys_at_once(script: Script) -> None:
    """A client that was connected before there were any rules; one that is away finds them when it comes back."""
    script.decisions["file"] = lambda subject, request: request.topic.startswith(subject.client_id)
    async with running() as live:
        c1 = await live.connect("c1")
        assert [await published(c1), await subscribed(c1, "t")] == [ALLOWED, 1]
        await live.broker.questions.settings.change(plain(FILE))
        assert [await published(c1), await subscribed(c1, "u")] == [DENIED, DENIED]
        assert [await published(c1, "c1/a"), await subscribed(c1, "c1/#")] == [ALLOWED, 1]
        c2 = await live.connect("c2")
        assert [await published(c2, "t"), await published(c2, "c2")] == [DENIED, ALLOWED]
        await live.broker.questions.settings.change(plain())
        assert [await published(c1, "u"), await published(c2, "u")] == [ALLOWED, ALLOWED]


async def test_figures_and_rates(script: Script, autojump_clock: MockClock) -> None:
    words = {"a": True, "d": False}
    script.decisions["file"] = lambda subject, request: words.get(request.topic)
    async with running(authorization(FILE, RULES)) as live:
        client = await live.connect("c")
        for topic in ("a", "d", "n", "a"):
            await published(client, topic)
        sources = live.broker.questions.authorization_sources
        rates = {"rate": 0.6, "rate_last5m": 0.6, "rate_max": 0.6}
        counts = {"total": 3, "allow": 1, "deny": 1, "nomatch": 1, "ignore": 0}
        status = sources.status("file")
        assert status.metrics == {**counts, **rates}
        assert (status.type, status.enable, status.status, status.resource_metrics) == ("file", True, "connected", {})
        assert sources.status("built_in_database").metrics["total"] == 1
        await trio.sleep(20)
        assert sources.status("file").metrics.items() >= {"rate": 0.0, "rate_max": 0.6}.items()
        assert [status.type for status in sources.statuses()] == ["file", "built_in_database"]
        await live.broker.questions.settings.change(plain(RULES, FileSourceConfig(enable=False)))
        assert [(status.type, status.status) for status in sources.statuses()] == [
            ("built_in_database", "connected"),
            ("file", "disconnected"),
        ]
        assert sources.status("built_in_database").metrics["total"] == 1
        assert sources.status("file").metrics["total"] == 0


async def test_their_lives(script: Script) -> None:
    async with running(authorization(FILE, BuiltInSourceConfig(enable=False))) as live:
        settings = live.broker.questions.settings
        assert script.life() == [("start", "file")]
        await settings.change(plain(RULES, FILE))
        assert script.life() == [("start", "built_in_database"), ("close", "built_in_database")]
        await settings.change({"authorization": {"no_match": "deny"}})
        assert script.life() == []
        script.refuses_to_start.add("http")
        with pytest.raises(ConfigError):
            await settings.change(plain(WEB))
        assert script.life() == [("close", "http")]
        assert live.broker.questions.authorization_sources.names == ["built_in_database", "file"]
    assert script.life() == [("close", "built_in_database"), ("close", "file")]


async def test_a_change_that_cannot_be_told_to_all_is_taken_back(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who were told go by the old rules again."""
    script.decisions["file"] = lambda *_: False
    refresh = authorizing.refresh
    faults = [AskTimeout("busy"), AskTimeout("busy")]

    async def refresh_and_fail(core: Any) -> None:
        await refresh(core)
        if faults:
            raise faults.pop()

    async with running(authorization(FILE)) as live:
        client = await live.connect("c")
        monkeypatch.setattr(authorizing, "refresh", refresh_and_fail)
        with pytest.raises(AskTimeout):
            await live.broker.questions.settings.change(plain())
        await settle()
        assert faults == []
        assert await published(client) == DENIED
        assert live.broker.questions.settings.config.authorization.sources == (FILE,)


# -- what a client that does what it may not gets


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_publish_that_cuts_off(script: Script, autojump_clock: MockClock, level: int, qos: int) -> None:
    script.decisions["file"] = lambda *_: False
    async with running(authorization(FILE)) as live:
        await live.broker.questions.settings.change({"authorization": {"deny_action": "disconnect"}})
        client = await live.connect("c", level=level)
        await client.send_bytes(_publish_frame(level, qos))
        ended = await end_of(client)
        assert ended.reason_code == (DENIED if level == 5 else None)


def _publish_frame(level: int, qos: int) -> bytes:
    body = b"\0\1t" + (b"\0\1" if qos else b"") + (b"\0" if level == 5 else b"") + b"x"
    return bytes([0x30 | qos << 1, len(body)]) + body


@pytest.mark.parametrize("level", [4, 5])
async def test_a_subscribe_that_cuts_off(script: Script, autojump_clock: MockClock, level: int) -> None:
    script.decisions["file"] = lambda subject, request: request.topic != "no"
    async with running(authorization(FILE, deny_action="disconnect")) as live:
        client = await live.connect("c", level=level)
        assert await subscribed(client, "yes") == 1
        body = b"\0\2" + (b"\0" if level == 5 else b"") + b"\0\2no\0"
        await client.send_bytes(bytes([0x82, len(body)]) + body)
        assert (await end_of(client)).reason_code == (DENIED if level == 5 else None)


async def test_ignoring_goes_on(script: Script) -> None:
    """`deny_action = "ignore"`: QoS 0 is dropped, QoS 1 and 2 and SUBSCRIBE are answered."""
    script.decisions["file"] = lambda subject, request: request.topic == "yes"
    async with running(authorization(FILE)) as live:
        client = await live.connect("c")
        assert await subscribed(client, "yes") == 1
        await client.publish("no", b"x")
        assert [await published(client, "no", 1), await published(client, "no", 2)] == [DENIED, DENIED]
        assert await subscribed(client, "no") == DENIED
        assert await published(client, "yes", 1) == 0
        assert [message.topic_name for message in await take(client)] == ["yes"]
        old = await live.connect("old", level=4)
        assert await subscribed(old, "no") == 0x80
        assert await published(old, "no", 1) == 0


async def test_what_is_asked(script: Script) -> None:
    """QoS and RETAIN of a PUBLISH; a filter without `$share/NAME/`."""
    async with running(authorization(FILE)) as live:
        client = await live.connect("c")
        await client.publish("t", b"x", 1, True)
        await client.subscribe("$share/g/a/#", qos=2)
        assert [request for _, request in script.asked] == [
            Request("publish", "t", 1, True),
            Request("subscribe", "a/#", 2),
        ]


@pytest.mark.parametrize(("allowed", "count"), [(True, 1), (False, 0)])
async def test_a_will_is_judged_when_it_goes_out(script: Script, allowed: bool, count: int) -> None:
    async with running() as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe("w", qos=1)
        client = await live.connect("c", will=Will("w", b"gone", 1, True))
        script.decisions["file"] = lambda *_: allowed
        await live.broker.questions.settings.change(plain(FILE))
        await client.drop()
        assert len(await rest(watcher)) == count
        assert script.asked == [("file", Request("publish", "w", 1, True))]


# -- what is kept


async def kept(live: Live, client_id: str = "c") -> list[tuple[Request, bool]]:
    rows = await live.broker.questions.client_decisions(client_id)
    assert rows is not None
    return [(asked, allowed) for asked, allowed, _ in rows]


async def asked(script: Script, client: Client, topic: str) -> int:
    """How many questions a PUBLISH leads to."""
    script.asked.clear()
    await published(client, topic)
    return len(script.asked)


async def test_a_decision_is_kept_for_its_time(script: Script, autojump_clock: MockClock) -> None:
    cache = AuthorizationCacheConfig(ttl=10.0)
    async with running(authorization(FILE, cache=cache)) as live:
        client = await live.connect("c", properties=SESSION)
        assert [await asked(script, client, "t") for _ in range(2)] == [1, 0]
        await trio.sleep(9)
        assert await asked(script, client, "t") == 0
        await trio.sleep(1.5)
        assert await kept(live) == []
        assert await asked(script, client, "t") == 1
        await client.disconnect()
        await settle()
        assert await kept(live) == []


async def test_the_oldest_goes_when_there_are_too_many(script: Script) -> None:
    cache = AuthorizationCacheConfig(max_size=2)
    async with running(authorization(FILE, cache=cache)) as live:
        client = await live.connect("c")
        assert [await asked(script, client, topic) for topic in ("a", "b", "c", "a", "c")] == [1, 1, 1, 1, 0]
        assert await kept(live) == [(Request("publish", "c", 1), True), (Request("publish", "a", 1), True)]


async def test_what_is_not_to_be_kept(script: Script) -> None:
    cache = AuthorizationCacheConfig(excludes=("t/#",))
    async with running(authorization(FILE, cache=cache)) as live:
        client = await live.connect("c")
        assert [await asked(script, client, topic) for topic in ("t/1", "t/1", "u", "u")] == [1, 1, 1, 0]


async def test_nothing_is_kept_where_that_is_off(script: Script) -> None:
    cache = AuthorizationCacheConfig(enable=False)
    async with running(authorization(FILE, cache=cache)) as live:
        client = await live.connect("c")
        assert [await asked(script, client, "t") for _ in range(2)] == [1, 1]


async def test_settings_of_what_is_kept_change_at_once(script: Script) -> None:
    async with running(authorization(FILE)) as live:
        client = await live.connect("c")
        assert [await asked(script, client, "t") for _ in range(2)] == [1, 0]
        await live.broker.questions.settings.change({"authorization": {"cache": {"enable": False}}})
        assert [await asked(script, client, "t") for _ in range(2)] == [1, 1]


async def test_what_is_kept_is_forgotten_when_it_is_told(script: Script) -> None:
    word = {"now": True}
    script.decisions["file"] = lambda subject, request: word["now"]
    async with running(authorization(FILE)) as live:
        questions = live.broker.questions
        clients = [await live.connect(client_id) for client_id in ("c", "d")]
        assert [await published(client) for client in clients] == [ALLOWED, ALLOWED]
        word["now"] = False
        assert await questions.forget_client_decisions("c")
        assert [await published(client) for client in clients] == [DENIED, ALLOWED]
        await questions.authorization_sources.forget_decisions()
        assert [await published(client) for client in clients] == [DENIED, DENIED]
        assert not await questions.forget_client_decisions("nobody")
        assert await questions.client_decisions("nobody") is None


async def test_who_is_asked_about(script: Script) -> None:
    seen: list[Subject] = []

    def decide(subject: Subject, request: Request) -> None:
        seen.append(subject)

    script.decisions["file"] = decide
    async with running(authorization(FILE)) as live:
        client = await live.connect("c", username="u")
        await published(client)
        assert [(who.client_id, who.username, who.peer_host, who.listener) for who in seen] == [
            ("c", "u", "127.0.0.1", "memory:internal")
        ]
