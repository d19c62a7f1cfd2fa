"""The promise that a write is durable.

Invariant: a ticket is done exactly when what it stands for survives what the chosen durability says it survives.
Tickets of one store are done in the order of their writes.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from trio_broker.errors import StoreError


class Ticket:
    """One per batch of writes, shared by all who wait for it."""

    __slots__ = ("_calls", "_error", "_event", "done")

    def __init__(self, done: bool = False) -> None:
        self.done = done
        self._error: StoreError | None = None
        self._event: trio.Event | None = None
        self._calls: list[Callable[[], None]] = []

    def then(self, call: Callable[[], None]) -> None:
        """Call when the batch is durable, in the order of asking; never when it failed. Calls must not raise."""
        if not self.done:
            self._calls.append(call)
        elif self._error is None:
            call()

    async def wait(self) -> None:
        """Return when the batch is durable; raises StoreError when it never will be."""
        if not self.done:
            if self._event is None:
                self._event = trio.Event()
            await self._event.wait()
        else:
            await trio.lowlevel.checkpoint()
        if self._error is not None:
            raise self._error

    def resolve(self, error: StoreError | None = None) -> None:
        """The batch was committed, or failed for good with `error`."""
        self.done = True
        self._error = error
        calls, self._calls = self._calls, []
        if error is None:
            for call in calls:
                call()
        if self._event is not None:
            self._event.set()


# Nothing had to be stored: costs nothing to wait for.
DONE = Ticket(done=True)
