"""What the outside (REST, the embedding program) asks of the actors, and what it gets.

Invariant: a question is answered by the actor that owns the state; everything that comes back is a snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from attrs import define, field

from trio_broker.actors.machine import NO_LIMIT
from trio_broker.actors.settings import Settings
from trio_broker.protocol.packets import NO_PROPERTIES, Properties
from trio_broker.routing.subscription import Subscription
from trio_broker.session.info import QueuePage, SessionInfo

if TYPE_CHECKING:
    from trio_broker.access.asking import Request
    from trio_broker.actors.api_keys import ApiKeys
    from trio_broker.actors.authn.chain import Authenticators
    from trio_broker.actors.authn.user_tables import AuthnUsers
    from trio_broker.actors.authz.sources import AuthorizationSources
    from trio_broker.actors.banned import Banned
    from trio_broker.actors.dashboard_users import DashboardUsers
    from trio_broker.actors.data_backup import DataBackup
    from trio_broker.actors.delayed import Delayed
    from trio_broker.actors.features import Features
    from trio_broker.actors.listener_settings import ListenerSettings
    from trio_broker.actors.monitor import Monitor
    from trio_broker.actors.slow_subscriptions import SlowSubscriptions
    from trio_broker.actors.topic_metrics import TopicMetrics
    from trio_broker.actors.traces import Traces

ACCEPTORS: Final = 16
"""What EMQX's listeners have unless told otherwise."""


@define
class ClientFilter:
    """Which sessions are meant; what is None (or empty) does not matter. All that is set must hold."""

    client_ids: Sequence[str] = ()
    usernames: Sequence[str] = ()
    ip_address: str | None = None
    connection_state: str | None = None  # connected | idle | disconnected
    clean_start: bool | None = None
    protocol_level: int | None = None
    like_client_id: str | None = None
    like_username: str | None = None
    gte_created_at: int | None = None  # milliseconds
    lte_created_at: int | None = None
    gte_connected_at: int | None = None
    lte_connected_at: int | None = None
    protocol_name: str | None = None
    gte_mqueue_len: int | None = None
    lte_mqueue_len: int | None = None
    gte_mqueue_dropped: int | None = None
    lte_mqueue_dropped: int | None = None


@define
class Page:
    """`count` is the number of all rows that match, `offset` and `limit` choose those that are returned.

    With a fuzzy filter (`like_...`) the count may stop at one behind the page.
    """

    rows: list[SessionInfo]
    count: int


@define
class SubscriptionFilter:
    """Which subscriptions are meant; what is None does not matter. All that is set must hold.

    `topic` is the filter in full; together with `share_name` it is the inner filter of the group. `match_filter` is the
    inner filter of any group, or the filter of an ordinary one. `match_topic` is a filter which theirs, taken as topic
    names, must match.
    """

    client_id: str | None = None
    qos: int | None = None
    topic: str | None = None
    match_topic: str | None = None
    share_name: str | None = None
    match_filter: str | None = None


@define
class SubscriptionRow:
    client_id: str
    subscription: Subscription


@define
class SubscriptionPage:
    """`count` is the number of all that match; with `match_topic` it may stop at one behind the page."""

    rows: list[SubscriptionRow]
    count: int


@define
class NewMessage:
    """A message from outside MQTT (REST, the embedding program)."""

    topic_name: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = field(factory=lambda: NO_PROPERTIES)
    client_id: str = "http_api"


@define
class Published:
    """`message_id` and how many sessions the message went to."""

    message_id: int
    matched: int


@define
class RetainedRow:
    """`payload` is None in listings."""

    message_id: int
    topic_name: str
    qos: int
    publish_at: int
    from_client_id: str
    from_username: str | None
    payload: bytes | None = None


@define
class AlarmRow:
    """Something that is wrong (`deactivate_at` is None), or was. Times are wall clock in milliseconds."""

    name: str
    message: str
    details: dict[str, Any]
    activate_at: int
    deactivate_at: int | None = None


@define
class NodeInfo:
    name: str
    version: str
    started_at: int
    uptime_ms: int
    sessions: int
    connections: int
    log_path: str | None = None  # None = no log file
    runtime: str = ""
    """What Python and Trio it runs on, as EMQX names Erlang's release: `CPython 3.11.7/trio 0.35.0`."""
    load: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Of the machine, over 1, 5 and 15 minutes."""
    memory_total: int = 0
    """Bytes of the machine."""
    memory_used: int = 0
    max_fds: int = NO_LIMIT
    tasks: int = 0
    """Trio tasks of the process."""


@define
class Runtime:
    """What is only of interest to who watches the process."""

    mailboxes: int
    """Messages that wait in the mailboxes of the actors that live as long as the broker."""
    router: int
    """Of these, the router's."""
    disconnected: dict[str, dict[int, int]]
    """How often connections of clients at each listener ended with each reason code."""


@define
class ListenerInfo:
    """`kind` is tcp, ssl, ws, wss, unix or memory; `identifier` is `kind:name`."""

    identifier: str
    kind: str
    name: str
    enable: bool
    bind: str
    running: bool
    max_connections: int | None  # None = infinity
    current_connections: int
    configuration: dict[str, object] = field(factory=dict)
    """Its other options under EMQX's names, as JSON values."""

    @property
    def acceptors(self) -> int:
        """What is configured; here one task accepts for each."""
        acceptors = self.configuration.get("acceptors", ACCEPTORS)
        return acceptors if isinstance(acceptors, int) else ACCEPTORS


