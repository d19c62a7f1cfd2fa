"""Gathers writes into a batch: the half of a store that is the same wherever the batch goes.

Invariant: a message is kept as long as one copy of it is; `_references` counts the copies of those that have several.
"""

from __future__ import annotations

from collections.abc import Sequence

from trio_broker.session.outgoing import Outgoing
from trio_broker.store.batch import Batch
from trio_broker.store.operations import (
    DeleteDocument,
    DeleteReceived,
    DeleteRetained,
    DeleteSession,
    DeleteSubscription,
    Operation,
    PutDocument,
    PutReceived,
    PutRetained,
    PutSession,
    PutSubscription,
)
from trio_broker.store.ticket import DONE, Ticket

ROWS_BEHIND = 50_000
BYTES_BEHIND = 64 * 1024 * 1024
ID_RESERVE = 10_000 << 20
"""Message ids are reserved ten seconds ahead, so that this is not written with every batch."""
KEY_RESERVE = 1_000_000


def received_key(session: int, packet_identifier: int) -> int:
    return session << 16 | packet_identifier


class Gathering:
    """Base of the stores that keep things. Subclasses commit `_batch`; `_written` tells them that there is work."""

    keeps = True

    def __init__(self) -> None:
        self.failure: str | None = None
        self.damaged: str | None = None
        self.persisted = 0
        self._batch = Batch()
        self._references: dict[int, int] = {}
        self._next_key = 1
        self._reserved_id = 0
        self._reserved_key = 0

    @property
    def ticket(self) -> Ticket:
        """Done when everything that was written so far is durable."""
        return self._batch.ticket if self._batch.size else DONE

    def _written(self) -> None:
        """Something is in the batch."""

    @property
    def is_behind(self) -> bool:
        batch = self._batch
        # While nothing can be written, what would need it is refused, and the others must not wait for it.
        return self.failure is None and (batch.size > ROWS_BEHIND or batch.payload > BYTES_BEHIND)

    def new_key(self) -> int:
        key = self._next_key
        self._next_key = key + 1
        if key >= self._reserved_key:
            self._reserve_keys(key)
        return key

    def _reserve_keys(self, key: int) -> None:
        """A key is given once, also if what it stood for is gone when the store is opened again."""
        self._reserved_key = self._batch.last_key = key + KEY_RESERVE
        self._batch.size += 1
        self._written()

    # -- copies: the hot path

    def add(self, session: int, copies: Sequence[Outgoing]) -> None:
        batch = self._batch
        shared = batch.shared
        rows = batch.copies
        references = self._references
        row = self._next_key
        newest = 0
        for copy in copies:
            message = copy.message
            message_id = message.message_id
            if message_id > newest:
                newest = message_id
            number = shared.get(message_id)
            if number is None:
                number = shared[message_id] = row
                batch.messages[row] = message
                batch.payload += len(message.payload)
            else:
                references[number] = references.get(number, 1) + 1
            copy.row = row
            copy.message_row = number
            rows[row] = (session, copy)
            row += 1
        self._next_key = row
        if row >= self._reserved_key:
            self._reserve_keys(row)
        batch.size += len(copies)
        if newest > self._reserved_id:
            self._reserve(newest)
        self._written()

    def change(self, copies: Sequence[Outgoing]) -> None:
        batch = self._batch
        rows = batch.copies
        changes = batch.changes
        for copy in copies:
            if copy.row and copy.row not in rows:  # what is not committed yet is read when it is
                changes[copy.row] = copy
                batch.size += 1
        self._written()

    def remove(self, copies: Sequence[Outgoing]) -> None:
        batch = self._batch
        for copy in copies:
            row = copy.row
            if row:
                copy.row = 0
                self._remove(batch, row, copy.message_row)
        batch.size += len(copies)
        self._written()

    def remove_rows(self, rows: Sequence[int], messages: Sequence[int]) -> None:
        batch = self._batch
        for row, message in zip(rows, messages, strict=True):
            self._remove(batch, row, message)
        batch.size += len(rows)
        self._written()

    def _remove(self, batch: Batch, row: int, number: int) -> None:
        if batch.copies.pop(row, None) is None:
            batch.gone.append(row)
            if batch.changes:
                batch.changes.pop(row, None)
        references = self._references.get(number)
        if references is not None:
            if references == 2:
                del self._references[number]
            else:
                self._references[number] = references - 1
            return
        message = batch.messages.pop(number, None)
        if message is None:
            batch.gone_messages.append(number)
        else:
            del batch.shared[message.message_id]

    def _reserve(self, message_id: int) -> None:
        self._reserved_id = self._batch.last_message_id = message_id + ID_RESERVE

    # -- everything else

    def write(self, *operations: Operation) -> Ticket:
        batch = self._batch
        batch.size += len(operations)
        for operation in operations:
            match operation:
                case PutRetained(message=message):
                    batch.retained[message.topic_name] = operation
                    batch.payload += len(message.payload)
                    if message.message_id > self._reserved_id:
                        self._reserve(message.message_id)
                case DeleteRetained():
                    self._delete_retained(batch, operation)
                case PutReceived(session=session):
                    for packet_identifier in operation.packet_identifiers:
                        batch.received[received_key(session, packet_identifier)] = True
                case DeleteReceived(session=session):
                    for packet_identifier in operation.packet_identifiers:
                        batch.received[received_key(session, packet_identifier)] = False
                case PutSession(key=key):
                    batch.sessions[key] = operation
                case DeleteSession(key=key):
                    batch.sessions.pop(key, None)
                    batch.ended_sessions.append(key)
                case PutSubscription(session=session, subscription=subscription):
                    batch.subscriptions[session, subscription.topic_filter] = subscription
                case DeleteSubscription(session=session, topic_filter=topic_filter):
                    batch.subscriptions.pop((session, topic_filter), None)
                    batch.gone_subscriptions.add((session, topic_filter))
                case PutDocument():
                    batch.documents[operation.kind, operation.key] = (self.new_key(), operation.body)
                case DeleteDocument():
                    batch.documents[operation.kind, operation.key] = (self.new_key(), None)
        self._written()
        return self.ticket

    @staticmethod
    def _delete_retained(batch: Batch, operation: DeleteRetained) -> None:
        """What is newer stays, here as on the disk."""
        waiting = batch.retained.get(operation.topic_name)
        newest = operation.message_id
        if isinstance(waiting, PutRetained):
            if waiting.message.message_id > newest:
                return
        elif waiting is not None:
            newest = max(newest, waiting)
        batch.retained[operation.topic_name] = newest
