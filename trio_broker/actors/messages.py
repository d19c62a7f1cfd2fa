"""What the actors tell each other about connections and sessions.

Invariant: a message is plain data on its way from one actor to another; nobody changes it after it was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, field

from trio_broker.access.authentication import Verdict
from trio_broker.actors.actor import Question
from trio_broker.actors.questions import RetainedRow, SubscriptionRow
from trio_broker.protocol.message import Message, Run
from trio_broker.protocol.packets import Connect
from trio_broker.routing.subscription import Subscription
from trio_broker.session.info import QueuePage, SessionInfo

if TYPE_CHECKING:
    from trio_broker.actors.connection import Connection


# -- to a session actor -------------------------------------------------------------------------------------------


@define(eq=False)
class Attach:
    """A connection that was let in; `client_id` is the final one."""

    connection: Connection
    connect: Connect
    client_id: str
    verdict: Verdict
    waits: bool = False
    """The end of an older session has to be durable before it is let in."""


@define(eq=False)
class Detached:
    """The connection is over. `session_expiry_interval` is set by a DISCONNECT that changes it."""

    connection: Connection
    reason_code: int
    reason: str
    session_expiry_interval: int | None = None


@define(eq=False)
class Drained:
    """The peer took what was kept for it."""

    connection: Connection


@define(eq=False)
class ExpiryDue:
    """The session expiry interval is over, if no connection came in between."""

    generation: int


class AwaitRelDue:
    """The oldest QoS 2 message that waits for PUBREL may have waited too long."""


@define(eq=False)
class WillDue:
    """The will delay interval is over, if no connection came in between."""

    generation: int


@define(eq=False)
class RetainedPage:
    """Some of the retained messages for a new subscription; `last` says that there are no more."""

    retrieval: Any
    subscription: Subscription
    messages: list[Message]
    last: bool


class RoomAgain:
    """The queue has room for more retained messages."""


class ClockSet:
    """The machine's clock was set."""


class ShutDown:
    """The broker ends: tell the client, publish the will where it would be lost."""


class AskInfo(Question[SessionInfo]):
    """What can be seen of the session."""


class AskQueue(Question[QueuePage]):
    """A page of the mqueue or the inflight window."""

    __slots__ = ("after", "limit", "which")

    def __init__(self, which: str, after: int | None, limit: int) -> None:
        super().__init__()
        self.which = which
        self.after = after
        self.limit = limit


class Kick(Question[bool]):
    """End the connection and the session."""


class AskSubscriptions(Question[list[Subscription]]):
    """The subscriptions of the session."""


class SubscribeFor(Question[bool]):
    """Subscribe on behalf of the client."""

    __slots__ = ("subscription",)

    def __init__(self, subscription: Subscription) -> None:
        super().__init__()
        self.subscription = subscription


class UnsubscribeFor(Question[bool]):
    __slots__ = ("topic_filter",)

    def __init__(self, topic_filter: str) -> None:
        super().__init__()
        self.topic_filter = topic_filter


# -- to the router ------------------------------------------------------------------------------------------------


@define(eq=False)
class Gone:
    """A recipient has ended: drop all its subscriptions."""

    recipient: Any
    left: list[tuple[str, Message]] = field(factory=list)
    """Messages for other members of a shared subscription."""


@define(eq=False)
class After:
    """Call this when what was put before it has been routed, delivered and written, in the same turn."""

    call: Callable[[], None]


@define(eq=False)
class PassOn:
    """The same messages without a recipient that ends: they lay in the store."""

    left: list[tuple[str, Message]]


@define(eq=False)
class Online:
    """A recipient has a connection, or no more (shared subscriptions prefer those that have)."""

    recipient: Any
    online: bool


@define(eq=False)
class SystemRuns:
    """Messages of the broker about itself; nobody is told where they went."""

    runs: list[Run]


class PublishRuns(Question[list[int]]):
    """Route runs from inside the broker; the answer is the number of sessions each went to."""

    __slots__ = ("runs",)

    def __init__(self, runs: list[Run]) -> None:
        super().__init__()
        self.runs = runs


class AskRecipients(Question[list[Any]]):
    """Everybody who has a subscription."""


class AskSubscriptionsOf(Question[list[SubscriptionRow]]):
    """The subscriptions of some recipients. Asked for a few at a time: all of them would hold up the messages."""

    __slots__ = ("recipients",)

    def __init__(self, recipients: Sequence[Any]) -> None:
        super().__init__()
        self.recipients = recipients


class Flush(Question[None]):
    """Answered when everything put into the mailbox before has been handled."""


# -- to the retainer ----------------------------------------------------------------------------------------------


@define(eq=False)
class Retrieve:
    """Send `recipient` the retained messages for a new subscription, a page at a time."""

    recipient: Any
    subscription: Subscription


@define(eq=False)
class NextPage:
    """The recipient has room for another page."""

    retrieval: Any


class AskRetained(Question[tuple[list[RetainedRow], int]]):
    __slots__ = ("limit", "offset", "topic_filter")

    def __init__(self, topic_filter: str | None, offset: int, limit: int) -> None:
        super().__init__()
        self.topic_filter = topic_filter
        self.offset = offset
        self.limit = limit


class AskRetainedMessage(Question[RetainedRow | None]):
    __slots__ = ("topic_name",)

    def __init__(self, topic_name: str) -> None:
        super().__init__()
        self.topic_name = topic_name


class DeleteRetainedMessages(Question[int]):
    __slots__ = ("topic_filter",)

    def __init__(self, topic_filter: str | None) -> None:
        super().__init__()
        self.topic_filter = topic_filter


# -- to the metrics collector -------------------------------------------------------------------------------------


class AskMetrics(Question[dict[str, int]]):
    """Every counter."""


class AskStats(Question[dict[str, int]]):
    """Every gauge."""


# -- to the session manager ---------------------------------------------------------------------------------------


@define(eq=False)
class ConnectRequest:
    connection: Connection
    connect: Connect


@define(eq=False)
class Decided:
    """The authenticators have spoken."""

    connection: Connection
    connect: Connect
    client_id: str
    verdict: Verdict


@define(eq=False)
class SessionEnded:
    actor: Any


class AskActors(Question[list[Any]]):
    """The actors of all sessions, in the order of their creation."""


class AskActor(Question[Any]):
    """The actor of one session, or None."""

    __slots__ = ("client_id",)

    def __init__(self, client_id: str) -> None:
        super().__init__()
        self.client_id = client_id
