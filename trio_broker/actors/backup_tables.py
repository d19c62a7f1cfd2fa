"""The tables that data backup carries: their rows as plain values, checked when they come back.

Invariant: what a row (JSON) is read as can be taken without another look, and is read as that at once; `take_...`
returns when all of it is durable.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.banned import KINDS, Ban, canonical
from trio_broker.actors.messages import RetainRuns
from trio_broker.errors import ProtocolError
from trio_broker.protocol.message import Message, Origin, Run
from trio_broker.protocol.packets import NO_PROPERTIES, Properties
from trio_broker.protocol.topics import validate_topic_name

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

TOGETHER: Final = 64
"""Rows that are made durable together."""

Text = Annotated[str, Meta(max_length=65535)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**53)]


# -- bans -------------------------------------------------------------------------------------------------------


class BanRow(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Times in seconds; `until` is left out for ever."""

    kind: str
    who: Text
    by: Text
    reason: Text
    at: Annotated[int, Meta(ge=0, le=2**53)]
    until: Annotated[int, Meta(ge=0, le=2**53)] | None = None


def bans(core: Core) -> Iterator[Any]:
    for ban in core.banned.rows():
        yield msgspec.to_builtins(BanRow(ban.kind, ban.who, ban.by, ban.reason, ban.at, ban.until))


def read_ban(row: bytes) -> Ban:
    found = msgspec.json.decode(row, type=BanRow)
    if found.kind not in KINDS:
        raise ValueError(f"{found.kind[:60]!r} is no kind of ban")
    return Ban(found.kind, canonical(found.kind, found.who), found.by, found.reason, found.at, found.until)


async def take_bans(core: Core, values: Sequence[Ban]) -> None:
    """Those that are there already are replaced; those that are over are left out."""
    now = core.banned.now()
    await core.banned.put([ban for ban in values if ban.until is None or ban.until > now])


# -- retained messages ------------------------------------------------------------------------------------------


class PropertiesRow(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What travels with a message; correlation data in base64."""

    payload_format_indicator: Annotated[int, Meta(ge=0, le=1)] | UnsetType = UNSET
    message_expiry_interval: Annotated[int, Meta(ge=0, le=2**32 - 1)] | UnsetType = UNSET
    content_type: Text | UnsetType = UNSET
    response_topic: Text | UnsetType = UNSET
    correlation_data: bytes | UnsetType = UNSET
    user_property: list[tuple[Text, Text]] | UnsetType = UNSET


class RetainedRow(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """`payload` in base64; times are wall clock in milliseconds."""

    topic: str
    payload: bytes
    qos: Annotated[int, Meta(ge=0, le=2)]
    publish_at: Milliseconds
    from_clientid: Text = ""
    from_username: Text | None = None
    expires_at: Milliseconds | None = None
    properties: PropertiesRow | UnsetType = UNSET


def retained(core: Core) -> Iterator[Any]:
    now = core.clock.now()
    for message in core.retainer.trie:
        if message.expires_at is not None and message.expires_at <= now:
            continue
        row: dict[str, Any] = {
            "topic": message.topic_name,
            "payload": base64.b64encode(message.payload).decode(),
            "qos": message.qos,
            "publish_at": message.publish_at,
            "from_clientid": message.origin.client_id,
            "from_username": message.origin.username,
        }
        if message.expires_at is not None:
            row["expires_at"] = core.clock.wall_ms(message.expires_at)
        if message.properties:
            row["properties"] = msgspec.to_builtins(dict(message.properties))
        yield row


def read_retained(row: bytes) -> RetainedRow:
    found = msgspec.json.decode(row, type=RetainedRow)
    try:
        validate_topic_name(found.topic)
    except ProtocolError as error:
        raise ValueError(str(error)) from None
    if not found.payload:
        raise ValueError("a retained message has a payload")
    return found


async def take_retained(core: Core, values: Sequence[RetainedRow]) -> None:
    """They take the place of what is retained for their topics; nobody who is subscribed already gets them."""
    now = core.clock.now()
    wall_ms = core.clock.wall_ms(now)
    wanted = [row for row in values if row.expires_at is None or row.expires_at > wall_ms]
    for start in range(0, len(wanted), TOGETHER):
        runs = []
        for row in wanted[start : start + TOGETHER]:
            origin = Origin(row.from_clientid, row.from_username)
            expires_at = None if row.expires_at is None else core.clock.trio_time(row.expires_at)
            properties = _properties(row.properties)
            message_id = core.message_id(wall_ms)
            message = Message(
                row.topic, row.payload, row.qos, True, message_id, origin, row.publish_at, properties, expires_at
            )
            plain = not properties and expires_at is None
            runs.append(Run(row.topic, row.qos, True, origin, [message], plain))
        await core.router.ask(RetainRuns(runs))


def _properties(row: PropertiesRow | UnsetType) -> Properties:
    if isinstance(row, UnsetType):
        return NO_PROPERTIES
    found: Any = {name: value for name, value in msgspec.structs.asdict(row).items() if value is not UNSET}
    properties: Properties = found
    return properties
