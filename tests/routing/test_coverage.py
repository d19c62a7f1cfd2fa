"""How filters lie to each other, against all names of a small alphabet."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
from hypothesis import given
from routing.reference import matches, topic_filters, topic_names

from trio_broker.routing.coverage import covers, intersects

# "x" stands for all levels that no filter has; "$t" for other names that begin with a `$`.
NAMES = [
    name for depth in range(1, 6) for name in map("/".join, product(["a", "b", "", "$s", "x"], repeat=depth)) if name
]
NAMES += ["$t", "$t/a", "$t/x/x/x/x"]


@cache
def meant(topic_filter: str) -> frozenset[str]:
    return frozenset(name for name in NAMES if matches(topic_filter, name))


def small_filters() -> list[str]:
    """Every filter of two levels out of a small alphabet, and with `#` behind them."""
    levels = ["a", "", "$s", "+"]
    bodies = [body for depth in (1, 2) for body in product(levels, repeat=depth)]
    filters = ["#", *map("/".join, bodies), *("/".join((*body, "#")) for body in bodies)]
    return [one for one in filters if one]


def test_small_filters_lie_to_each_other_as_their_topics_do() -> None:
    filters = small_filters()
    assert len(filters) == 40
    for one, other in product(filters, repeat=2):
        assert covers(one, other) is (meant(other) <= meant(one)), (one, other)
        assert intersects(one, other) is bool(meant(one) & meant(other)), (one, other)


@given(topic_filters, topic_filters)
def test_filters_lie_to_each_other_as_their_topics_do(one: str, other: str) -> None:
    assert covers(one, other) is (meant(other) <= meant(one))
    assert intersects(one, other) is bool(meant(one) & meant(other))


@given(topic_filters, topic_names)
def test_a_name_is_a_filter_for_itself(topic_filter: str, name: str) -> None:
    assert covers(topic_filter, name) is matches(topic_filter, name)
    assert intersects(topic_filter, name) is matches(topic_filter, name)


@given(topic_filters, topic_filters)
def test_what_covers_has_topics_in_common(one: str, other: str) -> None:
    assert intersects(one, other) is intersects(other, one)
    assert intersects(one, other) or not covers(one, other)


@pytest.mark.parametrize(
    ("outer", "inner", "holds"),
    [
        ("t/+", "t/#", False),  # EMQX takes the `#` for one level here
        ("t/#", "t/+", True),
        ("t/#", "t", True),
        ("+/#", "#", True),
        ("/+/#", "/#", True),
        ("a/+/#", "a/#", False),
        ("#", "$SYS/#", False),
        ("$SYS/#", "$SYS/+/uptime", True),
    ],
)
def test_what_covers_what(outer: str, inner: str, holds: bool) -> None:
    assert covers(outer, inner) is holds


@pytest.mark.parametrize(
    ("one", "other", "holds"),
    [
        ("t/secret", "t/+", True),
        ("t/secret", "t/+/#", True),
        ("t/secret/#", "t/secret", True),
        ("t/secret/#", "t", False),
        ("t/+/a", "t/b/+", True),
        ("t/+/a", "t/b/c", False),
        ("#", "$SYS/#", False),
        ("/#", "+", False),
    ],
)
def test_what_has_topics_in_common(one: str, other: str, holds: bool) -> None:
    assert intersects(one, other) is holds
