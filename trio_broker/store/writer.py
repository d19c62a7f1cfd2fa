"""A thread that does one thing after another for one Trio task: what Trio's own threads do, for a third of the cost.

Invariant: everything submitted is done in order, by one thread, and who asked for it hears of it once, in Trio's loop.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple, cast

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Writer:
    """Begins with its first work, and ends with `close`. One task at a time may use it."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def do(self, function: Callable[[*Ts], T], *arguments: *Ts, abandon: bool = False) -> T:
        """Call `function` in the thread; its result or error. Not cancelled before it is done, unless `abandon`."""
        if self._thread is None:
            # A daemon: a disk that never answers must not keep the process from ending.
            self._thread = threading.Thread(target=_run, args=(self._work,), name="trio-broker store", daemon=True)
            self._thread.start()
        await trio.lowlevel.checkpoint_if_cancelled()
        job = _Job(lambda: function(*arguments), trio.lowlevel.current_task(), trio.lowlevel.current_trio_token())

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            if not abandon:
                return trio.lowlevel.Abort.FAILED
            job.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._work.put(job)
        await trio.lowlevel.wait_task_rescheduled(abort)
        if job.error is not None:
            raise job.error
        return cast(T, job.result)

    def close(self) -> None:
        """No more work comes; the thread ends when it is done with what there is."""
        self._work.put(None)
        self._thread = None


class _Job:
    __slots__ = ("call", "error", "result", "task", "token")

    def __init__(self, call: Callable[[], Any], task: trio.lowlevel.Task, token: trio.lowlevel.TrioToken) -> None:
        self.call = call
        self.task: trio.lowlevel.Task | None = task
        self.token = token
        self.result: Any = None
        self.error: Exception | None = None

    def done(self) -> None:
        """In Trio's loop."""
        if self.task is not None:
            trio.lowlevel.reschedule(self.task)


def _run(work: queue.SimpleQueue[_Job | None]) -> None:
    while (job := work.get()) is not None:
        try:
            job.result = job.call()
        except Exception as error:  # noqa: BLE001 - raised where the work was asked for
            job.error = error
        try:
            job.token.run_sync_soon(job.done)
        except trio.RunFinishedError:
            return  # nobody is there to hear of it
        del job
