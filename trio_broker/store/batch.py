"""What has been written and not been committed yet: everything that goes into one transaction.

Invariant: of several writes to one thing only the last is in here, and what was added and taken away again is not; so
a batch never holds more than what changed.
"""

from __future__ import annotations

from trio_broker.protocol.message import Message
from trio_broker.routing.subscription import Subscription
from trio_broker.session.outgoing import Outgoing
from trio_broker.store.operations import PutRetained, PutSession
from trio_broker.store.rows import extra_of, state_of
from trio_broker.store.ticket import Ticket


class Batch:
    """Plain dicts by key; None stands for a deletion. Copies and messages by the store's numbers for them.

    `size` counts writes, `payload` the bytes of messages: for back-pressure, never going down.
    """

    __slots__ = (
        "changes",
        "copies",
        "documents",
        "ended_sessions",
        "gone",
        "gone_messages",
        "gone_subscriptions",
        "is_frozen",
        "last_key",
        "last_message_id",
        "messages",
        "payload",
        "received",
        "retained",
        "rows",
        "sessions",
        "shared",
        "size",
        "states",
        "subscriptions",
        "ticket",
    )

    def __init__(self) -> None:
        self.ticket = Ticket()
        self.size = 0
        self.payload = 0
        self.sessions: dict[int, PutSession] = {}
        self.ended_sessions: list[int] = []
        self.subscriptions: dict[tuple[int, str], Subscription] = {}
        self.gone_subscriptions: set[tuple[int, str]] = set()
        """Deleted before those of `subscriptions` are put: who subscribes anew is the last."""
        self.messages: dict[int, Message] = {}
        self.shared: dict[int, int] = {}
        """Message id -> its number among `messages`, so that all copies of a publish refer to one."""
        self.copies: dict[int, tuple[int, Outgoing]] = {}
        self.changes: dict[int, Outgoing] = {}
        self.gone: list[int] = []
        self.gone_messages: list[int] = []
        self.received: dict[int, bool] = {}
        self.retained: dict[str, PutRetained | int] = {}
        """A message, or the id up to which it is deleted."""
        self.documents: dict[tuple[str, str], tuple[int, str | None]] = {}
        """Revision and body."""
        self.rows: list[tuple[int, int, int, int, int, bytes | None]] = []
        """The copies as they are to be written, and `states` those that changed, since `freeze`."""
        self.states: list[tuple[int, int]] = []
        self.is_frozen = False
        self.last_message_id: int | None = None
        self.last_key: int | None = None

    def stored_messages(self) -> int:
        """How many messages it writes: those in queues, however many queues have them, and retained ones."""
        return len(self.messages) + sum(isinstance(kept, PutRetained) for kept in self.retained.values())

    def freeze(self) -> None:
        """Nothing more is added. What happens to the copies from now on belongs to the next batch."""
        if self.is_frozen:
            return
        self.is_frozen = True
        self.rows = [
            (row, session, copy.message_row, copy.inserted_at_ns, state_of(copy), extra_of(copy))
            for row, (session, copy) in self.copies.items()
        ]
        self.states = [(row, state_of(copy)) for row, copy in self.changes.items()]

    @property
    def is_empty(self) -> bool:
        """Is there nothing to commit? What was cancelled leaves nothing."""
        return not (
            self.sessions
            or self.ended_sessions
            or self.subscriptions
            or self.gone_subscriptions
            or self.copies
            or self.messages
            or self.changes
            or self.gone
            or self.gone_messages
            or self.received
            or self.retained
            or self.documents
            or self.last_message_id is not None
            or self.last_key is not None
        )
