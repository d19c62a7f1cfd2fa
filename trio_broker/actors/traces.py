"""The traces of one broker: logs of what one client, one address or one topic sees, for a time.

Invariant: a trace that was made is kept before it is answered, and goes on after a restart until its end. All files lie
in one directory, which is this program's alone, and are written without holding up the loop.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import trio

from trio_broker.actors.threads import in_thread
from trio_broker.actors.trace import Trace
from trio_broker.actors.trace_log import Piece, zipped
from trio_broker.actors.trace_record import (
    MOST,
    NewTrace,
    Status,
    TraceRecord,
    TraceRefused,
    from_body,
    settled,
)
from trio_broker.errors import StoreError

if TYPE_CHECKING:
    from trio_broker.actors.core import Core
    from trio_broker.actors.timers import Timer

log = logging.getLogger("trio_broker.trace")

KIND: Final = "trace"
"""The kind of the documents; the key is the name."""

Result = TypeVar("Result")


@attrs.define
class TraceRow:
    """A trace as it is now; `size` is the bytes of its log, times are as in `TraceRecord`."""

    record: TraceRecord
    status: Status
    size: int
    mtime_ms: int | None = None


class Traces:
    """`run` it as long as the broker runs; the rest is what REST asks for."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.bell = trio.Event()
        """Something is to be written, or a start or an end is due."""
        self._all: dict[str, Trace] = {}
        self._directory: Path | None = None
        self._temporary = False
        self._timer: Timer | None = None
        self._due = True
        self._changing = trio.Lock()
        self._writing = trio.Lock()
        self._packing = trio.Lock()
        # One for each of these locks: whoever shares the program's threads may keep them all busy.
        self._threads = trio.CapacityLimiter(3)

    # -- running ------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Takes up what was kept, then writes what gathers, and starts and stops traces in time."""
        try:
            async with self._changing:
                await self._take_up()
                await self._refresh()
            task_status.started()
            while True:
                await self.bell.wait()
                self.bell = trio.Event()
                await self._write()
                if self._due:
                    async with self._changing:
                        await self._refresh()
        finally:
            with trio.CancelScope(shield=True):
                await self._end()

    async def _end(self) -> None:
        """The last lines; what is temporary goes."""
        async with self._writing:
            work = self._gathered()
            for trace, error in await self._apart(_write_out, work) if work else ():
                log.error("the last lines of trace %s cannot be written: %s", trace.record.name, error)
            if self._temporary and self._directory is not None:
                await self._apart(shutil.rmtree, self._directory, True)

    async def _take_up(self) -> None:
        """What a store kept."""
        for name, body in self._core.documents.of(KIND).items():
            try:
                record = from_body(name, body)
            except ValueError as error:
                log.error("trace %r in the store is left out: %s", name, error)
                continue
            try:
                trace = self._trace(record, await self._path(name))
            except OSError as error:
                log.error("the logs of traces have no place: %s", error)
                return
            try:
                await self._apart(trace.log.resume)
            except OSError as error:
                log.error("the log of trace %s cannot be opened: %s", name, error)
                trace.record = attrs.evolve(record, enable=False)
            self._all[name] = trace

    def _trace(self, record: TraceRecord, path: Path) -> Trace:
        return Trace(self._core.clock, record, path, lambda: self.bell.set())

    async def _path(self, name: str) -> Path:
        if self._directory is None:
            self._directory = await self._apart(self._make_directory)
        return self._directory / f"{name}.log"

    def _make_directory(self) -> Path:
        config = self._core.settings.config
        if config.in_memory:
            self._temporary = True
            return Path(tempfile.mkdtemp(prefix="trio-broker-trace-"))
        directory = Path(config.node.data_dir) / "trace"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory

    async def _apart(self, call: Callable[..., Result], *arguments: Any) -> Result:
        """In a thread, where it may wait for a disk."""
        return await in_thread(call, *arguments, limiter=self._threads)

    async def _write(self) -> None:
        """What has gathered until now."""
        async with self._writing:
            work = self._gathered()
            if work:
                with trio.CancelScope(shield=True):  # what was taken is written, whoever asked for it
                    failed = await self._apart(_write_out, work)
                for trace, error in failed:
                    log.error("trace %s ends: its log cannot be written: %s", trace.record.name, error)
                    trace.log.is_full = True
                self.bell.set()  # once more, for what came meanwhile
        if any(trace.log.is_full and trace.runs for trace in self._all.values()):
            self._due = True

    def _gathered(self) -> list[tuple[Trace, bytes]]:
        return [(trace, data) for trace in self._all.values() if (data := trace.log.take())]

    # -- starts and ends ----------------------------------------------------------------------------------------

    def clock_was_set(self) -> None:
        """Starts and ends are at times of the wall clock."""
        self._wake()

    def _wake(self) -> None:
        self._due = True
        self.bell.set()

    def _now_ms(self) -> int:
        clock = self._core.clock
        return clock.wall_ms(clock.now())

    async def _refresh(self) -> None:
        """Which traces run now, and whom do they mark? With `_changing`; whoever asks for it may go away meanwhile."""
        with trio.CancelScope(shield=True):  # nothing in it waits for long
            await self._look_again()

    async def _look_again(self) -> None:
        self._due = False
        core = self._core
        now = self._now_ms()
        next_ms = math.inf
        for trace in self._all.values():
            record = trace.record
            if record.enable and (record.status(now) == "stopped" or trace.log.is_full):
                self._stop(trace, "log_full" if trace.log.is_full else "end_at")
            status = trace.record.status(now)
            trace.runs = status == "running"
            if status != "stopped":
                next_ms = min(next_ms, (record.end_at if trace.runs else record.start_at) * 1000)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if next_ms < math.inf:
            # A millisecond more, as the wall clock is cut down to whole ones.
            self._timer = core.timers.at(core.clock.trio_time(int(next_ms) + 1), self._wake)
        await core.tracing.follow([trace for trace in self._all.values() if trace.runs])

    def _stop(self, trace: Trace, reason: str) -> None:
        if trace.runs:
            trace.note_last(reason)
        trace.runs = False
        trace.record = attrs.evolve(trace.record, enable=False)
        self._core.documents.put(KIND, trace.record.name, trace.record.body())

    # -- what REST asks for -------------------------------------------------------------------------------------

    async def rows(self) -> list[TraceRow]:
        """All of them, the latest start first."""
        await trio.lowlevel.checkpoint()
        rows = [self._row(trace) for trace in self._all.values()]
        return sorted(rows, key=lambda row: row.record.start_at, reverse=True)

    def _row(self, trace: Trace) -> TraceRow:
        return TraceRow(trace.record, trace.record.status(self._now_ms()), trace.log.size)

    async def create(self, new: NewTrace) -> TraceRow:
        """Make it; returns when it is kept, and runs if it is time. Raises TraceRefused, StoreError (no log file)."""
        async with self._changing:
            record = settled(new, self._now_ms() // 1000)
            if record.name in self._all:
                raise TraceRefused("ALREADY_EXISTS", f"{record.name} Already Exists")
            for other in self._all.values():
                if (record.start_at, record.type, record.value) == (
                    other.record.start_at,
                    other.record.type,
                    other.record.value,
                ):
                    raise TraceRefused("DUPLICATE_CONDITION", f"{other.record.name} Duplication Condition")
            if len(self._all) >= MOST:
                raise TraceRefused("INVALID_PARAMS", f"There are {MOST} traces, which is the most: delete one first")
            try:
                trace = self._trace(record, await self._path(record.name))
                await self._apart(trace.log.create)
            except OSError as error:
                raise StoreError(f"the log of trace {record.name} cannot be made: {error.strerror or error}") from None
            self._all[record.name] = trace
            self._core.documents.put(KIND, record.name, record.body())
            await self._refresh()
        await self._core.durable()
        return self._row(trace)

    async def stop(self, name: str) -> bool:
        """It records nothing more; False when there is none."""
        async with self._changing:
            trace = self._all.get(name)
            if trace is None:
                return False
            if trace.record.enable:
                self._stop(trace, "stopped")
                await self._refresh()
        await self._core.durable()
        return True

    async def delete(self, name: str) -> bool:
        """With its log; False when there is none."""
        async with self._changing:
            trace = self._all.get(name)
            if trace is None:
                return False
            await self._delete([trace])
        await self._core.durable()
        return True

    async def clear(self) -> None:
        """Delete all of them."""
        async with self._changing:
            await self._delete([*self._all.values()])
        await self._core.durable()

    async def _delete(self, traces: list[Trace]) -> None:
        for trace in traces:
            trace.runs = False
            del self._all[trace.record.name]
            self._core.documents.delete(KIND, trace.record.name)
        await self._refresh()
        with trio.CancelScope(shield=True):  # nobody would look for the files again
            async with self._writing:
                for trace in traces:
                    try:
                        await self._apart(trace.log.delete)
                    except OSError as error:
                        log.error("the log of trace %s cannot be deleted: %s", trace.record.name, error)

    async def read(self, name: str, position: int, size: int) -> Piece | None:
        """A piece of its log; None when there is no such trace. Raises FileNotFoundError when its file is gone."""
        return await self._look_into(name, lambda trace: trace.log.read(position, size))

    async def detail(self, name: str) -> TraceRow | None:
        """With the time of its last line. Raises as `read`."""
        mtime_ms = await self._look_into(name, lambda trace: trace.log.mtime_ms())
        trace = self._all.get(name)
        return None if trace is None else attrs.evolve(self._row(trace), mtime_ms=mtime_ms)

    async def zipped(self, name: str) -> bytes | None:
        """A zip of its log, which has the name of the node there. Raises as `read`."""
        async with self._packing:
            # It may take a second: what it packs is settled before, and lines are written meanwhile.
            opened = await self._look_into(name, lambda trace: trace.log.opened())
            if opened is None:
                return None
            file, size = opened
            node = re.sub(r"[^A-Za-z0-9@._-]", "_", self._core.node_name)
            with file:
                return await self._apart(zipped, file, size, f"{node}-trace_{name}.log")

    async def _look_into(self, name: str, look: Callable[[Trace], Result]) -> Result | None:
        """With all in it that has happened until now."""
        await self._write()
        async with self._writing:
            trace = self._all.get(name)
            return None if trace is None else await self._apart(look, trace)


def _write_out(work: list[tuple[Trace, bytes]]) -> list[tuple[Trace, OSError]]:
    """Those that could not be written."""
    failed: list[tuple[Trace, OSError]] = []
    for trace, data in work:
        try:
            trace.log.write(data)
        except OSError as error:
            failed.append((trace, error))
    return failed
