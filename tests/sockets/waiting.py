"""Waiting for what a test names, and for what must not have happened before it.

Invariant: nothing here waits for a fixed time; a wait ends when its condition holds, or fails at the deadline.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from typing import Final, TypeVar

import pytest

T = TypeVar("T")

TIMEOUT: Final = 30.0
"""A bound for a failure, in seconds."""
BETWEEN_LOOKS: Final = 0.01
"""Seconds; leaves the processor to those who are waited for."""


def until(condition: Callable[[], T], what: str, timeout: float = TIMEOUT) -> T:
    """What `condition` says as soon as that is true; `what` names it in the failure."""
    deadline = time.monotonic() + timeout
    while True:
        last = condition()
        if last:
            return last
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:g} s for: {what}; last seen: {last!r}")
        time.sleep(BETWEEN_LOOKS)


def end(process: subprocess.Popen[str], patience: float = 3.0) -> None:
    """SIGTERM, and SIGKILL for one that has not ended after `patience` seconds.

    mosquitto_sub disconnects within its signal handler: when SIGTERM finds it writing to its socket it waits for
    a mutex it holds itself, for ever (seen with Mosquitto as the broker too, by gdb).
    """
    process.terminate()
    process.send_signal(signal.SIGCONT)  # should it be stopped
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(TIMEOUT)
