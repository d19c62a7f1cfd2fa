"""`GET /clients_v2`: the list of clients by cursor. Whoever follows it sees each session that stays exactly once.

Invariant: a cursor says how far the list was read, in the order in which the sessions were made; it holds until the
broker is started again.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.api.context import Api
from trio_broker.api.failures import BAD_REQUEST
from trio_broker.api.paging import Limit, encoded
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.v5.client_object import Client
from trio_broker.api.v5.clients import ROWS, ClientFilterQuery, client_filter, shown_as

routes = Routes("Clients")

BAD_CURSOR: Final = "bad cursor"


class CursorQuery(ClientFilterQuery, kw_only=True):
    cursor: (
        Annotated[str, Meta(description="`meta.cursor` of the piece before; absent: from the beginning")] | UnsetType
    ) = UNSET
    limit: Limit = 100


class CursorMeta(Struct, kw_only=True):
    """`count` is the number of rows in this piece; there is no `cursor` at the end."""

    count: int
    cursor: str | UnsetType = UNSET


class ClientPiece(Struct):
    data: list[Client]
    meta: CursorMeta


@routes.get("/clients_v2", "List clients, by cursor")
async def list_clients_by_cursor(api: Api, query: CursorQuery) -> ClientPiece | Reply:
    show = shown_as(api, query)
    cursor = None if query.cursor in (UNSET, "", "none") else query.cursor
    try:
        infos, after = await api.questions.clients_after(client_filter(query), cursor, query.limit)
    except ValueError:
        raise BAD_REQUEST.error(BAD_CURSOR) from None
    meta = CursorMeta(count=len(infos), cursor=UNSET if after is None else after)
    return Reply(200, {"data": await encoded(infos, show, ROWS), "meta": meta})
