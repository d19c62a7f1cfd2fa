"""Regular expressions in linear time: whatever the pattern, and what cannot be done is refused with a reason."""

from __future__ import annotations

import re
import warnings

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_broker.routing.patterns import MAX_PATTERN, Pattern, PatternError

PIECES = [
    *("a", "b", "-", "1", ".", "^", "|", "(", ")", "(?:", "/", "B", "\\d", "\\W", "\\.", "\\\\"),
    *("*", "+", "?", "{2}", "{1,2}", "[ab]", "[^a]", "[^]]", "[a\\]b]", "(?i)"),
]
patterns = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
texts = st.text("ab1-./B", max_size=12)


def by_re(pattern: str) -> re.Pattern[str] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return re.compile(pattern)
        except re.error:
            return None


@given(pattern=patterns, some=st.lists(texts, min_size=1, max_size=5))
@example(pattern="(?i)A.B$", some=["a-b"])
@example(pattern="^test-[0-9]+$", some=["test-1", "test-"])
def test_what_both_take_is_found_where_re_finds_it(pattern: str, some: list[str]) -> None:
    judge = by_re(pattern)
    try:
        ours = Pattern(pattern)
    except PatternError:
        return
    if judge is None:
        return
    assert ours.count == judge.groups
    for text in some:
        found = judge.search(text)
        assert ours.matches(text) is (found is not None)
        assert (ours.groups(text) is None) is (found is None)


def test_groups() -> None:
    pattern = Pattern("^x/([^/]+)/(é+)?(.*)$")
    assert pattern.groups("x/12/éé/z") == ["12", "éé", "/z"]
    assert pattern.groups("x/12/z") == ["12", "", "z"]
    assert pattern.groups("y") is None
    assert pattern.count == 3


@pytest.mark.parametrize("pattern", ["(a+)+$", "^(a|a)*$", "^(.*?,){20}P", ".*.*.*.*.*x$", "(a?){50}a{50}$"])
def test_what_takes_re_for_ever_is_done_at_once(pattern: str) -> None:
    """Would not come to its end by going back and trying again."""
    ours = Pattern(pattern)
    text = "a" * 30_000 + "," + "a" * 30_000 + "!"
    assert not ours.matches(text)
    assert ours.groups(text) is None


@pytest.mark.parametrize(
    ("pattern", "reason", "position"),
    [
        ("(", "missing ) (", None),
        ("a[b", "missing ] [b", 1),
        ("a**", "bad repetition operator **", 1),
        ("x(?=a)", "invalid perl operator (?=", 1),
        (r"(a)\1", r"invalid escape sequence \1", 3),
        ("a{1001}", "invalid repetition size {1001}", 1),
        ("\ud800", "not Unicode", 0),
        ("(?:" * 200 + "[a-zé]{9}" + "){9}" * 200, None, None),
        ("a" * (MAX_PATTERN + 1), f"longer than {MAX_PATTERN} characters", None),
    ],
)
def test_what_is_refused(pattern: str, reason: str | None, position: int | None) -> None:
    with pytest.raises(PatternError) as refused:
        Pattern(pattern)
    if reason is not None:
        assert refused.value.reason == reason
    if position is not None:
        assert refused.value.position == position
