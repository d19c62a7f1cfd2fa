"""How Python's garbage collector runs in a broker that has its process to itself.

Invariant: what is there when the broker is ready is never looked at again; the rest is, but seldom all of it at once.

Nothing that the broker makes for connections and messages is a cycle, so reference counts free it. Cycles come from
the libraries of the REST API and from exceptions, and die young. A full collection looks at every object of every
session and stops the world meanwhile: about 20 ms with 1,000 connections when it also looks at all that was imported.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

THRESHOLDS: Final = (1_000, 20, 50)
"""New objects before the youngest are looked at (a tenth of a millisecond), then all since 20 such looks (a
millisecond), then, after 50 of those, everything that is not frozen."""


@contextmanager
def short_pauses() -> Iterator[None]:
    """Begin when everything is loaded and the broker is ready. Process-wide, so it is for the command alone."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
