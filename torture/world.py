"""What all clients of a run share: where the broker is, which round it is, and when to come to an end."""

from __future__ import annotations

import random

import trio
from attrs import define, field

from torture.judge import Judge

__all__ = ["World"]


@define(eq=False)
class World:
    """`seed` with the name of a client decides what that client does."""

    judge: Judge
    port: int
    seed: int
    crowded: set[str] = field(factory=set)
    """Publishers that wait, as one of their subscribers is too far behind."""
    finishing: bool = False
    """No new messages, nobody goes away: what is in flight comes to its end."""
    _changed: trio.Event = field(factory=trio.Event)

    def chance(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}/{name}")

    def begin_round(self) -> None:
        self.judge.begin_round()
        self._wake()

    def finish(self) -> None:
        self.finishing = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def stay_away(self, rounds: int) -> None:
        """Until so many more have begun, or it comes to the end."""
        await trio.lowlevel.checkpoint()
        while rounds and not self.finishing:
            await self._changed.wait()
            rounds -= 1
