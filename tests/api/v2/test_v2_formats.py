"""How EMQ 2 writes times, sizes and loads."""

from __future__ import annotations

import time

import pytest

from trio_broker.api.formats import memory
from trio_broker.api.v2.formats import load, local_time, uptime

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0 seconds"),
        (999, "0 seconds"),
        (18 * SECOND, "18 seconds"),
        (17 * MINUTE + SECOND, "17 minutes, 1 seconds"),
        (17 * MINUTE, "17 minutes, 0 seconds"),
        (HOUR + 17 * MINUTE + SECOND, "1 hours, 17 minutes, 1 seconds"),
        (HOUR, "1 hours, 0 minutes, 0 seconds"),
        (3 * DAY + HOUR + 17 * MINUTE + SECOND, "3 days,1 hours, 17 minutes, 1 seconds"),
        (DAY, "1 days,0 hours, 0 minutes, 0 seconds"),
    ],
)
def test_uptime(milliseconds: int, text: str) -> None:
    assert uptime(milliseconds) == text


@pytest.mark.parametrize(("zone", "text"), [("UTC", "2017-04-14 14:11:38"), ("Asia/Shanghai", "2017-04-14 22:11:38")])
def test_times_are_local(monkeypatch: pytest.MonkeyPatch, zone: str, text: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert local_time(1_492_179_098_999) == text
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (512, "512"),
        (512 * 1024, "512.00K"),  # and not the half of a mebibyte, "0.50K"
        (72_550_973, "69.19M"),
        (5 * 2**28, "1.25G"),
    ],
)
def test_memory(size: int, text: str) -> None:
    assert memory(size) == text


@pytest.mark.parametrize(("average", "text"), [(1.93, "1.93"), (0, "0.00"), (2.0, "2.00"), (10.126, "10.13")])
def test_load(average: float, text: str) -> None:
    assert load(average) == text
