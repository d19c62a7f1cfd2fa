"""FilterTrie: matching, replacing, pruning, and filters as deep as a filter can be."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing.reference import MATCHING, matches, small_names, topic_filters, topic_names

from trio_broker.routing.filter_trie import FilterTrie, has_wildcard, levels_match

DEEP = 32_768  # levels of the deepest filter there can be: 65,535 bytes


def trie_of(*filters: str) -> FilterTrie[str]:
    trie = FilterTrie[str]()
    for topic_filter in filters:
        trie.insert(topic_filter, topic_filter)
    return trie


@pytest.mark.parametrize(("topic_filter", "topic_name", "expected"), MATCHING)
def test_one_filter(topic_filter: str, topic_name: str, expected: bool) -> None:
    assert trie_of(topic_filter).match(topic_name) == ([topic_filter] if expected else [])


@pytest.mark.parametrize(("topic_filter", "topic_name", "expected"), MATCHING)
def test_one_filter_among_all_others(topic_filter: str, topic_name: str, expected: bool) -> None:
    """Forked tails and shared nodes must not change what matches."""
    trie = trie_of(*(row[0] for row in MATCHING))
    assert (topic_filter in trie.match(topic_name)) is expected


@pytest.mark.parametrize(("topic_filter", "topic_name", "expected"), MATCHING)
def test_levels(topic_filter: str, topic_name: str, expected: bool) -> None:
    if topic_name.startswith("$") and has_wildcard(topic_filter[0]):
        expected = True  # that rule is the caller's
    assert levels_match(topic_filter.split("/"), topic_name.split("/"), 0) is expected
    assert levels_match(topic_filter.split("/"), ["x", *topic_name.split("/")], 1) is expected


@pytest.mark.parametrize(
    ("topic_filter", "expected"), [("a", False), ("a/b", False), ("+", True), ("#", True), ("a/+/b", True)]
)
def test_has_wildcard(topic_filter: str, expected: bool) -> None:
    assert has_wildcard(topic_filter) is expected


def test_all_that_match_come_once_and_the_exact_one_first() -> None:
    trie = trie_of("a/b", "a/+", "+/b", "+/+", "#", "a/#", "a/b/#", "+/#", "a/c", "a/+/c")
    found = trie.match("a/b")
    assert found[0] == "a/b"
    assert sorted(found) == sorted(["a/b", "a/+", "+/b", "+/+", "#", "a/#", "a/b/#", "+/#"])


@pytest.mark.parametrize("topic_filter", ["a/b", "a/+", "a/#", "#", "+", "a/+/c/d"])
def test_insert_again_replaces(topic_filter: str) -> None:
    trie = FilterTrie[int]()
    assert trie.insert(topic_filter, 1) is None
    assert trie.insert(topic_filter, 2) == 1
    assert trie.get(topic_filter) == 2
    assert len(trie) == 1
    assert list(trie.values()) == [2]


@pytest.mark.parametrize("topic_filter", ["a/b", "a/+", "a/+/c", "a/#", "#", "+/#", "x", "x/+", "a/+/c/d", "a/+/b/#"])
def test_unknown_filters(topic_filter: str) -> None:
    """Near misses: same beginning, other end, or a part of a filter that is there."""
    trie = trie_of("a/+/b", "a/+/c/+", "y/+")
    assert trie.get(topic_filter) is None
    assert trie.remove(topic_filter) is None
    assert len(trie) == 3
    assert sorted(trie.values()) == ["a/+/b", "a/+/c/+", "y/+"]


def test_exact_filters_stay_out_of_the_trie() -> None:
    trie = trie_of("a/b/c", "$SYS/x", "/")
    assert trie.count_nodes() == 0
    assert trie.exact == {"a/b/c": "a/b/c", "$SYS/x": "$SYS/x", "/": "/"}


@given(st.lists(topic_filters, unique=True), st.randoms(use_true_random=False))
def test_removing_everything_leaves_nothing(filters: list[str], random: object) -> None:
    trie = trie_of(*filters)
    order = list(filters)
    random.shuffle(order)  # type: ignore[attr-defined]
    for topic_filter in order:
        assert trie.remove(topic_filter) == topic_filter
        assert trie.get(topic_filter) is None
    assert len(trie) == 0
    assert trie.count_nodes() == 0
    assert list(trie.values()) == []


@given(
    st.lists(st.tuples(st.booleans(), topic_filters), max_size=40),
    st.lists(topic_names, min_size=1, max_size=5),
)
def test_like_a_dict(changes: list[tuple[bool, str]], names: list[str]) -> None:
    trie = FilterTrie[int]()
    model: dict[str, int] = {}
    for number, (insert, topic_filter) in enumerate(changes):
        if insert:
            assert trie.insert(topic_filter, number) == model.get(topic_filter)
            model[topic_filter] = number
        else:
            assert trie.remove(topic_filter) == model.pop(topic_filter, None)
    assert len(trie) == len(model)
    assert sorted(trie.values()) == sorted(model.values())
    for topic_filter, number in model.items():
        assert trie.get(topic_filter) == number
    for name in names:
        expected = sorted(number for topic_filter, number in model.items() if matches(topic_filter, name))
        assert sorted(trie.match(name)) == expected


@given(st.lists(topic_filters, unique=True, max_size=12))
def test_every_small_topic(filters: list[str]) -> None:
    trie = trie_of(*filters)
    for name in small_names():
        assert sorted(trie.match(name)) == sorted(one for one in filters if matches(one, name))


@pytest.mark.parametrize("level", ["+", "a", ""])
def test_as_deep_as_can_be(level: str) -> None:
    levels = [level] * (DEEP - 1)
    one, two, three = "/".join([*levels, "+"]), "/".join([*levels, "#"]), "/".join([*levels, "x", "+"])
    trie = trie_of(one)
    assert trie.count_nodes() == 1
    trie.insert(two, two)
    trie.insert(three, three)
    name = "/".join([level.replace("+", "a")] * (DEEP - 1))
    assert trie.match(name) == [two]
    assert sorted(trie.match(name + "/x")) == sorted([one, two])
    assert sorted(trie.match(name + "/x/y")) == sorted([two, three])
    assert trie.match(name[:-2]) == []
    assert sorted(trie.values()) == sorted([one, two, three])
    assert [trie.remove(it) for it in (two, one, three)] == [two, one, three]
    assert trie.count_nodes() == 0


def test_a_deep_trie_goes_away_without_recursion() -> None:
    trie = trie_of("+/" * DEEP + "a", "+/" * DEEP + "b")
    assert trie.count_nodes() > DEEP
    trie = trie_of("a/+")
    assert trie.match("a/b") == ["a/+"]


def test_a_topic_of_nothing_but_slashes() -> None:
    trie = trie_of("+/+", "+/#", "#", "/#", "a/#")
    assert sorted(trie.match("/" * 65_535)) == ["#", "+/#", "/#"]


def test_no_place_is_reached_twice() -> None:
    """All 4096 filters of twelve levels out of {a, +} match; each is found once."""
    filters = ["/".join(levels) for levels in product("a+", repeat=12)]
    trie = trie_of(*filters)
    assert sorted(trie.match("/".join("a" * 12))) == sorted(filters)
    assert trie.match("/".join("a" * 11)) == []
    assert trie.match("/".join("a" * 13)) == []
