"""The answers to `Questions`: who is asked what.

Invariant: nothing here keeps state; every answer comes from the actor that owns what is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from trio_broker.actors.actor import DEFAULT_ASK_TIMEOUT
from trio_broker.actors.messages import (
    AskActor,
    AskActors,
    AskInfo,
    AskMetrics,
    AskQueue,
    AskRecipients,
    AskRetained,
    AskRetainedMessage,
    AskStats,
    AskSubscriptions,
    AskSubscriptionsOf,
    DeleteRetainedMessages,
    Kick,
    PublishRuns,
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
    SubscriptionRow,
)
from trio_broker.errors import ActorGone, AskTimeout
from trio_broker.protocol.message import Message, Origin, Run
from trio_broker.routing.subscription import Subscription
from trio_broker.session.info import QueuePage, SessionInfo
from trio_broker.version import __version__

if TYPE_CHECKING:
    from trio_broker.actors.core import Core
    from trio_broker.actors.session_actor import SessionActor

# Rows that are gathered before others have their turn: a fraction of a millisecond.
STRIDE = 32
# Rows that are compared with what is looked for.
LOOKED_AT = 500

Row = TypeVar("Row")


class Management:
    """Implements `trio_broker.actors.questions.Questions`."""

    def __init__(self, core: Core, listeners: Callable[[], list[ListenerInfo]], log_path: str | None) -> None:
        self._core = core
        self._log_path = log_path
        self._listeners = listeners
        self.settings = core.settings
        self.node_name = core.node_name
        self.broker_version = __version__
        self.max_packet_size = core.limits.max_packet_size
        # Stands for the node in the lower half of a message id.
        self.message_id_suffix = int.from_bytes(core.node_name.encode()[-8:], "big")

    async def node(self) -> NodeInfo:
        core = self._core
        stats = await self.stats()
        now_ms = core.clock.wall_ms(core.clock.now())
        return NodeInfo(
            name=core.node_name,
            version=__version__,
            started_at=core.clock.started_at,
            uptime_ms=now_ms - core.clock.started_at,
            sessions=stats["sessions.count"],
            connections=stats["live_connections.count"],
            log_path=self._log_path,
        )

    # -- clients ------------------------------------------------------------------------------------------------

    async def _actor(self, client_id: str) -> SessionActor | None:
        actor: SessionActor | None = await self._core.manager.ask(AskActor(client_id))
        return actor

    async def _ask(self, client_id: str, question: Any) -> Any:
        """Ask one session; None when there is none (any more)."""
        actor = await self._actor(client_id)
        if actor is None:
            return None
        try:
            return await actor.ask(question)
        except ActorGone:
            return None

    async def clients(self, wanted: ClientFilter, offset: int, limit: int) -> Page:
        actors: list[SessionActor] = await self._core.manager.ask(AskActors())
        if wanted.client_ids or wanted.like_client_id is not None:
            actors = await _chosen(actors, lambda actor: _client_id_fits(actor.client_id, wanted))
        if not _needs_info(wanted):
            return Page(await _infos(actors[offset : offset + limit]), len(actors))
        matching = await _chosen(await _infos(actors), lambda info: _fits(info, wanted))
        return Page(matching[offset : offset + limit], len(matching))

    async def client(self, client_id: str) -> SessionInfo | None:
        info: SessionInfo | None = await self._ask(client_id, AskInfo())
        return info

    async def kick(self, client_id: str) -> bool:
        return bool(await self._ask(client_id, Kick()))

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
        router = self._core.router
        recipients = await router.ask(AskRecipients())
        rows: list[SubscriptionRow] = []
        for start in range(0, len(recipients), STRIDE):
            some = await router.ask(AskSubscriptionsOf(recipients[start : start + STRIDE]))
            rows.extend(some)
        return rows

    async def topics(self) -> list[str]:
        return list(dict.fromkeys([row.subscription.topic_filter for row in await self.subscriptions()]))

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

    async def alarms(self, active: bool) -> tuple[list[AlarmRow], int]:
        core = self._core
        rows = core.alarms.active() if active else core.alarms.history()
        return rows, core.clock.wall_ms(core.clock.now())

    async def forget_alarms(self) -> None:
        self._core.alarms.forget_history()

    async def listeners(self) -> list[ListenerInfo]:
        await trio.lowlevel.checkpoint()
        return self._listeners()


async def _chosen(rows: Sequence[Row], fits: Callable[[Row], bool]) -> list[Row]:
    """Those that fit, looked for without holding up others."""
    chosen: list[Row] = []
    for start in range(0, len(rows), LOOKED_AT):
        chosen.extend(filter(fits, rows[start : start + LOOKED_AT]))
        await trio.lowlevel.checkpoint()
    return chosen


async def _infos(actors: Sequence[SessionActor]) -> list[SessionInfo]:
    """What each of the sessions shows of itself; those that end meanwhile are left out.

    Most answer at once; a session that is at work does when it comes to it.
    """
    questions: list[AskInfo] = []
    for index, actor in enumerate(actors, 1):
        question = AskInfo()
        try:
            actor.tell(question)
        except (ActorGone, trio.WouldBlock):
            continue
        questions.append(question)
        if index % STRIDE == 0:
            await trio.lowlevel.checkpoint()
    infos: list[SessionInfo] = []
    with trio.move_on_after(DEFAULT_ASK_TIMEOUT) as scope:
        for question in questions:
            try:
                infos.append(question.result() if question.is_done else await question.wait())
            except ActorGone:
                continue
    if scope.cancelled_caught:
        raise AskTimeout("the sessions did not answer in time")
    return infos


def _client_id_fits(client_id: str, wanted: ClientFilter) -> bool:
    if wanted.client_ids:
        return client_id in wanted.client_ids
    return wanted.like_client_id is None or wanted.like_client_id in client_id


def _needs_info(wanted: ClientFilter) -> bool:
    """Does the filter look at more than the client identifier?"""
    return any(
        value not in (None, ())
        for value in (
            tuple(wanted.usernames),
            wanted.ip_address,
            wanted.connection_state,
            wanted.clean_start,
            wanted.protocol_level,
            wanted.like_username,
            wanted.gte_created_at,
            wanted.lte_created_at,
            wanted.gte_connected_at,
            wanted.lte_connected_at,
        )
    )


def _fits(info: SessionInfo, wanted: ClientFilter) -> bool:
    if wanted.usernames:
        if info.username not in wanted.usernames:
            return False
    elif wanted.like_username is not None and wanted.like_username not in (info.username or ""):
        return False
    state = "connected" if info.connected else "disconnected"
    return (
        wanted.ip_address in (None, info.peer_host)
        and wanted.connection_state in (None, state)
        and wanted.clean_start in (None, info.clean_start)
        and wanted.protocol_level in (None, info.protocol_level)
        and (wanted.gte_created_at is None or info.created_at >= wanted.gte_created_at)
        and (wanted.lte_created_at is None or info.created_at <= wanted.lte_created_at)
        and (wanted.gte_connected_at is None or info.connected_at >= wanted.gte_connected_at)
        and (wanted.lte_connected_at is None or info.connected_at <= wanted.lte_connected_at)
    )
