"""What the broker says of itself under `$SYS`: the topics that users of EMQX and of Mosquitto know.

Invariant: nothing is made that nobody subscribed to; nothing is retained: who subscribes gets all of it at once, and
then at the intervals. Counters come from the metrics collector, by message.
"""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from trio_broker.actors.load_average import MINUTES, LoadAverage
from trio_broker.actors.messages import AskMetrics, AskStats
from trio_broker.actors.system_messages import publish_system
from trio_broker.config import SysTopicsConfig
from trio_broker.errors import ActorGone, AskTimeout
from trio_broker.protocol.packets import MQTT31
from trio_broker.version import __version__

if TYPE_CHECKING:
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.core import Core
    from trio_broker.actors.session_actor import SessionActor
    from trio_broker.session.changes import SubscribeChange
    from trio_broker.session.connect import Terms

__all__ = ["SysTopics"]

log = logging.getLogger("trio_broker.sys_topics")

PATIENCE = 5.0
"""Seconds for the metrics collector to answer."""

LOADS = {
    "messages/received": "packets.received",
    "messages/sent": "packets.sent",
    "publish/received": "packets.publish.received",
    "publish/sent": "packets.publish.sent",
    "publish/dropped": "messages.dropped",
    "bytes/received": "bytes.received",
    "bytes/sent": "bytes.sent",
    "connections": "client.connected",
}
"""Under `$SYS/broker/load/`, and the counters they are averages of."""

COUNTERS = {
    "messages/received": "packets.received",
    "messages/sent": "packets.sent",
    "publish/messages/received": "packets.publish.received",
    "publish/messages/sent": "packets.publish.sent",
    "publish/messages/dropped": "messages.dropped",
    "bytes/received": "bytes.received",
    "bytes/sent": "bytes.sent",
    "clients/expired": "session.terminated",
}
"""Under `$SYS/broker/`; Mosquitto calls packets messages, and messages publish messages."""

GAUGES = {
    "clients/total": "sessions.count",
    "clients/maximum": "sessions.max",
    "clients/connected": "live_connections.count",
    "clients/active": "live_connections.count",
    "subscriptions/count": "subscriptions.count",
    "shared_subscriptions/count": "subscriptions.shared.count",
    "retained messages/count": "retained.count",
}


