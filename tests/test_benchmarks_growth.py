"""The growth benchmark's arithmetic, on made-up curves, and that its scenes do what they say; nothing is timed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest

from benchmarks.growth import Curve, leave_sessions, main, markdown, retained, routing
from trio_broker.testing import ThreadedBroker

LOGARITHMIC = Curve("a search", "µs", 2.5, {1_000: 1.0, 10_000: 1.3, 100_000: 1.7})
LINEAR = Curve("a walk", "µs", 2.5, {1_000: 1.0, 10_000: 2.0, 100_000: 20.0})
SHOWN = Curve("bytes", "bytes", None, {1_000: 1.0, 10_000: 50.0})


def test_a_curve_is_judged_by_its_steepest_step() -> None:
    assert LOGARITHMIC.steps() == pytest.approx([1.3, 1.7 / 1.3])
    assert not LOGARITHMIC.is_steep
    assert LINEAR.is_steep
    assert not SHOWN.is_steep


def test_a_curve_that_begins_with_nothing_has_steps() -> None:
    assert Curve("zero", "ms", 2.5, {1: 0.0, 10: 5.0}).steps() == [0.0]


def test_curves_with_the_same_numbers_share_a_table() -> None:
    text = markdown([LOGARITHMIC, LINEAR, SHOWN])
    assert text.count("| unit |") == 2
    assert "| a search | µs | 1 | 1.3 | 1.7 | 1.31 x | 2.5 x | holds |" in text
    assert "| a walk | µs | 1 | 2 | 20 | 10.00 x | 2.5 x | STEEP |" in text
    assert "| bytes | bytes | 1 | 50 | 50.00 x | - | - |" in text
    assert re.search(r"\| 1,000 \| 10,000 \| 100,000 \|", text)


@pytest.mark.parametrize("part", [routing, retained])
def test_each_curve_has_a_point_for_each_number(part: Callable[[Sequence[int]], list[Curve]]) -> None:
    found = part((100, 200))
    assert len(found) == 4
    assert all(list(curve.points) == [100, 200] for curve in found)
    assert all(value > 0 for curve in found for value in curve.points.values())


def test_sessions_stay_when_their_clients_are_gone() -> None:
    with ThreadedBroker() as broker:
        leave_sessions(broker.port, 0, 25, at_once=10)
        for number in range(25):
            broker.wait_disconnected(f"sleeper{number}")
        assert {info.client_id for info in broker.clients()} == {f"sleeper{number}" for number in range(25)}
        assert all(info.subscriptions_count == 1 for info in broker.clients())


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "elephants"])
    assert "elephants" in capsys.readouterr().err
