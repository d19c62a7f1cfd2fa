"""The promise that a write is durable.

Invariant: a ticket is done exactly when what it stands for survives what the chosen durability says it survives.
"""

from __future__ import annotations

import trio

from trio_broker.errors import StoreError


class Ticket:
    """One per batch of writes, shared by all who wait for it."""

    __slots__ = ("_error", "_event", "done")

    def __init__(self, done: bool = False) -> None:
        self.done = done
        self._error: StoreError | None = None
        self._event: trio.Event | None = None

    async def wait(self) -> None:
        """Return when the batch is durable; raises StoreError when it failed."""
        if not self.done:
            if self._event is None:
                self._event = trio.Event()
            await self._event.wait()
        if self._error is not None:
            raise self._error

    def resolve(self, error: StoreError | None = None) -> None:
        """The batch was committed, or failed with `error`."""
        self.done = True
        self._error = error
        if self._event is not None:
            self._event.set()


# Nothing had to be stored: costs nothing to wait for.
DONE = Ticket(done=True)
