"""Pages as EMQ 2 has them: `curr_page` and `page_size` in, `current_page`, `page_size` and the totals out.

Invariant: what was asked for is echoed as it was sent, also where it is below the first page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from trio_broker.api.paging import encoded
from trio_broker.api.routes import Reply
from trio_broker.api.v2.envelope import Objects, Page, Result

__all__ = ["Paging", "found", "page"]

T = TypeVar("T")

MOST: Final = 2**31
"""Rows that nothing here ever has: who asks for more than these, or for what lies behind them, means all of them."""


class Paging(Struct, kw_only=True):
    curr_page: Annotated[
        int, Meta(ge=-(2**63), le=2**63 - 1, description="Which page, from 1; what is lower means that")
    ] = 1
    page_size: Annotated[int, Meta(ge=1, le=2**63 - 1, description="Rows in a page")] = 20

    @property
    def limit(self) -> int:
        return min(self.page_size, MOST)

    @property
    def offset(self) -> int:
        return min((max(self.curr_page, 1) - 1) * self.page_size, MOST)


async def page(paging: Paging, count: int, rows: Iterable[T], make: Callable[[T], object], step: int) -> Reply:
    """A page of `count` rows in all; others have their turn every `step` rows."""
    objects = await encoded(rows, make, step)
    total_page = -(-count // paging.page_size)
    shown: Page[msgspec.Raw] = Page(
        current_page=paging.curr_page,
        page_size=paging.page_size,
        total_num=count,
        total_page=total_page,
        objects=objects,
    )
    return Reply(200, Result(shown))


async def found(rows: Iterable[T], make: Callable[[T], object], step: int) -> Reply:
    """All that was looked up."""
    shown: Objects[msgspec.Raw] = Objects(await encoded(rows, make, step))
    return Reply(200, Result(shown))
