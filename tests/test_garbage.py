"""The garbage collector of the command."""

from __future__ import annotations

import gc

from trio_broker.garbage import THRESHOLDS, short_pauses


def test_what_is_there_is_frozen_until_the_end() -> None:
    before = gc.get_threshold()
    frozen = gc.get_freeze_count()
    with short_pauses():
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count() > frozen + 1000
        # A cycle made later is found all the same.
        gc.collect()
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        assert gc.collect() == 1
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
