"""RetainedTrie: setting, matching, expiry, and changes while a match is paused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing.reference import MATCHING, crowded_names, matches, message, small_names, topic_filters, topic_names

from trio_broker.protocol.message import Message
from trio_broker.routing.retained_trie import PATIENCE, RetainedTrie

DEEP = 65_536  # levels of the deepest topic name there can be: 65,535 slashes


def trie_of(*names: str) -> RetainedTrie:
    trie = RetainedTrie()
    for name in names:
        trie.set(message(name))
    return trie


def names_of(trie: RetainedTrie, topic_filter: str, now: float | None = None) -> list[str]:
    return sorted(it.topic_name for it in trie.match(topic_filter, now))


@pytest.mark.parametrize(("topic_filter", "topic_name", "expected"), MATCHING)
def test_one_message(topic_filter: str, topic_name: str, expected: bool) -> None:
    assert names_of(trie_of(topic_name), topic_filter) == ([topic_name] if expected else [])


@pytest.mark.parametrize(("topic_filter", "topic_name", "expected"), MATCHING)
def test_one_message_among_all_others(topic_filter: str, topic_name: str, expected: bool) -> None:
    trie = trie_of(*(row[1] for row in MATCHING))
    assert (topic_name in names_of(trie, topic_filter)) is expected


@given(topic_filters)
def test_every_small_topic(topic_filter: str) -> None:
    names = small_names()
    assert names_of(trie_of(*names), topic_filter) == sorted(name for name in names if matches(topic_filter, name))


def test_set_gives_what_was_there() -> None:
    trie = RetainedTrie()
    one, two, gone = message("a/b"), message("a/b", b"y"), message("a/b", b"")
    assert trie.set(one) is None
    assert trie.set(two) is one
    assert trie.get("a/b") is two
    assert list(trie.match("a/+")) == [two]
    assert len(trie) == 1
    assert trie.set(gone) is two
    assert trie.set(gone) is None
    assert trie.get("a/b") is None
    assert list(trie.match("#")) == []
    assert len(trie) == 0


def test_get_and_delete() -> None:
    trie = trie_of("a", "a/b", "a/b/c")
    assert trie.delete("a/c") is None
    assert trie.delete("a/b/c/d") is None
    assert trie.get("a/c") is None
    removed = trie.delete("a/b")
    assert removed is not None
    assert removed.topic_name == "a/b"
    assert trie.delete("a/b") is None
    assert names_of(trie, "#") == ["a", "a/b/c"]


def test_iteration_gives_all_even_hidden_and_expired_ones() -> None:
    trie = trie_of("a", "$SYS/x")
    trie.set(message("old", expires_at=1.0))
    assert trie.expire(0.5, 10) == []
    assert sorted(it.topic_name for it in trie) == ["$SYS/x", "a", "old"]
    for it in trie:
        trie.delete(it.topic_name)
    assert len(trie) == 0


@given(st.lists(crowded_names, unique=True), st.randoms(use_true_random=False))
def test_deleting_everything_leaves_nothing(names: list[str], random: object) -> None:
    trie = trie_of(*names)
    order = list(names)
    random.shuffle(order)  # type: ignore[attr-defined]
    for number, name in enumerate(order):
        assert names_of(trie, "#") == sorted(it for it in order[number:] if not it.startswith("$"))
        removed = trie.delete(name)
        assert removed is not None
        assert removed.topic_name == name
    assert len(trie) == 0
    assert trie.count_nodes() == 0
    assert trie._root.children is None
    assert trie._hidden_root.children is None


def test_nodes_only_where_topics_part() -> None:
    trie = trie_of("a/b/c/d", "x/y/z", "v")
    assert trie.count_nodes() == 0
    trie.set(message("a/b/e"))
    assert trie.count_nodes() == 2


@pytest.mark.parametrize("topic_filter", ["a/#", "a/b", "#", "+/+", "nothing/#", "$x/#"])
def test_delete_matching(topic_filter: str) -> None:
    names = ["a", "a/b", "a/b/c", "b", "$x/y"]
    trie = trie_of(*names)
    trie.set(message("a/old", expires_at=1.0))
    names.append("a/old")
    deleted = trie.delete_matching(topic_filter)
    assert sorted(it.topic_name for it in deleted) == sorted(it for it in names if matches(topic_filter, it))
    assert sorted(it.topic_name for it in trie) == sorted(it for it in names if not matches(topic_filter, it))


# -- expiry


def test_expired_ones_are_not_seen() -> None:
    trie = RetainedTrie()
    for expires_at in (None, 10.0, 20.0):
        trie.set(message(f"a/{expires_at}", expires_at=expires_at))
    assert names_of(trie, "a/+", 9.9) == ["a/10.0", "a/20.0", "a/None"]
    assert names_of(trie, "a/+", 10.0) == ["a/20.0", "a/None"]  # nothing left of it: expired
    assert names_of(trie, "#", 99.0) == ["a/None"]
    assert names_of(trie, "a/10.0", 9.9) == ["a/10.0"]
    assert names_of(trie, "a/10.0", 10.0) == []
    assert trie.get("a/10.0", 9.9) is not None
    assert trie.get("a/10.0", 10.0) is None
    assert trie.get("a/10.0") is not None
    assert len(trie) == 3


def test_expired_agrees_with_what_the_message_says() -> None:
    trie = trie_of()
    one = message("a", expires_at=10.0)
    trie.set(one)
    for now in (8.5, 9.0, 9.999, 10.0, 10.001, 11.0):
        remaining = one.remaining_expiry(now)
        assert remaining is not None
        assert (trie.get("a", now) is None) == (remaining <= 0)


def test_expire_sweeps_the_oldest_first_and_no_more_than_asked() -> None:
    trie = RetainedTrie()
    for number in (3, 1, 5, 2, 4):
        trie.set(message(f"a/{number}", expires_at=float(number)))
    trie.set(message("stays"))
    assert [it.topic_name for it in trie.expire(4.0, 2)] == ["a/1", "a/2"]
    assert [it.topic_name for it in trie.expire(4.0, 10)] == ["a/3", "a/4"]
    assert trie.expire(4.0, 10) == []
    assert names_of(trie, "#") == ["a/5", "stays"]
    assert [it.topic_name for it in trie.expire(1e9, 10)] == ["a/5"]
    assert trie.expire(1e9, 0) == []


def test_what_was_replaced_or_deleted_does_not_expire() -> None:
    trie = RetainedTrie()
    trie.set(message("a", expires_at=1.0))
    trie.set(message("a"))
    trie.set(message("b", expires_at=1.0))
    trie.set(message("b", expires_at=5.0))
    trie.set(message("c", expires_at=1.0))
    trie.delete("c")
    trie.set(message("d", expires_at=1.0))
    trie.set(message("d", b"y", expires_at=1.0))
    assert [(it.topic_name, it.payload) for it in trie.expire(2.0, 10)] == [("d", b"y")]
    assert [it.topic_name for it in trie.expire(5.0, 10)] == ["b"]
    assert names_of(trie, "#") == ["a"]


@pytest.mark.parametrize("step", [0.0, 1.0])
def test_the_heap_does_not_grow_with_what_is_gone(step: float) -> None:
    trie = RetainedTrie()
    for number in range(10):
        trie.set(message(f"other/{number}", expires_at=50.0))
    for number in range(5000):
        trie.set(message("a", expires_at=100.0 + number * step))
        assert len(trie._expiring) <= 1100
    trie.set(message("a"))
    for number in range(10):
        trie.set(message(f"other/{number}", b""))
    for _ in range(2000):
        trie.set(message("z", expires_at=7.0))
        trie.delete("z")
        assert len(trie._expiring) <= 1100
    assert trie.expire(1e9, 10) == []
    assert names_of(trie, "#") == ["a"]


# -- changes while a match is paused


def test_match_is_lazy_and_shows_the_newest() -> None:
    trie = trie_of("a/1", "a/2", "a/3")
    found = trie.match("a/+")
    assert next(found).topic_name == "a/1"
    trie.delete("a/2")
    newer = message("a/3", b"newer")
    trie.set(newer)
    assert list(found) == [newer]


def test_a_paused_match_survives_a_fork() -> None:
    trie = trie_of("a/1", "a/2/x/y", "a/3")
    found = trie.match("a/#")
    first = next(found)
    trie.set(message("a/2/x/z"))  # pushes a/2/x/y down
    trie.set(message("a/3/below"))
    rest = sorted(it.topic_name for it in found)
    assert first.topic_name == "a/1"
    assert rest.count("a/2/x/y") == 1
    assert rest.count("a/3") == 1


def test_a_paused_match_survives_the_end_of_its_node() -> None:
    trie = trie_of("a/1/x", "a/1/y", "a/2")
    found = trie.match("#")
    assert next(found).topic_name == "a/1/x"
    trie.delete("a/1/x")
    trie.delete("a/1/y")
    trie.set(message("a/1/y"))
    assert "a/2" in [it.topic_name for it in found]


def test_what_expires_meanwhile_is_judged_by_the_time_of_the_match() -> None:
    trie = RetainedTrie()
    for number in range(3):
        trie.set(message(f"a/{number}", expires_at=10.0))
    found = trie.match("a/+", 5.0)
    next(found)
    assert len(trie.expire(10.0, 2)) == 2
    assert len(list(found)) == 1


def test_a_match_that_is_dropped_harms_nothing() -> None:
    trie = trie_of("a/1", "a/2")
    found = trie.match("#")
    next(found)
    del found
    assert names_of(trie, "#") == ["a/1", "a/2"]


# -- searching in vain


@pytest.mark.parametrize("topic_filter", ["+/nothing", "+/x/nothing", "+/x/y/z/#", "+/+", "+"])
def test_search_comes_up_for_air(topic_filter: str) -> None:
    """Whether what does not match is a message by itself, a place where several part, or has expired."""
    trie = RetainedTrie()
    for number in range(2 * PATIENCE):
        trie.set(message(f"{number}/x/1"))
        trie.set(message(f"{number}/x/2"))
    for number in range(PATIENCE):
        trie.set(message(f"old{number}", expires_at=1.0))
    found = list(trie.search(topic_filter, 2.0))
    assert set(found) == {None}
    assert len(found) >= 2
    assert list(trie.match(topic_filter, 2.0)) == []


def test_search_finds_what_match_finds() -> None:
    trie = trie_of(*(f"a/{number}/x" for number in range(3 * PATIENCE)), "a/1/y", "a/z/y")
    found = list(trie.search("a/+/y"))
    assert sorted(it.topic_name for it in found if it is not None) == ["a/1/y", "a/z/y"]
    assert found.count(None) == 2
    assert [it.topic_name for it in trie.search("a/1/y") if it is not None] == ["a/1/y"]
    assert list(trie.search("a/2/y")) == []


# -- as deep as can be


@pytest.mark.parametrize("level", ["", "a"])
def test_deep_topics(level: str) -> None:
    count = DEEP if not level else DEEP // 2
    name = "/".join([level] * count)
    other = "/".join([*[level] * (count - 1), "b"])
    trie = trie_of(name, other)
    assert len(list(trie.match("#"))) == 2
    assert [it.topic_name for it in trie.match("/".join(["+"] * count))] in ([name, other], [other, name])
    assert list(trie.match("/".join(["+"] * (count - 1)))) == []
    assert len(list(trie.match("/".join(["+"] * (count - 1)) + "/#"))) == 2
    assert trie.delete(other) is not None
    assert names_of(trie, "+/#") == [name]
    assert trie.delete(name) is not None
    assert trie.count_nodes() == 0


def test_a_deep_trie_goes_away_without_recursion() -> None:
    trie = trie_of("/" * 65_535, "/" * 65_534 + "a")
    assert trie.count_nodes() > 65_000
    trie = trie_of("a")
    assert [it.topic_name for it in trie.match("#")] == ["a"]


@given(
    st.lists(st.tuples(topic_names, st.sampled_from([b"", b"x", b"y"]), st.sampled_from([None, 1.0, 2.0]))),
    topic_filters,
    st.sampled_from([None, 0.0, 1.0, 2.0]),
)
def test_like_a_dict(changes: list[tuple[str, bytes, float | None]], topic_filter: str, now: float | None) -> None:
    trie = RetainedTrie()
    model: dict[str, Message] = {}
    for name, payload, expires_at in changes:
        new = message(name, payload, expires_at)
        assert trie.set(new) is model.get(name)
        if payload:
            model[name] = new
        else:
            model.pop(name, None)
    assert len(trie) == len(model)
    found = list(trie.match(topic_filter, now))
    expected = [
        one
        for name, one in model.items()
        if matches(topic_filter, name) and (now is None or one.expires_at is None or one.expires_at > now)
    ]
    assert sorted(map(id, found)) == sorted(map(id, expected))
