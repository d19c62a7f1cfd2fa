"""An actor: a task with a mailbox and state that nobody else touches.

Invariant: a question that was put into a mailbox gets exactly one end: an answer, the error of the actor, `ActorGone`
when the actor ended first, or `AskTimeout` at its deadline.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import trio
from trio.lowlevel import ParkingLot

from trio_broker.errors import ActorGone, AskTimeout

A = TypeVar("A")

DEFAULT_ASK_TIMEOUT = 5.0

# The class is generic for type checkers only; looking up its parameters at run time costs more than making a channel.
open_mailbox = trio.open_memory_channel


class Question(Generic[A]):
    """A message that wants an answer. Subclasses add what is asked."""

    __slots__ = ("_answer", "_done", "_error", "_lot")

    def __init__(self) -> None:
        self._answer: A | None = None
        self._error: BaseException | None = None
        self._done = False
        self._lot: ParkingLot | None = None

    def answer(self, value: A) -> None:
        self._answer = value
        self._finish()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._finish()

    def _finish(self) -> None:
        self._done = True
        if self._lot is not None:
            self._lot.unpark_all()

    async def wait(self) -> A:
        """The answer, or the error that came in its place."""
        if not self._done:
            self._lot = ParkingLot()
            await self._lot.park()
        else:
            await trio.lowlevel.checkpoint()
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[return-value]


class Actor:
    """Base of all actors: a bounded mailbox and the ways to put something into it.

    `parked` is true while the task waits and its mailbox is empty: then a step on its state is as good as a message,
    for who may take one (see `SessionActor.deliver`).
    """

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.parked = False
        self._send: trio.MemorySendChannel[Any]
        self._receive: trio.MemoryReceiveChannel[Any]
        self._send, self._receive = open_mailbox(capacity)

    def tell(self, message: object) -> None:
        """Put a message into the mailbox without waiting.

        Raises `trio.WouldBlock` when the mailbox is full, `ActorGone` when the actor has ended.
        """
        self.parked = False
        try:
            self._send.send_nowait(message)
        except trio.BrokenResourceError:
            raise ActorGone(self.name) from None

    async def put(self, message: object) -> None:
        """Put a message into the mailbox, waiting for room: this is how back-pressure reaches the sender."""
        self.parked = False
        try:
            await self._send.send(message)
        except trio.BrokenResourceError:
            raise ActorGone(self.name) from None

    async def ask(self, question: Question[A], within: float = DEFAULT_ASK_TIMEOUT) -> A:
        """Put a question and wait for its answer, `within` so many seconds."""
        with trio.move_on_after(within):
            await self.put(question)
            return await question.wait()
        raise AskTimeout(f"{self.name} did not answer within {within:g} s")

    async def receive(self) -> Any:
        """The next message; `parked` while there is none."""
        try:
            return self._receive.receive_nowait()
        except trio.WouldBlock:
            self.parked = True
        try:
            return await self._receive.receive()
        finally:
            self.parked = False

    def mailbox_len(self) -> int:
        return self._receive.statistics().current_buffer_used

    def drain(self) -> list[Any]:
        """Take out all that is in the mailbox now, without waiting."""
        items: list[Any] = []
        while True:
            try:
                items.append(self._receive.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                return items

    def end(self) -> None:
        """Close the mailbox; questions that are still in it are told that the actor is gone."""
        for item in self.drain():
            if isinstance(item, Question):
                item.fail(ActorGone(self.name))
        self._receive.close()
