"""What the actors of one broker share: their addresses, the clock, the limits, the counters.

Invariant: only addresses and read-only settings lie here, and what a reader's turn is about to hand on; the state of
an actor stays with the actor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from trio_broker.access.authentication import AuthenticationChain
from trio_broker.access.authorization import Authorization, Authorizer
from trio_broker.actors.actor import DEFAULT_ASK_TIMEOUT
from trio_broker.actors.alarms import STORE_FAILURE, Alarms
from trio_broker.actors.clock import Clock
from trio_broker.actors.documents import Documents
from trio_broker.actors.expiry import clock_was_set
from trio_broker.actors.hooks import Hooks
from trio_broker.actors.interceptors import Interceptors
from trio_broker.actors.messages import ClockSet
from trio_broker.actors.settings import Settings
from trio_broker.actors.system_messages import publish_system
from trio_broker.actors.timers import Timers
from trio_broker.actors.traces import Traces
from trio_broker.actors.tracing import Tracing
from trio_broker.errors import AskTimeout
from trio_broker.routing.shared_group import Strategy
from trio_broker.session.limits import Limits
from trio_broker.session.meter import Meter
from trio_broker.session.step import Step
from trio_broker.store.fabric import Fabric, LocalFabric, NodeId
from trio_broker.store.store import Store

if TYPE_CHECKING:
    from trio_broker.actors.acknowledger import Acknowledger
    from trio_broker.actors.api_keys import ApiKeys
    from trio_broker.actors.authn.chain import Authenticators
    from trio_broker.actors.authn.user_tables import AuthnUsers
    from trio_broker.actors.authz.sources import AuthorizationSources
    from trio_broker.actors.auto_subscribe import AutoSubscribe
    from trio_broker.actors.banned import Banned
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.dashboard_users import DashboardUsers
    from trio_broker.actors.delayed import Delayed
    from trio_broker.actors.door import Door
    from trio_broker.actors.expiry import Expiry
    from trio_broker.actors.flapping import Flapping
    from trio_broker.actors.local_subscriber import LocalSubscriber
    from trio_broker.actors.memory_guard import MemoryGuard
    from trio_broker.actors.metrics import MetricsCollector
    from trio_broker.actors.monitor import Monitor
    from trio_broker.actors.poller import Poller
    from trio_broker.actors.retainer import Retainer
    from trio_broker.actors.router import Router
    from trio_broker.actors.session_manager import SessionManager
    from trio_broker.actors.slow_subscriptions import SlowSubscriptions
    from trio_broker.actors.sys_topics import SysTopics
    from trio_broker.actors.system_watch import SystemWatch
    from trio_broker.actors.topic_metrics import TopicMetrics
    from trio_broker.actors.topic_rewrite import TopicRewrite


class Core:
    """One object a broker, made by `Broker` before its actors start."""

    router: Router
    retainer: Retainer
    manager: SessionManager
    metrics: MetricsCollector
    monitor: Monitor
    api_keys: ApiKeys
    dashboard_users: DashboardUsers
    authn_users: AuthnUsers
    authenticators: Authenticators
    authorization_sources: AuthorizationSources
    banned: Banned
    flapping: Flapping
    topic_rewrite: TopicRewrite
    auto_subscribe: AutoSubscribe
    delayed: Delayed
    topic_metrics: TopicMetrics
    slow_subscriptions: SlowSubscriptions
    acknowledger: Acknowledger
    memory_guard: MemoryGuard
    sys_topics: SysTopics | None
    system_topics: SysTopics
    system_watch: SystemWatch
    poller: Poller | None
    door: Door

    def __init__(
        self,
        *,
        node_name: str,
        limits: Limits,
        authentication: AuthenticationChain,
        authorizer: Authorizer | None,
        store: Store,
        hooks: Hooks,
        documents: Documents,
        settings: Settings,
        clock: Clock,
        sessions_nursery: trio.Nursery,
        shared_subscription_strategy: Strategy = "round_robin",
    ) -> None:
        self.node_name = node_name
        self.limits = limits
        self.authentication = authentication
        self.store = store
        self.fabric: Fabric = LocalFabric(NodeId(node_name))
        self.hooks = hooks
        self.shared_subscription_strategy = shared_subscription_strategy
        self.documents = documents
        self.settings = settings
        settings.core = self
        self.clock = clock
        self.interceptors = Interceptors(self)
        self.timers = Timers()
        self.meter = Meter()
        self.authorization = Authorization(self.meter, authorizer)
        self.alarms = Alarms(self.clock, settings.config.alarm, documents, self._publish_alarm, node_name)
        self.sessions_nursery = sessions_nursery
        self.traces = Traces(self)
        self.tracing = Tracing(self)
        self.poller = None
        self.sys_topics = None
        self.subscribers: set[LocalSubscriber] = set()
        self.expiries: set[Expiry] = set()
        self.next_message_id = 0
        self.reading = False
        self._ended: list[Connection] = []
        self._connecting: list[Connection] = []

    def begin(self, now: float) -> Step:
        """A reader's turn begins. What it leads to waits for `hand_on`, so that all of it is in the order of arrival.

        Nothing may be awaited until then.
        """
        self.reading = True
        if now >= self.memory_guard.next_at:
            self.memory_guard.look_again(now)
        return self.step(now)

    def step(self, now: float) -> Step:
        """A new step of reading; message ids go on from the last one and never back, whatever the clock does."""
        wall_ms = self.clock.wall_ms(now)
        first = wall_ms << 20
        return Step(now, wall_ms, first if first > self.next_message_id else self.next_message_id)

    def hand_on(self, step: Step) -> None:
        """The end of a step: its work goes to the router, then ends and beginnings of connections to their actors."""
        self.next_message_id = step.next_message_id
        self.reading = False
        if step.routed:
            self.router.take(step.routed)
        while self._ended:
            ended, self._ended = self._ended, []
            for connection in ended:
                connection.tell_ended()
        if self._connecting:
            connecting, self._connecting = self._connecting, []
            for connection in connecting:
                connection.ask_in()

    def ended(self, connection: Connection) -> None:
        """It ended; while others of the same turn are read, its session hears of it later."""
        if self.reading:
            self._ended.append(connection)
        else:
            connection.tell_ended()

    def connecting(self, connection: Connection) -> None:
        """Its CONNECT is there."""
        if self.reading:
            self._connecting.append(connection)
        else:
            connection.ask_in()

    @property
    def is_behind(self) -> bool:
        """Readers should wait for `room` before they take more from their peers."""
        return self.router.is_behind or self.retainer.is_behind or self.store.is_behind

    async def room(self) -> None:
        """Return when those who work on what was read have room for more."""
        await self.router.room()
        await self.retainer.room()
        await self.store.room()

    def when_durable(self, call: Callable[[], None]) -> None:
        """Call when all that was written until now is durable."""
        self.store.ticket.then(call)

    async def durable(self, within: float = DEFAULT_ASK_TIMEOUT) -> None:
        """Return when all that was written until now is durable. Raises AskTimeout."""
        ticket = self.store.ticket
        if ticket.done:
            await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(within):
            await ticket.wait()
            return
        raise AskTimeout(f"the store did not keep it within {within:g} s")

    def clock_was_set(self) -> None:
        """What is kept in wall clock time has to follow."""
        self.traces.clock_was_set()
        self.delayed.clock_was_set()
        self.banned.clock_was_set()
        self.slow_subscriptions.clock_was_set()
        clock_was_set(self)
        if self.store.keeps:
            self.manager.tell_always(ClockSet())

    def store_told(self, failure: str | None) -> None:
        """The store cannot be written, or can be written again."""
        if failure is None:
            self.alarms.deactivate(STORE_FAILURE)
        else:
            message = "The store cannot be written; nothing is acknowledged that has to be kept"
            self.alarms.activate(STORE_FAILURE, message, {"reason": failure})

    def _publish_alarm(self, operation: str, text: str) -> None:
        """`operation` is activate or deactivate."""
        publish_system(self, [(f"$SYS/brokers/{self.node_name}/alarms/{operation}", text)])

    def message_id(self, wall_ms: int) -> int:
        """The id of one new message from inside the broker."""
        message_id = max(wall_ms << 20, self.next_message_id)
        self.next_message_id = message_id + 1
        return message_id
