"""An actor whose task exists only while it has something to wait for: there may be a hundred thousand of them.

Invariant: one step at a time. A message to a parked actor is handled at once, in the turn of whoever brings it; what
comes while a step is under way, or while the actor's task waits, lies in the mailbox until its turn. `open`: no step is
under way, though the task may wait.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import trio

from trio_broker.actors.actor import Actor, Question, drain, open_mailbox
from trio_broker.errors import ActorGone

Rest: TypeAlias = Callable[[], Awaitable[None]]
"""What is left of a step when it has to wait: the actor's task does it."""


class OnDemandActor(Actor):
    """Subclasses add how a message is handled, what a fault leads to, and when it is all over."""

    __slots__ = ("_gone", "_mailbox", "_nursery", "open")

    capacity = 10_000

    def __init__(self, nursery: trio.Nursery) -> None:
        self.parked = True
        self.open = True
        self._gone = False
        self._nursery = nursery
        # Opened for the first message that has to wait, and let go of with the last.
        self._mailbox: tuple[trio.MemorySendChannel[Any], trio.MemoryReceiveChannel[Any]] | None = None

    # -- to be added --------------------------------------------------------------------------------------------

    @abstractmethod
    def handle(self, message: object) -> Rest | None:
        """One step, without waiting. What is left for the actor's task, if anything."""

    @abstractmethod
    def failed(self, error: Exception) -> None:
        """A step went wrong: end what has to end, or go on without what failed. Must not raise."""

    @abstractmethod
    def settled(self) -> Rest | None:
        """The mailbox is empty: the last look before the actor parks."""

    @abstractmethod
    def is_over(self) -> bool:
        """There is nothing left to be an actor for; asked when the mailbox is empty."""

    @abstractmethod
    def ended(self, unread: list[Any]) -> None:
        """The actor has ended; nobody handles these messages."""

    # -- for others ---------------------------------------------------------------------------------------------

    def tell(self, message: object) -> None:
        if self.parked:
            self.parked = self.open = False
            self._work(message)
        elif self._gone:
            raise ActorGone(self.name)
        else:
            self._open()[0].send_nowait(message)

    async def put(self, message: object) -> None:
        if self.parked or self._gone:
            await trio.lowlevel.checkpoint()
            self.tell(message)
            return
        try:
            await self._open()[0].send(message)
        except trio.BrokenResourceError:
            raise ActorGone(self.name) from None

    def mailbox_len(self) -> int:
        return 0 if self._mailbox is None else self._mailbox[1].statistics().current_buffer_used

    def _open(self) -> tuple[trio.MemorySendChannel[Any], trio.MemoryReceiveChannel[Any]]:
        if self._mailbox is None:
            self._mailbox = open_mailbox(self.capacity)
        return self._mailbox

    # -- steps --------------------------------------------------------------------------------------------------

    def _work(self, message: object) -> None:
        """Handle a message and what came meanwhile; a task goes on where something has to be waited for."""
        try:
            rest = self.handle(message) or self._advance()
            if rest is not None:
                self.open = True
                self._nursery.start_soon(self._go_on, rest)
                return
        except Exception as error:  # noqa: BLE001 - it ends this actor, which says so, and nobody else
            self.failed(error)
        self._park()

    def _advance(self) -> Rest | None:
        """Handle what lies in the mailbox until that is empty, or something has to be waited for."""
        while True:
            while self._mailbox is not None:
                try:
                    message = self._mailbox[1].receive_nowait()
                except trio.WouldBlock:
                    self._mailbox = None
                    break
                rest = self.handle(message)
                if rest is not None:
                    return rest
            rest = self.settled()
            if rest is not None or self._mailbox is None:
                return rest

    async def _go_on(self, rest: Rest | None) -> None:
        """The actor's task, until nothing has to be waited for any more."""
        self.open = False
        try:
            while True:
                if rest is not None:
                    await rest()
                rest = self._advance()
                if rest is None:
                    break
        except Exception as error:  # noqa: BLE001 - it ends this actor, which says so, and nobody else
            self.failed(error)
        except trio.Cancelled:
            self._end()  # and with it the broker
            raise
        self._park()

    async def pause(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Wait, within the task. What others may do between two steps, they may do meanwhile (`open`)."""
        self.open = True
        try:
            await wait()
        finally:
            self.open = False

    def _park(self) -> None:
        if self.is_over():
            self._end()
            return
        self.open = True
        if self._mailbox is None:
            self.parked = True
        else:
            self._nursery.start_soon(self._go_on, None)  # a step failed, and the actor goes on with the next message

    def _end(self) -> None:
        self._gone = True
        self.parked = self.open = False
        unread: list[Any] = []
        if self._mailbox is not None:
            unread = drain(self._mailbox[1])
            self._mailbox[1].close()  # who waits for room in it learns that there is nobody any more
            self._mailbox = None
        for message in unread:
            if isinstance(message, Question):
                message.fail(ActorGone(self.name))
        self.ended(unread)
