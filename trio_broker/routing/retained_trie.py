"""Retained messages by topic name, asked with topic filters.

Invariant: one message a topic, never an empty one [MQTT-3.3.1-7]; every message is in the dict and exactly once in the
trie; no node of the trie is empty (but its two roots). Nothing recurses.

A message hangs in the trie at the first level that it shares with no other one, not at its last: most messages cost
one entry in a dict of their siblings. The trie never moves a message up again, so that a paused `match` cannot miss
one that was there all the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Final, TypeAlias

from attrs import define, field

from trio_broker.protocol.message import Message
from trio_broker.routing.filter_trie import has_wildcard, levels_match

PATIENCE: Final = 1000
"""How many places `search` looks at in vain before it says so."""

_STALE_ALLOWED: Final = 1024
"""How many entries of the expiry heap may be about messages that are gone, beyond as many as are about living ones."""


@define(eq=False, repr=False, weakref_slot=False)
class _Node:
    """`message` is that of the topic which ends here."""

    children: dict[str, _Child] | None = None
    message: Message | None = None

    def attach(self, level: str, child: _Child) -> None:
        if self.children is None:
            self.children = {level: child}
        else:
            self.children[level] = child

    def detach(self, level: str) -> None:
        if self.children is not None:
            del self.children[level]
            if not self.children:
                self.children = None

    def put(self, levels: list[str], depth: int, message: Message) -> None:
        """Hang a message below this node, which lies at `depth`, where it has no equal."""
        if depth == len(levels):
            self.message = message
        else:
            self.attach(levels[depth], message)


_Child: TypeAlias = "_Node | Message"


def _fork(old: Message, levels: list[str], depth: int, message: Message) -> _Node:
    """The node, at `depth`, that takes the place of `old` so that a message of another topic fits beside it."""
    old_levels = old.topic_name.split("/")
    end = min(len(levels), len(old_levels))
    top = node = _Node()
    while depth < end and levels[depth] == old_levels[depth]:
        below = _Node()
        node.attach(levels[depth], below)
        node = below
        depth += 1
    node.put(old_levels, depth, old)
    node.put(levels, depth, message)
    return top


@define(eq=False, repr=False)
class RetainedTrie:
    """The retained messages of a broker. `now` is in seconds, as `Message.expires_at` is.

    Where `now` is given, what has expired by then counts as not there; it stays until `expire` or `delete`.
    """

    _messages: dict[str, Message] = field(factory=dict, init=False)
    _root: _Node = field(factory=_Node, init=False)
    # Topics that begin with `$`, apart: a filter that begins with a wildcard does not see them [MQTT-4.7.2-1].
    _hidden_root: _Node = field(factory=_Node, init=False)
    # A heap of (expires_at, topic name). Entries of messages that are gone stay in it for a while: names, no payloads.
    _expiring: list[tuple[float, str]] = field(factory=list, init=False)
    _expiring_count: int = field(default=0, init=False)  # of the messages that are there

    def _root_of(self, topic: str) -> _Node:
        return self._hidden_root if topic[:1] == "$" else self._root

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        """All of them, `$` topics and expired ones included, as they are now."""
        return iter(list(self._messages.values()))

    def get(self, topic_name: str, now: float | None = None) -> Message | None:
        message = self._messages.get(topic_name)
        return None if message is None or _is_expired(message, now) else message

    def set(self, message: Message) -> Message | None:
        """Retain a message (an empty one: retain none for its topic); returns the one that was there before."""
        topic_name = message.topic_name
        if not message.payload:
            return self.delete(topic_name)  # [MQTT-3.3.1-6]
        previous = self._messages.get(topic_name)
        self._messages[topic_name] = message
        self._hang(message)
        if previous is not None and previous.expires_at is not None:
            self._expiring_count -= 1
        if message.expires_at is not None:
            self._expiring_count += 1
            heappush(self._expiring, (message.expires_at, topic_name))
        self._drop_stale()
        return previous

    def _hang(self, message: Message) -> None:
        levels = message.topic_name.split("/")
        node = self._root_of(message.topic_name)
        for depth, level in enumerate(levels, 1):
            child = None if node.children is None else node.children.get(level)
            if isinstance(child, _Node):
                node = child
                continue
            if child is None or child.topic_name == message.topic_name:
                node.attach(level, message)
            else:
                node.attach(level, _fork(child, levels, depth, message))
            return
        node.message = message

    def delete(self, topic_name: str) -> Message | None:
        """Returns what was there."""
        removed = self._messages.pop(topic_name, None)
        if removed is None:
            return None
        if removed.expires_at is not None:
            self._expiring_count -= 1
            self._drop_stale()
        node = self._root_of(topic_name)
        path: list[tuple[_Node, str]] = []
        for level in topic_name.split("/"):
            child = None if node.children is None else node.children.get(level)
            if child is removed:
                node.detach(level)
                break
            if isinstance(child, _Node):
                path.append((node, level))
                node = child
        else:
            node.message = None
        while path and node.children is None and node.message is None:
            node, level = path.pop()
            node.detach(level)
        return removed

    def match(self, topic_filter: str, now: float | None = None) -> Iterator[Message]:
        """The messages whose topic matches, one by one, in no particular order.

        Lazy: anything may be changed between two of them. What is there from the first to the last is given exactly
        once, and always as it is at that moment; what comes or goes meanwhile may be given or not.
        """
        return (found for found in self.search(topic_filter, now) if found is not None)

    def search(self, topic_filter: str, now: float | None = None) -> Iterator[Message | None]:
        """Like `match`, with a None after every `PATIENCE` messages that do not match.

        For whom must not be kept waiting while a filter that matches hardly anything goes through a million messages.
        """
        messages = self._messages
        if not has_wildcard(topic_filter):
            message = self.get(topic_filter, now)
            if message is not None:
                yield message
            return
        patience = PATIENCE
        for candidate in self._candidates(topic_filter):
            message = None if candidate is None else messages.get(candidate.topic_name)
            if message is not None and not _is_expired(message, now):
                yield message
                continue
            patience -= 1
            if not patience:
                patience = PATIENCE
                yield None

    def _candidates(self, topic_filter: str) -> Iterator[Message | None]:
        """What matches, as it was when its place in the trie was reached; None for each that was looked at in vain."""
        wanted = topic_filter.split("/")
        end = len(wanted)
        paused: list[tuple[Iterator[_Child], int]] = [(iter((self._root_of(topic_filter),)), 0)]
        while paused:
            children, depth = paused[-1]
            child = next(children, None)
            if child is None:
                paused.pop()
                continue
            # The first `depth` levels match by the place where the child hangs.
            level = wanted[depth] if depth < end else None
            if isinstance(child, Message):
                if level == "#" or levels_match(islice(wanted, depth, None), child.topic_name.split("/"), depth):
                    yield child
                else:
                    yield None
                continue
            if (level is None or level == "#") and child.message is not None:
                yield child.message  # `a/#` matches `a` [MQTT-4.7.1-2]
            siblings = child.children
            below: _Child | None = None
            if siblings is not None:
                if level == "#":
                    paused.append((iter(list(siblings.values())), depth))
                    continue
                if level == "+":
                    paused.append((iter(list(siblings.values())), depth + 1))
                    continue
                if level is not None:
                    below = siblings.get(level)
            if below is None:
                yield None
            else:
                paused.append((iter((below,)), depth + 1))

    def delete_matching(self, topic_filter: str) -> list[Message]:
        """Delete all whose topic matches, expired or not; returns them."""
        matching = list(self.match(topic_filter))
        for message in matching:
            self.delete(message.topic_name)
        return matching

    def expire(self, now: float, limit: int) -> list[Message]:
        """Delete what has expired by `now`, the oldest first and `limit` messages at most; returns them."""
        expired: list[Message] = []
        while self._expiring and self._expiring[0][0] <= now and len(expired) < limit:
            entry = heappop(self._expiring)
            if self._is_current(entry):
                message = self.delete(entry[1])
                assert message is not None
                expired.append(message)
        return expired

    def _is_current(self, entry: tuple[float, str]) -> bool:
        message = self._messages.get(entry[1])
        return message is not None and message.expires_at == entry[0]

    def _drop_stale(self) -> None:
        # A topic set again and again with a long expiry would fill the heap with what is gone.
        if len(self._expiring) > 2 * self._expiring_count + _STALE_ALLOWED:
            self._expiring = list(filter(self._is_current, set(self._expiring)))
            heapify(self._expiring)

    def count_nodes(self) -> int:
        """How many nodes the trie has besides its roots (for tests and measurements)."""
        total = 0
        waiting = [self._root, self._hidden_root]
        while waiting:
            for child in (waiting.pop().children or {}).values():
                if isinstance(child, _Node):
                    total += 1
                    waiting.append(child)
        return total


def _is_expired(message: Message, now: float | None) -> bool:
    return now is not None and message.expires_at is not None and message.expires_at <= now
