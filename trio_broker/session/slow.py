"""Who wants to know how long deliveries take: one object that sessions look at, and one actor writes.

Invariant: while nobody wants to know (`watch` is None) a session asks once for each batch of acknowledgements and once
for each message that had to be queued, and never for a message that is sent at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from attrs import define

from trio_broker.session.outgoing import Outgoing


class SlowWatch(Protocol):
    def completed(self, client_id: str, copies: Iterable[tuple[Outgoing, float | None]], now: float) -> None:
        """The deliveries of these are complete: acknowledged, or (QoS 0) written after they had waited.

        Each with the Trio time at which it was first sent; None if that was when it was inserted, or is not known.
        """


@define(eq=False)
class Slow:
    watch: SlowWatch | None = None
