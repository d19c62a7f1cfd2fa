"""Pages of a long queue on their way from the store into memory, or past it.

Invariant: a session asks for one page at a time; a page that cannot be read leaves the rest of the queue where it is.
"""

from __future__ import annotations

import logging
from array import array
from functools import partial
from typing import TYPE_CHECKING

import trio
from attrs import define

from trio_broker.actors.messages import After, AskQueue, PassOn
from trio_broker.actors.session_view import queue_rows
from trio_broker.errors import ActorGone, StoreError
from trio_broker.session.info import QueuePage
from trio_broker.session.outgoing import Outgoing
from trio_broker.session.session import Session
from trio_broker.session.tail import PAGE

if TYPE_CHECKING:
    from trio_broker.actors.core import Core
    from trio_broker.actors.session_actor import SessionActor

log = logging.getLogger("trio_broker.session")

SLICE = 10_000
"""Copies that are removed with one commit."""
AGAIN = 1.0
"""Seconds until a page that could not be read is asked for again."""


@define(eq=False)
class Fetched:
    """To a session: a page of its queue. `rows` is what was asked for; no `copies` after an error."""

    session: Session
    rows: list[int]
    copies: list[Outgoing] | None


async def fetch(actor: SessionActor, session: Session, rows: list[int]) -> None:
    """Read a page and give it to the session's actor. A task of its own."""
    copies: list[Outgoing] | None = None
    try:
        copies = await actor.core.store.queue(rows)
    except StoreError as error:
        log.error("the queue of client %r cannot be read: %s", actor.client_id, error)
        await trio.sleep(AGAIN)
    try:
        await actor.put(Fetched(session, rows, copies))
    except ActorGone:
        log.debug("the session of client %r ended before its queue was read", actor.client_id)


async def answer_page(core: Core, question: AskQueue, page: QueuePage, rows: list[int]) -> None:
    """The rest of a page of the mqueue lies in the store. A task of its own."""
    try:
        page.messages += queue_rows(await core.store.queue(rows))
    except StoreError as error:
        question.fail(error)
        return
    question.answer(page)


async def forget_rows(core: Core, rows: array[int], messages: array[int]) -> None:
    """The end of a session with a very long queue: a part a commit, so that others need not wait for all of it.

    A task of its own; what is left when the broker ends is removed at the next start.
    """
    for start in range(0, len(rows), SLICE):
        part = slice(start, start + SLICE)
        core.store.remove_rows(rows[part], messages[part])
        await core.store.ticket.wait()


async def pass_on(core: Core, rows: array[int], messages: array[int]) -> None:
    """What shared subscriptions brought to a session that has ended, and nobody has taken: to others of the group.

    A task of its own; what is left when the broker ends is passed on at the next start.
    """
    for start in range(0, len(rows), PAGE):
        part = slice(start, start + PAGE)
        while True:
            try:
                copies = await core.store.queue(list(rows[part]))
                break
            except StoreError as error:
                log.error("messages for others of a shared subscription cannot be read: %s", error)
                await trio.sleep(AGAIN)
        left = [(copy.share, copy.message) for copy in copies if copy.share is not None]
        # They are forgotten in the batch in which others have them.
        forget = After(partial(core.store.remove_rows, rows[part], messages[part]))
        core.router.take([PassOn(left), forget])
        if core.is_behind:
            await core.room()
