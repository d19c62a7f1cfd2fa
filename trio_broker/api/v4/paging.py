"""Paging as EMQX 4 has it: `_page` and `_limit` in, `data` and `meta` out.

Invariant: a page that there is not is empty, and never an error. A page may have any number of rows, so the rows are
made a few at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from trio_broker.api.paging import LONG_STEP, encoded
from trio_broker.api.routes import Reply
from trio_broker.api.v4.envelope import Meta

ALL: Final = 2**31
"""As many rows as there can be."""
NOT_COUNTED: Final = -1

Row = TypeVar("Row")


class Paging(Struct, kw_only=True):
    page: Annotated[int, msgspec.Meta(ge=-ALL, le=ALL, description="Which page; up to 1: the first")] = msgspec.field(
        name="_page", default=1
    )
    limit: Annotated[int, msgspec.Meta(ge=0, le=ALL, description="Rows in a page")] = msgspec.field(
        name="_limit", default=10_000
    )

    @property
    def offset(self) -> int:
        return max(0, self.page - 1) * self.limit


def page_meta(paging: Paging, count: int, *, counted: bool = True, hasnext: bool = True) -> Meta:
    """Of a page of `count` rows in all: `counted` says whether that is told, `hasnext` whether there is such a key."""
    more: bool | UnsetType = paging.offset + paging.limit < count if hasnext else UNSET
    return Meta(page=paging.page, limit=paging.limit, count=count if counted else NOT_COUNTED, hasnext=more)


def cut(rows: Sequence[Row], paging: Paging) -> Sequence[Row]:
    return rows[paging.offset : paging.offset + paging.limit]


async def listing(
    rows: Iterable[Row], make: Callable[[Row], object], meta: Meta | None = None, step: int = LONG_STEP
) -> Reply:
    """The rows, each as `make` shows it, with `meta` where there is one; others have a turn every `step` rows."""
    body: dict[str, object] = {"code": 0, "data": await encoded(rows, make, step)}
    if meta is not None:
        body["meta"] = meta
    return Reply(200, body)
