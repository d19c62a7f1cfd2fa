"""Paging: `page` and `limit` in, `data` and `meta` out.

Invariant: `hasnext` is always there; `count` is the number of all rows that match, or left out where the contract
leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Generic, TypeVar

import msgspec
import trio
from msgspec import UNSET, Meta, Struct, UnsetType

T = TypeVar("T")
Row = TypeVar("Row")

LONG_STEP = 32
"""Rows that are handled before others get their turn: a fraction of a millisecond."""


PageNumber = Annotated[int, Meta(ge=1, le=2**31, description="Which page, from 1")]
Limit = Annotated[int, Meta(ge=1, le=10_000, description="Rows in a page")]


class Paging(Struct, kw_only=True):
    page: PageNumber = 1
    limit: Limit = 100

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.limit


class PageMeta(Struct, kw_only=True):
    page: int
    limit: int
    count: int | UnsetType = UNSET
    hasnext: bool


class PageOf(Struct, Generic[T]):
    data: list[T]
    meta: PageMeta


def page_meta(paging: Paging, count: int, *, show_count: bool = True) -> PageMeta:
    """The `meta` of a page of `count` rows in all."""
    hasnext = paging.offset + paging.limit < count
    return PageMeta(page=paging.page, limit=paging.limit, count=count if show_count else UNSET, hasnext=hasnext)


def cut(rows: Sequence[Row], paging: Paging) -> Sequence[Row]:
    return rows[paging.offset : paging.offset + paging.limit]


async def each(rows: Iterable[Row], make: Callable[[Row], T], step: int = LONG_STEP) -> list[T]:
    """`make(row)` of each row; a long list does not hold up the messages of others: they have a turn every `step`."""
    made: list[T] = []
    for number, row in enumerate(rows, 1):
        made.append(make(row))
        if number % step == 0:
            await trio.lowlevel.checkpoint()
    return made


async def encoded(rows: Iterable[Row], make: Callable[[Row], object], step: int = LONG_STEP) -> list[msgspec.Raw]:
    """The same, each already as JSON: to encode a long list at once would be a long step, too."""
    encode = msgspec.json.Encoder().encode
    return await each(rows, lambda row: msgspec.Raw(encode(make(row))), step)


async def select(rows: Sequence[Row], wanted: Callable[[Row], bool]) -> list[Row]:
    """The rows that are `wanted`, looked for as patiently as `each`."""
    found: list[Row] = []
    for start in range(0, len(rows), LONG_STEP):
        found.extend(row for row in rows[start : start + LONG_STEP] if wanted(row))
        await trio.lowlevel.checkpoint()
    return found
