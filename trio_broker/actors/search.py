"""Pages of sessions, subscriptions and filters, out of a hundred thousand sessions with a million subscriptions.

Invariant: no turn looks at more than a stride of them, and messages have their turn in between. Sessions and
subscriptions may come and go meanwhile: what is there from beginning to end is seen exactly once by a walk, which ends
where the last of them was when it began, however fast others come.

The session manager and the router give out pieces of their lists, in the order in which the entries came. What a
filter looks at (user name, peer, connection, terms, times) is read off the sessions' actors, which publish it as they
do `open` and `is_gone`; only the rows of a page are asked for all they can show.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import trio

from trio_broker.actors.actor import DEFAULT_ASK_TIMEOUT, Question
from trio_broker.actors.messages import (
    AskActor,
    AskActorPage,
    AskActorsAfter,
    AskActorsNamed,
    AskFilterPlace,
    AskHeld,
    AskInfo,
    AskLeading,
    AskNewest,
    AskNewestActor,
    AskNumbers,
    AskShareNames,
    AskSubscribers,
    AskSubscriptionPage,
    AskSubscriptionsAfter,
    AskSubscriptionsOf,
)
from trio_broker.actors.questions import ClientFilter, Page, SubscriptionFilter, SubscriptionPage, SubscriptionRow
from trio_broker.actors.session_view import protocol_name, session_info
from trio_broker.errors import ActorGone, AskTimeout, ProtocolError
from trio_broker.protocol.topics import parse_topic_filter, validate_topic_filter
from trio_broker.routing.filter_trie import has_wildcard
from trio_broker.routing.subscription import Subscription
from trio_broker.session.info import SessionInfo

if TYPE_CHECKING:
    from trio_broker.actors.core import Core
    from trio_broker.actors.session_actor import SessionActor

A = TypeVar("A")


Stride: TypeAlias = list[tuple[Any, list[Subscription]]]
"""Some recipients, each with some of its subscriptions, in one turn."""

# Each of these is a quarter of a millisecond.
ACTORS: Final = 1200
"""Sessions whose published facts are compared in one turn."""
INFOS: Final = 96
"""Sessions that are asked for all they can show in one turn."""
HELD: Final = 1500
"""Subscriptions that are compared in one turn."""
LISTED: Final = 300
"""Subscriptions that are made into rows, or whose filters are looked up, in one turn."""
RECIPIENTS: Final = 128
"""Recipients that the router gives out at once, with all they have."""

NOBODY: Final = ClientFilter()
CONNECTED: Final = ClientFilter(connection_state="connected")
NOTHING: Final = SubscriptionFilter()


async def answer_of(question: Question[A], name: str) -> A:
    with trio.move_on_after(DEFAULT_ASK_TIMEOUT):
        return await question.wait()
    raise AskTimeout(f"{name} did not answer within {DEFAULT_ASK_TIMEOUT:g} s")


async def of_manager(core: Core, question: Question[A]) -> A:
    """Ask the session manager; in this very turn where it has nothing else to do."""
    manager = core.manager
    if not manager.parked:
        return await manager.ask(question)
    manager.tell(question)
    return await answer_of(question, manager.name)


async def of_router(core: Core, question: Question[A]) -> A:
    """The same for the router."""
    router = core.router
    if not router.parked:
        return await router.ask(question)
    router.take([question])
    return await answer_of(question, router.name)


async def of_session(actor: SessionActor, question: Question[A]) -> A:
    """The same for a session; raises ActorGone."""
    if not actor.parked:
        return await actor.ask(question)
    actor.tell(question)
    return await answer_of(question, actor.name)


# -- sessions -----------------------------------------------------------------------------------------------------


async def clients(core: Core, wanted: ClientFilter, offset: int, limit: int) -> Page:
    """Where the filter is fuzzy the count goes no further than one row behind the page."""
    if wanted == NOBODY:
        actors, count = await of_manager(core, AskActorPage(offset, limit))
        return Page(await _infos(actors), count)
    if wanted == CONNECTED:
        return await _connected(core, offset, limit)
    end = offset + limit + 1 if _is_fuzzy(wanted) else None
    found: list[SessionActor] = []
    async with aclosing(_looked_for(core, wanted, -1)) as strides:
        async for actors in strides:
            found += actors
            if end is not None and len(found) >= end:
                break
    return Page(await _infos(found[offset : offset + limit]), len(found))


async def _connected(core: Core, offset: int, limit: int) -> Page:
    """How many there are is counted anyway: what lies behind the page is not looked at."""
    found: list[SessionActor] = []
    async with aclosing(_looked_for(core, CONNECTED, -1)) as strides:
        async for actors in strides:
            found += actors
            if len(found) >= offset + limit:
                count = max(core.meter.gauges["live_connections"], len(found))
                return Page(await _infos(found[offset : offset + limit]), count)
    return Page(await _infos(found[offset:]), len(found))


async def clients_after(
    core: Core, wanted: ClientFilter, number: int, limit: int
) -> tuple[list[SessionInfo], int | None]:
    """At most `limit` sessions behind the one of this number, and the number of the last of them if there are more."""
    found: list[SessionActor] = []
    async with aclosing(_looked_for(core, wanted, number, limit + 1)) as strides:
        async for actors in strides:
            found += actors
            if len(found) > limit:
                break
    last: int | None = None
    if len(found) > limit:
        del found[limit:]
        # One that has just ended has no number any more, but one before it.
        numbers: list[int] = await of_manager(core, AskNumbers(found))
        last = max(number, *numbers)
    return await _infos(found), last


async def _looked_for(
    core: Core, wanted: ClientFilter, number: int, most: int = ACTORS
) -> AsyncGenerator[list[SessionActor], None]:
    """Those behind this number that fit, a stride at a time."""
    if wanted.client_ids:
        named = await of_manager(core, AskActorsNamed(wanted.client_ids))
        yield _fitting([actor for place, actor in named if place > number], wanted)
        return
    stride = ACTORS if wanted != NOBODY else min(most, ACTORS)
    newest = await of_manager(core, AskNewestActor())
    while number < newest:
        actors, number = await of_manager(core, AskActorsAfter(number, stride))
        if not actors:
            return
        yield _fitting(actors, wanted)


def _is_fuzzy(wanted: ClientFilter) -> bool:
    return wanted.like_client_id is not None or wanted.like_username is not None


def _fitting(actors: list[SessionActor], wanted: ClientFilter) -> list[SessionActor]:
    """One narrow pass for each thing that is looked at: many times faster than all of them for each session."""
    if wanted.client_ids:
        pass  # they were looked up
    elif (part := wanted.like_client_id) is not None:
        actors = [it for it in actors if part in it.client_id]
    if len(wanted.usernames) == 1:
        name = wanted.usernames[0]
        actors = [it for it in actors if it.username == name]
    elif wanted.usernames:
        names = frozenset(wanted.usernames)
        actors = [it for it in actors if it.username in names]
    elif (part := wanted.like_username) is not None:
        actors = [it for it in actors if part in (it.username or "")]
    if (state := wanted.connection_state) is not None:
        is_on = state == "connected"
        actors = [] if state == "idle" else [it for it in actors if (it.connection is not None) is is_on]
    if (host := wanted.ip_address) is not None:
        actors = [it for it in actors if it.peer is not None and it.peer.peer_host == host]
    if (clean := wanted.clean_start) is not None:
        actors = [it for it in actors if (it.terms is not None and it.terms.clean_start) is clean]
    if (level := wanted.protocol_level) is not None:
        actors = [it for it in actors if (it.terms.level if it.terms is not None else 5) == level]
    if (protocol := wanted.protocol_name) is not None:
        actors = [it for it in actors if protocol_name(it.terms) == protocol]
    if (first := wanted.gte_created_at) is not None:
        actors = [it for it in actors if it.session is not None and it.session.created_at >= first]
    if (last := wanted.lte_created_at) is not None:
        actors = [it for it in actors if it.session is not None and it.session.created_at <= last]
    if (first := wanted.gte_connected_at) is not None:
        actors = [it for it in actors if it.connected_at >= first]
    if (last := wanted.lte_connected_at) is not None:
        actors = [it for it in actors if it.connected_at <= last]
    if (least := wanted.gte_mqueue_len) is not None:
        actors = [it for it in actors if it.session is not None and len(it.session.mqueue) >= least]
    if (most := wanted.lte_mqueue_len) is not None:
        actors = [it for it in actors if it.session is not None and len(it.session.mqueue) <= most]
    if (least := wanted.gte_mqueue_dropped) is not None:
        actors = [it for it in actors if it.session is not None and it.session.mqueue.dropped >= least]
    if (most := wanted.lte_mqueue_dropped) is not None:
        actors = [it for it in actors if it.session is not None and it.session.mqueue.dropped <= most]
    return actors


async def _infos(actors: Sequence[SessionActor]) -> list[SessionInfo]:
    """What each of the sessions shows of itself; those that end meanwhile are left out.

    A session that is parked is looked at; one that is at work answers when it comes to it.
    """
    shown: list[SessionInfo | AskInfo] = []
    for index, actor in enumerate(actors, 1):
        if actor.parked and actor.session is not None:
            shown.append(session_info(actor))
        else:
            question = AskInfo()
            if actor.remind(question):
                shown.append(question)
        if index % INFOS == 0:
            await trio.lowlevel.checkpoint()
    infos: list[SessionInfo] = []
    with trio.move_on_after(DEFAULT_ASK_TIMEOUT) as scope:
        for it in shown:
            try:
                infos.append(await it.wait() if isinstance(it, AskInfo) else it)
            except ActorGone:
                continue
    if scope.cancelled_caught:
        raise AskTimeout("the sessions did not answer in time")
    return infos


# -- subscriptions ------------------------------------------------------------------------------------------------


async def subscriptions(core: Core, wanted: SubscriptionFilter, offset: int, limit: int) -> SubscriptionPage:
    """With `match_topic` the count goes no further than one row behind the page."""
    if wanted == NOTHING:
        return await _page(core, offset, limit)
    rows: list[SubscriptionRow] = []
    count = 0
    end = offset + limit
    fits = _fits(wanted)
    async with aclosing(_held(core, wanted)) as strides:
        async for stride in strides:
            fitting = fits(list(chain.from_iterable([held for _, held in stride])))
            before, count = count, count + len(fitting)
            if fitting and before < end and count > offset:
                # Only here it matters whose they are.
                pairs = [(recipient.client_id, it) for recipient, held in stride for it in fits(held)]
                some = pairs[max(0, offset - before) : end - before]
                rows += [SubscriptionRow(client_id, subscription) for client_id, subscription in some]
            if count > end and wanted.match_topic is not None:
                break
    return SubscriptionPage(rows, count)


async def all_subscriptions(core: Core) -> list[SubscriptionRow]:
    """Every subscription of every recipient."""
    rows: list[SubscriptionRow] = []
    async with aclosing(_walk(core)) as everything:
        async for stride in everything:
            rows += [SubscriptionRow(recipient.client_id, it) for recipient, held in stride for it in held]
    return rows


async def _page(core: Core, offset: int, limit: int) -> SubscriptionPage:
    pairs, count = await of_router(core, AskSubscriptionPage(offset, limit))
    rows: list[SubscriptionRow] = []
    for start in range(0, len(pairs), HELD):
        if start:
            await trio.lowlevel.checkpoint()
        rows += [SubscriptionRow(recipient.client_id, held) for recipient, held in pairs[start : start + HELD]]
    return SubscriptionPage(rows, count)


async def _held(core: Core, wanted: SubscriptionFilter) -> AsyncGenerator[Stride, None]:
    """Recipients with subscriptions, among them all that fit."""
    if wanted.client_id is not None:
        recipients: list[Any] = [it for it in core.subscribers if it.client_id == wanted.client_id]
        actor = await of_manager(core, AskActor(wanted.client_id))
        if actor is not None:
            recipients.append(actor)
        for stride in _strides(await of_router(core, AskSubscriptionsOf(recipients))):
            yield stride
            await trio.lowlevel.checkpoint()
    elif wanted.topic is not None or wanted.match_filter is not None:
        for parts in await _asked_for(core, wanted):
            recipients = await of_router(core, AskSubscribers(*parts))
            for start in range(0, len(recipients), LISTED):
                some = recipients[start : start + LISTED]
                yield [(recipient, [held]) for recipient, held in await of_router(core, AskHeld(some, *parts))]
    else:
        async with aclosing(_walk(core)) as everything:
            async for stride in everything:
                yield stride


async def _asked_for(core: Core, wanted: SubscriptionFilter) -> list[tuple[str | None, str]]:
    """Share names and filters which `topic` or `match_filter` stands for, among them all that fit."""
    share_name, inner = wanted.share_name, wanted.match_filter
    if inner is not None:
        names = await share_names(core, inner) if share_name is None else [share_name]
        return [(name, inner) for name in names]
    assert wanted.topic is not None
    if share_name is not None:
        return [(share_name, wanted.topic)]
    try:
        return [parse_topic_filter(wanted.topic)]
    except ProtocolError:
        return []


async def share_names(core: Core, match_filter: str) -> list[str | None]:
    """In which shared groups somebody is subscribed to this filter; None among them: in none."""
    try:
        validate_topic_filter(match_filter)
    except ProtocolError:
        return []
    return await of_router(core, AskShareNames(match_filter))


async def _walk(core: Core) -> AsyncGenerator[Stride, None]:
    """Every recipient with what it has."""
    number, newest = -1, await of_router(core, AskNewest())
    while number < newest:
        some, number = await of_router(core, AskSubscriptionsAfter(number, RECIPIENTS))
        if not some:
            return
        first = True
        for stride in _strides(some):
            if not first:
                await trio.lowlevel.checkpoint()
            first = False
            yield stride


def _strides(some: Stride) -> Iterator[Stride]:
    """The same in parts of at most `HELD` subscriptions."""
    stride: Stride = []
    size = 0
    for recipient, held in some:
        for start in range(0, len(held), HELD):
            part = held[start : start + HELD] if len(held) > HELD else held
            if size and size + len(part) > HELD:
                yield stride
                stride, size = [], 0
            stride.append((recipient, part))
            size += len(part)
    if stride:
        yield stride


def _fits(wanted: SubscriptionFilter) -> Callable[[list[Subscription]], list[Subscription]]:
    """What takes those that fit out of a list."""
    qos, topic, share_name, inner = wanted.qos, wanted.topic, wanted.share_name, wanted.match_filter
    prefix, matches = ("", None) if wanted.match_topic is None else matcher(wanted.match_topic)

    def fitting(held: list[Subscription]) -> list[Subscription]:
        if share_name is not None:
            held = [it for it in held if it.share_name == share_name]
        if inner is not None:
            held = [it for it in held if it.match_filter == inner]
        if topic is not None:
            if share_name is not None:
                held = [it for it in held if it.match_filter == topic]
            else:
                held = [it for it in held if it.topic_filter == topic]
        if qos is not None:
            held = [it for it in held if it.qos == qos]
        if matches is not None:
            if prefix:
                held = [it for it in held if it.match_filter.startswith(prefix)]
            held = [it for it in held if matches(it.match_filter)]
        return held

    return fitting


def matcher(topic_filter: str) -> tuple[str, Callable[[str], object]]:
    """`protocol.topics.matches` for one filter and very many names: what they begin with, and the test."""
    if not has_wildcard(topic_filter):
        return topic_filter, topic_filter.__eq__
    levels = topic_filter.split("/")
    tail = ""
    if levels[-1] == "#":
        levels.pop()
        tail = "(?:/.*)?" if levels else ".*"
    pattern = "/".join("[^/]*" if level == "+" else re.escape(level) for level in levels)
    # A wildcard at the beginning does not stand for `$...` [MQTT-4.7.2-1].
    guard = r"(?!\$)" if topic_filter[0] in "+#" else ""
    prefix = re.split(r"/?[+#]", topic_filter, maxsplit=1)[0]
    return prefix, re.compile(guard + pattern + tail, re.DOTALL).fullmatch


# -- filters ------------------------------------------------------------------------------------------------------


async def topics(core: Core, offset: int, limit: int) -> tuple[list[str], int]:
    """A page of all filters, each once, shared ones in full, and how many there are."""
    number, skip, count = await of_router(core, AskFilterPlace(offset))
    found: list[str] = []
    if offset >= count:
        return found, count
    newest = await of_router(core, AskNewest())
    while number < newest:
        some, number = await of_router(core, AskSubscriptionsAfter(number, RECIPIENTS))
        if not some:
            break
        pairs = list(chain.from_iterable([(recipient, it) for it in held] for recipient, held in some))
        for start in range(0, len(pairs), LISTED):
            leading = await of_router(core, AskLeading(pairs[start : start + LISTED]))
            found += leading[skip : skip + limit - len(found)]
            skip = max(0, skip - len(leading))
            if len(found) == limit:
                return found, count
    return found, count


async def all_topics(core: Core) -> list[str]:
    """Every filter somebody is subscribed to, each once, shared ones in full."""
    found: dict[str, None] = {}
    async with aclosing(_walk(core)) as everything:
        async for stride in everything:
            found.update(dict.fromkeys([it.topic_filter for _, held in stride for it in held]))
    return list(found)
