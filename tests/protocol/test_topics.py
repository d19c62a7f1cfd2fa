"""Topic names, topic filters, shared subscriptions, and what matches what."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.errors import ProtocolError
from trio_broker.protocol import topics
from trio_broker.protocol.topics import (
    TopicNames,
    matches,
    parse_topic_filter,
    validate_topic_filter,
    validate_topic_name,
)


@pytest.mark.parametrize("name", ["a", "/", "//", " ", "a/b", "$SYS/x", "$share/g/a", "é/温度", "\ufeff", "t" * 65_535])
def test_topic_names(name: str) -> None:
    validate_topic_name(name)
    assert TopicNames()[name.encode()] == name


@pytest.mark.parametrize(
    "name", ["", "+", "#", "a/+", "a+", "#a", "a/#", "\0", "a\0", "\ud800", "t" * 65_536, "é" * 32_768]
)
def test_no_topic_names(name: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        validate_topic_name(name)
    assert caught.value.reason_code == 0x90


FILTERS = [
    "a", "/", "//", "#", "+", "/#", "+/#", "#".join(["a/", ""]), "+/+", "/+/", "a/+/b", "+/a/#", "$SYS/#", "$SYS/+",
    " ", "a b", "$share", "$queue", "$shared/x", "t" * 65_535,
]  # fmt: skip
NO_FILTERS = [
    "", "a#", "#/", "#/a", "a/#/b", "##", "/##", "a/b#", "a/#b", "+a", "a+", "a/+b", "a+/b", "++", "+#", "#+", "a/++",
    "\0", "a/\0", "\udfff", "t" * 65_536,
]  # fmt: skip


@pytest.mark.parametrize("topic_filter", FILTERS)
def test_topic_filters(topic_filter: str) -> None:
    validate_topic_filter(topic_filter)
    assert parse_topic_filter(topic_filter) == (None, topic_filter)


@pytest.mark.parametrize("topic_filter", NO_FILTERS)
def test_no_topic_filters(topic_filter: str) -> None:
    for check in (validate_topic_filter, parse_topic_filter):
        with pytest.raises(ProtocolError) as caught:
            check(topic_filter)
        assert caught.value.reason_code == 0x8F


@pytest.mark.parametrize(
    ("topic_filter", "share_name", "match_filter"),
    [
        ("$share/g/a", "g", "a"),
        ("$share/g/a/b", "g", "a/b"),
        ("$share/g/#", "g", "#"),
        ("$share/g/+/a", "g", "+/a"),
        ("$share/g//", "g", "/"),
        ("$share/g//a", "g", "/a"),
        ("$share/a b/$SYS/#", "a b", "$SYS/#"),
        ("$share/$queue/a", "$queue", "a"),
        ("$queue/a/+", "$queue", "a/+"),
        ("$queue//a", "$queue", "/a"),
    ],
)
def test_shared_subscriptions(topic_filter: str, share_name: str, match_filter: str) -> None:
    parts = parse_topic_filter(topic_filter)
    assert (parts.share_name, parts.match_filter) == (share_name, match_filter)


@pytest.mark.parametrize(
    "topic_filter",
    [
        "$share/", "$share/g", "$share/g/", "$share//a", "$share//", "$share/+/a", "$share/#/a", "$share/g+/a",
        "$share/g/a#", "$share/g/#/a", "$share/g/\0", "$share/\0/a", "$share/g/" + "t" * 65_530,
        "$share/g/$share/h/a", "$share/g/$queue/a", "$queue/", "$queue/a#", "$queue/$share/g/a", "$queue/$queue/a",
    ],
)  # fmt: skip
def test_no_shared_subscriptions(topic_filter: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_topic_filter(topic_filter)
    assert caught.value.reason_code == 0x8F


@pytest.mark.parametrize(
    ("topic_filter", "topic_name", "expected"),
    [
        ("a", "a", True),
        ("a", "A", False),
        ("a", "a ", False),
        ("a", "a/", False),
        ("a", "/a", False),
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("#", "a", True),
        ("#", "/", True),
        ("#", "a/b/c", True),
        ("#", "$SYS", False),
        ("#", "$SYS/a", False),
        ("#", "a/$b", True),
        ("a/#", "a", True),
        ("a/#", "a/", True),
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("a/#", "b/a", False),
        ("/#", "/", True),
        ("/#", "/a", True),
        ("/#", "a", False),
        ("a/b/#", "a", False),
        ("+", "a", True),
        ("+", "a/b", False),
        ("+", "/a", False),
        ("+", "$SYS", False),
        ("+/#", "$SYS/a", False),
        ("+/x", "$SYS/x", False),
        ("+/#", "a", True),
        ("+/#", "/", True),
        ("+/+", "/a", True),
        ("/+", "/a", True),
        ("/+", "a", False),
        ("/+", "/", True),
        ("a/+", "a/", True),
        ("a/+", "a", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a//c", True),
        ("a/+/c", "a/b/d", False),
        ("+/b/#", "a/b", True),
        ("+/b/#", "a/c", False),
        ("$SYS/#", "$SYS", True),
        ("$SYS/#", "$SYS/a/b", True),
        ("$SYS/+", "$SYS/a", True),
        ("$SYS/a", "$SYS/a", True),
        ("$SYS/#", "a", False),
        ("é/#", "é/x", True),
        ("é", "e\u0301", False),  # no normalisation [MQTT-4.7.3-4]
    ],
)
def test_matches(topic_filter: str, topic_name: str, expected: bool) -> None:
    assert matches(topic_filter, topic_name) is expected


LEVELS = st.sampled_from(("a", "b", "", "$", "$SYS", "ab"))
FILTER_LEVELS = st.lists(st.one_of(LEVELS, st.just("+")), min_size=1, max_size=4)
NAMES = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)


@st.composite
def topic_filters(draw: st.DrawFn) -> str:
    levels = draw(FILTER_LEVELS)
    if draw(st.booleans()):
        levels[-1] = "#"
    return "/".join(levels) or "/"


def reference_matches(topic_filter: str, topic_name: str) -> bool:
    """The rules as one regular expression."""
    if topic_filter == "#":
        return not topic_name.startswith("$")
    parts = ["[^/]*" if level == "+" else re.escape(level) for level in topic_filter.split("/")]
    pattern = "/".join(parts[:-1]) + "(/.*)?" if topic_filter.endswith("#") else "/".join(parts)
    if topic_filter.startswith("+"):
        pattern = r"(?!\$)" + pattern
    return re.fullmatch(pattern, topic_name, re.DOTALL) is not None


@given(topic_filters(), NAMES)
def test_matches_as_the_reference_does(topic_filter: str, topic_name: str) -> None:
    validate_topic_filter(topic_filter)
    validate_topic_name(topic_name)
    assert matches(topic_filter, topic_name) is reference_matches(topic_filter, topic_name)


@given(st.text(st.sampled_from("a/+#$\0"), max_size=8))
def test_validity_is_that_of_each_level(topic_filter: str) -> None:
    levels = topic_filter.split("/")
    good = (
        topic_filter != ""
        and "\0" not in topic_filter
        and all(level == "+" or not {"+", "#"} & set(level) for level in levels[:-1])
        and (levels[-1] in ("+", "#") or not {"+", "#"} & set(levels[-1]))
    )
    try:
        validate_topic_filter(topic_filter)
    except ProtocolError:
        assert not good
    else:
        assert good


def test_cache_of_topic_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_CACHED_TOPICS", 3)
    names = TopicNames()
    for raw in (b"a", b"b", b"c", b"d", b"a"):
        assert names[raw] == raw.decode()
        assert len(names) <= 3
    assert names[b"t" * 257] == "t" * 257
    assert b"t" * 257 not in names
    for wrong, reason_code in ((b"+", 0x90), (b"\0", 0x81), (b"\xff", 0x81)):
        with pytest.raises(ProtocolError) as caught:
            names[wrong]
        assert caught.value.reason_code == reason_code
        assert wrong not in names


def test_cached_topic_name_is_one_object() -> None:
    names = TopicNames()
    assert names[b"a/b"] is names[b"a/" + b"b"]
