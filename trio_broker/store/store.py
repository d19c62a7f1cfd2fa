"""The seam to what keeps state: writes are plain calls that return a ticket, only waiting is asynchronous.

Invariant: operations reach the store in the order in which `write` was called.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from trio_broker.store.operations import Operation
from trio_broker.store.ticket import Ticket


class Store(Protocol):
    """Where sessions, retained messages and documents are kept.

    `keeps` is False for a store that forgets everything: then nobody needs to write to it.
    """

    keeps: bool

    def write(self, *operations: Operation) -> Ticket:
        """Take operations without waiting; the ticket is done when they are durable."""

    async def room(self) -> None:
        """Return when the store is not behind with its work (back-pressure)."""

    def load(self) -> AsyncIterator[Operation]:
        """Everything that is kept, once, at the start."""

    async def close(self) -> None:
        """Make all that was taken durable, then let go of it."""
