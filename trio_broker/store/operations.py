"""What can be written to a store: a closed set of small operations.

Invariant: they hold plain values only, so that any store can keep them. Times are wall clock in milliseconds.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import define

from trio_broker.protocol.message import Message
from trio_broker.routing.subscription import Subscription


@define
class PutSession:
    """`expires_at` is None while the client is connected and for sessions that never end."""

    client_id: str
    username: str | None
    created_at: int
    expiry_interval: int
    expires_at: int | None


@define
class DeleteSession:
    client_id: str


@define
class PutSubscription:
    client_id: str
    subscription: Subscription


@define
class DeleteSubscription:
    client_id: str
    topic_filter: str


@define
class PutRetained:
    message: Message
    expires_at: int | None


@define
class DeleteRetained:
    topic_name: str


@define
class PutDocument:
    """Something managed over REST or made by the broker: `kind` api_key, banned, ...; `body` is JSON text."""

    kind: str
    key: str
    body: str


@define
class DeleteDocument:
    kind: str
    key: str


Operation: TypeAlias = (
    PutSession
    | DeleteSession
    | PutSubscription
    | DeleteSubscription
    | PutRetained
    | DeleteRetained
    | PutDocument
    | DeleteDocument
)
