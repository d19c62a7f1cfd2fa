"""What one step of reading leads to: packets for the peer, and work for the actors, gathered as batches.

Invariant: a step holds no state of its own; whoever runs it hands its lists on and forgets it.
"""

from __future__ import annotations

from typing import Any

from trio_broker.protocol.message import Run


class Step:
    """One turn of a reader over one or many connections.

    `routed` goes to the router as one item: runs, subscription changes, in the order of arrival. `next_message_id`
    runs on from `message_id` of the turn before. `now` is Trio time, `wall_ms` wall clock.
    """

    __slots__ = ("next_message_id", "now", "out", "routed", "wall_ms")

    def __init__(self, now: float, wall_ms: int, next_message_id: int) -> None:
        self.now = now
        self.wall_ms = wall_ms
        self.next_message_id = next_message_id
        self.routed: list[Run | Any] = []
        self.out: list[bytes] = []
