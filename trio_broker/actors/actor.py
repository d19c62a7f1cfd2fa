"""An actor: a mailbox, and state that nobody else touches.

Invariant: a question that was put into a mailbox gets exactly one end: an answer, the error of the actor, `ActorGone`
when the actor ended first, or `AskTimeout` at its deadline.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import trio
from trio.lowlevel import ParkingLot

from trio_broker.errors import AskTimeout

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

    @property
    def is_done(self) -> bool:
        """Is there an answer, or an error in its place?"""
        return self._done

    async def wait(self) -> A:
        """The answer, or the error that came in its place."""
        if not self._done:
            self._lot = ParkingLot()
            await self._lot.park()
        else:
            await trio.lowlevel.checkpoint()
        return self.result()

    def result(self) -> A:
        """The same, when it is there."""
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[return-value]


class Fault:
    """To an actor: a step on its state failed in somebody else's turn; it fails with that error."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class Actor(ABC):
    """What all actors understand. Those with a task of their own are `ResidentActor`, sessions `OnDemandActor`.

    `parked` is true while the mailbox is empty and no task works on the state: then a step on that state is as good
    as a message, for who may take one (see `docs/explanation/architecture.md`).
    """

    __slots__ = ("parked",)

    parked: bool

    @property
    @abstractmethod
    def name(self) -> str:
        """Who it is, for errors and the log."""

    @abstractmethod
    def tell(self, message: object) -> None:
        """Let the actor handle a message, without waiting.

        Raises `trio.WouldBlock` when the mailbox is full, `ActorGone` when the actor has ended.
        """

    @abstractmethod
    async def put(self, message: object) -> None:
        """The same, waiting for room: this is how back-pressure reaches the sender. Raises `ActorGone`."""

    async def ask(self, question: Question[A], within: float = DEFAULT_ASK_TIMEOUT) -> A:
        """Put a question and wait for its answer, `within` so many seconds."""
        with trio.move_on_after(within):
            await self.put(question)
            return await question.wait()
        raise AskTimeout(f"{self.name} did not answer within {within:g} s")

    @abstractmethod
    def mailbox_len(self) -> int:
        """How many messages wait."""


def drain(receive: trio.MemoryReceiveChannel[Any]) -> list[Any]:
    """Take out all that is in a mailbox now, without waiting."""
    items: list[Any] = []
    while True:
        try:
            items.append(receive.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            return items
