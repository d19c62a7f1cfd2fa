"""`/mqtt/delayed`: whether messages may be delayed, and those that wait.

Invariant: listings have no payload; a payload is base64, or the words `PAYLOAD_TOO_LARGE`.
"""

from __future__ import annotations

import base64
import re
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.delayed import DelayedRow
from trio_broker.api.context import Api
from trio_broker.api.failures import Failure
from trio_broker.api.formats import rfc3339_ms, username_text
from trio_broker.api.paging import PageOf, Paging, each, page_meta
from trio_broker.api.routes import Routes
from trio_broker.api.updates import OVERRIDDEN, change
from trio_broker.config import to_dict

routes = Routes("MQTT")

BAD_MESSAGE_ID: Final = Failure(400, "MESSAGE_ID_SCHEMA_ERROR", "Message ID <msgid> schema error")
BAD_NODE: Final = Failure(400, "INVALID_NODE", "The node name <node> is invalid")
BAD_TOPIC: Final = Failure(400, "INVALID_TOPIC_NAME", "The topic name <topic> is invalid")
NO_SUCH_MESSAGE: Final = Failure(404, "MESSAGE_ID_NOT_FOUND", "Message ID <msgid> not found")
NO_MESSAGES: Final = Failure(404, "MESSAGE_NOT_FOUND", "Not found messages for <topic>")

LARGEST_SHOWN: Final = 2048
"""Bytes of a payload."""
PAYLOAD_TOO_LARGE: Final = "PAYLOAD_TOO_LARGE"


class DelayedSettings(Struct, kw_only=True, forbid_unknown_fields=True):
    enable: bool = True
    max_delayed_messages: Annotated[int, Meta(ge=0, description="0 = no limit")] = 0


class DelayedMessage(Struct, kw_only=True):
    msgid: str
    node: str
    topic: str
    qos: int
    publish_at: str
    expected_at: str
    delayed_interval: Annotated[int, Meta(description="Seconds")]
    delayed_remaining: Annotated[int, Meta(description="Seconds")]
    from_clientid: str
    from_username: str
    payload: Annotated[str, Meta(description="base64, or PAYLOAD_TOO_LARGE above 2048 bytes")] | UnsetType = UNSET


@routes.get("/mqtt/delayed", "Settings of delayed publish")
async def delayed_settings(api: Api) -> DelayedSettings:
    return msgspec.convert(to_dict(api.questions.settings.config)["delayed"], DelayedSettings)


@routes.put("/mqtt/delayed", "Change the settings of delayed publish", failures=[OVERRIDDEN])
async def change_delayed_settings(api: Api, body: DelayedSettings) -> DelayedSettings:
    await change(api, {"delayed": msgspec.to_builtins(body)}, "delayed")
    return await delayed_settings(api)


@routes.get("/mqtt/delayed/messages", "List messages that wait")
async def list_delayed(api: Api, query: Paging) -> PageOf[DelayedMessage]:
    rows, count = await api.questions.delayed.page(query.offset, query.limit)
    return PageOf(await each(rows, lambda row: _shown(api, row)), page_meta(query, count))


@routes.get(
    "/mqtt/delayed/messages/:node/:msgid",
    "One message that waits, with its payload",
    failures=[BAD_MESSAGE_ID, BAD_NODE, NO_SUCH_MESSAGE],
)
async def delayed_message(api: Api, node: str, msgid: str) -> DelayedMessage:
    message_id = _message_id(api, node, msgid)
    row = api.questions.delayed.get(message_id)
    if row is None:
        raise NO_SUCH_MESSAGE.error(f"Message ID {msgid} not found")
    return _shown(api, row)


@routes.delete(
    "/mqtt/delayed/messages/:node/:msgid",
    "Delete one message that waits",
    failures=[BAD_MESSAGE_ID, BAD_NODE, NO_SUCH_MESSAGE],
)
async def delete_delayed_message(api: Api, node: str, msgid: str) -> None:
    if not await api.questions.delayed.delete(_message_id(api, node, msgid)):
        raise NO_SUCH_MESSAGE.error(f"Message ID {msgid} not found")


@routes.delete(
    "/mqtt/delayed/messages/:topic", "Delete the messages that wait for a topic", failures=[BAD_TOPIC, NO_MESSAGES]
)
async def delete_delayed_messages(api: Api, topic: str) -> None:
    if "+" in topic or "#" in topic:
        raise BAD_TOPIC.error(f"The topic name {topic} is invalid")
    if not await api.questions.delayed.delete_topic(topic):
        raise NO_MESSAGES.error(f"Not found messages for {topic}")


def _message_id(api: Api, node: str, msgid: str) -> int:
    """Of our own; what has another node in it is of nobody we know."""
    if node != api.node_name:
        raise BAD_NODE.error(f"The node name {node} is invalid")
    if not re.fullmatch("[0-9A-Fa-f]{32}", msgid):
        raise BAD_MESSAGE_ID.error(f"Message ID {msgid} schema error")
    message_id = int(msgid[:16], 16)
    if api.message_id(message_id) != msgid.upper():
        raise NO_SUCH_MESSAGE.error(f"Message ID {msgid} not found")
    return message_id


def _shown(api: Api, row: DelayedRow) -> DelayedMessage:
    payload: str | UnsetType = UNSET
    if row.payload is not None:
        is_large = len(row.payload) > LARGEST_SHOWN
        payload = PAYLOAD_TOO_LARGE if is_large else base64.b64encode(row.payload).decode()
    return DelayedMessage(
        msgid=api.message_id(row.message_id),
        node=api.node_name,
        topic=row.topic_name,
        qos=row.qos,
        publish_at=rfc3339_ms(row.publish_at),
        expected_at=rfc3339_ms(row.expected_at),
        delayed_interval=row.interval,
        delayed_remaining=row.remaining,
        from_clientid=row.from_client_id,
        from_username=username_text(row.from_username),
        payload=payload,
    )
