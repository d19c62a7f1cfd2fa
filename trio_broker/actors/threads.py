"""Work that takes long, in threads.

Invariant: under a mock clock nothing leaves the loop. Such a clock takes a thread for nobody at work, and goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

__all__ = ["in_thread"]

Result = TypeVar("Result")


async def in_thread(call: Callable[..., Result], *args: object, limiter: trio.CapacityLimiter | None = None) -> Result:
    """`call(*args)` in a thread, one of those of `limiter`; under a mock clock at once, in this task.

    Who is cancelled while the thread works waits for its end.
    """
    # What Trio calls its own clock is in no public module.
    if type(trio.lowlevel.current_clock()).__name__ == "SystemClock":
        return await trio.to_thread.run_sync(call, *args, limiter=limiter)
    await trio.lowlevel.checkpoint()
    return call(*args)
