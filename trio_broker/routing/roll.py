"""A dict of a hundred thousand entries that can be looked at page by page, from anywhere, while it changes.

Invariant: entries lie in the order in which they came and are numbered so; a number is never given twice, and an entry
keeps its number. They are kept in blocks of bounded size: a page is found by the sizes of the blocks, without a look
at the entries before it, and a number by a binary search.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Final, Generic, TypeVar

from attrs import define, field

K = TypeVar("K")
V = TypeVar("V")

CAPACITY: Final = 170
"""Entries of a block: as many as Python's table of 256 slots takes."""
_SPARSE: Final = CAPACITY // 4


@define(eq=False, repr=False, weakref_slot=False)
class Block(Generic[K, V]):
    """Entries that follow each other. `rows` and `leads` are two sums over them that are kept by whom they belong to;
    where blocks are joined, they are added up.
    """

    entries: dict[K, V] = field(factory=dict)
    rows: int = 0
    leads: int = 0


@define(eq=False, repr=False, weakref_slot=False)
class Roll(Generic[K, V]):
    """What `dict` calls its methods is called so here. `blocks` is public to be read."""

    blocks: list[Block[K, V]] = field(factory=list, init=False)
    _starts: list[int] = field(factory=list, init=False)  # of each block: no entry in it has a lower number
    _numbers: dict[K, int] = field(factory=dict, init=False)
    _next: int = field(default=0, init=False)
    _room: int = field(default=0, init=False)  # in the last block

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, key: object) -> bool:
        return key in self._numbers

    def __getitem__(self, key: K) -> V:
        return self.blocks[bisect_right(self._starts, self._numbers[key]) - 1].entries[key]

    def values(self) -> Iterator[V]:
        """All of them; nothing may be changed meanwhile."""
        for block in self.blocks:
            yield from block.entries.values()

    def items(self) -> Iterator[tuple[K, V]]:
        """All of them; nothing may be changed meanwhile."""
        for block in self.blocks:
            yield from block.entries.items()

    @property
    def newest(self) -> int:
        """The highest number that was given; -1 before the first. A walk that began now may end there."""
        return self._next - 1

    def number(self, key: K) -> int | None:
        return self._numbers.get(key)

    def get(self, key: K) -> V | None:
        return self[key] if key in self._numbers else None

    def block_of(self, key: K) -> Block[K, V] | None:
        """Where the entry is; None when there is none."""
        number = self._numbers.get(key)
        return None if number is None else self.blocks[bisect_right(self._starts, number) - 1]

    def put(self, key: K, value: V) -> Block[K, V]:
        """A new entry comes last, a new value of an old one takes its place. Returns the block it is in."""
        block = self.block_of(key)
        if block is None:
            number = self._next
            self._next = number + 1
            if not self._room:
                self.blocks.append(Block())
                self._starts.append(number)
                self._room = CAPACITY
            self._room -= 1
            self._numbers[key] = number
            block = self.blocks[-1]
        block.entries[key] = value
        return block

    def pop(self, key: K) -> V | None:
        """Take an entry out. Its part of `rows` and `leads` has to be taken off before."""
        number = self._numbers.pop(key, None)
        if number is None:
            return None
        position = bisect_right(self._starts, number) - 1
        value = self.blocks[position].entries.pop(key)
        self._tidy(position)
        return value

    def lead(self, number: int, by: int) -> None:
        """Add to the `leads` of the block that has, or had, the entry of this number."""
        position = max(0, bisect_right(self._starts, number) - 1)
        block = self.blocks[position]
        block.leads += by
        if not block.entries:
            self._tidy(position)

    def _tidy(self, position: int) -> None:
        """Blocks that have become small are joined with a neighbour; one that is empty goes."""
        blocks = self.blocks
        block = blocks[position]
        size = len(block.entries)
        if size > _SPARSE:
            return
        if not (size or block.rows or block.leads):
            self._drop(position)
            return
        for left in (position, position - 1):
            if left < 0 or left + 1 >= len(blocks):
                continue
            first, second = blocks[left], blocks[left + 1]
            if len(first.entries) + len(second.entries) <= 2 * _SPARSE:
                second.entries = {**first.entries, **second.entries}
                second.rows += first.rows
                second.leads += first.leads
                self._starts[left + 1] = self._starts[left]
                self._drop(left)
                if left + 1 == len(blocks):
                    self._room = CAPACITY - len(second.entries)
                return
        if size == _SPARSE and position + 1 < len(blocks):
            block.entries = dict(block.entries)  # a dict from which entries were taken keeps its size, a copy does not

    def _drop(self, position: int) -> None:
        if position == len(self.blocks) - 1:
            self._room = 0
        del self.blocks[position], self._starts[position]

    # -- a part of it -------------------------------------------------------------------------------------------

    def page(self, offset: int, limit: int) -> list[tuple[K, V]]:
        """At most `limit` entries, behind the first `offset` ones."""
        found: list[tuple[K, V]] = []
        for block in self.blocks:
            size = len(block.entries)
            if offset >= size:
                offset -= size
                continue
            found.extend(islice(block.entries.items(), offset, offset + limit - len(found)))
            offset = 0
            if len(found) == limit:
                break
        return found

    def after(self, number: int, limit: int) -> list[tuple[K, V]]:
        """At most `limit` entries whose numbers are above this one, from the lowest on; -1: from the beginning."""
        found: list[tuple[K, V]] = []
        position = max(0, bisect_right(self._starts, number) - 1)
        numbers = self._numbers
        for block in islice(self.blocks, position, None):
            entries = block.entries.items()
            missing = limit - len(found)
            if number >= self._starts[position]:
                found.extend(islice((entry for entry in entries if numbers[entry[0]] > number), missing))
            else:
                found.extend(islice(entries, missing))
            position += 1
            if len(found) == limit:
                break
        return found

    def values_after(self, number: int, limit: int) -> tuple[list[V], int]:
        """The values of entries whose numbers are above this one, and the last of these numbers; an empty list behind
        the last one. For walks through everything: whole blocks, as many as make `limit` entries, but one at least.
        """
        found: list[V] = []
        last = number
        for block in islice(self.blocks, max(0, bisect_right(self._starts, number) - 1), None):
            if not block.entries or (end := self._numbers[next(reversed(block.entries))]) <= number:
                continue
            if found and len(found) + len(block.entries) > limit:
                break
            if found or self._numbers[next(iter(block.entries))] > number:
                found.extend(block.entries.values())
            else:
                found.extend([value for key, value in block.entries.items() if self._numbers[key] > number])
            last = end
        return found, last
