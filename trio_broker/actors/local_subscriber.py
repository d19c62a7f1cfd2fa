"""A subscriber inside the program: `Broker.subscribe`.

Invariant: it never holds up the router; when the program does not keep up, the oldest message goes, counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from trio_broker.actors.messages import NextPage, RetainedPage
from trio_broker.actors.retained_feed import BUSY
from trio_broker.protocol.message import Message, Run
from trio_broker.routing.delivery import Delivery

if TYPE_CHECKING:
    from trio_broker.actors.core import Core


class LocalSubscriber:
    """A recipient for the router; an asynchronous iterator of `Message` for the program.

    `dropped` counts what the program was too slow for.
    """

    journal = None
    open = True
    is_gone = False

    def __init__(self, core: Core, client_id: str, buffer: int) -> None:
        self.client_id = client_id
        self.dropped = 0
        self._core = core
        self._messages: deque[Message] = deque()
        self._buffer = buffer
        self._bell = trio.Event()
        self._closed = False

    def deliver(self, items: list[tuple[Delivery[Any], Run]], now: float, inserted_at_ns: int) -> None:
        """See SessionActor.deliver."""
        self.tell(items)

    def changed(self, change: object) -> None:
        """It knows what it asked for."""

    def tell(self, message: object) -> None:
        """Called by the router and the retainer."""
        if self._closed:
            return
        if type(message) is list:
            self._deliver(message)
        elif isinstance(message, RetainedPage):
            for retained in message.messages:
                self._append(retained)
            if not message.last:
                self._ask_for_more(message.retrieval)

    def _ask_for_more(self, retrieval: Any) -> None:
        core = self._core
        try:
            core.retainer.tell(NextPage(retrieval))
        except trio.WouldBlock:
            core.timers.at(core.clock.now() + BUSY, partial(self._ask_for_more, retrieval))

    def _deliver(self, items: list[tuple[Delivery[Any], Run]]) -> None:
        for delivery, run in items:
            if delivery.no_local and run.origin.client_id == self.client_id:
                continue
            self._core.meter.messages_delivered += len(run)
            for message in run.messages:
                self._append(message)

    def _append(self, message: Message) -> None:
        messages = self._messages
        if len(messages) >= self._buffer:
            messages.popleft()
            self.dropped += 1
            self._core.meter.delivery_dropped += 1
            self._core.meter.delivery_dropped_queue_full += 1
        messages.append(message)
        self._bell.set()

    def close(self) -> None:
        """The iteration ends when what is here has been taken."""
        self._closed = self.is_gone = True
        self._bell.set()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        await trio.lowlevel.checkpoint()
        while not self._messages:
            if self._closed:
                raise StopAsyncIteration
            if self._bell.is_set():
                self._bell = trio.Event()
            await self._bell.wait()
        return self._messages.popleft()
