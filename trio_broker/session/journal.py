"""What a session tells whoever keeps it, when it has to outlive its connection.

Invariant: a session without a journal costs nothing more; one with a journal tells it every change of what would have
to be there after a restart, within the step that makes the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trio_broker.session.outgoing import Outgoing


class Journal(Protocol):
    """Calls never wait. What must not be said before it is durable is given to `hold`."""

    def add(self, copies: Sequence[Outgoing]) -> None:
        """Copies are new: queued, or sent with the packet identifier they have; each gets its `row`."""

    def change(self, copies: Sequence[Outgoing]) -> None:
        """Copies were given a packet identifier, or their phase is another."""

    def remove(self, copies: Sequence[Outgoing]) -> None:
        """Copies are acknowledged, expired or dropped."""

    def remove_rows(self, rows: Sequence[int], messages: Sequence[int]) -> None:
        """The same for copies of which only the store has more."""

    def released(self, packet_identifiers: Sequence[int]) -> None:
        """QoS 2 messages of the client are complete."""

    @property
    def is_holding(self) -> bool:
        """Does something wait that was given to `hold`? Then other messages should not overtake it."""

    def hold(self, frames: list[bytes], out: list[bytes]) -> None:
        """Send these when everything that was told until now is durable, in the order of the calls.

        Where that is so already they go to `out`.
        """
