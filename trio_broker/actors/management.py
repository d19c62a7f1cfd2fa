"""The answers to `Questions`: who is asked what.

Invariant: nothing here keeps state; every answer comes from the actor that owns what is asked for.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import trio

from trio_broker.access.asking import Request
from trio_broker.actors import search
from trio_broker.actors.data_backup import DataBackup
from trio_broker.actors.features import Features
from trio_broker.actors.listener_settings import ListenerKeeper, ListenerSettings
from trio_broker.actors.machine import machine_memory, max_descriptors
from trio_broker.actors.messages import (
    AskActor,
    AskActorPage,
    AskActorsNamed,
    AskDecisions,
    AskInfo,
    AskMetrics,
    AskQueue,
    AskRetained,
    AskRetainedMessage,
    AskRuntime,
    AskStats,
    AskSubscriptions,
    AskTopic,
    DeleteRetainedMessages,
    EndConnection,
    ForgetDecision,
    Kick,
    PublishRuns,
    SetKeepAlive,
    SetQuota,
    SetRates,
    SubscribeFor,
    UnsubscribeFor,
)
from trio_broker.actors.questions import (
    AlarmRow,
    ClientFilter,
    ListenerInfo,
    NewMessage,
    NodeInfo,
    Page,
    Published,
    RetainedRow,
    Runtime,
    SubscriptionFilter,
    SubscriptionPage,
    SubscriptionRow,
)
from trio_broker.actors.search import answer_of, of_manager, of_router, of_session
from trio_broker.errors import ActorGone
from trio_broker.protocol.message import Message, Origin, Run
from trio_broker.protocol.topics import parse_topic_filter
from trio_broker.routing.subscription import Subscription
from trio_broker.session.info import QueuePage, SessionInfo
from trio_broker.version import __version__

if TYPE_CHECKING:
    from trio_broker.actors.core import Core
    from trio_broker.actors.session_actor import SessionActor

RUNTIME: Final = f"{platform.python_implementation()} {platform.python_version()}/trio {version('trio')}"
# Sessions that are ended before others have their turn: a fraction of a millisecond.
STRIDE = 16
# Client identifiers that the session manager looks up in one turn.
NAMES = 1000


class Management:
    """Implements `trio_broker.actors.questions.Questions`."""

    def __init__(self, core: Core, keeper: ListenerKeeper) -> None:
        self._core = core
        self._keeper = keeper
        self.settings = core.settings
        self.listener_settings = ListenerSettings(core, keeper)
        self.traces = core.traces
        self.monitor = core.monitor
        self.data_backup = DataBackup(core)
        self.features = Features(core)
        self.api_keys = core.api_keys
        self.dashboard_users = core.dashboard_users
        self.authenticators = core.authenticators
        self.authn_users = core.authn_users
        self.authorization_sources = core.authorization_sources
        self.banned = core.banned
        self.delayed = core.delayed
        self.topic_metrics = core.topic_metrics
        self.slow_subscriptions = core.slow_subscriptions
        self.node_name = core.node_name
        self.broker_version = __version__
        # Stands for the node in the lower half of a message id.
        self.message_id_suffix = int.from_bytes(core.node_name.encode()[-8:], "big")

    @property
    def max_packet_size(self) -> int:
        return self._core.limits.max_packet_size

    async def node(self) -> NodeInfo:
        core = self._core
        stats = await self.stats()
        now_ms = core.clock.wall_ms(core.clock.now())
        total, used = machine_memory()
        return NodeInfo(
            name=core.node_name,
            version=__version__,
            started_at=core.clock.started_at,
            uptime_ms=now_ms - core.clock.started_at,
            sessions=stats["sessions.count"],
            connections=stats["live_connections.count"],
            log_path=core.settings.config.log.file or None,
            runtime=RUNTIME,
            load=os.getloadavg(),
            memory_total=total,
            memory_used=used,
            max_fds=max_descriptors(),
            tasks=trio.lowlevel.current_statistics().tasks_living,
        )

    # -- clients ------------------------------------------------------------------------------------------------

    async def _actor(self, client_id: str) -> SessionActor | None:
        actor: SessionActor | None = await of_manager(self._core, AskActor(client_id))
        return actor

    async def _ask(self, client_id: str, question: Any) -> Any:
        """Ask one session; None when there is none (any more)."""
        actor = await self._actor(client_id)
        if actor is None:
            return None
        try:
            return await of_session(actor, question)
        except ActorGone:
            return None

    async def clients(self, wanted: ClientFilter, offset: int, limit: int) -> Page:
        return await search.clients(self._core, wanted, offset, limit)

    async def clients_after(
        self, wanted: ClientFilter, cursor: str | None, limit: int
    ) -> tuple[list[SessionInfo], str | None]:
        # Numbers begin anew with each start of the broker.
        start = f"{self._core.clock.started_at:x}-"
        if cursor is not None and not (cursor.startswith(start) and cursor[len(start) :].isdecimal()):
            raise ValueError("not a cursor of this broker's run")
        number = -1 if cursor is None else int(cursor[len(start) :][:20])
        infos, last = await search.clients_after(self._core, wanted, number, limit)
        return infos, None if last is None else f"{start}{last}"

    async def sessions_count(self) -> int:
        _, count = await of_manager(self._core, AskActorPage(0, 0))
        return count

    async def set_keep_alive(self, client_id: str, interval: int) -> SessionInfo | None:
        info: SessionInfo | None = await self._ask(client_id, SetKeepAlive(interval))
        return info

    async def set_rates(
        self, client_id: str, messages_rate: float | None, bytes_rate: float | None
    ) -> SessionInfo | None:
        info: SessionInfo | None = await self._ask(client_id, SetRates(messages_rate, bytes_rate))
        return info

    async def set_quota(self, client_id: str, messages_rate: float | None) -> SessionInfo | None:
        info: SessionInfo | None = await self._ask(client_id, SetQuota(messages_rate))
        return info

    async def client(self, client_id: str) -> SessionInfo | None:
        info: SessionInfo | None = await self._ask(client_id, AskInfo())
        return info

    async def kick(self, client_id: str) -> bool:
        return bool(await self._ask(client_id, Kick()))

    async def kick_all(self, client_ids: Sequence[str]) -> None:
        """All are told before the first is waited for: their ends become durable together."""
        named: dict[int, SessionActor] = {}
        for start in range(0, len(client_ids), NAMES):
            some: list[tuple[int, SessionActor]]
            some = await of_manager(self._core, AskActorsNamed(client_ids[start : start + NAMES]))
            named.update(some)
        waiting: list[Kick] = []
        for index, actor in enumerate(named.values(), 1):
            question = Kick()
            try:
                actor.tell(question)
            except ActorGone:
                continue
            except trio.WouldBlock:
                await self.kick(actor.client_id)
                continue
            waiting.append(question)
            if index % STRIDE == 0:
                await trio.lowlevel.checkpoint()
        for question in waiting:
            with suppress(ActorGone):
                await answer_of(question, "a session")

    async def disconnect(self, client_id: str) -> bool:
        return bool(await self._ask(client_id, EndConnection()))

    async def client_decisions(self, client_id: str) -> list[tuple[Request, bool, int]] | None:
        rows: list[tuple[Request, bool, int]] | None = await self._ask(client_id, AskDecisions())
        return rows

    async def forget_client_decisions(self, client_id: str) -> bool:
        return await self._ask(client_id, AskDecisions(forget=True)) is not None

    async def forget_client_decision(self, client_id: str, topic: str) -> bool:
        return bool(await self._ask(client_id, ForgetDecision(topic)))

    async def client_subscriptions(self, client_id: str) -> list[Subscription] | None:
        subscriptions: list[Subscription] | None = await self._ask(client_id, AskSubscriptions())
        return subscriptions

    async def mqueue_messages(self, client_id: str, after: int | None, limit: int) -> QueuePage | None:
        page: QueuePage | None = await self._ask(client_id, AskQueue("mqueue", after, limit))
        return page

    async def inflight_messages(self, client_id: str, after: int | None, limit: int) -> QueuePage | None:
        page: QueuePage | None = await self._ask(client_id, AskQueue("inflight", after, limit))
        return page

    async def subscribe(self, client_id: str, subscription: Subscription) -> bool:
        return bool(await self._ask(client_id, SubscribeFor(subscription)))

    async def unsubscribe(self, client_id: str, topic_filter: str) -> bool:
        return bool(await self._ask(client_id, UnsubscribeFor(topic_filter)))

    # -- routes and messages ------------------------------------------------------------------------------------

    async def subscriptions(self) -> list[SubscriptionRow]:
        return await search.all_subscriptions(self._core)

    async def subscription_page(self, wanted: SubscriptionFilter, offset: int, limit: int) -> SubscriptionPage:
        return await search.subscriptions(self._core, wanted, offset, limit)

    async def share_names(self, match_filter: str) -> list[str | None]:
        return await search.share_names(self._core, match_filter)

    async def topics(self) -> list[str]:
        return await search.all_topics(self._core)

    async def topic_page(self, offset: int, limit: int) -> tuple[list[str], int]:
        return await search.topics(self._core, offset, limit)

    async def has_topic(self, topic_filter: str) -> bool:
        return await of_router(self._core, AskTopic(*parse_topic_filter(topic_filter)))

    async def publish(self, messages: Sequence[NewMessage]) -> list[Published]:
        """Published in their order; a message counts as received, as one from a client does."""
        core = self._core
        now = core.clock.now()
        wall_ms = core.clock.wall_ms(now)
        origins: dict[str, Origin] = {}
        runs: list[Run] = []
        for new in messages:
            origin = origins.setdefault(new.client_id, Origin(new.client_id))
            interval = new.properties.get("message_expiry_interval", core.limits.message_expiry_interval)
            message = Message(
                new.topic_name,
                new.payload,
                new.qos,
                new.retain,
                core.message_id(wall_ms),
                origin,
                wall_ms,
                new.properties,
                None if interval is None else now + interval,
            )
            plain = not new.properties and interval is None
            runs.append(Run(new.topic_name, new.qos, new.retain, origin, [message], plain))
        meter = core.meter
        meter.messages_qos0_received += sum(run.qos == 0 for run in runs)
        meter.messages_qos1_received += sum(run.qos == 1 for run in runs)
        meter.messages_qos2_received += sum(run.qos == 2 for run in runs)
        counts = await core.router.ask(PublishRuns(runs))
        return [Published(run.messages[0].message_id, matched) for run, matched in zip(runs, counts, strict=True)]

    async def retained(self, topic_filter: str | None, offset: int, limit: int) -> tuple[list[RetainedRow], int]:
        return await self._core.retainer.ask(AskRetained(topic_filter, offset, limit))

    async def retained_message(self, topic_name: str) -> RetainedRow | None:
        return await self._core.retainer.ask(AskRetainedMessage(topic_name))

    async def delete_retained(self, topic_filter: str | None) -> int:
        return await self._core.retainer.ask(DeleteRetainedMessages(topic_filter))

    # -- figures ------------------------------------------------------------------------------------------------

    async def metrics(self) -> dict[str, int]:
        return await self._core.metrics.ask(AskMetrics())

    async def stats(self) -> dict[str, int]:
        return await self._core.metrics.ask(AskStats())

    async def runtime(self) -> Runtime:
        return await self._core.metrics.ask(AskRuntime())

    async def alarms(self, active: bool) -> tuple[list[AlarmRow], int]:
        core = self._core
        rows = core.alarms.active() if active else core.alarms.history()
        return rows, core.clock.wall_ms(core.clock.now())

    async def forget_alarms(self) -> None:
        self._core.alarms.forget_history()
        await self._core.durable()

    async def deactivate_alarm(self, name: str) -> bool:
        if not self._core.alarms.deactivate(name):
            return False
        await self._core.durable()
        return True

    async def listeners(self) -> list[ListenerInfo]:
        await trio.lowlevel.checkpoint()
        return self._keeper.infos()
