"""`/clients/:clientid/mqueue_messages` and `inflight_messages`: what waits for a client, in pieces.

Invariant: whoever follows `meta.position` sees each message that stays in the queue once. For that the position is
the one of the last message *returned*, also where `max_payload_bytes` cut the piece short.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, Literal

import trio
from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.api.context import Api
from trio_broker.api.failures import CLIENT_NOT_FOUND, CLIENT_SHUTDOWN, INVALID_PARAMETER
from trio_broker.api.formats import byte_size, username_text
from trio_broker.api.paging import LONG_STEP
from trio_broker.api.routes import Routes
from trio_broker.errors import ActorGone
from trio_broker.session.info import QueuedMessage, QueuePage

routes = Routes("Clients")

EMPTY: Final = "none"
BAD_POSITION: Final = "position_limit_invalid"
NOT_TEXT: Final = "Some message payloads are not JSON serializable"

_INFLIGHT_TOKEN: Final = re.compile(r"([0-9]{1,20})")
_MQUEUE_TOKEN: Final = re.compile(r"([0-9]{1,20})_(?:-?[0-9]{1,10}|infinity)")

Ask = Callable[[str, int | None, int], Awaitable[QueuePage | None]]


class MessagesQuery(Struct, kw_only=True):
    payload: Literal["none", "base64", "plain"] = "base64"
    max_payload_bytes: Annotated[
        str, Meta(description="Bound of the sum of the encoded payloads, e.g. `1024` or `32MB`; one is always returned")
    ] = "1MB"
    position: Annotated[str, Meta(description="`meta.position` of the piece before; `none`: the start")] = EMPTY
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100


class WaitingMessage(Struct, kw_only=True):
    msgid: str
    topic: str
    qos: int
    publish_at: int
    from_clientid: str
    from_username: str
    payload: str | UnsetType = UNSET
    inserted_at: str
    mqueue_priority: int | Literal["infinity"] | UnsetType = UNSET


class PositionMeta(Struct):
    start: str
    position: str


class WaitingMessages(Struct):
    data: list[WaitingMessage]
    meta: PositionMeta


@routes.get(
    "/clients/:clientid/mqueue_messages",
    "Get client mqueue messages",
    failures=[CLIENT_NOT_FOUND, CLIENT_SHUTDOWN, INVALID_PARAMETER],
)
async def mqueue_messages(api: Api, clientid: str, query: MessagesQuery) -> WaitingMessages:
    return await _messages(api, clientid, query, api.questions.mqueue_messages, mqueue=True)


@routes.get(
    "/clients/:clientid/inflight_messages",
    "Get client in-flight messages",
    failures=[CLIENT_NOT_FOUND, CLIENT_SHUTDOWN, INVALID_PARAMETER],
)
async def inflight_messages(api: Api, clientid: str, query: MessagesQuery) -> WaitingMessages:
    return await _messages(api, clientid, query, api.questions.inflight_messages, mqueue=False)


async def _messages(api: Api, client_id: str, query: MessagesQuery, ask: Ask, *, mqueue: bool) -> WaitingMessages:
    budget = byte_size("max_payload_bytes", query.max_payload_bytes)
    after = _parse_token(query.position, mqueue=mqueue)
    try:
        page = await ask(client_id, after, query.limit)
    except ActorGone:
        # Either the session ended while it was asked, or the whole broker does.
        if await api.questions.client(client_id) is not None:
            raise
        raise CLIENT_SHUTDOWN.error() from None
    if page is None:
        raise CLIENT_NOT_FOUND.error()
    rows, last = await _rows(api, page.messages, query.payload, budget, mqueue=mqueue)
    if page.start is None:
        return WaitingMessages(rows, PositionMeta(EMPTY, EMPTY))
    first = page.messages[0] if page.messages else None
    start = str(page.start)
    if mqueue:
        start += _priority_suffix(first.priority if first and first.inserted_at_ns == page.start else 0)
    position = query.position if last is None else _token(last, mqueue=mqueue)
    return WaitingMessages(rows, PositionMeta(start, position))


async def _rows(
    api: Api, messages: list[QueuedMessage], mode: str, budget: int, *, mqueue: bool
) -> tuple[list[WaitingMessage], QueuedMessage | None]:
    """The rows within `budget` bytes of encoded payload, and the message of the last one."""
    rows: list[WaitingMessage] = []
    last: QueuedMessage | None = None
    for message in messages:
        payload = _encoded(message.payload, mode)
        if payload is not UNSET:
            budget -= len(payload.encode())
            if budget < 0 and rows:
                break
        rows.append(
            WaitingMessage(
                msgid=api.message_id(message.message_id),
                topic=message.topic_name,
                qos=message.qos,
                publish_at=message.publish_at,
                from_clientid=message.from_client_id,
                from_username=username_text(message.from_username),
                payload=payload,
                inserted_at=str(message.inserted_at_ns),
                mqueue_priority=_priority(message.priority) if mqueue else UNSET,
            )
        )
        last = message
        if len(rows) % LONG_STEP == 0:
            await trio.lowlevel.checkpoint()
    return rows, last


def _encoded(payload: bytes, mode: str) -> str | UnsetType:
    if mode == "none":
        return UNSET
    if mode == "base64":
        return base64.b64encode(payload).decode()
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise INVALID_PARAMETER.error(NOT_TEXT) from None


def _priority(priority: int | None) -> int | Literal["infinity"]:
    return "infinity" if priority is None else priority


def _priority_suffix(priority: int | None) -> str:
    return f"_{_priority(priority)}"


def _token(message: QueuedMessage, *, mqueue: bool) -> str:
    return str(message.inserted_at_ns) + (_priority_suffix(message.priority) if mqueue else "")


def _parse_token(token: str, *, mqueue: bool) -> int | None:
    if token == EMPTY:
        return None
    found = (_MQUEUE_TOKEN if mqueue else _INFLIGHT_TOKEN).fullmatch(token)
    if found is None:
        raise INVALID_PARAMETER.error(BAD_POSITION)
    return int(found[1])
