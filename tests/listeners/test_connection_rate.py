"""How often somebody may connect."""

from __future__ import annotations

import pytest

from trio_broker.listeners.connection_rate import ConnectionRate


@pytest.mark.parametrize("per_second", [0.1, 1.0, 50.0])
def test_the_rate_holds_on_average(per_second: float) -> None:
    rate = ConnectionRate(per_second)
    now = 100.0
    for _ in range(200):
        now += rate.pause(now)
    assert 200 / per_second - (now - 100.0) == pytest.approx(max(1.0, 1 / per_second))


def test_a_pause_earns_one_second_of_connections() -> None:
    rate = ConnectionRate(10.0)
    assert [rate.pause(0.0) for _ in range(12)] == pytest.approx([0.0] * 10 + [0.1, 0.2])
    assert [rate.pause(1000.0) for _ in range(11)] == pytest.approx([0.0] * 10 + [0.1])
