"""What the actors tell each other about connections and sessions.

Invariant: a message is plain data on its way from one actor to another; nobody changes it after it was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, field

from trio_broker.access.asking import Request
from trio_broker.access.authentication import Verdict
from trio_broker.actors.actor import A, Question
from trio_broker.actors.questions import RetainedRow, Runtime
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


class SetKeepAlive(AskInfo):
    """Let the connection there is, if there is one, go by another keep alive (seconds); then what can be seen of it."""

    __slots__ = ("interval",)

    def __init__(self, interval: int) -> None:
        super().__init__()
        self.interval = interval


class SetRates(AskInfo):
    """The same with the rates at which it is read; None: as its listener has it."""

    __slots__ = ("bytes_rate", "messages_rate")

    def __init__(self, messages_rate: float | None, bytes_rate: float | None) -> None:
        super().__init__()
        self.messages_rate = messages_rate
        self.bytes_rate = bytes_rate


class SetQuota(AskInfo):
    """The same with a rate of messages beside those; None: none."""

    __slots__ = ("messages_rate",)

    def __init__(self, messages_rate: float | None) -> None:
        super().__init__()
        self.messages_rate = messages_rate


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


class EndConnection(Question[bool]):
    """End the connection alone; False: there is none."""


class AskDecisions(Question[list[tuple[Request, bool, int]]]):
    """What is kept of authorization for the connection there is: what was asked, the answer, when (wall clock, ms)."""

    __slots__ = ("forget",)

    def __init__(self, forget: bool = False) -> None:
        """`forget`: afterwards nothing is kept."""
        super().__init__()
        self.forget = forget


class ForgetDecision(Question[bool]):
    """What was decided about publishing to one topic is not kept any more; False: there is no connection."""

    __slots__ = ("topic",)

    def __init__(self, topic: str) -> None:
        super().__init__()
        self.topic = topic


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


class RetainRuns(Question[None]):
    """Retain these, none of them empty, and pass them on to nobody; answered when that is durable."""

    __slots__ = ("runs",)

    def __init__(self, runs: list[Run]) -> None:
        super().__init__()
        self.runs = runs


class TableQuestion(Question[A]):
    """A question about the routing table; see `table_view`."""

    __slots__ = ()


class AskSubscriptionPage(TableQuestion[tuple[list[tuple[Any, Subscription]], int]]):
    """At most `limit` subscriptions behind the first `offset`, in the order in which their recipients came, and how
    many there are.
    """

    __slots__ = ("limit", "offset")

    def __init__(self, offset: int, limit: int) -> None:
        super().__init__()
        self.offset = offset
        self.limit = limit


class AskSubscriptionsAfter(TableQuestion[tuple[list[tuple[Any, list[Subscription]]], int]]):
    """At most `limit` recipients with all they have, behind the one of this number (-1: from the beginning), and the
    number to go on after; none behind the last one.
    """

    __slots__ = ("limit", "number")

    def __init__(self, number: int, limit: int) -> None:
        super().__init__()
        self.number = number
        self.limit = limit


class AskNewest(TableQuestion[int]):
    """The number of the recipient that came last: where a walk that begins now may end."""

    __slots__ = ()


class AskSubscribers(TableQuestion[list[Any]]):
    """Who is subscribed to this filter, or is in this shared group."""

    __slots__ = ("match_filter", "share_name")

    def __init__(self, share_name: str | None, match_filter: str) -> None:
        super().__init__()
        self.share_name = share_name
        self.match_filter = match_filter


class AskHeld(TableQuestion[list[tuple[Any, Subscription]]]):
    """The subscriptions of some recipients to one filter, in the shared group if one is named."""

    __slots__ = ("match_filter", "recipients", "share_name")

    def __init__(self, recipients: Sequence[Any], share_name: str | None, match_filter: str) -> None:
        super().__init__()
        self.recipients = recipients
        self.share_name = share_name
        self.match_filter = match_filter


class AskSubscriptionsOf(TableQuestion[list[tuple[Any, list[Subscription]]]]):
    """Some recipients with all they have."""

    __slots__ = ("recipients",)

    def __init__(self, recipients: Sequence[Any]) -> None:
        super().__init__()
        self.recipients = recipients


class AskFilterPlace(TableQuestion[tuple[int, int, int]]):
    """Where a walk to the filter at this place among all begins (see `RoutingTable.before_filter`), and how many
    filters there are.
    """

    __slots__ = ("offset",)

    def __init__(self, offset: int) -> None:
        super().__init__()
        self.offset = offset


class AskLeading(TableQuestion[list[str]]):
    """Of some subscriptions those whose filters count there (see `RoutingTable.leads`)."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Sequence[tuple[Any, Subscription]]) -> None:
        super().__init__()
        self.pairs = pairs


class AskTopic(TableQuestion[bool]):
    """Is somebody subscribed to this filter?"""

    __slots__ = ("match_filter", "share_name")

    def __init__(self, share_name: str | None, match_filter: str) -> None:
        super().__init__()
        self.share_name = share_name
        self.match_filter = match_filter


class AskShareNames(TableQuestion[list[str | None]]):
    """In which shared groups somebody is subscribed to this filter; None among them: in none."""

    __slots__ = ("match_filter",)

    def __init__(self, match_filter: str) -> None:
        super().__init__()
        self.match_filter = match_filter


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


class AskRuntime(Question[Runtime]):
    """What waits in mailboxes, and why connections ended."""


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


class AskActorPage(Question[tuple[list[Any], int]]):
    """At most `limit` actors behind the first `offset`, in the order of their creation, and how many there are."""

    __slots__ = ("limit", "offset")

    def __init__(self, offset: int, limit: int) -> None:
        super().__init__()
        self.offset = offset
        self.limit = limit


class AskActorsAfter(Question[tuple[list[Any], int]]):
    """Actors, about `limit` of them, that were made behind that of this number (-1: from the beginning), and the number
    of the last of them; none behind the last one.
    """

    __slots__ = ("limit", "number")

    def __init__(self, number: int, limit: int) -> None:
        super().__init__()
        self.number = number
        self.limit = limit


class AskNewestActor(Question[int]):
    """The number of the actor that was made last: where a walk that begins now may end."""

    __slots__ = ()


class AskActorsNamed(Question[list[tuple[int, Any]]]):
    """The actors of these client identifiers with their numbers, in the order of their creation."""

    __slots__ = ("client_ids",)

    def __init__(self, client_ids: Sequence[str]) -> None:
        super().__init__()
        self.client_ids = client_ids


class AskNumbers(Question[list[int]]):
    """The numbers of some actors; -1 for those that have ended."""

    __slots__ = ("actors",)

    def __init__(self, actors: Sequence[Any]) -> None:
        super().__init__()
        self.actors = actors


class AskActor(Question[Any]):
    """The actor of one session, or None."""

    __slots__ = ("client_id",)

    def __init__(self, client_id: str) -> None:
        super().__init__()
        self.client_id = client_id
