"""`/mqtt/retainer/messages` and `/mqtt/retainer/message/:topic`: the retained messages.

Invariant: listings have no payload; a payload is always base64.
"""

from __future__ import annotations

import base64
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.questions import RetainedRow
from trio_broker.api.context import Api
from trio_broker.api.failures import Failure
from trio_broker.api.formats import rfc3339_ms, username_text
from trio_broker.api.paging import PageOf, Paging, each, page_meta
from trio_broker.api.routes import Routes
from trio_broker.api.v5.subscription_object import bad_filter
from trio_broker.errors import ProtocolError
from trio_broker.protocol.topics import validate_topic_filter

routes = Routes("Retainer")

NO_SUCH_MESSAGE: Final = Failure(404, "NOT_FOUND", "Viewed message doesn't exist")
LARGEST_SHOWN: Final = 1_048_576
"""Bytes; a larger payload is left out."""


class RetainedQuery(Paging, kw_only=True):
    topic: Annotated[str, Meta(description="Filter, may have wildcards; absent: all")] | UnsetType = UNSET


class Retained(Struct, kw_only=True):
    msgid: str
    topic: str
    qos: int
    publish_at: str
    from_clientid: str
    from_username: str
    payload: str | UnsetType = UNSET


@routes.get("/mqtt/retainer/messages", "List retained messages")
async def list_retained(api: Api, query: RetainedQuery) -> PageOf[Retained]:
    topic_filter = None if query.topic is UNSET else query.topic
    if topic_filter is not None:
        _check(topic_filter)
    rows, count = await api.questions.retained(topic_filter, query.offset, query.limit)
    data = await each(rows, lambda row: _retained(api, row))
    return PageOf(data, page_meta(query, count, show_count=topic_filter is None))


@routes.delete("/mqtt/retainer/messages", "Delete all retained messages")
async def delete_all_retained(api: Api) -> None:
    await api.questions.delete_retained(None)


@routes.get(
    "/mqtt/retainer/message/:topic", "Lookup a message by a topic without wildcards", failures=[NO_SUCH_MESSAGE]
)
async def retained_message(api: Api, topic: str) -> Retained:
    _check(topic)
    row = await api.questions.retained_message(topic)
    if row is None:
        raise NO_SUCH_MESSAGE.error()
    retained = _retained(api, row)
    if row.payload is not None and len(row.payload) <= LARGEST_SHOWN:
        retained.payload = base64.b64encode(row.payload).decode()
    return retained


@routes.delete("/mqtt/retainer/message/:topic", "Delete matching messages", failures=[NO_SUCH_MESSAGE])
async def delete_retained(api: Api, topic: str) -> None:
    _check(topic)
    if not await api.questions.delete_retained(topic):
        raise NO_SUCH_MESSAGE.error()


def _check(topic_filter: str) -> None:
    try:
        validate_topic_filter(topic_filter)
    except ProtocolError as error:
        raise bad_filter("topic", topic_filter, error) from None


def _retained(api: Api, row: RetainedRow) -> Retained:
    return Retained(
        msgid=api.message_id(row.message_id),
        topic=row.topic_name,
        qos=row.qos,
        publish_at=rfc3339_ms(row.publish_at),
        from_clientid=row.from_client_id,
        from_username=username_text(row.from_username),
    )
