"""The garbage collector of the command."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from trio_broker import garbage
from trio_broker.garbage import THRESHOLDS, Freezer, short_pauses

OLD: Final = {"generation": 2, "collected": 0, "uncollectable": 0}
later: list[Callable[[], object]] = []
"""What was to be called when the collector has ended."""


class Knot:
    """Refers to itself: only the collector finds it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def thawed() -> Iterator[None]:
    later.clear()
    was_enabled = gc.isenabled()
    gc.disable()
    gc.unfreeze()
    yield
    gc.unfreeze()
    if was_enabled:
        gc.enable()


def test_what_is_there_is_frozen_until_the_end() -> None:
    before, callbacks = gc.get_threshold(), list(gc.callbacks)
    frozen = gc.get_freeze_count()
    with short_pauses(later.append):
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count() > frozen + 1000
        # A cycle made later is found all the same.
        gc.collect()
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        assert gc.collect() == 1
    assert gc.get_threshold() == before
    assert gc.callbacks == callbacks
    assert gc.get_freeze_count() == 0


def looked_at(objects: list[list[int]]) -> int:
    """How many of these the collector looks at: all that are not frozen."""
    known = set(map(id, gc.get_objects()))
    return sum(id(one) in known for one in objects)


def test_what_a_full_collection_leaves_is_frozen_too(thawed: None) -> None:
    with short_pauses(later.append):
        kept = [[number] for number in range(5000)]
        assert looked_at(kept) == len(kept)
        gc.collect()
        assert looked_at(kept) == 0


def test_a_cycle_among_the_frozen_is_found_when_they_have_doubled(
    thawed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "THRESHOLDS", (1, 1, 1_000_000))
    freezer = Freezer(later.append)
    freezer("stop", OLD)
    knot = Knot()
    gone = weakref.ref(knot)
    freezer("stop", OLD)
    del knot
    gc.collect()
    assert gone() is not None, "it was frozen before it became garbage"
    kept = [[number] for number in range(freezer.frozen + 1000)]
    freezer("stop", OLD)
    assert freezer.is_thawed
    (collect,) = later
    collect()
    assert gone() is None
    freezer("stop", OLD)
    assert not freezer.is_thawed
    assert freezer.frozen > len(kept)


def test_the_frozen_are_not_even_counted_before_there_can_be_twice_as_many(
    thawed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def count() -> int:
        counted.append(1)
        return 2500

    monkeypatch.setattr(garbage, "THRESHOLDS", (10, 10, 10))
    monkeypatch.setattr(gc, "get_freeze_count", count)
    freezer = Freezer(later.append)
    freezer("stop", OLD)
    assert len(counted) == 1
    for _ in range(2):
        freezer("stop", OLD)
    assert len(counted) == 1
    freezer("stop", OLD)
    assert len(counted) == 2
    assert not freezer.is_thawed


@pytest.mark.parametrize(("phase", "generation"), [("start", 2), ("stop", 0), ("stop", 1)])
def test_young_collections_freeze_nothing(thawed: None, phase: str, generation: int) -> None:
    freezer = Freezer(later.append)
    freezer(phase, OLD | {"generation": generation})
    assert freezer.is_thawed
    assert gc.get_freeze_count() == 0
