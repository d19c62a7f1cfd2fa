"""How far a command is, on standard error.

Invariant: what takes less than a second says nothing; on a terminal there is one line, which is gone at the end.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

BEGIN: Final = 1.0
"""Seconds until the first word."""
ON_A_TERMINAL: Final = 0.2
ELSEWHERE: Final = 5.0
"""Seconds between two words."""


class Progress:
    """Call it with what is done, how much of it is done, and how much there is (0 = nobody knows)."""

    def __init__(self, stream: TextIO | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._now = now
        self._on_terminal = self._stream.isatty()
        self._began = now()
        self._next = self._began + BEGIN
        self._width = 0

    def __call__(self, doing: str, done: int, total: int) -> None:
        now = self._now()
        if now < self._next:
            return
        self._next = now + (ON_A_TERMINAL if self._on_terminal else ELSEWHERE)
        how_far = f"{done * 100 // total} %" if total else f"{now - self._began:.0f} s"
        self._write(f"{doing}: {how_far}")

    def _write(self, text: str) -> None:
        line = f"\r{text:<{self._width}}" if self._on_terminal else f"trio-broker: {text}\n"
        self._width = len(text)
        self._put(line)

    def end(self) -> None:
        """Leave a clean line for what is said next."""
        if self._on_terminal and self._width:
            self._put(f"\r{'':<{self._width}}\r")
            self._width = 0

    def _put(self, text: str) -> None:
        # Whoever does not want to hear of it does not keep the work from being done.
        with contextlib.suppress(OSError):
            self._stream.write(text)
            self._stream.flush()
