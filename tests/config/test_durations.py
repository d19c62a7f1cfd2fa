from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.config.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15s", 15.0),
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("1s500ms", 1.5),
        ("2h", 7200.0),
        ("7200s", 7200.0),
        ("1d2h3m4s5ms", 93784.005),
        ("1w", 604800.0),
        ("0s", 0.0),
        ("1.5s", 1.5),
        (" 10S ", 10.0),
        (1500, 1.5),
        ("1500", 1.5),
        (0, 0.0),
    ],
)
def test_what_is_a_duration(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "s", "15 parsecs", "-1s", "1s1m", "1s1s", "1.s", "1e3s", "infinity", "٣s", True, 1.5, None, [], -1],
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (15.0, "15s"),
        (90.0, "1m30s"),
        (0.5, "500ms"),
        (7200.0, "2h"),
        (604800.0, "7d"),
        (0.0005, "0.0005s"),
    ],
)
def test_how_durations_are_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=0, max_value=10**15))
def test_milliseconds_come_back(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(milliseconds) == seconds
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_every_finite_time_comes_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text())
def test_a_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert seconds >= 0
