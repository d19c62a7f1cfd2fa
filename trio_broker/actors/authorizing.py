"""What the clients that are connected may do: from what is in force to each channel, and what has to be asked first.

Invariant: a channel whose client may do everything asks nobody; after `refresh` nothing that was decided before holds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from trio_broker.access.asking import Request, Subject
from trio_broker.access.authentication import NO_ATTRIBUTES
from trio_broker.access.authorization import Decisions
from trio_broker.actors.messages import AskActorsAfter, AskActorsNamed, AskNewestActor
from trio_broker.actors.search import of_manager

if TYPE_CHECKING:
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.core import Core
    from trio_broker.actors.messages import AskDecisions, ForgetDecision
    from trio_broker.actors.session_actor import SessionActor
    from trio_broker.protocol.packets import Will
    from trio_broker.session.channel import Channel

log = logging.getLogger("trio_broker.authorization")

STRIDE: Final = 500
"""Clients that are looked at before others have their turn."""
LONGEST: Final = 60.0
"""Seconds that the answer to one question may take in all; then nothing is allowed."""


def subject_of(actor: SessionActor) -> Subject:
    """Who the client is as far as rules look at it."""
    peer, verdict = actor.peer, actor.verdict
    return Subject(
        origin=actor.origin,
        client_id=actor.client_id,
        username=actor.username,
        peer_host="" if peer is None else peer.peer_host,
        peer_port=0 if peer is None else peer.peer_port,
        listener="" if peer is None else peer.listener,
        certificate_common_name=None if peer is None else peer.certificate_common_name,
        certificate_distinguished_name=None if peer is None else peer.certificate_distinguished_name,
        client_attrs=NO_ATTRIBUTES if verdict is None else verdict.client_attrs,
        superuser=verdict is not None and verdict.superuser,
        rules=None if verdict is None else verdict.rules,
    )


def authorize(actor: SessionActor, connection: Connection, channel: Channel) -> None:
    """Let the channel ask for what is in force now."""
    authorization = actor.core.authorization
    verdict = actor.verdict
    if not authorization.concerns(None if verdict is None else verdict.rules):
        connection.decisions = channel.questions = channel.authorize_publish = channel.authorize_subscribe = None
        channel.deny_disconnects = False
        return
    decisions = connection.decisions = Decisions(authorization, actor)
    channel.authorize_publish = decisions.publish
    channel.authorize_subscribe = decisions.subscribe
    channel.deny_disconnects = authorization.deny_disconnects
    channel.questions = None
    for source in authorization.sources:
        if source.waits:
            channel.questions = decisions
    if connection.trace is not None:
        connection.trace.attached()


async def refresh(core: Core, concerned: Callable[[SessionActor], bool] | None = None) -> None:
    """What is in force has changed: all clients that are connected go by it when this returns.

    What was decided before is forgotten; who is subscribed stays so. `concerned`: for whom it has changed.
    """

    def renew(actor: SessionActor) -> None:
        if concerned is None or concerned(actor):
            _renew(actor)

    await _for_each(core, renew)


async def forget_decisions(core: Core) -> None:
    """Nothing that was decided is kept, nor what is being decided now; what is in force stays the same."""
    await _for_each(core, _forget)


async def _for_each(core: Core, call: Callable[[SessionActor], None]) -> None:
    number, newest = -1, await of_manager(core, AskNewestActor())
    while number < newest:  # whoever comes later goes by what is in force anyway
        actors, number = await of_manager(core, AskActorsAfter(number, STRIDE))
        if not actors:
            return
        for actor in actors:
            call(actor)
        await trio.lowlevel.checkpoint()


async def refresh_named(core: Core, client_ids: Sequence[str]) -> None:
    """The same, for these clients only."""
    for start in range(0, len(client_ids), STRIDE):
        for _, actor in await of_manager(core, AskActorsNamed(client_ids[start : start + STRIDE])):
            _renew(actor)


def _renew(actor: SessionActor) -> None:
    connection = actor.connection
    if connection is not None and connection.channel is not None:
        authorize(actor, connection, connection.channel)


def _forget(actor: SessionActor) -> None:
    connection = actor.connection
    if connection is not None and connection.decisions is not None:
        connection.decisions.clear()


def show_decisions(actor: SessionActor, question: AskDecisions) -> None:
    """Answer what is kept for the client, and forget it where that is asked for, too."""
    connection = actor.connection
    decisions = None if connection is None else connection.decisions
    if decisions is None:
        question.answer([])
        return
    clock = actor.core.clock
    question.answer([(asked, allowed, clock.wall_ms(at)) for asked, allowed, at in decisions.kept(clock.now())])
    if question.forget:
        decisions.clear()


def forget_decision(actor: SessionActor, question: ForgetDecision) -> None:
    """Ask again, should the client publish to that topic."""
    connection = actor.connection
    if connection is not None and connection.decisions is not None:
        connection.decisions.forget_topic(question.topic)
    question.answer(connection is not None)


async def find_out(connection: Connection, channel: Channel) -> None:
    """Ask whether what the channel waits for may be done; the answers lie in `connection.decisions` then."""
    core = connection.core
    decisions = connection.decisions
    asked, channel.undecided = channel.undecided, ()
    if decisions is None:
        return
    requests = [Request(*one) for one in asked]  # type: ignore[arg-type]
    if requests[0].action == "publish":
        decisions.forget()  # what is there is of an earlier packet; those of a SUBSCRIBE come one by one
    with trio.move_on_after(LONGEST):
        for request in requests:
            if connection.over:
                return
            await decisions.ask(request, core.clock.now())
    for request in requests:
        if request not in decisions.answers:
            log.warning("whether %s may %s took longer than %g s: it may not", connection.name, request.action, LONGEST)
            decisions.deny(request)


def will_allowed(actor: SessionActor, subject: Subject, will: Will) -> bool | None:
    """May `subject`, who left it, publish that? None: somebody has to be asked."""
    authorization = actor.core.authorization
    return not authorization.concerns(subject.rules) or authorization.decide_now(subject, _of_will(will))


def will_to_keep(actor: SessionActor) -> Will | None:
    """What the store may know of the will: not one that may not go out as things are now.

    After a restart nobody knows any more what the client's token said, nor where it came from.
    """
    will = actor.will
    if will is None or actor.verdict is None or will_allowed(actor, subject_of(actor), will) is not False:
        return will
    return None


async def ask_for_will(actor: SessionActor, subject: Subject, will: Will) -> None:
    """`will_allowed` with waiting; then it goes out, if it may."""
    allowed = False
    try:
        with trio.move_on_after(LONGEST):
            allowed = await actor.core.authorization.decide(subject, _of_will(will))
    except Exception:
        log.exception("whether the will of client %r may be published was not found out: it may not", actor.client_id)
    actor.route_will(will, allowed, subject.origin)


def _of_will(will: Will) -> Request:
    return Request("publish", will.topic_name, will.qos, will.retain)
