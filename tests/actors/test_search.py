"""Looking through very many sessions and subscriptions while they come and go, and while everybody is at work."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from actors.flows import SESSION, settle
from trio.testing import MockClock

from benchmarks.rest_site import client_id, fill, host, username
from trio_broker.actors import search
from trio_broker.actors.actor import Actor
from trio_broker.actors.core import Core
from trio_broker.actors.internal import make_subscription
from trio_broker.actors.messages import AskActorPage, Kick
from trio_broker.actors.questions import ClientFilter, SubscriptionFilter
from trio_broker.actors.session_actor import SessionActor
from trio_broker.actors.session_manager import SessionManager
from trio_broker.errors import AskTimeout
from trio_broker.protocol.topics import matches
from trio_broker.routing.roll import Roll
from trio_broker.routing.routing_table import RoutingTable
from trio_broker.testing import open_broker
from trio_broker.testing.running import RunningBroker

LEVELS = ("a", "", "$x", "b.c", "+", "#")


def core_of(running: RunningBroker) -> Core:
    core = running.broker._core
    assert core is not None
    return core


def well_formed() -> list[str]:
    texts = ["/".join(levels) for size in (1, 2, 3) for levels in product(LEVELS, repeat=size)]
    return [text for text in texts if text and "#" not in text[:-1]]


def test_the_quick_test_of_a_filter_says_what_the_thorough_one_says() -> None:
    names = well_formed()
    for topic_filter in names:
        prefix, fits = search.matcher(topic_filter)
        for name in names:
            quick = name.startswith(prefix) and bool(fits(name))
            assert quick == matches(topic_filter, name), (topic_filter, name)


def test_the_quick_test_takes_any_character() -> None:
    for name in ("a\nb/c", "a\nb/c\n", "(.*)/c", "a/\n"):
        assert search.matcher("+/#")[1](name)
        assert not search.matcher("x/#")[1](name)
        prefix, fits = search.matcher(f"{name}/+")
        assert fits(f"{name}/1")
        assert f"{name}/1".startswith(prefix)


async def test_pages_of_many_sessions(autojump_clock: MockClock) -> None:
    async with open_broker() as running:
        core, questions = core_of(running), running.broker.questions
        await fill(core, 5000, 10_000)
        page = await questions.clients(ClientFilter(), 4990, 100)
        assert ([info.client_id for info in page.rows], page.count) == (
            [client_id(at) for at in range(4990, 5000)],
            5000,
        )
        page = await questions.clients(ClientFilter(usernames=(username(3210),)), 90, 100)
        assert ([info.client_id for info in page.rows], page.count) == (
            [client_id(at) for at in range(3290, 3300)],
            100,
        )
        page = await questions.clients(ClientFilter(clean_start=True, protocol_level=5), 2400, 5)
        assert (page.rows[0].client_id, page.count) == (client_id(4800), 2500)
        page = await questions.clients(ClientFilter(ip_address=host(4321)), 0, 5)
        assert ([info.client_id for info in page.rows], page.count) == ([client_id(4321)], 1)
        page = await questions.clients(ClientFilter(like_client_id="e-0049"), 98, 5)
        assert [info.client_id for info in page.rows] == [client_id(4998), client_id(4999)]
        subscriptions = await questions.subscription_page(SubscriptionFilter(), 9_999, 10)
        assert ([row.client_id for row in subscriptions.rows], subscriptions.count) == ([client_id(4999)], 10_000)
        topics = {text for at in range(0, 10_000, 1000) for text in (await questions.topic_page(at, 1000))[0]}
        assert topics == set(await questions.topics())
        assert await questions.topic_page(10_000, 5) == ([], 10_000)


async def test_those_who_are_connected(autojump_clock: MockClock) -> None:
    """How many there are is known; a page looks at no more sessions than lie before its end."""
    wanted = ClientFilter(connection_state="connected")
    async with open_broker() as running:
        questions = running.broker.questions
        await fill(core_of(running), 3000, 0)
        async with running.client("c1"), running.client("c2") as second:
            await settle()
            for offset, limit, expected in (
                (0, 1, ["c1"]),
                (1, 1, ["c2"]),
                (0, 9, ["c1", "c2"]),
                (2, 1, []),
                (9, 1, []),
            ):
                page = await questions.clients(wanted, offset, limit)
                assert ([info.client_id for info in page.rows], page.count) == (expected, 2)
            await second.disconnect()
            await settle()
            page = await questions.clients(wanted, 0, 1)
            assert ([info.client_id for info in page.rows], page.count) == (["c1"], 1)


async def test_walks_while_sessions_come_and_go(autojump_clock: MockClock) -> None:
    """No error, no end missed; what is there from beginning to end is found."""
    async with open_broker() as running:
        core, questions = core_of(running), running.broker.questions
        await fill(core, 4000, 8000)
        staying = {client_id(at) for at in range(0, 4000, 5)}
        going = [client_id(at) for at in range(4000) if at % 5]
        Random(3).shuffle(going)
        done = False

        async def churn() -> None:
            while going and not done:
                for name in going[-20:]:
                    actor = core.manager._actors.get(name)
                    assert actor is not None
                    actor.tell(Kick())
                del going[-20:]
                await trio.lowlevel.checkpoint()

        def seen(names: set[str]) -> None:
            assert staying <= names

        async with trio.open_nursery() as nursery:
            nursery.start_soon(churn)
            while going:
                page = await questions.clients(ClientFilter(like_client_id="device"), 0, 10_000)
                seen({info.client_id for info in page.rows})
                subscriptions = await questions.subscription_page(SubscriptionFilter(match_topic="#"), 0, 10_000)
                seen({row.client_id for row in subscriptions.rows})
                seen(
                    {row.client_id for row in (await questions.subscription_page(SubscriptionFilter(), 0, 10_000)).rows}
                )
                names, _ = await questions.topic_page(0, 10_000)
                assert len(names) == len(set(names))
                infos, cursor = await questions.clients_after(ClientFilter(), None, 500)
                while cursor is not None:
                    more, cursor = await questions.clients_after(ClientFilter(), cursor, 500)
                    infos += more
                names_seen = [info.client_id for info in infos]
                assert len(names_seen) == len(set(names_seen))
                seen(set(names_seen))
            done = True
        await settle()
        assert await questions.sessions_count() == len(staying)
        assert (await questions.subscription_page(SubscriptionFilter(), 0, 1)).count == 2 * len(staying)


async def test_who_is_at_work_is_asked(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_broker() as running, running.client("c1", properties=SESSION):
        core, questions = core_of(running), running.broker.questions
        actor = core.manager._actors["c1"]
        for resident in (core.manager, core.router):
            monkeypatch.setattr(resident, "parked", False)
        gate = trio.Event()

        async def works() -> None:
            await actor.pause(gate.wait)

        actor.parked = False
        core.sessions_nursery.start_soon(actor._go_on, works)
        await settle()
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await questions.clients(ClientFilter(usernames=()), 0, 10))
            answers.append(await questions.subscription_page(SubscriptionFilter(), 0, 10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await settle()
            assert answers == []
            gate.set()
        assert ([info.client_id for info in answers[0].rows], answers[1].rows) == (["c1"], [])
        actor.parked = False
        gate = trio.Event()
        core.sessions_nursery.start_soon(actor._go_on, works)
        await settle()
        with pytest.raises(AskTimeout):
            await questions.clients(ClientFilter(), 0, 10)
        gate.set()


class Stuck(Actor):
    """Its mailbox is full, and nobody empties it."""

    def __init__(self) -> None:
        self.parked = False

    @property
    def name(self) -> str:
        return "somebody"

    def tell(self, message: object) -> None:
        raise trio.WouldBlock

    async def put(self, message: object) -> None:
        await trio.sleep_forever()

    def mailbox_len(self) -> int:
        return 1


@pytest.mark.parametrize("ask", [search.of_manager, search.of_router, search.of_session])
async def test_who_takes_no_questions_is_not_waited_for_for_ever(autojump_clock: MockClock, ask: Any) -> None:
    core = SimpleNamespace(manager=Stuck(), router=Stuck())
    with pytest.raises(AskTimeout, match="somebody did not answer"), trio.fail_after(60):
        await ask(core.manager if ask is search.of_session else core, AskActorPage(0, 1))


async def test_any_number_of_sessions_is_looked_up_in_turns_of_bounded_length(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    named = SessionManager._named

    def count(self: SessionManager, client_ids: Sequence[str]) -> Any:
        lengths.append(len(client_ids))
        return named(self, client_ids)

    monkeypatch.setattr(SessionManager, "_named", count)
    async with open_broker() as running, running.client("first"), running.client("last"):
        names = ["first", *(f"c{number}" for number in range(5000)), "first", "last"]
        await running.broker.questions.kick_all(names)
        assert await running.broker.questions.sessions_count() == 0
    assert max(lengths) <= 1000
    assert sum(lengths) == len(names)


class Newcomer:
    """A recipient that comes in the middle of a list."""

    client_id = "newcomer"
    journal = None
    is_gone = False
    open = False


@pytest.mark.parametrize("what", ["subscriptions", "all subscriptions", "topics", "all topics"])
async def test_a_list_of_subscriptions_ends_while_others_come(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    after = RoutingTable.after
    calls = 0

    def and_another(self: RoutingTable[Any], number: int, limit: int) -> Any:
        nonlocal calls
        calls += 1
        assert calls < 100, "it has no end"
        found = after(self, number, limit)
        self.subscribe(Newcomer(), make_subscription("t", 0))
        return found

    async with open_broker() as running, running.client("c1") as c1:
        await c1.subscribe("t")
        await c1.subscribe("u")
        monkeypatch.setattr(RoutingTable, "after", and_another)
        questions = running.broker.questions
        match what:
            case "subscriptions":
                page = await questions.subscription_page(SubscriptionFilter(qos=0), 0, 10)
                assert [row.client_id for row in page.rows] == ["c1", "c1"]
            case "all subscriptions":
                assert [row.client_id for row in await questions.subscriptions()] == ["c1", "c1"]
            case "topics":
                assert await questions.topic_page(0, 10) == (["t", "u"], 2)
            case _:
                assert await questions.topics() == ["t", "u"]
        assert calls == 1


async def test_a_list_of_sessions_ends_while_others_come(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    values_after = Roll.values_after
    calls = 0

    def and_another(self: Roll[str, Any], number: int, limit: int) -> Any:
        nonlocal calls
        calls += 1
        assert calls < 100, "it has no end"
        found = values_after(self, number, limit)
        self.put(f"n{calls}", SessionActor(core, f"n{calls}"))
        return found

    async with open_broker() as running, running.client("c1"):
        core = core_of(running)
        monkeypatch.setattr(Roll, "values_after", and_another)
        questions = running.broker.questions
        wanted = ClientFilter(connection_state="connected")
        assert (await questions.clients(wanted, 0, 10)).count == 1
        infos, cursor = await questions.clients_after(wanted, None, 10)
        assert ([info.client_id for info in infos], cursor) == (["c1"], None)
        for number in range(1, calls + 1):
            core.manager._actors.pop(f"n{number}")
