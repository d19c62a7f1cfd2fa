"""A store in memory: it survives the broker that wrote to it, not the process.

Invariant: `load` gives one put operation for each thing that is there, what was put last.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from trio_broker.store.operations import (
    DeleteDocument,
    DeleteRetained,
    DeleteSession,
    DeleteSubscription,
    Operation,
    PutDocument,
    PutRetained,
    PutSession,
    PutSubscription,
)
from trio_broker.store.ticket import DONE, Ticket


class MemoryStore:
    """Keeps sessions, subscriptions, retained messages and documents; give it to the next broker to go on with them."""

    keeps = True

    def __init__(self) -> None:
        self.closed = False
        self._sessions: dict[str, PutSession] = {}
        self._subscriptions: dict[str, dict[str, PutSubscription]] = {}
        self._retained: dict[str, PutRetained] = {}
        self._documents: dict[tuple[str, str], PutDocument] = {}

    def write(self, *operations: Operation) -> Ticket:
        for operation in operations:
            match operation:
                case PutSession(client_id=client_id):
                    self._sessions[client_id] = operation
                case DeleteSession(client_id=client_id):
                    self._sessions.pop(client_id, None)
                    self._subscriptions.pop(client_id, None)
                case PutSubscription(client_id=client_id):
                    self._subscriptions.setdefault(client_id, {})[operation.subscription.topic_filter] = operation
                case DeleteSubscription(client_id=client_id):
                    self._subscriptions.get(client_id, {}).pop(operation.topic_filter, None)
                case PutRetained():
                    self._retained[operation.message.topic_name] = operation
                case DeleteRetained():
                    self._retained.pop(operation.topic_name, None)
                case PutDocument():
                    self._documents[operation.kind, operation.key] = operation
                case DeleteDocument():
                    self._documents.pop((operation.kind, operation.key), None)
        return DONE

    async def room(self) -> None:
        """Memory is always ready."""

    async def load(self) -> AsyncIterator[Operation]:
        for session in list(self._sessions.values()):
            yield session
        for subscriptions in list(self._subscriptions.values()):
            for subscription in list(subscriptions.values()):
                yield subscription
        for retained in list(self._retained.values()):
            yield retained
        for document in list(self._documents.values()):
            yield document

    async def close(self) -> None:
        self.closed = True


class ForgetfulStore:
    """Keeps nothing: for brokers whose state lives as long as they do."""

    keeps = False

    def write(self, *operations: Operation) -> Ticket:
        return DONE

    async def room(self) -> None:
        """There is nothing to wait for."""

    async def load(self) -> AsyncIterator[Operation]:
        nothing: tuple[Operation, ...] = ()
        for operation in nothing:
            yield operation

    async def close(self) -> None:
        """There is nothing to close."""
