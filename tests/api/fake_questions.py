"""A broker in a few dictionaries that answers all questions of the API as the real one does."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import trio
from attrs import define, evolve, field

from trio_broker.access.asking import Request
from trio_broker.actors.api_keys import ApiKeys
from trio_broker.actors.clock import Clock
from trio_broker.actors.dashboard_users import DashboardUsers
from trio_broker.actors.documents import Documents
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
from trio_broker.config import Config
from trio_broker.protocol.topics import matches, parse_topic_filter
from trio_broker.routing.subscription import Subscription
from trio_broker.session.info import QueuedMessage, QueuePage, SessionInfo
from trio_broker.store.memory import MemoryStore

NODE = "trio_broker@127.0.0.1"
NOW_MS = 1_709_055_346_487

STATS = (
    "recv_oct send_oct recv_cnt send_cnt recv_pkt send_pkt recv_msg send_msg recv_msg.qos0 recv_msg.qos1"
    " recv_msg.qos2 send_msg.qos0 send_msg.qos1 send_msg.qos2 recv_msg.dropped recv_msg.dropped.await_pubrel_timeout"
    " send_msg.dropped send_msg.dropped.expired send_msg.dropped.queue_full send_msg.dropped.too_large"
)


def session_info(client_id: str, **changes: Any) -> SessionInfo:
    """A connected MQTT 5 client; its counters are 1, 2, 3 ... in the order of `STATS`."""
    info = SessionInfo(
        client_id=client_id,
        username="u1",
        connected=True,
        connected_at=NOW_MS,
        disconnected_at=None,
        created_at=NOW_MS - 1000,
        peer_host="127.0.0.1",
        peer_port=50001,
        listener="tcp:default",
        protocol_name="MQTT",
        protocol_level=5,
        keep_alive=60,
        clean_start=True,
        expiry_interval=0,
        is_bridge=False,
        subscriptions_count=1,
        subscriptions_max=None,
        inflight_count=2,
        inflight_max=32,
        mqueue_len=3,
        mqueue_max=1000,
        mqueue_dropped=4,
        awaiting_rel_count=5,
        awaiting_rel_max=100,
        mailbox_len=6,
        stats={name: number for number, name in enumerate(STATS.split(), 1)},
    )
    return evolve(info, **changes)


def queued(number: int, payload: bytes = b"hello", **changes: Any) -> QueuedMessage:
    message = QueuedMessage(
        message_id=0x000611F460D57FA9 + number,
        topic_name=f"t/{number}",
        qos=1,
        publish_at=NOW_MS + number,
        from_client_id="publisher",
        from_username=None,
        payload=payload,
        inserted_at_ns=1_710_785_444_656_449_826 + number,
    )
    return evolve(message, **changes)


def fake_core() -> Any:
    """What keeps keys and users: documents that are forgotten, and the clock."""

    class FakeClock(Clock):
        def __init__(self) -> None:  # made outside of Trio
            self._offset = NOW_MS / 1000

        def now(self) -> float:
            return trio.current_time() if trio.lowlevel.in_trio_run() else 0.0

    return SimpleNamespace(
        documents=Documents(MemoryStore()),
        clock=FakeClock(),
        durable=trio.lowlevel.checkpoint,
        settings=SimpleNamespace(config=Config()),
    )


@define
class FakeQuestions:
    """Set `fault` to have every question raise it."""

    # What has state of its own is tested over a real broker (tests/api/live.py).
    settings: Any = None
    listener_settings: Any = None
    traces: Any = None
    monitor: Any = None
    data_backup: Any = None
    features: Any = None
    api_keys: ApiKeys = field(factory=lambda: ApiKeys(fake_core()))
    dashboard_users: DashboardUsers = field(factory=lambda: DashboardUsers(fake_core()))
    authenticators: Any = None
    authn_users: Any = None
    authorization_sources: Any = None
    banned: Any = None
    delayed: Any = None
    topic_metrics: Any = None
    slow_subscriptions: Any = None

    node_name: str = NODE
    broker_version: str = "0.1.0"
    message_id_suffix: int = 0xF44500000D360002
    max_packet_size: int = 1_048_576
    sessions: dict[str, SessionInfo] = field(factory=dict)
    filters: dict[str, dict[str, Subscription]] = field(factory=dict)
    mqueues: dict[str, list[QueuedMessage]] = field(factory=dict)
    inflights: dict[str, list[QueuedMessage]] = field(factory=dict)
    retained_rows: list[RetainedRow] = field(factory=list)
    published: list[NewMessage] = field(factory=list)
    counters: dict[str, int] = field(factory=lambda: {"messages.received": 10, "messages.dropped.no_subscribers": 2})
    gauges: dict[str, int] = field(
        factory=lambda: {
            "connections.count": 3,
            "live_connections.count": 2,
            "subscriptions.count": 4,
            "subscriptions.shared.count": 1,
            "topics.count": 5,
            "retained.count": 6,
            "durable_subscriptions.count": 0,
            "durable_subscriptions.max": 0,
        }
    )
    alarms_of_now: list[AlarmRow] = field(factory=list)
    alarms_of_the_past: list[AlarmRow] = field(factory=list)
    listener_infos: list[ListenerInfo] = field(
        factory=lambda: [
            ListenerInfo("tcp:default", "tcp", "default", True, "0.0.0.0:1883", True, None, 7),
            ListenerInfo(
                "ws:web", "ws", "web", True, "0.0.0.0:8083", False, 100, 0, {"websocket": {"compress": False}}
            ),
        ]
    )
    fault: Exception | None = None
    asked: list[ClientFilter] = field(factory=list)
    log_path: str | None = None

    def add(self, client_id: str, *topic_filters: str, **changes: Any) -> SessionInfo:
        """A session with subscriptions, for tests."""
        self.sessions[client_id] = session_info(client_id, **changes)
        self.filters[client_id] = {text: subscription(text) for text in topic_filters}
        return self.sessions[client_id]

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def node(self) -> NodeInfo:
        self._check()
        live = sum(info.connected for info in self.sessions.values())
        return NodeInfo(
            NODE,
            self.broker_version,
            NOW_MS,
            5_120_000,
            len(self.sessions),
            live,
            self.log_path,
            runtime="CPython 3.11.7/trio 0.35.0",
            memory_total=16 * 1024**3,
            memory_used=3 * 1024**3,
            tasks=20,
        )

    async def clients(self, wanted: ClientFilter, offset: int, limit: int) -> Page:
        self._check()
        self.asked.append(wanted)
        rows = [info for info in self.sessions.values() if _is_wanted(info, wanted)]
        return Page(rows[offset : offset + limit], len(rows))

    async def client(self, client_id: str) -> SessionInfo | None:
        self._check()
        return self.sessions.get(client_id)

    async def clients_after(
        self, wanted: ClientFilter, cursor: str | None, limit: int
    ) -> tuple[list[SessionInfo], str | None]:
        start = 0 if cursor is None else int(cursor)
        page = await self.clients(wanted, start, limit)
        return page.rows, str(start + limit) if page.count > start + limit else None

    async def sessions_count(self) -> int:
        self._check()
        return len(self.sessions)

    async def set_keep_alive(self, client_id: str, interval: int) -> SessionInfo | None:
        self._check()
        info = self.sessions.get(client_id)
        if info is not None and info.connected:
            info.keep_alive = interval
        return info

    async def set_rates(
        self, client_id: str, messages_rate: float | None, bytes_rate: float | None
    ) -> SessionInfo | None:
        self._check()
        return self.sessions.get(client_id)

    async def set_quota(self, client_id: str, messages_rate: float | None) -> SessionInfo | None:
        self._check()
        return self.sessions.get(client_id)

    async def kick_all(self, client_ids: Sequence[str]) -> None:
        for client_id in client_ids:
            await self.kick(client_id)

    async def kick(self, client_id: str) -> bool:
        self._check()
        self.filters.pop(client_id, None)
        return self.sessions.pop(client_id, None) is not None

    async def disconnect(self, client_id: str) -> bool:
        self._check()
        info = self.sessions.get(client_id)
        if info is None or not info.connected:
            return False
        info.connected = False
        return True

    async def client_decisions(self, client_id: str) -> list[tuple[Request, bool, int]] | None:
        self._check()
        return [] if client_id in self.sessions else None

    async def forget_client_decisions(self, client_id: str) -> bool:
        self._check()
        return client_id in self.sessions

    async def forget_client_decision(self, client_id: str, topic: str) -> bool:
        self._check()
        info = self.sessions.get(client_id)
        return info is not None and info.connected

    async def client_subscriptions(self, client_id: str) -> list[Subscription] | None:
        self._check()
        return list(self.filters[client_id].values()) if client_id in self.sessions else None

    async def mqueue_messages(self, client_id: str, after: int | None, limit: int) -> QueuePage | None:
        self._check()
        return self._queue(self.mqueues, client_id, after, limit)

    async def inflight_messages(self, client_id: str, after: int | None, limit: int) -> QueuePage | None:
        self._check()
        return self._queue(self.inflights, client_id, after, limit)

    def _queue(
        self, queues: dict[str, list[QueuedMessage]], client_id: str, after: int | None, limit: int
    ) -> QueuePage | None:
        if client_id not in self.sessions:
            return None
        queue = queues.get(client_id, [])
        rest = [message for message in queue if after is None or message.inserted_at_ns > after]
        return QueuePage(rest[:limit], queue[0].inserted_at_ns if queue else None)

    async def subscribe(self, client_id: str, subscription: Subscription) -> bool:
        self._check()
        if client_id not in self.sessions:
            return False
        self.filters[client_id][subscription.topic_filter] = subscription
        return True

    async def unsubscribe(self, client_id: str, topic_filter: str) -> bool:
        self._check()
        if client_id not in self.sessions:
            return False
        self.filters[client_id].pop(topic_filter, None)
        return True

    async def subscriptions(self) -> list[SubscriptionRow]:
        self._check()
        return [SubscriptionRow(client_id, one) for client_id, all_ in self.filters.items() for one in all_.values()]

    async def subscription_page(self, wanted: SubscriptionFilter, offset: int, limit: int) -> SubscriptionPage:
        rows = [row for row in await self.subscriptions() if _is_held(row, wanted)]
        return SubscriptionPage(rows[offset : offset + limit], len(rows))

    async def topic_page(self, offset: int, limit: int) -> tuple[list[str], int]:
        topics = await self.topics()
        return topics[offset : offset + limit], len(topics)

    async def has_topic(self, topic_filter: str) -> bool:
        parse_topic_filter(topic_filter)
        return topic_filter in await self.topics()

    async def share_names(self, match_filter: str) -> list[str | None]:
        held = (row.subscription for row in await self.subscriptions())
        return list({one.share_name: None for one in held if one.match_filter == match_filter})

    async def topics(self) -> list[str]:
        self._check()
        return list(dict.fromkeys(text for all_ in self.filters.values() for text in all_))

    async def publish(self, messages: Sequence[NewMessage]) -> list[Published]:
        self._check()
        self.published.extend(messages)
        return [Published(0x611F460D57FA9, self._matched(message.topic_name)) for message in messages]

    def _matched(self, topic_name: str) -> int:
        return sum(
            any(matches(one.match_filter, topic_name) for one in all_.values()) for all_ in self.filters.values()
        )

    async def retained(self, topic_filter: str | None, offset: int, limit: int) -> tuple[list[RetainedRow], int]:
        self._check()
        rows = [row for row in self.retained_rows if topic_filter is None or matches(topic_filter, row.topic_name)]
        return [evolve(row, payload=None) for row in rows[offset : offset + limit]], len(rows)

    async def retained_message(self, topic_name: str) -> RetainedRow | None:
        self._check()
        return next((row for row in self.retained_rows if matches(topic_name, row.topic_name)), None)

    async def delete_retained(self, topic_filter: str | None) -> int:
        self._check()
        before = len(self.retained_rows)
        self.retained_rows = [
            row for row in self.retained_rows if topic_filter is not None and not matches(topic_filter, row.topic_name)
        ]
        return before - len(self.retained_rows)

    async def metrics(self) -> dict[str, int]:
        self._check()
        return dict(self.counters)

    async def stats(self) -> dict[str, int]:
        self._check()
        return dict(self.gauges)

    async def runtime(self) -> Runtime:
        self._check()
        return Runtime(0, 0, {})

    async def listeners(self) -> list[ListenerInfo]:
        self._check()
        return self.listener_infos

    async def alarms(self, active: bool) -> tuple[list[AlarmRow], int]:
        self._check()
        return (self.alarms_of_now if active else self.alarms_of_the_past), 1_710_785_500_000

    async def forget_alarms(self) -> None:
        self._check()
        self.alarms_of_the_past.clear()

    async def deactivate_alarm(self, name: str) -> bool:
        self._check()
        before = len(self.alarms_of_now)
        self.alarms_of_now = [alarm for alarm in self.alarms_of_now if alarm.name != name]
        return len(self.alarms_of_now) < before


def subscription(topic_filter: str, **changes: Any) -> Subscription:
    parts = topic_filter.split("/", 2)
    if parts[0] == "$share":
        return evolve(Subscription(topic_filter, parts[2], parts[1]), **changes)
    return evolve(Subscription(topic_filter, topic_filter), **changes)


def _is_wanted(info: SessionInfo, wanted: ClientFilter) -> bool:
    state = "connected" if info.connected else "disconnected"
    exact: list[tuple[object, object]] = [
        (wanted.ip_address, info.peer_host),
        (wanted.connection_state, state),
        (wanted.clean_start, info.clean_start),
        (wanted.protocol_level, info.protocol_level),
    ]
    times = [
        (wanted.gte_created_at, wanted.lte_created_at, info.created_at),
        (wanted.gte_connected_at, wanted.lte_connected_at, info.connected_at),
    ]
    return (
        (not wanted.client_ids or info.client_id in wanted.client_ids)
        and (not wanted.usernames or info.username in wanted.usernames)
        and all(asked is None or asked == there for asked, there in exact)
        and (wanted.like_client_id is None or wanted.like_client_id in info.client_id)
        and (wanted.like_username is None or wanted.like_username in (info.username or ""))
        and all((low is None or at >= low) and (high is None or at <= high) for low, high, at in times)
    )


def _is_held(row: SubscriptionRow, wanted: SubscriptionFilter) -> bool:
    held = row.subscription
    topic = held.topic_filter if wanted.share_name is None else held.match_filter
    return (
        wanted.client_id in (None, row.client_id)
        and wanted.qos in (None, held.qos)
        and wanted.share_name in (None, held.share_name)
        and wanted.topic in (None, topic)
        and (wanted.match_topic is None or matches(wanted.match_topic, held.match_filter))
    )
