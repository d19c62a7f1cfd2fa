"""What is wrong with the broker now, and what was (EMQX: alarms).

Invariant: an alarm of one name is active at most once; what is over goes into a history of bounded length and age,
which is there after a restart. What is active is not: it comes back if it is still so.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

from trio_broker.actors.clock import Clock
from trio_broker.actors.documents import Documents
from trio_broker.actors.questions import AlarmRow
from trio_broker.config import AlarmConfig

log = logging.getLogger("trio_broker.alarms")

KIND: Final = "alarm"
"""The kind of the documents: alarms of the past."""
SIZE_LIMIT: Final = AlarmConfig().size_limit
"""Alarms of the past that are remembered, where nothing else is set."""

STORE_FAILURE: Final = "store_failure"
STORE_DAMAGED: Final = "store_damaged"
HIGH_MEMORY: Final = "high_process_memory_usage"
HIGH_SYSTEM_MEMORY: Final = "high_system_memory_usage"
HIGH_CPU: Final = "high_cpu_usage"


class Alarms:
    """Plain calls, from wherever something is noticed; times are wall clock in milliseconds.

    `publish` gets `activate` or `deactivate` and JSON text, where `actions` say that alarms are published.
    """

    def __init__(
        self,
        clock: Clock,
        config: AlarmConfig | None = None,
        documents: Documents | None = None,
        publish: Callable[[str, str], None] | None = None,
        node_name: str = "",
    ) -> None:
        self._clock = clock
        self._config = AlarmConfig() if config is None else config
        self._documents = documents
        self._publish = publish
        self._node_name = node_name
        self._active: dict[str, AlarmRow] = {}
        self._history: deque[tuple[str, AlarmRow]] = deque()  # with the keys of their documents; the latest first
        self._numbers = count(1)
        if documents is not None:
            self._restore(documents)

    def use(self, config: AlarmConfig) -> None:
        self._config = config
        self._prune()

    def activate(self, name: str, message: str, details: dict[str, Any]) -> None:
        """Something is wrong; while it is, a second call only brings `message` and `details` up to date."""
        alarm = self._active.get(name)
        if alarm is not None:
            alarm.message, alarm.details = message, details
            return
        alarm = self._active[name] = AlarmRow(name, message, details, self._now())
        self._tell("activate", alarm)

    def deactivate(self, name: str) -> bool:
        """It is over; False when it was not active."""
        alarm = self._active.pop(name, None)
        if alarm is None:
            return False
        alarm.deactivate_at = self._now()
        key = f"{alarm.deactivate_at}-{next(self._numbers)}"
        self._history.appendleft((key, alarm))
        if self._documents is not None:
            self._documents.put(KIND, key, _document(alarm))
        self._prune()
        self._tell("deactivate", alarm)
        return True

    def active(self) -> list[AlarmRow]:
        """The latest first."""
        return list(reversed(self._active.values()))

    def history(self) -> list[AlarmRow]:
        """The latest first."""
        self._prune()
        return [alarm for _, alarm in self._history]

    def forget_history(self) -> None:
        while self._history:
            self._forget_oldest()

    # -- the history

    def _restore(self, documents: Documents) -> None:
        rows: list[tuple[int, int, str, AlarmRow]] = []
        for key, body in documents.of(KIND).items():
            try:
                row = _row(body)
                rows.append((int(row.deactivate_at or 0), int(key.rpartition("-")[2]), key, row))
            except (KeyError, TypeError, ValueError) as error:
                log.error("the alarm %r in the store is left out: %s", key, error)
        rows.sort(key=lambda row: row[:2], reverse=True)
        self._history.extend((key, row) for _, _, key, row in rows)
        # The number of a key needs to differ only among those of one millisecond.
        self._numbers = count(len(rows) + 1)
        self._prune()

    def _prune(self) -> None:
        """Forget what is too much or too old. Nobody waits for it: what is too old is forgotten before it is seen."""
        oldest = self._now() - self._config.validity_period * 1000
        history = self._history
        while history and (len(history) > self._config.size_limit or (history[-1][1].deactivate_at or 0) < oldest):
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        key, _ = self._history.pop()
        if self._documents is not None:
            self._documents.delete(KIND, key)

    # -- who is told

    def _tell(self, operation: str, alarm: AlarmRow) -> None:
        if "log" in self._config.actions:
            state = "is over" if alarm.deactivate_at is not None else "is active"
            log.warning("alarm %s %s: %s", alarm.name, state, alarm.message)
        if "publish" in self._config.actions and self._publish is not None:
            self._publish(operation, json.dumps(self._shown(alarm), default=str))

    def _shown(self, alarm: AlarmRow) -> dict[str, object]:
        """As EMQX publishes it, which is as `GET /alarms` shows it."""
        end = self._now() if alarm.deactivate_at is None else alarm.deactivate_at
        shown: dict[str, object] = {
            "node": self._node_name,
            "name": alarm.name,
            "message": alarm.message,
            "details": alarm.details,
            "duration": max(0, end - alarm.activate_at),
            "activate_at": _time(alarm.activate_at),
        }
        if alarm.deactivate_at is not None:
            shown["deactivate_at"] = _time(alarm.deactivate_at)
        return shown

    def _now(self) -> int:
        return self._clock.wall_ms(self._clock.now())


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone().isoformat(timespec="milliseconds")


def _document(alarm: AlarmRow) -> dict[str, Any]:
    return {
        "name": alarm.name,
        "message": alarm.message,
        "details": alarm.details,
        "activate_at": alarm.activate_at,
        "deactivate_at": alarm.deactivate_at,
    }


def _row(body: Any) -> AlarmRow:
    return AlarmRow(body["name"], body["message"], body["details"], body["activate_at"], body["deactivate_at"])
