"""`/sessions` and `/nodes/:node/sessions`: of whom is connected, and of whom may come back.

Invariant: all figures are numbers, under the names of EMQ 2.1 and under those of 2.3.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from trio_broker.actors.questions import ClientFilter
from trio_broker.api.context import Api
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.v2.envelope import Objects, Page, Result
from trio_broker.api.v2.formats import local_time
from trio_broker.api.v2.paging import Paging, page
from trio_broker.session.info import SessionInfo

routes = Routes("Sessions")

ROWS: Final = 64
"""Rows between two turns of others."""


class Session(Struct, kw_only=True):
    """What lies behind `created_at` is of 2.3, as is `max_inflight`, which is also of 2.1."""

    client_id: str
    clean_sess: bool
    max_inflight: int
    inflight_queue: int
    message_queue: int
    message_dropped: int
    awaiting_rel: int
    awaiting_ack: int
    awaiting_comp: int
    created_at: str
    subscriptions: int
    inflight_len: int
    mqueue_len: int
    mqueue_dropped: int
    awaiting_rel_len: int
    deliver_msg: int
    enqueue_msg: int


# The path of EMQ 2's document, and that of the example beside it.
@routes.get("/node/:node/sessions", "List all sessions on a node")
@routes.get("/nodes/:node/sessions", "List all sessions on a node")
async def list_sessions(api: Api, node: str, query: Paging) -> Result[Page[Session]] | Reply:
    api.check_node(node)
    sessions = await api.questions.clients(ClientFilter(), query.offset, query.limit)
    return await page(query, sessions.count, sessions.rows, _session, ROWS)


@routes.get("/nodes/:node/sessions/:client_id", "Retrieve a session on a node")
async def session_on_node(api: Api, node: str, client_id: str) -> Result[Objects[Session]]:
    api.check_node(node)
    return await session(api, client_id)


@routes.get("/sessions/:client_id", "Retrieve a session in the cluster")
async def session(api: Api, client_id: str) -> Result[Objects[Session]]:
    info = await api.questions.client(client_id)
    return Result(Objects([] if info is None else [_session(info)]))


def _session(info: SessionInfo) -> Session:
    return Session(
        client_id=info.client_id,
        clean_sess=info.clean_start,
        max_inflight=info.inflight_max,
        inflight_queue=info.inflight_count,
        message_queue=info.mqueue_len,
        message_dropped=info.mqueue_dropped,
        awaiting_rel=info.awaiting_rel_count,
        awaiting_ack=info.inflight_count - info.awaiting_comp_count,
        awaiting_comp=info.awaiting_comp_count,
        created_at=local_time(info.created_at),
        subscriptions=info.subscriptions_count,
        inflight_len=info.inflight_count,
        mqueue_len=info.mqueue_len,
        mqueue_dropped=info.mqueue_dropped,
        awaiting_rel_len=info.awaiting_rel_count,
        deliver_msg=info.stats["send_msg"],
        enqueue_msg=info.mqueue_entered,
    )
