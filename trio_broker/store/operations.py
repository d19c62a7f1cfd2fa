"""What can be written to a store: a closed set of small operations, and what comes back from it at the start.

Invariant: they hold plain values only, so that any store can keep them. Times are wall clock in milliseconds. A
session is named by its `key`, which no other session ever gets, not even one of the same client identifier.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final, TypeAlias

from attrs import define

from trio_broker.protocol.message import Message
from trio_broker.protocol.packets import Will
from trio_broker.routing.subscription import Subscription
from trio_broker.session.outgoing import Outgoing


@define
class PutSession:
    """`connected`: a connection uses it; then `expires_at` and `will_at` are None, and `will` is the one in force.

    Without a connection `expires_at` is None for a session that never ends, and `will` is one that is due at `will_at`.
    """

    key: int
    client_id: str
    username: str | None
    created_at: int
    expiry_interval: int
    connected: bool = False
    expires_at: int | None = None
    will: Will | None = None
    will_at: int | None = None
    disconnected_at: int | None = None
    owner: str = ""
    """Who owns the client identifier: the token of the fabric's claim."""


@define
class DeleteSession:
    """The session with its subscriptions and its QoS 2 identifiers; its copies are removed one by one."""

    key: int


@define
class PutSubscription:
    session: int
    subscription: Subscription


@define
class DeleteSubscription:
    session: int
    topic_filter: str


@define
class PutReceived:
    """QoS 2 messages of the client between PUBLISH and PUBREL."""

    session: int
    packet_identifiers: Sequence[int]


@define
class DeleteReceived:
    session: int
    packet_identifiers: Sequence[int]


@define
class PutRetained:
    message: Message


MAX_MESSAGE_ID: Final = 2**63 - 1


@define
class DeleteRetained:
    """Delete what is retained for a topic, unless it is newer than `message_id`."""

    topic_name: str
    message_id: int


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
    | PutReceived
    | DeleteReceived
    | PutRetained
    | DeleteRetained
    | PutDocument
    | DeleteDocument
)


@define(eq=False)
class KeptCopies:
    """The queue of one session, oldest first, as `Tail` keeps it: three arrays of equal length.

    `rows` and `messages` are the store's own numbers, `stamps` is when each was queued (nanoseconds). `shared`: some of
    them came by a shared subscription; `has_qos0`: some have QoS 0.
    """

    session: int
    rows: array[int]
    messages: array[int]
    stamps: array[int]
    shared: bool
    has_qos0: bool = False


@define(eq=False)
class KeptInflight:
    """The copies of one session that have a packet identifier, in the order in which they were sent."""

    session: int
    copies: list[Outgoing]


@define(eq=False)
class LastMessageId:
    """No message id up to this one may be given again, whatever the clock shows."""

    message_id: int


Kept: TypeAlias = Operation | KeptCopies | KeptInflight | LastMessageId
