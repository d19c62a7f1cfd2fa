"""The soak of `make soak` with fewer rounds."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from benchmarks.soak import BLOCKS, TIMER, VISITS, Rest, grown, soak


async def test_a_short_soak(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "trio_broker")  # the records that are kept are not the broker's
    seen: list[int] = []
    before, after = await soak(30 * len(VISITS), seen.append)
    assert len(seen) > 30 * len(VISITS)
    assert grown(before, after) == []


def test_what_has_grown_is_named() -> None:
    before = Rest(Counter({"trio_broker.x.Y": 1, TIMER: 5}), 1000, 10, 20, 5000)
    after = Rest(Counter({"trio_broker.x.Y": 3, TIMER: 6}), 1001 + BLOCKS, 11, 20, 5000)
    assert grown(before, before) == []
    assert grown(before, after) == [
        "2 more objects of trio_broker.x.Y",
        f"blocks: {BLOCKS + 1} more, at most {BLOCKS} allowed",
        "tasks: 1 more, at most 0 allowed",
    ]
