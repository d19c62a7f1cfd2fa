"""Delayed publish: what is sent to `$delayed/SECONDS/TOPIC` waits here, and is published to TOPIC when it is due.

Invariant: a message that waits is a document, written in the router's turn that took it; the document goes in the turn
in which the message is routed, so that one commit has both. One timer runs, for whatever is due first.
"""

from __future__ import annotations

import base64
import heapq
import logging
import math
from collections.abc import Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

import trio
from attrs import define

from trio_broker.actors.messages import After
from trio_broker.protocol.delayed_topic import PREFIX, parse_delayed
from trio_broker.protocol.message import Message, Origin, Run
from trio_broker.protocol.packets import NO_PROPERTIES, Properties
from trio_broker.routing.routing_table import Plan

if TYPE_CHECKING:
    from trio_broker.actors.core import Core
    from trio_broker.actors.timers import Timer
    from trio_broker.config import Config

log = logging.getLogger("trio_broker.delayed")

KIND: Final = "delayed"
MAX_INTERVAL: Final = 4_294_967
"""Seconds; a larger number is a time in seconds since the epoch."""

TURN: Final = 64
"""Messages that are published before others have their turn."""
LOOKED_AT: Final = 1024
"""Places of messages that were deleted, which are passed over in one turn."""
STRIDE: Final = 256
BUSY: Final = 0.05
"""Seconds until a broker that is behind with its work is tried again."""
FAILING: Final = 1.0
"""The same for a store that cannot be written."""
TELL_EVERY: Final = 10.0
"""Seconds between two lines about messages that were dropped."""


@define(frozen=True)
class DelayedRow:
    """A message that waits. Times are wall clock in milliseconds, `interval` and `remaining` are seconds."""

    message_id: int
    topic_name: str
    qos: int
    publish_at: int
    expected_at: int
    interval: int
    remaining: int
    from_client_id: str
    from_username: str | None
    payload: bytes | None = None


