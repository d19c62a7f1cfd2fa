"""RetainedTrie against a dict, with matches that are paused while everything changes."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from routing.reference import crowded_names, matches, message, topic_filters

from trio_broker.protocol.message import Message
from trio_broker.routing.retained_trie import RetainedTrie


@define(eq=False)
class Paused:
    """A match under way. `steady` were there when it began and have been there ever since."""

    topic_filter: str
    now: float | None
    found: Iterator[Message]
    steady: set[str]
    seen: list[str] = field(factory=list)


class RetainedModel(RuleBasedStateMachine):
    paused = Bundle("paused")

    def __init__(self) -> None:
        super().__init__()
        self.trie = RetainedTrie()
        self.held: dict[str, Message] = {}
        self.running: list[Paused] = []

    def gone(self, name: str) -> None:
        self.held.pop(name, None)
        for match in self.running:
            match.steady.discard(name)

    @rule(name=crowded_names, payload=st.sampled_from([b"", b"x", b"y"]), expires_at=st.sampled_from([None, 1.0, 2.0]))
    def set(self, name: str, payload: bytes, expires_at: float | None) -> None:
        new = message(name, payload, expires_at)
        assert self.trie.set(new) is self.held.get(name)
        if payload:
            self.held[name] = new
            for match in self.running:
                if expired(new, match.now):
                    match.steady.discard(name)
        else:
            self.gone(name)

    @rule(name=crowded_names)
    def delete(self, name: str) -> None:
        assert self.trie.delete(name) is self.held.get(name)
        self.gone(name)

    @rule(data=st.data())
    def delete_one_that_is_there(self, data: st.DataObject) -> None:
        if self.held:
            self.delete(data.draw(st.sampled_from(list(self.held))))

    @rule(topic_filter=topic_filters)
    def delete_matching(self, topic_filter: str) -> None:
        deleted = self.trie.delete_matching(topic_filter)
        expected = [name for name in self.held if matches(topic_filter, name)]
        assert sorted(it.topic_name for it in deleted) == sorted(expected)
        for name in expected:
            self.gone(name)

    @rule(now=st.sampled_from([0.0, 1.0, 2.0]), limit=st.integers(0, 5))
    def expire(self, now: float, limit: int) -> None:
        due = sorted(it.expires_at for it in self.held.values() if it.expires_at is not None and expired(it, now))
        swept = self.trie.expire(now, limit)
        assert [it.expires_at for it in swept] == due[:limit]
        for it in swept:
            assert self.held[it.topic_name] is it
            self.gone(it.topic_name)

    @rule(target=paused, topic_filter=topic_filters, now=st.sampled_from([None, 0.0, 1.0]))
    def begin(self, topic_filter: str, now: float | None) -> Paused:
        steady = {name for name, it in self.held.items() if matches(topic_filter, name) and not expired(it, now)}
        match = Paused(topic_filter, now, self.trie.match(topic_filter, now), steady)
        self.running.append(match)
        return match

    @rule(match=paused, steps=st.integers(1, 3))
    def step(self, match: Paused, steps: int) -> None:
        for _ in range(steps):
            self.one(match)

    def one(self, match: Paused) -> bool:
        found = next(match.found, None)
        if found is None:
            return False
        assert self.held[found.topic_name] is found
        assert matches(match.topic_filter, found.topic_name)
        assert not expired(found, match.now)
        assert found.topic_name not in match.seen
        match.seen.append(found.topic_name)
        return True

    @rule(match=consumes(paused))
    def finish(self, match: Paused) -> None:
        while self.one(match):
            pass
        assert match.steady.issubset(match.seen)
        self.running.remove(match)

    @invariant()
    def the_same_messages(self) -> None:
        assert len(self.trie) == len(self.held)
        assert sorted(map(id, self.trie)) == sorted(map(id, self.held.values()))
        assert sorted(map(id, self.trie.match("#"))) == sorted(
            id(it) for name, it in self.held.items() if not name.startswith("$")
        )


def expired(one: Message, now: float | None) -> bool:
    return now is not None and one.expires_at is not None and one.expires_at <= now


RetainedModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRetainedModel = RetainedModel.TestCase
