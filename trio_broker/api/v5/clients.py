"""`/clients`: list, look up and kick out sessions.

Invariant: a session that lives on without a connection is listed too, with `connected` false.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.questions import ClientFilter
from trio_broker.api.context import Api
from trio_broker.api.failures import CLIENT_NOT_FOUND, INVALID_PARAMETER, NODE_DOWN, Failure, invalid
from trio_broker.api.formats import milliseconds
from trio_broker.api.paging import Limit, PageNumber, PageOf, Paging, encoded, page_meta
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.v5.client_object import SELECTABLE, Client, client_object
from trio_broker.session.info import SessionInfo

routes = Routes("Clients")

ROWS: Final = 64
"""Rows between two turns of others: less than half a millisecond."""

UNKNOWN_ERROR: Final = Failure(500, "UNKNOWN_ERROR", "A node failed")

Time = Annotated[str, Meta(description="Milliseconds since the epoch or an RFC 3339 time")]


class ClientFilterQuery(Struct, kw_only=True):
    clientid: Annotated[list[str], Meta(description="Exact client id; repeated: any of them")] | UnsetType = UNSET
    username: Annotated[list[str], Meta(description="Exact user name; repeated: any of them")] | UnsetType = UNSET
    ip_address: Annotated[str, Meta(description="Exact IPv4 or IPv6 address")] | UnsetType = UNSET
    conn_state: Literal["connected", "idle", "disconnected"] | UnsetType = UNSET
    clean_start: bool | UnsetType = UNSET
    proto_ver: Annotated[str, Meta(description="Protocol level: 3, 4 or 5")] | UnsetType = UNSET
    like_clientid: Annotated[str, Meta(description="Part of the client id")] | UnsetType = UNSET
    like_username: Annotated[str, Meta(description="Part of the user name")] | UnsetType = UNSET
    gte_created_at: Time | UnsetType = UNSET
    lte_created_at: Time | UnsetType = UNSET
    gte_connected_at: Time | UnsetType = UNSET
    lte_connected_at: Time | UnsetType = UNSET
    fields: Annotated[str, Meta(description="`all`, or names separated by commas: only these are returned")] = "all"


class ClientQuery(ClientFilterQuery, kw_only=True):
    page: PageNumber = 1
    limit: Limit = 100
    node: Annotated[str, Meta(description="Only this node")] | UnsetType = UNSET


@routes.get("/clients", "List clients", failures=[INVALID_PARAMETER, NODE_DOWN])
async def list_clients(api: Api, query: ClientQuery) -> PageOf[Client] | Reply:
    show = shown_as(api, query)
    wanted = client_filter(query)
    api.check_node_filter(query.node)
    paging = Paging(page=query.page, limit=query.limit)
    page = await api.questions.clients(wanted, paging.offset, paging.limit)
    fuzzy = wanted.like_client_id is not None or wanted.like_username is not None
    meta = page_meta(paging, page.count, show_count=not fuzzy)
    return Reply(200, {"data": await encoded(page.rows, show, ROWS), "meta": meta})


@routes.get("/clients/:clientid", "Get clients info by client ID", failures=[CLIENT_NOT_FOUND])
async def client(api: Api, clientid: str) -> Client:
    info = await api.questions.client(clientid)
    if info is None:
        raise CLIENT_NOT_FOUND.error()
    return client_object(api, info)


@routes.delete("/clients/:clientid", "Kick out client by client ID", failures=[CLIENT_NOT_FOUND])
async def kick_client(api: Api, clientid: str) -> None:
    if not await api.questions.kick(clientid):
        raise CLIENT_NOT_FOUND.error()


@routes.post("/clients/kickout/bulk", "Kick out a batch of client by client IDs")
async def kick_clients(api: Api, body: list[str]) -> None:
    await api.questions.kick_all(body)


def client_filter(query: ClientFilterQuery) -> ClientFilter:
    """What the questions call it; 400 where a value has the wrong type."""
    client_ids = () if query.clientid is UNSET else tuple(query.clientid)
    usernames = () if query.username is UNSET else tuple(query.username)
    return ClientFilter(
        client_ids=client_ids,
        usernames=usernames,
        ip_address=_ip_address(query.ip_address),
        connection_state=None if query.conn_state is UNSET else query.conn_state,
        clean_start=None if query.clean_start is UNSET else query.clean_start,
        protocol_level=_protocol_level(query.proto_ver),
        # Where exact values of a column are given, its fuzzy filter does not count.
        like_client_id=None if client_ids or query.like_clientid is UNSET else query.like_clientid,
        like_username=None if usernames or query.like_username is UNSET else query.like_username,
        gte_created_at=_time("gte_created_at", query.gte_created_at),
        lte_created_at=_time("lte_created_at", query.lte_created_at),
        gte_connected_at=_time("gte_connected_at", query.gte_connected_at),
        lte_connected_at=_time("lte_connected_at", query.lte_connected_at),
    )


def _ip_address(value: str | UnsetType) -> str | None:
    if value is UNSET:
        return None
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise _wrong_type("ip_address", "ip", value) from None


def _protocol_level(value: str | UnsetType) -> int | None:
    if value is UNSET:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 3):
        raise _wrong_type("proto_ver", "integer", value)
    return int(value)


def _wrong_type(name: str, wanted: str, value: str) -> Exception:
    text = f"the {name} parameter expected type is {wanted}, but the value is {value[:200]}"
    return INVALID_PARAMETER.error(text)


def _time(name: str, value: str | UnsetType) -> int | None:
    return None if value is UNSET else milliseconds(name, value)


def _selected_fields(value: str) -> frozenset[str] | None:
    """The names in `fields`; None = all of them."""
    if value == "all":
        return None
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if name not in SELECTABLE:
            raise invalid("fields", "not_a_enum_symbol", value=name[:200])
    return frozenset(names)


def shown_as(api: Api, query: ClientFilterQuery) -> Callable[[SessionInfo], object]:
    """What makes a row: the client object, or of it the selected `fields` alone; 400 where one may not be named."""
    selected = _selected_fields(query.fields)
    if selected is None:
        return lambda info: client_object(api, info)

    def projection(info: SessionInfo) -> dict[str, Any]:
        row = msgspec.to_builtins(client_object(api, info))
        return {name: value for name, value in row.items() if name in selected}

    return projection
