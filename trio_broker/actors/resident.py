"""An actor with a task of its own, which lives as long as the broker.

Invariant: `parked` is true only while the task waits for a message and none is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import trio
from trio.lowlevel import ParkingLot

from trio_broker.actors.actor import Actor, Fault, Question, drain, open_mailbox
from trio_broker.errors import ActorGone


class ResidentActor(Actor):
    """Base of the router, the retainer, the session manager and their like.

    The mailbox holds `capacity` messages of those who can wait or do without; those who can do neither (`tell_always`)
    are few, or bounded by something else.
    """

    def __init__(self, name: str, capacity: int) -> None:
        self._name = name
        self.capacity = capacity
        self.parked = False
        self._waiting = 0
        self._crowd = ParkingLot()
        self._send: trio.MemorySendChannel[Any]
        self._receive: trio.MemoryReceiveChannel[Any]
        self._send, self._receive = open_mailbox(math.inf)

    @property
    def name(self) -> str:
        return self._name

    @property
    def is_behind(self) -> bool:
        """Are there as many messages as the mailbox should hold?"""
        return self._waiting >= self.capacity

    def mailbox_len(self) -> int:
        return self._waiting

    def tell(self, message: object) -> None:
        if self._waiting >= self.capacity:
            raise trio.WouldBlock
        self.tell_always(message)

    def tell_always(self, message: object) -> None:
        """Put a message into the mailbox, however full it is."""
        self.parked = False
        try:
            self._send.send_nowait(message)
        except trio.BrokenResourceError:
            raise ActorGone(self.name) from None
        self._waiting += 1

    async def put(self, message: object) -> None:
        await self.room()
        self.tell_always(message)

    async def room(self) -> None:
        """Return when the mailbox has room, or will never have any again."""
        if not self.is_behind:
            await trio.lowlevel.checkpoint()
        while self.is_behind:
            await self._crowd.park()

    async def receive(self) -> Any:
        """The next message; `parked` while there is none."""
        if not self._waiting:
            self.parked = True
        try:
            message = await self._receive.receive()
        finally:
            self.parked = False
        return self._taken(message)

    def _taken(self, message: Any) -> Any:
        self._waiting -= 1
        if self._crowd and not self.is_behind:
            self._crowd.unpark()
        if type(message) is Fault:
            raise message.error
        return message

    def next_message(self) -> Any:
        """One more message without waiting; only while `mailbox_len()` is above 0."""
        return self._taken(self._receive.receive_nowait())

    def in_turn(self, step: Callable[[Any], None], message: Any) -> None:
        """Take a step in the turn of who brings the message; only while `parked`.

        A fault comes out where this actor's task is, and not at the bringer's.
        """
        self.parked = False
        try:
            step(message)
        except Exception as error:  # noqa: BLE001 - raised by `receive`
            self.tell_always(Fault(error))
        if not self._waiting:
            self.parked = True

    def end(self) -> None:
        """Close the mailbox; questions that are still in it are told that the actor is gone."""
        for item in drain(self._receive):
            if isinstance(item, Question):
                item.fail(ActorGone(self.name))
        self._receive.close()
        self.parked = False
        self._waiting = 0
        self._crowd.unpark_all()
