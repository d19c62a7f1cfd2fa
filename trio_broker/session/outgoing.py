"""One copy of a message on its way to one session, from its arrival until its last acknowledgement.

Invariant: a copy is either in the mqueue (no packet identifier) or inflight (with one), never in both.
"""

from __future__ import annotations

from typing import Final

import msgspec

from trio_broker.protocol.message import Message

# Phases of a copy: waiting in the mqueue, PUBLISH sent, PUBREC received and PUBREL sent.
QUEUED: Final = 0
PUBLISH_SENT: Final = 1
PUBREL_SENT: Final = 2


class Outgoing(msgspec.Struct, gc=False, eq=False):
    """`qos` and `retain` are those of this copy; `identifiers` the subscription identifiers that go with it.

    `inserted_at_ns` is wall clock in nanoseconds, growing and unique within the session: EMQX's `inserted_at`.
    `counted` says that the copy uses a place of the send quota of this connection [MQTT-4.9.0-2].
    `share` is the shared subscription that brought it, in full. `row` is the number under which a store keeps it
    (0 = it is in memory alone), `message_row` the one of its message.
    """

    message: Message
    qos: int
    retain: bool
    identifiers: tuple[int, ...]
    inserted_at_ns: int
    packet_identifier: int = 0
    phase: int = QUEUED
    counted: bool = False
    sent: bool = False
    share: str | None = None
    row: int = 0
    message_row: int = 0
