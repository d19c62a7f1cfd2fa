"""Ways around a rule, rights that outlive what gave them, and what one client may cost the others."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any
from weakref import ref

import pytest
import trio
from actors.fake_access import Script, fakes
from actors.flows import SESSION, end_of, joined, rest, settle
from api.live import Live, running
from trio.testing import MockClock

from trio_broker.access.asking import Request, Subject
from trio_broker.access.authentication import Verdict
from trio_broker.access.authorization import DECISIONS_A_STEP
from trio_broker.access.rule_topics import RuleTopic
from trio_broker.access.rules import Rule, RuleSet
from trio_broker.actors import authorizing, search
from trio_broker.actors.connection import Connection
from trio_broker.actors.core import Core
from trio_broker.actors.trace_marks import ConnectionTrace
from trio_broker.config import Config
from trio_broker.config.authentication import JwtConfig
from trio_broker.config.authorization import (
    AuthorizationCacheConfig,
    AuthorizationConfig,
    BuiltInSourceConfig,
    HttpSourceConfig,
)
from trio_broker.config.listeners import SslOptions
from trio_broker.listeners import tls_files
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import Connect, Publish, SubAck, Subscribe, SubscribeFilter, Will
from trio_broker.store.memory import MemoryStore
from trio_broker.store.ticket import DONE, Ticket
from trio_broker.testing import Client, ConnectionEnded, open_client

WEB = HttpSourceConfig(url="http://127.0.0.1:1/")
RULES = BuiltInSourceConfig()
JWT = JwtConfig(secret="x" * 32)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """The web service takes a second for each answer."""
    script = fakes(monkeypatch)
    script.takes["http"] = 1
    script.verdicts["jwt"] = lambda _: Verdict()
    return script


def config(*sources: Any, **changes: Any) -> Config:
    return Config(authentication=(JWT,), authorization=AuthorizationConfig(sources=sources, **changes))


def core_of(live: Live) -> Core:
    core = live.broker._core
    assert core is not None
    return core


def connection_of(live: Live) -> Connection:
    """Of the only client there is."""
    (actor,) = core_of(live).manager._actors.values()
    assert actor.connection is not None
    return actor.connection


async def end(live: Live, client: Client, dropped: bool) -> None:
    """The client goes first, or the broker does."""
    if dropped:
        await client.drop()
        await settle()
    else:
        live.broker.close()
        await client.wait_ended()


async def watcher_of(live: Live, *filters: str) -> Any:
    watcher = await live.connect("watcher")
    for topic_filter in filters:
        await watcher.subscribe(topic_filter, qos=1)
    return watcher


# -- wills ------------------------------------------------------------------------------------------------------------


async def test_a_will_goes_by_the_rights_of_who_left_it(script: Script, autojump_clock: MockClock) -> None:
    """Not by those of who took the session over while the source was asked."""
    script.decisions["http"] = lambda subject, request: subject.username == "boss" or request.action == "subscribe"
    async with running(config(WEB)) as live:
        watcher = await watcher_of(live, "w")
        await live.connect("c", username="guest", will=Will("w", b"mine"), properties=SESSION)
        boss = await live.connect("c", username="boss", clean_start=False, properties=SESSION)
        assert boss.session_present
        await trio.sleep(5)
        assert await rest(watcher) == []


@pytest.mark.parametrize("dropped", [True, False])
async def test_own_rules_hold_for_a_will_after_a_restart(
    script: Script, autojump_clock: MockClock, dropped: bool
) -> None:
    """The token is gone with the broker: what it forbids is not kept."""
    script.verdicts["jwt"] = lambda who: Verdict(rules=RuleSet.nothing()) if who.client_id == "c" else Verdict()
    store = MemoryStore()
    will = Will("w", b"mine", properties={"will_delay_interval": 60})
    async with running(config(), store) as live:
        client = await live.connect("c", will=will, properties=SESSION)
        await end(live, client, dropped)
    async with running(config(), store) as live:
        watcher = await watcher_of(live, "w")
        assert await live.broker.questions.client("c") is not None
        await trio.sleep(100)
        assert await rest(watcher) == []


@pytest.mark.parametrize("dropped", [True, False])
async def test_a_rule_about_where_a_client_came_from_holds_after_a_restart(
    script: Script, autojump_clock: MockClock, dropped: bool
) -> None:
    script.decisions["built_in_database"] = lambda subject, request: (
        False if subject.listener and request.action == "publish" else None
    )
    store = MemoryStore()
    will = Will("w", b"mine", properties={"will_delay_interval": 60})
    async with running(config(RULES), store) as live:
        await end(live, await live.connect("c", will=will, properties=SESSION), dropped)
    async with running(config(RULES), store) as live:
        watcher = await watcher_of(live, "w")
        await trio.sleep(100)
        assert await rest(watcher) == []


@pytest.mark.parametrize("dropped", [True, False])
async def test_a_will_that_may_go_out_does_so_after_a_restart(
    script: Script, autojump_clock: MockClock, dropped: bool
) -> None:
    script.decisions["http"] = lambda subject, request: True
    store = MemoryStore()
    will = Will("w", b"mine", properties={"will_delay_interval": 60})
    async with running(config(RULES, WEB), store) as live:
        await end(live, await live.connect("c", will=will, properties=SESSION), dropped)
    async with running(config(RULES, WEB), store) as live:
        watcher = await watcher_of(live, "w")
        await trio.sleep(100)
        assert [message.payload for message in await rest(watcher)] == [b"mine"]


# -- a source that has to be waited for -------------------------------------------------------------------------------


async def test_nothing_is_kept_of_what_needed_no_waiting(script: Script, autojump_clock: MockClock) -> None:
    """A superuser subscribes to ever new filters: there is no list of them."""
    script.verdicts["jwt"] = lambda _: Verdict(superuser=True)
    async with running(config(WEB)) as live:
        client = await live.connect("c")
        for number in range(50):
            await client.subscribe(f"t/{number}", qos=1)
        decisions = connection_of(live).decisions
        assert decisions is not None
        assert len(decisions.answers) == 0


async def test_a_program_may_change_its_mind_beside_such_a_source(script: Script, autojump_clock: MockClock) -> None:
    class Program:
        allows = True

        def authorize(self, client: Origin, action: str, topic: str) -> bool:
            return self.allows

    async with running(config(WEB)) as live:
        program = core_of(live).authorization.authorizer = Program()
        client = await live.connect("c")
        assert (await client.subscribe("t", qos=1)).reason_codes == [1]
        program.allows = False
        await trio.sleep(100)  # longer than the cache keeps it
        assert (await client.subscribe("t", qos=1)).reason_codes == [0x87]


async def test_a_subscribe_with_more_filters_than_the_cache_has_room(script: Script, autojump_clock: MockClock) -> None:
    """What was kept at first, and was pushed out by the other answers, is not asked for in turns for ever."""
    script.decisions["http"] = lambda subject, request: True
    async with running(config(WEB, cache=AuthorizationCacheConfig(max_size=4))) as live:
        client = await live.connect("c")
        await client.send(Subscribe(1, [SubscribeFilter(f"t/{number}", qos=1) for number in range(3)]))
        await client.expect(SubAck)
        await client.send(Subscribe(2, [SubscribeFilter(f"t/{number}", qos=1) for number in range(8)]))
        with trio.fail_after(60):
            assert (await client.expect(SubAck)).reason_codes == [1] * 8
        assert len(script.asked) <= 11


@pytest.mark.parametrize("how", ["publish", "subscribe", "will"])
async def test_a_fault_behind_it_ends_one_client_alone(
    script: Script, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    def decide(subject: Any, request: Any) -> bool | None:
        if request.topic == "bad":
            raise ZeroDivisionError
        return True

    script.decisions["built_in_database"] = decide
    async with running(config(WEB, RULES)) as live:
        watcher = await watcher_of(live, "bad", "t") if how == "none" else await watcher_of(live, "t")
        client = await live.connect("c", will=Will("bad", b"x") if how == "will" else None)
        if how == "publish":
            await client.send(Publish("bad", b"x", 1, packet_identifier=1))
        elif how == "subscribe":
            await client.send(Subscribe(1, [SubscribeFilter("bad")]))
        else:
            await client.drop()
        if how != "will":
            assert (await end_of(client)).reason_code == 0x83
        await trio.sleep(5)
        await watcher.publish("t", b"on", 1)
        assert [message.payload for message in await rest(watcher)] == [b"on"]
    assert "ZeroDivisionError" in caplog.text


async def test_who_writes_all_it_has_to_say_and_hangs_up_is_heard(script: Script, autojump_clock: MockClock) -> None:
    script.takes["jwt"] = 1
    script.decisions["http"] = lambda subject, request: True
    async with running(config(WEB)) as live:
        watcher = await watcher_of(live, "t/#")
        client = await live.connect("c", connect=False)
        messages = [Publish(f"t/{number}", b"x", 0) for number in range(3)]
        await client.send_bytes(joined(5, Connect("c"), *messages))
        await client.stream.aclose()
        await trio.sleep(10)
        assert [message.topic_name for message in await rest(watcher)] == ["t/0", "t/1", "t/2"]
        assert await live.broker.questions.client("c") is None


async def test_nobody_is_asked_for_a_client_that_is_gone(script: Script, autojump_clock: MockClock) -> None:
    script.decisions["http"] = lambda subject, request: True
    async with running(config(WEB)) as live:
        client = await live.connect("c")
        await client.send(Subscribe(1, [SubscribeFilter(f"t/{number}") for number in range(20)]))
        await trio.sleep(1.5)
        assert await live.broker.questions.kick("c")
        await trio.sleep(30)
        assert len(script.asked) <= 2


# -- what one client may cost the others ------------------------------------------------------------------------------


async def test_many_topics_at_once_are_looked_up_in_turns(script: Script, autojump_clock: MockClock) -> None:
    """In their order, and none is lost; others have their turn in between."""
    steps: list[int] = []

    class Steps(trio.abc.Instrument):
        count = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.count += 1

    now = Steps()

    def decide(subject: Any, request: Any) -> bool:
        steps.append(now.count)
        return bool(request.topic != "t/700")

    async with running(config(RULES)) as live:
        watcher = await watcher_of(live, "t/#")
        client = await live.connect("c")
        script.decisions["built_in_database"] = decide
        trio.lowlevel.add_instrument(now)
        await client.send_bytes(joined(5, *(Publish(f"t/{number}", b"x") for number in range(1000))))
        messages = [message.topic_name for message in await rest(watcher)]
        trio.lowlevel.remove_instrument(now)
    assert messages == [f"t/{number}" for number in range(1000) if number != 700]
    assert len(steps) == 1000
    assert max(Counter(steps).values()) <= DECISIONS_A_STEP


async def test_many_filters_at_once_are_looked_up_in_turns(script: Script, autojump_clock: MockClock) -> None:
    script.decisions["built_in_database"] = lambda subject, request: request.topic != "t/70"
    async with running(config(RULES)) as live:
        client = await live.connect("c")
        filters = [SubscribeFilter(f"t/{number}", qos=1) for number in range(100)]
        await client.send_bytes(joined(5, Subscribe(1, filters), Publish("t/99", b"x", 1, packet_identifier=2)))
        with trio.fail_after(10):
            answer = await client.expect(SubAck)
        assert answer.reason_codes == [0x87 if number == 70 else 1 for number in range(100)]
        assert [message.topic_name for message in await rest(client)] == ["t/99"]


def test_a_condition_is_found_out_once_for_a_client() -> None:
    asked: list[str] = []

    def condition(subject: Subject) -> bool:
        asked.append(subject.client_id)
        return subject.client_id == "a"

    rules = RuleSet([Rule(True, (RuleTopic("#"),), who=condition)])
    a, b = Subject(Origin("a"), "a"), Subject(Origin("b"), "b")
    assert [rules.decide(a, Request("publish", f"t/{number}")) for number in range(3)] == [True] * 3
    assert [rules.decide(b, Request("publish", f"t/{number}")) for number in range(3)] == [None] * 3
    assert rules.decide(a, Request("publish", "t")) is True
    assert asked == ["a", "b", "a"]


def test_a_condition_keeps_no_client() -> None:
    rules = RuleSet([Rule(True, (RuleTopic("#"),), who=lambda subject: True)])
    subject = Subject(Origin("a"), "a")
    there = ref(subject)
    rules.decide(subject, Request("publish", "t"))
    del subject
    assert there() is None


async def test_a_walk_over_the_clients_ends_however_fast_others_come(
    script: Script, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(config(RULES)) as live:
        core = core_of(live)
        await live.connect("c")
        asked = 0
        ask = search.of_manager

        async def crowded(core: Core, question: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked < 20:
                await live.connect(f"more{asked}")
            return await ask(core, question)

        monkeypatch.setattr(authorizing, "of_manager", crowded)
        await authorizing.refresh(core)
        assert asked < 5


# -- traces, certificates ---------------------------------------------------------------------------------------------


async def test_a_trace_goes_on_when_rules_end(script: Script, autojump_clock: MockClock) -> None:
    """It tells each decision once, and none before there is one."""
    script.decisions["http"] = lambda subject, request: True
    told: list[tuple[str, str]] = []

    class Mark(ConnectionTrace):
        def tell(self, tag: str, msg: str, traces: Any = None, **more: Any) -> None:
            if tag == "AUTHZ":
                told.append((more["fields"]["topic"], more["fields"]["result"]))

    async with running(config(WEB)) as live:
        core = core_of(live)
        now = core.clock.wall_ms(core.clock.now()) / 1000
        everything = RuleSet.from_items([{"permission": "allow", "action": "publish", "topic": "own"}])
        script.verdicts["jwt"] = lambda _: Verdict(rules=everything, rules_expire_at=now + 60)
        client = await live.connect("c")
        connection = connection_of(live)
        connection.trace = Mark(connection, ())
        connection.trace.attached()
        await client.publish("own", b"", 1)
        await client.publish("other", b"", 1)
        assert told == [("own", "allow"), ("other", "allow")]
        await trio.sleep(100)
        await client.publish("own", b"", 1)
        assert told[2:] == [("own", "deny")]


def test_a_file_that_goes_while_it_is_read_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(tls_files, "build_context", gone)
    files = tls_files.TlsFiles("listener ssl:default", SslOptions(certfile="there"), "mqtt")
    files._seen = ((1, 1, 1, 1), None, None)
    watch = tls_files.TlsWatch()
    watch.use("listeners", [files])
    watch.look()
    assert files.failure == "listener ssl:default: its certificate cannot be read: No such file or directory"


# -- connections of one client ----------------------------------------------------------------------------------------


class HeldStore(MemoryStore):
    """What is written while there is a ticket in `held` is durable when that is done."""

    held: Ticket | None = None

    @property
    def ticket(self) -> Ticket:
        return DONE if self.held is None else self.held


async def test_connections_that_begin_anew_one_behind_the_other_stop_nobody(autojump_clock: MockClock) -> None:
    """Each of them ends the session that the one before it waits for; the last one has it."""
    store = HeldStore()
    async with running(store=store) as live:
        other = await live.connect("other")
        held = store.held = Ticket()
        present: list[str] = []

        async def come(name: str) -> None:
            with suppress(ConnectionEnded):  # taken over before it was told anything
                async with open_client(live.broker, client_id="c", username=name, properties=SESSION) as client:
                    present.append(name)
                    with trio.move_on_after(60):
                        await client.wait_ended()

        async with trio.open_nursery() as nursery:
            for name in ("a", "b", "c"):
                nursery.start_soon(come, name)
                await settle()
            store.held = None
            held.resolve()
            await settle()
            await other.ping()
            info = await live.broker.questions.client("c")
        assert info is not None
        assert (info.username, present[-1]) == ("c", "c")
