"""`/clients`: list, look up and kick out sessions, as EMQX 4 does.

Invariant: a session that lives on without a connection is listed too; whom nobody knows is an empty list and no error.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from trio_broker.actors.questions import ClientFilter
from trio_broker.api.context import Api
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.v4.client_object import ZONE, Client, client_object
from trio_broker.api.v4.envelope import BAD_PARAMETER, Data, Done, Listed
from trio_broker.api.v4.paging import ALL, Paging, listing, page_meta
from trio_broker.api.v4.parameters import or_none, wrong_type

routes = Routes("Clients")

ROWS: Final = 64
"""Rows between two turns of others: less than a millisecond."""

Count = Annotated[int, Meta(ge=0)] | UnsetType
Time = Annotated[int | str, Meta(description="Seconds since the epoch")] | UnsetType


class ClientsQuery(Paging, kw_only=True):
    clientid: str | UnsetType = UNSET
    username: str | UnsetType = UNSET
    zone: str | UnsetType = UNSET
    ip_address: Annotated[str, Meta(description="Exact IPv4 address")] | UnsetType = UNSET
    conn_state: Literal["connected", "idle", "disconnected", "connecting"] | UnsetType = UNSET
    clean_start: bool | UnsetType = UNSET
    proto_name: str | UnsetType = UNSET
    proto_ver: int | UnsetType = UNSET
    like_clientid: Annotated[str, Meta(description="Part of the client id")] | UnsetType = msgspec.field(
        name="_like_clientid", default=UNSET
    )
    like_username: Annotated[str, Meta(description="Part of the user name")] | UnsetType = msgspec.field(
        name="_like_username", default=UNSET
    )
    gte_created_at: Time = msgspec.field(name="_gte_created_at", default=UNSET)
    lte_created_at: Time = msgspec.field(name="_lte_created_at", default=UNSET)
    gte_connected_at: Time = msgspec.field(name="_gte_connected_at", default=UNSET)
    lte_connected_at: Time = msgspec.field(name="_lte_connected_at", default=UNSET)
    gte_mqueue_len: Count = msgspec.field(name="_gte_mqueue_len", default=UNSET)
    lte_mqueue_len: Count = msgspec.field(name="_lte_mqueue_len", default=UNSET)
    gte_mqueue_dropped: Count = msgspec.field(name="_gte_mqueue_dropped", default=UNSET)
    lte_mqueue_dropped: Count = msgspec.field(name="_lte_mqueue_dropped", default=UNSET)


@routes.get("/clients", "A list of clients on current node", failures=[BAD_PARAMETER])
async def list_clients(api: Api, query: ClientsQuery) -> Listed[Client] | Reply:
    wanted = _filter(query)
    is_filtered = wanted != ClientFilter() or query.zone is not UNSET
    if query.zone not in (UNSET, ZONE):
        return await listing((), str, page_meta(query, 0, counted=False))
    page = await api.questions.clients(wanted, query.offset, query.limit)
    meta = page_meta(query, page.count, counted=not is_filtered)
    return await listing(page.rows, lambda info: client_object(api, info), meta, ROWS)


@routes.get("/nodes/:node/clients", "A list of clients on specified node", failures=[BAD_PARAMETER])
async def list_node_clients(api: Api, node: str, query: ClientsQuery) -> Listed[Client] | Reply:
    api.check_node(node)
    return await list_clients(api, query)


@routes.get("/clients/:clientid", "Lookup a client in the cluster")
async def lookup_client(api: Api, clientid: str) -> Data[list[Client]]:
    info = await api.questions.client(clientid)
    return Data([] if info is None else [client_object(api, info)])


@routes.get("/nodes/:node/clients/:clientid", "Lookup a client on the node")
async def lookup_node_client(api: Api, node: str, clientid: str) -> Data[list[Client]]:
    api.check_node(node)
    return await lookup_client(api, clientid)


@routes.get("/clients/username/:username", "Lookup a client via username in the cluster")
async def lookup_client_via_username(api: Api, username: str) -> Data[list[Client]] | Reply:
    page = await api.questions.clients(ClientFilter(usernames=(username,)), 0, ALL)
    return await listing(page.rows, lambda info: client_object(api, info), step=ROWS)


@routes.get("/nodes/:node/clients/username/:username", "Lookup a client via username on the node")
async def lookup_node_client_via_username(api: Api, node: str, username: str) -> Data[list[Client]] | Reply:
    api.check_node(node)
    return await lookup_client_via_username(api, username)


@routes.delete("/clients/:clientid", "Kick out the client in the cluster")
async def kickout_client(api: Api, clientid: str) -> Done:
    await api.questions.kick(clientid)
    return Done()


@routes.delete("/nodes/:node/clients/:clientid", "Kick out the client on the node")
async def kickout_node_client(api: Api, node: str, clientid: str) -> Done:
    api.check_node(node)
    return await kickout_client(api, clientid)


def _filter(query: ClientsQuery) -> ClientFilter:
    """What the questions call it; 108 where a value has the wrong type."""
    return ClientFilter(
        client_ids=() if query.clientid is UNSET else (query.clientid,),
        usernames=() if query.username is UNSET else (query.username,),
        ip_address=_ip_address(query.ip_address),
        # Nobody is listed before the CONNECT was answered.
        connection_state="idle" if query.conn_state == "connecting" else or_none(query.conn_state),
        clean_start=or_none(query.clean_start),
        protocol_level=or_none(query.proto_ver),
        protocol_name=or_none(query.proto_name),
        # Where the exact value of a column is given, its fuzzy filter does not count.
        like_client_id=None if query.clientid is not UNSET else or_none(query.like_clientid),
        like_username=None if query.username is not UNSET else or_none(query.like_username),
        gte_created_at=_first(query.gte_created_at),
        lte_created_at=_last(query.lte_created_at),
        gte_connected_at=_first(query.gte_connected_at),
        lte_connected_at=_last(query.lte_connected_at),
        gte_mqueue_len=or_none(query.gte_mqueue_len),
        lte_mqueue_len=or_none(query.lte_mqueue_len),
        gte_mqueue_dropped=or_none(query.gte_mqueue_dropped),
        lte_mqueue_dropped=or_none(query.lte_mqueue_dropped),
    )


def _ip_address(value: str | UnsetType) -> str | None:
    if value is UNSET:
        return None
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise wrong_type(value, "ip") from None


def _first(value: int | str | UnsetType) -> int | None:
    """The first millisecond of that second."""
    if value is UNSET:
        return None
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) <= 15):
        raise wrong_type(value, "timestamp")
    return int(value) * 1000


def _last(value: int | str | UnsetType) -> int | None:
    """The last one: rows show no parts of a second, and what is shown as this second is meant."""
    first = _first(value)
    return None if first is None else first + 999
