"""The seam to what keeps state: writes are plain calls that return a ticket, only waiting is asynchronous.

Invariant: operations reach the store in the order in which they were written, and those of one turn (between two
awaits of the caller) are durable together or not at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import trio

from trio_broker.session.outgoing import Outgoing
from trio_broker.store.operations import Kept, Operation, PutDocument
from trio_broker.store.ticket import Ticket


class Wall(Protocol):
    """The broker's clock: Trio time (seconds) and wall clock (milliseconds)."""

    is_real: bool

    def now(self) -> float: ...

    def wall_ms(self, now: float) -> int: ...

    def trio_time(self, wall_ms: int) -> float: ...


class Store(Protocol):
    """Where sessions, their messages, retained messages and documents are kept.

    `keeps` is False for a store that forgets everything: then nobody needs to write to it. `failure` says why nothing
    can be written now, None = all is well; while it lasts, nothing that was written is lost, and no ticket is done.
    `is_behind`: more was written than should be; who can wait does so in `room`.
    """

    keeps: bool
    failure: str | None
    damaged: str | None
    """Where a file that was damaged was put when this store was opened."""
    persisted: int
    """Messages that were committed since then."""

    @property
    def is_behind(self) -> bool: ...

    async def open(self, wall: Wall, told: Callable[[str | None], None]) -> None:
        """Get ready; `told` is called with every change of `failure`. Raises ConfigError for what a user can mend."""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Commit what is written, until cancelled."""

    def load(self) -> AsyncIterator[Kept]:
        """Everything that is kept, once, at the start: sessions come before what belongs to them.

        Copies of a session that is not there belong to nobody: remove them.
        """

    async def documents(self) -> list[PutDocument]:
        """The documents of all kinds, in the order in which they were last written. Raises ConfigError."""

    # -- writing

    def write(self, *operations: Operation) -> Ticket:
        """Take operations without waiting; the ticket is done when they are durable."""

    def new_key(self) -> int:
        """A number for a new session."""

    def add(self, session: int, copies: Sequence[Outgoing]) -> None:
        """Keep copies for a session, in this order; gives each its `row`."""

    def change(self, copies: Sequence[Outgoing]) -> None:
        """The packet identifier or the phase of copies that are kept is another."""

    def remove(self, copies: Sequence[Outgoing]) -> None:
        """Copies that are kept are no longer needed."""

    def remove_rows(self, rows: Sequence[int], messages: Sequence[int]) -> None:
        """The same for copies that are nowhere but in the store."""

    @property
    def ticket(self) -> Ticket:
        """Done when everything that was written so far is durable."""

    async def room(self) -> None:
        """Return when the store is not behind with its work (back-pressure)."""

    # -- reading

    async def queue(self, rows: Sequence[int]) -> list[Outgoing]:
        """Copies by their rows, in the order of the rows; what is no longer there is left out. Raises StoreError."""

    async def close(self) -> None:
        """Make all that was taken durable, then let go of it."""
