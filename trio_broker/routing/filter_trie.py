"""Topic filters and what hangs on them: one exact dict, and a trie for the filters with wildcards.

Invariant: a filter without wildcards never enters the trie, no node of the trie is empty (but its root), and no
operation recurses or visits a node twice, so that a filter of 32,768 levels is as harmless as a short one.

Where only one filter goes on below a node, its remaining levels are kept in one piece (a tail) instead of a chain of
nodes: most filters cost one dict entry and one tail.

Filters and names are taken as valid [MQTT-4.7.1-1, 4.7.1-2]; they are compared as they are [MQTT-4.7.3-4].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from sys import intern
from typing import Final, Generic, TypeAlias, TypeVar

from attrs import define, field

V = TypeVar("V")

_PLUS: Final = "+"
_HASH: Final = "#"


def has_wildcard(topic_filter: str) -> bool:
    """Whether a (valid) filter can match more than the one topic of the same text."""
    return _HASH in topic_filter or _PLUS in topic_filter


def levels_match(filter_levels: Iterable[str], levels: Sequence[str], depth: int) -> bool:
    """Whether the rest of a filter matches `levels` from `depth` on; the `$` rule is left to the caller."""
    end = len(levels)
    for wanted in filter_levels:
        if wanted == _HASH:  # also the parent level: `a/#` matches `a` [MQTT-4.7.1-2]
            return True
        if depth == end or (wanted != _PLUS and wanted != levels[depth]):
            return False
        depth += 1
    return depth == end


@define(eq=False, repr=False, weakref_slot=False)
class _Tail(Generic[V]):
    """The one filter below a place: its remaining levels (none: the filter ends here)."""

    levels: tuple[str, ...]
    value: V


@define(eq=False, repr=False, weakref_slot=False)
class _Node(Generic[V]):
    """`value` belongs to the filter that ends here, `rest` to the one that goes on with `#`."""

    children: dict[str, _Child[V]] | None = None
    plus: _Child[V] | None = None
    value: V | None = None
    rest: V | None = None

    def child(self, level: str) -> _Child[V] | None:
        if level == _PLUS:
            return self.plus
        return None if self.children is None else self.children.get(level)

    def attach(self, level: str, child: _Child[V]) -> None:
        if level == _PLUS:
            self.plus = child
        elif self.children is None:
            self.children = {level: child}
        else:
            self.children[level] = child

    def detach(self, level: str) -> None:
        if level == _PLUS:
            self.plus = None
        elif self.children is not None:
            del self.children[level]
            if not self.children:
                self.children = None

    def put(self, levels: tuple[str, ...], value: V) -> None:
        """Hang a value below a node that has nothing there yet."""
        if not levels:
            self.value = value
        elif levels[0] == _HASH:
            self.rest = value
        else:
            self.attach(levels[0], _Tail(levels[1:], value))

    def is_empty(self) -> bool:
        return self.children is None and self.plus is None and self.value is None and self.rest is None


_Child: TypeAlias = "_Node[V] | _Tail[V]"


def _fork(tail: _Tail[V], levels: tuple[str, ...], value: V) -> _Node[V]:
    """The node that takes the place of `tail` so that another filter fits beside it."""
    common = 0
    for mine, other in zip(tail.levels, levels, strict=False):
        if mine != other:
            break
        common += 1
    top = node = _Node[V]()
    for level in levels[:common]:
        below = _Node[V]()
        node.attach(level, below)
        node = below
    node.put(tail.levels[common:], tail.value)
    node.put(levels[common:], value)
    return top


@define(eq=False, repr=False)
class FilterTrie(Generic[V]):
    """A mapping from topic filter to value (anything but None) that can be asked by topic name.

    `exact` is public to be read: the values of the filters without wildcards.
    """

    exact: dict[str, V] = field(factory=dict, init=False)
    _root: _Node[V] = field(factory=_Node, init=False)
    _wild_count: int = field(default=0, init=False)

    def __len__(self) -> int:
        return len(self.exact) + self._wild_count

    def insert(self, topic_filter: str, value: V) -> V | None:
        """Put `value` under the filter; returns the value it replaces, or None."""
        if not has_wildcard(topic_filter):
            previous = self.exact.get(topic_filter)
            self.exact[topic_filter] = value
            return previous
        previous = self._insert_wild(topic_filter.split("/"), value)
        if previous is None:
            self._wild_count += 1
        return previous

    def _insert_wild(self, levels: list[str], value: V) -> V | None:
        node = self._root
        for depth, level in enumerate(levels, 1):
            if level == _HASH:
                previous, node.rest = node.rest, value
                return previous
            child = node.child(level)
            if isinstance(child, _Node):
                node = child
                continue
            # Levels at the end of filters ("status", "+") repeat a lot: one string for all of them.
            tail = tuple(map(intern, levels[depth:]))
            if child is None:
                node.attach(level, _Tail(tail, value))
                return None
            if child.levels == tail:
                previous, child.value = child.value, value
                return previous
            node.attach(level, _fork(child, tail, value))
            return None
        previous, node.value = node.value, value
        return previous

    def get(self, topic_filter: str) -> V | None:
        """The value of exactly this filter, or None."""
        if not has_wildcard(topic_filter):
            return self.exact.get(topic_filter)
        levels = topic_filter.split("/")
        node = self._root
        for depth, level in enumerate(levels, 1):
            if level == _HASH:
                return node.rest
            child = node.child(level)
            if child is None:
                return None
            if isinstance(child, _Tail):
                return child.value if child.levels == tuple(levels[depth:]) else None
            node = child
        return node.value

    def has_wild_below(self, level: str) -> bool:
        """Is there a filter with wildcards whose first level this is?"""
        return self._root.child(level) is not None

    def remove(self, topic_filter: str) -> V | None:
        """Take the filter out, and every node that only it needed; returns its value, or None."""
        if not has_wildcard(topic_filter):
            return self.exact.pop(topic_filter, None)
        levels = topic_filter.split("/")
        node = self._root
        path: list[tuple[_Node[V], str]] = []
        for depth, level in enumerate(levels, 1):
            if level == _HASH:
                removed, node.rest = node.rest, None
                break
            child = node.child(level)
            if child is None:
                return None
            if isinstance(child, _Tail):
                if child.levels != tuple(levels[depth:]):
                    return None
                removed = child.value
                node.detach(level)
                break
            path.append((node, level))
            node = child
        else:
            removed, node.value = node.value, None
        if removed is None:
            return None
        self._wild_count -= 1
        while path and node.is_empty():
            node, level = path.pop()
            node.detach(level)
        return removed

    def match(self, topic_name: str) -> list[V]:
        """The values of all filters that match, the exact one first; no two of one filter."""
        found: list[V] = []
        value = self.exact.get(topic_name)
        if value is not None:
            found.append(value)
        if not self._wild_count:
            return found
        levels = topic_name.split("/")
        nodes = [self._root]
        # A filter that begins with a wildcard does not match `$...` [MQTT-4.7.2-1].
        wild = topic_name[:1] != "$"
        for depth, level in enumerate(levels, 1):
            below: list[_Node[V]] = []
            for node in nodes:
                if wild:
                    if node.rest is not None:
                        found.append(node.rest)
                    child = node.plus
                    if child is not None:
                        if isinstance(child, _Node):
                            below.append(child)
                        elif levels_match(child.levels, levels, depth):
                            found.append(child.value)
                if node.children is not None:
                    child = node.children.get(level)
                    if child is not None:
                        if isinstance(child, _Node):
                            below.append(child)
                        elif levels_match(child.levels, levels, depth):
                            found.append(child.value)
            if not below:
                return found
            nodes = below
            wild = True
        for node in nodes:
            if node.value is not None:
                found.append(node.value)
            if node.rest is not None:
                found.append(node.rest)
        return found

    def values(self) -> Iterator[V]:
        """The value of every filter; nothing may be changed meanwhile."""
        yield from self.exact.values()
        waiting: list[_Child[V]] = [self._root]
        while waiting:
            child = waiting.pop()
            if isinstance(child, _Tail):
                yield child.value
                continue
            if child.value is not None:
                yield child.value
            if child.rest is not None:
                yield child.rest
            if child.plus is not None:
                waiting.append(child.plus)
            if child.children is not None:
                waiting.extend(child.children.values())

    def count_nodes(self) -> int:
        """How many nodes and tails the trie holds besides its root (for tests and measurements)."""
        count = 0
        waiting: list[_Child[V]] = [self._root]
        while waiting:
            child = waiting.pop()
            if isinstance(child, _Tail):
                continue
            below = list((child.children or {}).values())
            if child.plus is not None:
                below.append(child.plus)
            count += len(below)
            waiting += below
        return count
