"""Retained messages on their way from the retainer into one session.

Invariant: a page is fed into the session only as far as its mqueue has room, so that retained messages never drop
others or each other; a retained message older than one that went out live meanwhile is left out.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import trio

from trio_broker.actors.messages import NextPage, RetainedPage, Retrieve
from trio_broker.session.session import Session

if TYPE_CHECKING:
    from trio_broker.actors.retainer import Retainer

# Messages fed in one go into a session whose mqueue is unbounded.
CHUNK = 100
# Pages that wait for room. A client that subscribes without reading gets no more of them: what it asks for beyond is
# looked up when its turn comes, once for each filter.
MAX_PAGES = 64
BUSY = 0.05  # seconds until a retainer that had no room in its mailbox is asked again


class RetainedFeed:
    """`hungry`: pages, or requests for them, wait for room."""

    __slots__ = ("_asking", "_expected", "_live", "_pages", "_postponed", "_retainer")

    def __init__(self, retainer: Retainer) -> None:
        self._retainer = retainer
        self._expected = 0  # subscriptions whose last page has not been fed
        self._live: dict[str, int] = {}  # topic -> newest retained message that went out live meanwhile
        self._pages: deque[RetainedPage] = deque()
        self._postponed: dict[str, Retrieve] = {}
        self._asking: list[Any] = []  # retrievals whose next page could not be asked for yet

    @property
    def hungry(self) -> bool:
        return bool(self._pages or self._asking or self._postponed)

    @property
    def active(self) -> bool:
        """Retained messages are on their way, so live ones have to be noted."""
        return self._expected > 0

    @property
    def is_done(self) -> bool:
        """Nothing is on its way, and nothing waits."""
        return not (self._expected or self._pages or self._asking or self._postponed)

    def expect(self, subscriptions: int) -> None:
        """The retainer was asked for the messages of so many new subscriptions."""
        self._expected += subscriptions

    def note_live(self, items: list[Any]) -> None:
        """These deliveries (pairs of delivery and run) go out now."""
        for _, run in items:
            if run.retain:
                self._live[run.topic_name] = run.messages[-1].message_id

    def take(self, page: RetainedPage) -> None:
        retrieval = page.retrieval
        if len(self._pages) < MAX_PAGES or retrieval.begun or not page.messages:
            self._pages.append(page)
            return
        topic_filter = page.subscription.topic_filter
        if topic_filter in self._postponed:
            self._expected -= 1  # one answer for both
        self._postponed[topic_filter] = Retrieve(retrieval.recipient, page.subscription)

    def feed(self, session: Session, now: float, inserted_at_ns: int, out: list[bytes]) -> bool:
        """Feed what there is room for; ask for the next page of what is used up. False: the retainer is too busy."""
        live = self._live
        pages = self._pages
        while pages:
            page = pages[0]
            room = room_for(session)
            if not room and page.messages:
                break  # empty ones need none, and must not pile up
            if page.subscription.topic_filter not in session.subscriptions:
                page.messages.clear()  # unsubscribed meanwhile [MQTT-3.10.4-2]
                page.last = True
            page.retrieval.begun = True
            chunk = page.messages[:room]
            del page.messages[:room]
            fresh = [message for message in chunk if live.get(message.topic_name, 0) < message.message_id]
            session.deliver_retained(page.subscription, fresh, now, inserted_at_ns, out)
            if page.messages:
                continue
            pages.popleft()
            if not page.last:
                self._asking.append(page.retrieval)
                continue
            self._expected -= 1
            if self._expected <= 0:
                self._expected = 0
                live.clear()
        try:
            while self._asking and room_for(session):
                self._retainer.tell(NextPage(self._asking[-1]))
                self._asking.pop()
            if self._postponed and not pages and room_for(session):
                again = list(self._postponed.values())[: MAX_PAGES // 2]
                self._retainer.tell(again)
                for retrieve in again:
                    del self._postponed[retrieve.subscription.topic_filter]
        except trio.WouldBlock:
            return False
        return True


def room_for(session: Session) -> int:
    """How many retained messages the session can take now: its mqueue stays half empty for live ones."""
    if session.congested:
        return 0
    maximum = session.mqueue.maximum
    if not maximum:
        return CHUNK
    return max(0, min(CHUNK, (maximum + 1) // 2 - len(session.mqueue)))