class Questions(Protocol):
    """All questions to the running broker. Each may raise `ActorGone` or `AskTimeout`."""

    settings: Settings
    listener_settings: ListenerSettings
    traces: Traces
    monitor: Monitor
    data_backup: DataBackup
    features: Features
    api_keys: ApiKeys
    dashboard_users: DashboardUsers
    authenticators: Authenticators
    authn_users: AuthnUsers
    authorization_sources: AuthorizationSources
    banned: Banned
    delayed: Delayed
    topic_metrics: TopicMetrics
    slow_subscriptions: SlowSubscriptions
    node_name: str
    broker_version: str
    message_id_suffix: int
    """The lower 64 bits of a message id as REST shows it (128 bits, 32 upper case hexadecimal digits)."""

    @property
    def max_packet_size(self) -> int:
        """Bytes a PUBLISH from outside may have at most (`mqtt.max_packet_size`)."""

    async def node(self) -> NodeInfo: ...
    async def clients(self, wanted: ClientFilter, offset: int, limit: int) -> Page: ...
    async def clients_after(
        self, wanted: ClientFilter, cursor: str | None, limit: int
    ) -> tuple[list[SessionInfo], str | None]:
        """The next rows, and where to go on; None: that was all. ValueError: not a cursor of this broker's run."""

    async def sessions_count(self) -> int: ...
    async def set_keep_alive(self, client_id: str, interval: int) -> SessionInfo | None:
        """Seconds, from now on; 0 = none. What has no connection stays as it is. None: no such session."""

    async def set_rates(
        self, client_id: str, messages_rate: float | None, bytes_rate: float | None
    ) -> SessionInfo | None:
        """How much a second is read from the connection there is; None: as its listener has it. Else as above."""

    async def set_quota(self, client_id: str, messages_rate: float | None) -> SessionInfo | None:
        """A rate of messages beside that, the lower one of which holds; None: none. Else as above."""

    async def client(self, client_id: str) -> SessionInfo | None: ...
    async def kick(self, client_id: str) -> bool:
        """End the connection (0x98) and the session; False when there is none."""

    async def kick_all(self, client_ids: Sequence[str]) -> None:
        """The same for many; those there are not do not matter."""

    async def disconnect(self, client_id: str) -> bool:
        """End the connection (0x98) alone, as if it had broken; False when there is none."""

    async def client_decisions(self, client_id: str) -> list[tuple[Request, bool, int]] | None:
        """What is kept for it of authorization: what was asked, the answer, and when (milliseconds since the epoch)."""

    async def forget_client_decisions(self, client_id: str) -> bool:
        """False: no such client."""

    async def forget_client_decision(self, client_id: str, topic: str) -> bool:
        """The same for what was decided about publishing to one topic; False: it is not connected."""

    async def client_subscriptions(self, client_id: str) -> list[Subscription] | None: ...
    async def mqueue_messages(self, client_id: str, after: int | None, limit: int) -> QueuePage | None:
        """`after` is the `inserted_at_ns` of the last message already seen; None = from the start."""

    async def inflight_messages(self, client_id: str, after: int | None, limit: int) -> QueuePage | None: ...
    async def subscribe(self, client_id: str, subscription: Subscription) -> bool:
        """Subscribe on behalf of the client (retained messages by its retain handling); False: no such client."""

    async def unsubscribe(self, client_id: str, topic_filter: str) -> bool: ...
    async def subscriptions(self) -> list[SubscriptionRow]:
        """Every subscription of every session."""

    async def subscription_page(self, wanted: SubscriptionFilter, offset: int, limit: int) -> SubscriptionPage: ...
    async def topic_page(self, offset: int, limit: int) -> tuple[list[str], int]:
        """Some of `topics`, and how many there are."""

    async def has_topic(self, topic_filter: str) -> bool:
        """Is somebody subscribed to this filter (in full)? ProtocolError: it is not well formed."""

    async def share_names(self, match_filter: str) -> list[str | None]:
        """In which shared groups somebody is subscribed to this filter; None among them: in none."""

    async def topics(self) -> list[str]:
        """Every filter somebody is subscribed to, each once, shared ones in full."""

    async def publish(self, messages: Sequence[NewMessage]) -> list[Published]: ...
    async def retained(self, topic_filter: str | None, offset: int, limit: int) -> tuple[list[RetainedRow], int]:
        """Rows in order of publish time, oldest first, and the number of all that match."""

    async def retained_message(self, topic_name: str) -> RetainedRow | None:
        """With payload. A filter with wildcards gives its first match."""

    async def delete_retained(self, topic_filter: str | None) -> int:
        """How many were deleted; None = all of them."""

    async def metrics(self) -> dict[str, int]:
        """Every counter of EMQX's `/metrics`, by its name there."""

    async def stats(self) -> dict[str, int]:
        """Every gauge of EMQX's `/stats`, by its name there (`.count` and `.max`)."""

    async def runtime(self) -> Runtime: ...

    async def listeners(self) -> list[ListenerInfo]: ...
    async def alarms(self, active: bool) -> tuple[list[AlarmRow], int]:
        """The alarms of now or of the past, the latest first, and the wall clock in milliseconds."""

    async def forget_alarms(self) -> None:
        """Clear the history."""

    async def deactivate_alarm(self, name: str) -> bool:
        """Take it for over, whatever it was about; False when it is not active."""
