"""One trace: what it records, and the log that it records to.

Invariant: a fault while an event is written down is logged and disturbs nobody else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from trio_broker.actors.clock import Clock
from trio_broker.actors.trace_lines import Event, line_of
from trio_broker.actors.trace_log import TraceLog
from trio_broker.actors.trace_record import TraceRecord

log = logging.getLogger("trio_broker.trace")


class Trace:
    """`ring` is called when there is something to write. Nothing is recorded while `runs` is false."""

    def __init__(self, clock: Clock, record: TraceRecord, path: Path, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self.record = record
        self.log = TraceLog(path, self._left_out)
        self.runs = False

    def note(self, event: Event) -> None:
        """A fault in here is nobody's but the log's."""
        if not self.runs or self.log.leaves_out():
            return
        try:
            self.log.add(self._line(event))
        except Exception:
            log.exception("an event of trace %s cannot be written", self.record.name)
        self._ring()

    def note_last(self, reason: str) -> None:
        self.runs = False
        self.log.add_last(self._line(Event("API", "trace_stopping", fields={"reason": reason})))
        self._ring()

    def _line(self, event: Event) -> bytes:
        clock = self._clock
        return line_of(event, clock.wall_ns(clock.now()), self.record.formatter, self.record.payload_encode)

    def _left_out(self, count: int) -> bytes:
        return self._line(Event("API", "lines_left_out", fields={"lines": count}))