class SysTopics:
    """Publishes; `wanted` and the events are told by others.

    It is `core.sys_topics` while there are `$SYS` topics; else that is None, and its task waits for other settings.
    """

    def __init__(self, core: Core, config: SysTopicsConfig) -> None:
        self.core = core
        self._prefix = f"$SYS/brokers/{core.node_name}/"
        self._loads = {name: LoadAverage() for name in LOADS}
        self._counted_at = core.clock.now()
        self._wake = trio.Event()
        self._all_wanted = False
        self._ever_wanted = False
        self._take(config)

    def use(self, config: SysTopicsConfig) -> None:
        """Go by these settings from now on."""
        if config.is_enabled and self.core.sys_topics is None:
            self._loads = {name: LoadAverage() for name in LOADS}
            self._counted_at = self.core.clock.now()
            # Whoever subscribed while there were none is told now; nobody has counted who that is.
            self._all_wanted = self._ever_wanted = True
        self._take(config)
        self._wake.set()

    def _take(self, config: SysTopicsConfig) -> None:
        self.events = config.sys_event_messages
        self._interval = config.sys_msg_interval
        self._heartbeat = config.sys_heartbeat_interval
        now = self.core.clock.now()
        self._report_at, self._beat_at = now + self._interval, now + self._heartbeat
        self.core.sys_topics = self if config.is_enabled else None

    # -- told by others -----------------------------------------------------------------------------------------

    def wanted(self) -> None:
        """Somebody has subscribed to `$SYS` topics, and should not have to wait for the next interval."""
        self._all_wanted = self._ever_wanted = True
        self._wake.set()

    def connected(self, actor: SessionActor, connection: Connection, agreed: Terms) -> None:
        if not self.events.client_connected or not self._is_wanted(actor, "connected"):
            return
        info = connection.info
        connect = connection.connect
        self._event(
            actor,
            "connected",
            {
                "username": actor.username,
                "ipaddress": info.peer_host,
                "sockport": info.peer_port,
                "proto_name": "MQIsdp" if agreed.level == MQTT31 else "MQTT",
                "proto_ver": agreed.level,
                "clean_start": agreed.clean_start,
                "keepalive": agreed.keep_alive,
                "expiry_interval": agreed.session_expiry_interval,
                "connected_at": actor.connected_at,
                "connack": 0,
                "is_bridge": connect is not None and connect.bridge,
            },
        )

    def disconnected(self, actor: SessionActor, reason: str) -> None:
        if not self.events.client_disconnected or not self._is_wanted(actor, "disconnected"):
            return
        info, agreed = actor.peer, actor.terms
        self._event(
            actor,
            "disconnected",
            {
                "username": actor.username,
                "sockport": info.peer_port if info is not None else 0,
                "ipaddress": info.peer_host if info is not None else "",
                "proto_ver": agreed.level if agreed is not None else 0,
                "reason": reason,
                "connected_at": actor.connected_at,
                "disconnected_at": self.core.clock.wall_ms(self.core.clock.now()),
            },
        )

    def subscribed(self, actor: SessionActor, change: SubscribeChange) -> None:
        if not self.events.client_subscribed or not self._is_wanted(actor, "subscribed"):
            return
        for subscription in change.subscriptions:
            if subscription is not None:
                options = {
                    "qos": subscription.qos,
                    "nl": int(subscription.no_local),
                    "rap": int(subscription.retain_as_published),
                    "rh": subscription.retain_handling,
                }
                filled = {"username": actor.username, "topic": subscription.topic_filter, "subopts": options}
                self._event(actor, "subscribed", filled)

    def unsubscribed(self, actor: SessionActor, topic_filters: list[str]) -> None:
        if self.events.client_unsubscribed and self._is_wanted(actor, "unsubscribed"):
            for topic_filter in topic_filters:
                self._event(actor, "unsubscribed", {"username": actor.username, "topic": topic_filter})

    def _is_wanted(self, actor: SessionActor, kind: str) -> bool:
        """May anybody be subscribed to it? Else nothing is put together: clients come and go by the thousand."""
        return self._ever_wanted and self.core.router.table.may_match(f"{self._prefix}clients/{actor.client_id}/{kind}")

    def _event(self, actor: SessionActor, kind: str, content: Mapping[str, object]) -> None:
        """`content` with who and when, to `clients/CLIENTID/KIND`."""
        clock = self.core.clock
        content = {"clientid": actor.client_id, "ts": clock.wall_ms(clock.now()), **content}
        publish_system(self.core, [(f"{self._prefix}clients/{actor.client_id}/{kind}", json.dumps(content))])

    # -- the task -----------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            with trio.CancelScope(deadline=min(self._report_at, self._beat_at)):
                await self._wake.wait()
            self._wake = trio.Event()
            if self.core.sys_topics is None:
                continue
            wanted, self._all_wanted = self._all_wanted, False
            now = self.core.clock.now()
            is_beat, is_report = now >= self._beat_at, now >= self._report_at
            if is_beat:
                self._beat_at = now + self._heartbeat
            if is_report:
                self._report_at = now + self._interval
            if is_beat or wanted:
                publish_system(self.core, self._beat(now))
            if is_report or wanted:
                await self._report(now)

    async def _report(self, now: float) -> None:
        core = self.core
        try:
            metrics = await core.metrics.ask(AskMetrics(), PATIENCE)
            stats = await core.metrics.ask(AskStats(), PATIENCE)
        except (ActorGone, AskTimeout) as error:
            log.warning("$SYS topics are left out this time: %s", error)
            return
        for name, load in self._loads.items():
            load.update(metrics[LOADS[name]], now - self._counted_at)
        self._counted_at = now
        publish_system(self.core, [*self._as_emqx(metrics, stats), *self._as_mosquitto(metrics, stats)])

    def _beat(self, now: float) -> Iterator[tuple[str, object]]:
        clock = self.core.clock
        wall_ms = clock.wall_ms(now)
        yield f"{self._prefix}uptime", wall_ms - clock.started_at
        yield f"{self._prefix}datetime", datetime.fromtimestamp(wall_ms / 1000, UTC).isoformat(timespec="milliseconds")
        yield "$SYS/broker/uptime", f"{(wall_ms - clock.started_at) // 1000} seconds"

    def _as_emqx(self, metrics: dict[str, int], stats: dict[str, int]) -> Iterator[tuple[str, object]]:
        yield "$SYS/brokers", self.core.node_name
        yield f"{self._prefix}version", __version__
        yield f"{self._prefix}sysdescr", f"trio-broker on Python {platform.python_version()}"
        for kind, figures in (("stats", stats), ("metrics", metrics)):
            for name, value in figures.items():
                yield f"{self._prefix}{kind}/{name.replace('.', '/')}", value

    def _as_mosquitto(self, metrics: dict[str, int], stats: dict[str, int]) -> Iterator[tuple[str, object]]:
        yield "$SYS/broker/version", f"trio-broker version {__version__}"
        for names, figures in ((COUNTERS, metrics), (GAUGES, stats)):
            for name, of in names.items():
                yield f"$SYS/broker/{name}", figures[of]
        away = stats["sessions.count"] - stats["live_connections.count"]
        yield "$SYS/broker/clients/disconnected", away
        yield "$SYS/broker/clients/inactive", away
        for name, load in self._loads.items():
            for minutes, rate in zip(MINUTES, load.rates, strict=True):
                yield f"$SYS/broker/load/{name}/{minutes}min", f"{rate:.2f}"
