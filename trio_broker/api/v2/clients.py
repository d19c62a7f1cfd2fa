"""`/clients` and `/nodes/:node/clients`: who is connected.

Invariant: a session without a connection is no client here.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from trio_broker.actors.questions import ClientFilter
from trio_broker.api.context import Api
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.v2.envelope import NOT_ONLINE, Objects, Page, Result
from trio_broker.api.v2.formats import UNDEFINED, local_time
from trio_broker.api.v2.paging import Paging, page
from trio_broker.session.info import SessionInfo

routes = Routes("Clients")

ROWS: Final = 64
"""Rows between two turns of others."""
CONNECTED: Final = ClientFilter(connection_state="connected")


class Client(Struct, kw_only=True):
    """`proto_ver` is 3 for MQTT 3.1, 4 for 3.1.1 and 5 for 5.0."""

    client_id: str
    username: str
    ipaddress: str
    port: int
    clean_sess: bool
    proto_ver: int
    keepalive: int
    connected_at: str


class CleanAclCache(Struct, kw_only=True):
    topic: str


@routes.get("/nodes/:node/clients", "List all clients on a node")
async def list_clients(api: Api, node: str, query: Paging) -> Result[Page[Client]] | Reply:
    api.check_node(node)
    clients = await api.questions.clients(CONNECTED, query.offset, query.limit)
    return await page(query, clients.count, clients.rows, _client, ROWS)


@routes.get("/nodes/:node/clients/:client_id", "Retrieve a client on a node")
async def client_on_node(api: Api, node: str, client_id: str) -> Result[Objects[Client]]:
    api.check_node(node)
    return await client(api, client_id)


@routes.get("/clients/:client_id", "Retrieve a client in the cluster")
async def client(api: Api, client_id: str) -> Result[Objects[Client]]:
    info = await api.questions.client(client_id)
    return Result(Objects([_client(info)] if info is not None and info.connected else []))


@routes.delete(
    "/clients/:client_id", "Disconnect a client, whose session stays if it is one to stay", failures=[NOT_ONLINE]
)
async def disconnect_client(api: Api, client_id: str) -> Result[list[None]]:
    if not await api.questions.disconnect(client_id):
        raise NOT_ONLINE.error()
    return Result([])


@routes.put("/clients/:client_id/clean_acl_cache", "Clear what is kept for a client of a topic", failures=[NOT_ONLINE])
async def clean_acl_cache(api: Api, client_id: str, body: CleanAclCache) -> Result[list[None]]:
    if not await api.questions.forget_client_decision(client_id, body.topic):
        raise NOT_ONLINE.error()
    return Result([])


def _client(info: SessionInfo) -> Client:
    return Client(
        client_id=info.client_id,
        username=UNDEFINED if info.username is None else info.username,
        ipaddress=info.peer_host or UNDEFINED,
        port=info.peer_port,
        clean_sess=info.clean_start,
        proto_ver=info.protocol_level,
        keepalive=info.keep_alive,
        connected_at=local_time(info.connected_at),
    )