class Delayed:
    """An interceptor, and what REST asks. Changes are durable when its methods return; they raise AskTimeout."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._config = core.settings.config.delayed
        self._heap: list[tuple[int, str]] = []  # when it is due (milliseconds), and the key of its document
        self._timer: Timer | None = None
        self._dropped = 0  # since the last line about it
        self._tell_at = -math.inf
        for key, body in list(self._waiting.items()):
            try:
                row = self._row(key, body, with_payload=True)
            except (KeyError, TypeError, ValueError):
                log.exception("the delayed message %r in the store cannot be read: it is dropped", key)
                core.documents.delete(KIND, key)
                continue
            self._heap.append((row.expected_at, key))
            # What a message was given as its number is not given again, whatever the clock shows.
            core.next_message_id = max(core.next_message_id, row.message_id + 1)
        heapq.heapify(self._heap)
        core.settings.watch("delayed", self._changed)
        self._count()
        self._arm()

    @property
    def _waiting(self) -> Mapping[str, Any]:
        return self._core.documents.of(KIND)

    def _changed(self, before: Config, after: Config) -> None:
        """What waits goes on waiting, whether the feature is on or off."""
        self._config = after.delayed
        if before.delayed.enable != after.delayed.enable:
            self._core.interceptors.changed()

    # -- an interceptor

    def concerns(self, topic_name: str) -> bool:
        return topic_name.startswith(PREFIX) and self._config.enable

    def keeps(self, run: Run) -> bool:
        return True

    def intercept(self, run: Run, plan: Plan[Any]) -> list[Run] | None:
        parsed = parse_delayed(run.topic_name)
        if parsed is None:
            self._drop(run.topic_name, "$delayed/SECONDS/TOPIC was expected", len(run))
            return []
        number, topic_name = parsed
        before = len(self._waiting)
        for message in run.messages:
            interval, due = number, message.publish_at + number * 1000
            if number > MAX_INTERVAL:
                interval, due = number - round(message.publish_at / 1000), number * 1000
            limit = self._config.max_delayed_messages
            if interval > MAX_INTERVAL:
                self._drop(run.topic_name, f"it is due more than {MAX_INTERVAL} seconds from now")
            elif limit and len(self._waiting) >= limit:
                self._drop(run.topic_name, f"{limit} others wait already (delayed.max_delayed_messages)")
            else:
                self._take(message, topic_name, max(interval, 0), due)
        if len(self._waiting) > before:
            run.stored = self._core.store.keeps
            self._count()
            self._arm()
        return []

    def _take(self, message: Message, topic_name: str, interval: int, due: int) -> None:
        expires_at = message.expires_at
        body = {
            "topic": topic_name,
            "payload": base64.b64encode(message.payload).decode(),
            "qos": message.qos,
            "retain": message.retain,
            "client_id": message.origin.client_id,
            "username": message.origin.username,
            "publish_at": message.publish_at,
            "interval": interval,
            "due": due,
        }
        if expires_at is not None:
            body["expires_at"] = self._core.clock.wall_ms(expires_at)
        if message.properties:
            properties: dict[str, Any] = dict(message.properties)
            if "correlation_data" in properties:
                properties["correlation_data"] = base64.b64encode(properties["correlation_data"]).decode()
            body["properties"] = properties
        key = f"{message.message_id:016x}"
        self._core.documents.put(KIND, key, body)
        heapq.heappush(self._heap, (due, key))
        self._core.meter.messages_delayed += 1

    def _drop(self, topic_name: str, why: str, count: int = 1) -> None:
        """Said at once, and then once in a while: a client may send any number of them."""
        self._core.meter.messages_dropped += count
        self._dropped += count
        now = self._core.clock.now()
        if now >= self._tell_at:
            log.warning("%d delayed messages dropped, the last one to %r: %s", self._dropped, topic_name, why)
            self._tell_at = now + TELL_EVERY
            self._dropped = 0

    # -- when it is due

    def _arm(self) -> None:
        """The timer runs until the first one is due."""
        if self._heap:
            self._arm_at(self._core.clock.trio_time(self._heap[0][0]))
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm_at(self, deadline: float) -> None:
        if self._timer is not None:
            if self._timer.deadline <= deadline:
                return
            self._timer.cancel()
        self._timer = self._core.timers.at(deadline, self._due)

    def clock_was_set(self) -> None:
        """It is due at a time of the wall clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._arm()

    def _due(self) -> None:
        """Publish some of what is due; what is left has the next turn."""
        self._timer = None
        core = self._core
        now = core.clock.now()
        if core.store.failure is not None or core.is_behind:
            self._arm_at(now + (BUSY if core.store.failure is None else FAILING))
            return
        runs: list[Run] = []
        keys: list[str] = []
        heap, waiting = self._heap, self._waiting
        for _ in range(LOOKED_AT):
            if not heap or len(keys) >= TURN or core.clock.trio_time(heap[0][0]) > now:
                break
            _, key = heapq.heappop(heap)
            body = waiting.get(key)
            if body is None:
                continue  # deleted meanwhile
            keys.append(key)
            try:
                if core.banned.all and core.banned.find(body["client_id"], None, "") is not None:
                    self._drop(body["topic"], f"its publisher {body['client_id']!r} is banned")
                elif body.get("expires_at", math.inf) <= core.clock.wall_ms(now):
                    core.meter.messages_dropped += 1  # [MQTT-3.3.2-5]; it must not be retained either
                else:
                    runs.append(self._run(body, now))
            except (KeyError, TypeError, ValueError):
                log.exception("the delayed message %r cannot be read: it is dropped", key)
        if keys:
            core.router.take([*runs, After(partial(self._published, keys))])
        if heap:
            # Behind now, or the timers would have no end of it.
            self._arm_at(max(core.clock.trio_time(heap[0][0]), math.nextafter(now, math.inf)))

    def _published(self, keys: list[str]) -> None:
        for key in keys:
            self._core.documents.delete(KIND, key)
        self._count()

    def _run(self, body: Mapping[str, Any], now: float) -> Run:
        """It is a message of this moment, with a number of its own: retained ones replace what came before them.

        Its expiry began when it came.
        """
        core = self._core
        wall_ms = core.clock.wall_ms(now)
        origin = Origin(body["client_id"], body["username"])
        properties = _properties(body.get("properties"))
        expires_at = None if "expires_at" not in body else core.clock.trio_time(body["expires_at"])
        payload = base64.b64decode(body["payload"])
        topic_name, qos, retain = body["topic"], body["qos"], body["retain"]
        message_id = core.message_id(wall_ms)
        message = Message(topic_name, payload, qos, retain, message_id, origin, wall_ms, properties, expires_at)
        plain = not properties and expires_at is None
        return Run(topic_name, qos, retain, origin, [message], plain)

    # -- what REST asks

    async def page(self, offset: int, limit: int) -> tuple[list[DelayedRow], int]:
        """Some of those that wait, in the order in which they came, and the number of all."""
        waiting = self._waiting
        some = list(islice(waiting.items(), offset, offset + limit))
        count = len(waiting)
        rows: list[DelayedRow] = []
        for number, (key, body) in enumerate(some, 1):
            rows.append(self._row(key, body))
            if number % STRIDE == 0:
                await trio.lowlevel.checkpoint()
        return rows, count

    def get(self, message_id: int) -> DelayedRow | None:
        """One of them, with its payload."""
        key = f"{message_id:016x}"
        body = self._waiting.get(key)
        return None if body is None else self._row(key, body, with_payload=True)

    def _row(self, key: str, body: Mapping[str, Any], *, with_payload: bool = False) -> DelayedRow:
        left = body["due"] - self._core.clock.wall_ms(self._core.clock.now())
        return DelayedRow(
            int(key, 16),
            body["topic"],
            body["qos"],
            body["publish_at"],
            body["due"],
            body["interval"],
            max(0, left // 1000),
            body["client_id"],
            body["username"],
            base64.b64decode(body["payload"]) if with_payload else None,
        )

    async def delete(self, message_id: int) -> bool:
        """Forget one; False when there is none."""
        if not self._core.documents.delete(KIND, f"{message_id:016x}"):
            return False
        self._forgotten()
        await self._core.durable()
        return True

    async def delete_topic(self, topic_name: str) -> int:
        """Forget those for this topic; how many there were."""
        count = 0
        for number, (key, body) in enumerate(list(self._waiting.items()), 1):
            if body["topic"] == topic_name and self._core.documents.delete(KIND, key):
                count += 1
            if number % STRIDE == 0:
                self._forgotten()
                await trio.lowlevel.checkpoint()
        if count:
            self._forgotten()
            await self._core.durable()
        return count

    def _forgotten(self) -> None:
        """The places of those that were deleted are swept when they are more than the others."""
        self._count()
        waiting = self._waiting
        if len(self._heap) > 2 * len(waiting) + LOOKED_AT:
            self._heap = [entry for entry in self._heap if entry[1] in waiting]
            heapq.heapify(self._heap)
            self.clock_was_set()

    def _count(self) -> None:
        self._core.meter.set_gauge("delayed", len(self._waiting))


def _properties(kept: Mapping[str, Any] | None) -> Properties:
    if not kept:
        return NO_PROPERTIES
    properties = dict(kept)
    if "correlation_data" in properties:
        properties["correlation_data"] = base64.b64decode(properties["correlation_data"])
    if "user_property" in properties:
        properties["user_property"] = [(name, value) for name, value in properties["user_property"]]
    return cast("Properties", properties)
