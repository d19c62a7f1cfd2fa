"""Waiting for what a test names, and for what must not have happened before it.

Invariant: nothing here waits for a fixed time; a wait ends when its condition holds, or fails at the deadline.
"""

from __future__ import annotations

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
