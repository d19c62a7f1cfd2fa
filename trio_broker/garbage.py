"""How Python's garbage collector runs in a broker that has its process to itself.

Invariant: what was looked at is not looked at again before there is twice as much of it.

Nothing that the broker makes for connections and messages is a cycle, so reference counts free it. Cycles come from
the libraries of the REST API and from exceptions, and die young. A full collection would look at every object of every
session and stop the world meanwhile: 20 ms with 1,000 connections when it also looks at all that was imported, a fifth
of a second with 100,000 sessions. So what survives one is frozen, the next looks only at what came since, and at
everything when the frozen have become twice as many, at once, while the load grows, rather than some time later: each
doubling pays once, and cycles among the frozen can at most double what is held.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Final

from attrs import define

__all__ = ["THRESHOLDS", "Freezer", "short_pauses"]

THRESHOLDS: Final = (1_000, 20, 10)
"""New objects before the youngest are looked at (a tenth of a millisecond), then all since 20 such looks (a
millisecond), then, after 10 of those, everything that is not frozen (ten milliseconds)."""
OLDEST: Final = 2
"""The generation that a full collection looks at."""


@define
class Freezer:
    """A callback for `gc.callbacks`: freezes what a full collection leaves, and thaws it when it has doubled."""

    soon: Callable[[Callable[[], object]], object]
    """Has a function called when the collector, which calls us, has ended."""
    frozen: int = 0
    """How many objects were left when everything was looked at the last time."""
    is_thawed: bool = True
    """Whether the next full collection looks at everything."""
    since: int = 0
    """How many full collections looked only at what was new."""

    def __call__(self, phase: str, info: Mapping[str, int]) -> None:
        if phase != "stop" or info["generation"] != OLDEST:
            return
        gc.freeze()
        if self.is_thawed:
            self.frozen, self.is_thawed, self.since = gc.get_freeze_count(), False, 0
            return
        self.since += 1
        # Counting walks over all of them: not before there can be twice as many.
        if self.since * prod(THRESHOLDS) >= self.frozen and gc.get_freeze_count() >= 2 * self.frozen:
            gc.unfreeze()
            self.is_thawed = True
            self.soon(gc.collect)


@contextmanager
def short_pauses(soon: Callable[[Callable[[], object]], object]) -> Iterator[None]:
    """Begin when everything is loaded and the broker is ready. Process-wide, so it is for the command alone.

    `soon`: `TrioToken.run_sync_soon`, which may be called in the middle of anything.
    """
    before = gc.get_threshold()
    freezer = Freezer(soon)
    gc.callbacks.append(freezer)
    gc.collect()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.callbacks.remove(freezer)
        gc.set_threshold(*before)
        gc.unfreeze()
