"""Every kind: what it takes from files and from text, what it refuses, and that its plain form comes back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.config.kinds import (
    Address,
    Choice,
    Duration,
    Flag,
    Integer,
    ListOf,
    Mark,
    Number,
    Or,
    Rate,
    Size,
    SpelledFloat,
    SpelledInt,
    Table,
    Text,
    Watermark,
)
from trio_broker.config.setting import Kind

INFINITE_COUNT = Or("infinity", math.inf, Integer(0), zero=True)
LOOPBACK = Or("loopback", None, Flag())


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (Flag(), True, True),
        (Flag(), "false", False),
        (Flag(), "TRUE", True),
        (Integer(1, 65535), 64, 64),
        (Integer(1, 65535), "64", 64),
        (Number(), 2, 2.0),
        (Number(), "1.5", 1.5),
        (Duration(), "15s", 15.0),
        (Size(), "1MB", 1 << 20),
        (Text(), "", ""),
        (Choice(("a", "b")), " a", "a"),
        (Address(), 1883, "0.0.0.0:1883"),
        (Address(), "", ""),
        (Rate(), "1000/s", 1000.0),
        (Rate(), "500/10s", 50.0),
        (Rate(), "60/m", 1.0),
        (Rate(), 10, 10.0),
        (Rate(), "10", 10.0),
        (Rate(), "0.5/s", 0.5),
        (Rate(), "infinity", math.inf),
        (Rate(sized=True), "1MB/s", float(1 << 20)),
        (INFINITE_COUNT, "infinity", math.inf),
        (INFINITE_COUNT, 0, math.inf),
        (INFINITE_COUNT, "0", math.inf),
        (INFINITE_COUNT, 7, 7),
        (LOOPBACK, "loopback", None),
        (LOOPBACK, False, False),
        (LOOPBACK, "false", False),
        (ListOf(Integer()), [1, "2"], (1, 2)),
        (ListOf(Text(), commas=True), "a, b", ("a", "b")),
        (ListOf(Text(), commas=True), ["a", "b"], ("a", "b")),
        (Table(Integer(1, 255)), {"t/1": 10}, {"t/1": 10}),
        (Mark(), "70%", Watermark(fraction=0.7)),
        (Mark(), "2GB", Watermark(size=2 << 30)),
    ],
)
def test_what_a_kind_takes(kind: Kind, raw: object, value: object) -> None:
    parsed = kind.parse(raw)
    assert parsed == value
    assert type(parsed) in (type(value), SpelledFloat, SpelledInt) or isinstance(value, dict)
    assert kind.parse(kind.plain(parsed)) == value


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (Flag(), 1),
        (Flag(), "yes"),
        (Integer(1, 65535), 0),
        (Integer(1, 65535), 65536),
        (Integer(1, 65535), True),
        (Integer(1, 65535), 1.0),
        (Integer(1, 65535), "many"),
        (Number(), 0),
        (Number(), math.nan),
        (Number(), "inf"),
        (Number(), True),
        (Duration(), "infinity"),
        (Duration(), 1.5),
        (Size(1, 100), "1KB"),
        (Text("a+"), "b"),
        (Text(), 1),
        (Choice(("a", "b")), "c"),
        (Choice(("a", "b")), ["a"]),
        (Address(), "nowhere"),
        (Rate(), "0/s"),
        (Rate(), "1/0s"),
        (Rate(), "1/parsec"),
        (Rate(), "1MB/s"),
        (Rate(), True),
        (INFINITE_COUNT, False),
        (INFINITE_COUNT, "disabled"),
        (LOOPBACK, "localhost"),
        (ListOf(Integer()), 1),
        (ListOf(Integer()), ["x"]),
        (Table(Integer(1, 255)), {"t/1": 0}),
        (Table(Integer(1, 255)), [1]),
        (Table(Text(), ("a", "b")), {"a": ""}),
        (Mark(), "0%"),
        (Mark(), "101%"),
        (Mark(), "x%"),
        (Mark(), 0),
    ],
)
def test_what_a_kind_refuses(kind: Kind, raw: object) -> None:
    with pytest.raises(ValueError, match=r".*"):
        kind.parse(raw)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (ListOf(Text()), "a, b,", ("a", "b")),
        (ListOf(Text()), '["a", "b,c"]', ("a", "b,c")),
        (ListOf(Text()), "", ()),
        (Or("disabled", None, Table(Integer())), '{"t/1" = 10}', {"t/1": 10}),
        (Or("disabled", None, Table(Integer())), "disabled", None),
    ],
)
def test_lists_and_tables_from_the_environment(kind: Kind, text: str, value: object) -> None:
    assert kind.parse(text, text=True) == value


@pytest.mark.parametrize("text", ["{", "1", '["a"'])
def test_what_is_no_table_in_the_environment(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Table(Integer()).parse(text, text=True)


@given(st.integers(min_value=1, max_value=10**12) | st.just(math.inf) | st.floats(min_value=0.001, max_value=1e12))
def test_every_rate_comes_back(rate: float) -> None:
    for kind in (Rate(), Rate(sized=True)):
        assert kind.parse(kind.plain(float(rate))) == rate


@given(st.floats(min_value=0, max_value=1, exclude_min=True))
def test_every_fraction_comes_back(fraction: float) -> None:
    mark = Watermark(fraction=fraction)
    assert Mark().parse(Mark().plain(mark)) == mark


def test_a_watermark_in_bytes() -> None:
    assert Watermark(fraction=0.7).bytes_of(1000) == 700
    assert Watermark(size=64).bytes_of(1000) == 64


def test_a_table_cannot_be_changed_once_read() -> None:
    table = Table(Integer()).parse({"a": 1})
    with pytest.raises(TypeError):
        table["b"] = 2  # type: ignore[index]


@pytest.mark.parametrize(
    ("kind", "raw", "shown"),
    [
        (Duration(), "60s", "60s"),
        (Duration(), " 90m ", "90m"),
        (Duration(), 90_000, "1m30s"),
        (Duration(), "0" * 40 + "60s", "1m"),
        (Size(), "2048KB", "2048KB"),
        (Size(), 2048, "2KB"),
        (Size(), "2048", "2KB"),
        (Or("disabled", math.inf, Duration()), "24h", "24h"),
    ],
)
def test_what_is_shown_is_what_was_written(kind: Kind, raw: object, shown: object) -> None:
    assert kind.plain(kind.parse(raw)) == shown
