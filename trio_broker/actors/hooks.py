"""What the embedding program is told of: connections that begin and end, messages that are published.

Invariant: a hook that nobody set costs nothing; a hook that fails is logged and disturbs nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from attrs import define

from trio_broker.protocol.message import Message
from trio_broker.protocol.reason_codes import ReasonCode

log = logging.getLogger("trio_broker.hooks")


@define
class ClientConnected:
    client_id: str
    username: str | None
    peer_host: str
    peer_port: int
    listener: str
    protocol_level: int
    session_present: bool


@define
class ClientDisconnected:
    """`reason_code` 0 is a proper DISCONNECT; `reason` says in words why the connection ended."""

    client_id: str
    username: str | None
    reason_code: ReasonCode | int
    reason: str


class Hooks:
    """Plain functions that are called in the broker's Trio thread and must not block."""

    def __init__(self) -> None:
        self.connected: list[Callable[[ClientConnected], None]] = []
        self.disconnected: list[Callable[[ClientDisconnected], None]] = []
        self.published: list[Callable[[Message], None]] = []

    def call_connected(self, event: ClientConnected) -> None:
        for hook in self.connected:
            try:
                hook(event)
            except Exception:
                log.exception("a client_connected hook failed for client %r", event.client_id)

    def call_disconnected(self, event: ClientDisconnected) -> None:
        for hook in self.disconnected:
            try:
                hook(event)
            except Exception:
                log.exception("a client_disconnected hook failed for client %r", event.client_id)

    def call_published(self, messages: list[Message]) -> None:
        for message in messages:
            for hook in self.published:
                try:
                    hook(message)
                except Exception:
                    log.exception("a message_published hook failed for topic %r", message.topic_name)
