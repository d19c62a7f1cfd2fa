"""The retainer: keeps the last retained message of each topic and gives it to new subscriptions.

Invariant: it sees retained messages and new subscriptions in the router's order, so that a subscription gets each
retained message either from here or live, and never an older one last.
"""

from __future__ import annotations

import logging
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


class Retainer(ResidentActor):
    """Owns the retained messages."""

    def __init__(self, core: Core) -> None:
        super().__init__("retainer", MAILBOX)
        self.core = core
        self.trie = RetainedTrie()

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
                    self.trie.set(message)
            elif type(item) is Retrieve:
                matching = self.trie.search(item.subscription.match_filter, now)
                self._send_page(Retrieval(item.recipient, item.subscription, matching))
        self._expire(now)
        self.core.meter.set_gauge("retained", len(self.trie))

    def restore(self, message: Message) -> None:
        """Put back a message from the store, before the task runs."""
        self.trie.set(message)
        self.core.meter.set_gauge("retained", len(self.trie))

    def _expire(self, now: float) -> None:
        expired = self.trie.expire(now, STRIDE)
        if expired and self.core.store.keeps:
            self.core.store.write(*(DeleteRetained(message.topic_name, message.message_id) for message in expired))

    def _send_page(self, retrieval: Retrieval) -> None:
        """A None from the trie means that it has looked long enough in vain: the rest has to wait for its turn."""
        page: list[Message] = []
        last = True
        for message in retrieval.messages:
            if message is not None:
                page.append(message)
            if message is None or len(page) == PAGE:
                last = False
                break
        try:
            retrieval.recipient.tell(RetainedPage(retrieval, retrieval.subscription, page, last))
        except ActorGone:
            log.debug("%r ended while it was given retained messages", retrieval.recipient.client_id)
        except trio.WouldBlock:
            log.warning("mailbox of %r is full: retained messages dropped", retrieval.recipient.client_id)

    async def _handle(self, item: object) -> None:
        now = self.core.clock.now()
        match item:
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
