"""The retainer: keeps the last retained message of each topic and gives it to new subscriptions.

Invariant: it sees retained messages and new subscriptions in the router's order, so that a subscription gets each
retained message either from here or live, and never an older one last.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from attrs import define

from trio_broker.actors.messages import (
    AskRetained,
    AskRetainedMessage,
    DeleteRetainedMessages,
    Flush,
    NextPage,
    RetainedPage,
    Retrieve,
)
from trio_broker.actors.questions import RetainedRow
from trio_broker.actors.resident import ResidentActor
from trio_broker.actors.retaining import Rules
from trio_broker.actors.timers import Timer
from trio_broker.config import RetainerConfig
from trio_broker.errors import ActorGone
from trio_broker.protocol.message import Message, Run
from trio_broker.routing.retained_trie import RetainedTrie
from trio_broker.routing.subscription import Subscription
from trio_broker.store.operations import DeleteRetained

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

log = logging.getLogger("trio_broker.retainer")

MAILBOX = 256
PAGE = 100
# Messages looked at between two checkpoints while a listing or a deletion goes through all of them.
STRIDE = 1000


@define(eq=False)
class Retrieval:
    """A subscription that is being given its retained messages, and how far it has come."""

    recipient: Any
    subscription: Subscription
    messages: Iterator[Message | None]
    begun: bool = False  # something of it has been sent to the client


@define
class RateAllows:
    """Pages that waited for the rate of delivery may be sent."""


class Retainer(ResidentActor):
    """Owns the retained messages."""

    def __init__(self, core: Core) -> None:
        super().__init__("retainer", MAILBOX)
        self.core = core
        self.trie = RetainedTrie()
        config = core.settings.config.retainer
        self.rules = Rules(core, self.trie, config)
        self._waiting_pages: deque[Retrieval] = deque()  # for the rate of delivery to allow them
        self._timer: Timer | None = None
        self._clear_timer: Timer | None = None
        self._go_by(config)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            while True:
                item = await self.receive()
                if type(item) is list:
                    await self._take(item)
                else:
                    await self._handle(item)
                del item  # or what it refers to would stay until the next one comes
        finally:
            self.end()

    async def _take(self, items: list[Run | Retrieve]) -> None:
        now = self.core.clock.now()
        for index, item in enumerate(items, 1):
            if index % PAGE == 0:
                await trio.lowlevel.checkpoint()  # so that a session with thousands of filters can empty its mailbox
            if type(item) is Run:
                for message in item.messages:  # the router has told the store of them
                    if message.payload:  # else it takes away what is retained
                        self.core.meter.messages_retained += 1
                    self.trie.set(message)
                    self.rules.kept(message)
            elif type(item) is Retrieve:
                matching = self.trie.search(item.subscription.match_filter, now) if self.rules.enabled else iter(())
                self._send_page(Retrieval(item.recipient, item.subscription, matching))
        self._expire(now)
        self.core.meter.set_gauge("retained", len(self.trie))

    def use(self, config: RetainerConfig) -> None:
        """Go by these settings from now on; call it in no turn of the router's."""
        self.rules.use(config)
        self._go_by(config)
        if self._waiting_pages:
            self._tell_self(RateAllows())

    def _go_by(self, config: RetainerConfig) -> None:
        self._rate = config.delivery_rate
        self._free_at = -math.inf
        self._clear_interval = config.msg_clear_interval
        if self._clear_timer is not None:
            self._clear_timer.cancel()
            self._clear_timer = None
        if self._clear_interval:
            self._clear_timer = self.core.timers.at(self.core.clock.now() + self._clear_interval, self._clear_due)

    def _clear_due(self) -> None:
        self._clear_timer = self.core.timers.at(self.core.clock.now() + self._clear_interval, self._clear_due)
        self._tell_self([])

    def _tell_self(self, item: object) -> None:
        try:
            self.tell_always(item)
        except ActorGone:
            log.debug("the retainer has ended")

    def restore(self, message: Message) -> None:
        """Put back a message from the store, when nobody is connected yet."""
        self.trie.set(message)
        self.rules.kept(message)
        self.core.meter.set_gauge("retained", len(self.trie))

    def _expire(self, now: float) -> None:
        expired = self.trie.expire(now, STRIDE)
        for message in expired:
            self.rules.gone(message.topic_name)
        if expired and self.core.store.keeps:
            self.core.store.write(*(DeleteRetained(message.topic_name, message.message_id) for message in expired))

    def _send_page(self, retrieval: Retrieval) -> None:
        """A None from the trie means that it has looked long enough in vain: the rest has to wait for its turn."""
        if retrieval.recipient.is_gone:
            return  # and takes nothing of the rate
        most = PAGE
        if self._rate != math.inf:
            if self._waiting_pages or self._free_at > self.core.clock.now():
                self._waiting_pages.append(retrieval)
                self._wait_for_rate()
                return
            most = max(1, min(PAGE, int(self._rate)))
        page: list[Message] = []
        last = True
        for message in retrieval.messages:
            if message is not None:
                page.append(message)
            if message is None or len(page) == most:
                last = False
                break
        if self._rate != math.inf:
            self._free_at = self.core.clock.now() + len(page) / self._rate
        try:
            retrieval.recipient.tell(RetainedPage(retrieval, retrieval.subscription, page, last))
        except ActorGone:
            log.debug("%r ended while it was given retained messages", retrieval.recipient.client_id)
        except trio.WouldBlock:
            log.warning("mailbox of %r is full: retained messages dropped", retrieval.recipient.client_id)

    def _wait_for_rate(self) -> None:
        if self._timer is None:
            self._timer = self.core.timers.at(self._free_at, self._rate_allows)

    def _rate_allows(self) -> None:
        self._timer = None
        self._tell_self(RateAllows())

    def _send_waiting(self) -> None:
        """One page after the other, as fast as the rate allows, in the order in which they were asked for."""
        waiting = self._waiting_pages
        while waiting and self._free_at <= self.core.clock.now():
            retrieval = waiting.popleft()
            others, self._waiting_pages = waiting, deque()
            self._send_page(retrieval)
            self._waiting_pages = waiting = others
        if waiting:
            self._wait_for_rate()

    async def _handle(self, item: object) -> None:
        now = self.core.clock.now()
        match item:
            case RateAllows():
                self._send_waiting()
            case NextPage():
                self._send_page(item.retrieval)
            case AskRetained():
                item.answer(await self._list(item, now))
            case AskRetainedMessage():
                found = next(self.trie.match(item.topic_name, now), None)
                item.answer(None if found is None else _row(found, with_payload=True))
            case DeleteRetainedMessages():
                count = await self._delete(item.topic_filter)
                self.core.store.ticket.then(partial(item.answer, count))
            case Flush():
                item.answer(None)
            case _:
                raise TypeError(f"the retainer does not know {item!r}")

    async def _list(self, asked: AskRetained, now: float) -> tuple[list[RetainedRow], int]:
        matching: list[Message] = []
        for message in self._all(asked.topic_filter, now):
            if message is not None:
                matching.append(message)
            if message is None or len(matching) % STRIDE == 0:
                await trio.lowlevel.checkpoint()
        matching.sort(key=lambda message: message.message_id)
        rows = [_row(message) for message in matching[asked.offset : asked.offset + asked.limit]]
        return rows, len(matching)

    def _all(self, topic_filter: str | None, now: float) -> Iterator[Message | None]:
        if topic_filter is not None:
            yield from self.trie.search(topic_filter, now)
            return
        for message in self.trie:
            if message.expires_at is None or message.expires_at > now:
                yield message

    async def _delete(self, topic_filter: str | None) -> int:
        now = self.core.clock.now()
        found = [message for message in self._all(topic_filter, now) if message is not None]
        for index, message in enumerate(found, 1):
            self.trie.delete(message.topic_name)
            self.rules.gone(message.topic_name)
            self.core.store.write(DeleteRetained(message.topic_name, message.message_id))
            if index % STRIDE == 0:
                await trio.lowlevel.checkpoint()
        self.core.meter.set_gauge("retained", len(self.trie))
        return len(found)


def _row(message: Message, with_payload: bool = False) -> RetainedRow:
    return RetainedRow(
        message_id=message.message_id,
        topic_name=message.topic_name,
        qos=message.qos,
        publish_at=message.publish_at,
        from_client_id=message.origin.client_id,
        from_username=message.origin.username,
        payload=message.payload if with_payload else None,
    )
