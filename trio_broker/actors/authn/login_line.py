"""Where clients wait until the slow hash of their password is computed.

Invariant: one address after the other has its turn, so that who tries passwords as fast as they come waits for
himself; no more than `longest` wait, for no longer than `PATIENCE`.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, TypeVar

import trio
from attrs import define, field

from trio_broker.actors.login_guard import place_of
from trio_broker.actors.threads import in_thread
from trio_broker.errors import TrioBrokerError

__all__ = ["LoginLine", "LoginsBusy"]

Result = TypeVar("Result")

LONGEST: Final = 256
"""Clients in all."""
PATIENCE: Final = 10.0
"""Seconds."""
MOST_THREADS: Final = 8


class LoginsBusy(TrioBrokerError):
    """Too many clients wait."""


@define(eq=False)
class _Place:
    """`called` without `has_turn`: somebody else was let in instead."""

    called: trio.Event = field(factory=trio.Event)
    has_turn: bool = False


class LoginLine:
    """The threads for slow hashes: all processors but one, which is for messages."""

    def __init__(self, threads: int | None = None, longest: int = LONGEST) -> None:
        if threads is None:
            threads = min(MOST_THREADS, max(1, (os.cpu_count() or 1) - 1))
        self._free = threads
        self._limiter = trio.CapacityLimiter(threads)
        self._longest = longest
        self._lines: OrderedDict[str, deque[_Place]] = OrderedDict()
        self._waiting = 0

    async def work(self, peer_host: str, function: Callable[..., Result], *args: object) -> Result:
        """Call it in a thread when it is the turn of this address. Raises LoginsBusy.

        Who is cancelled while the thread works waits for its end.
        """
        await self.enter(peer_host)
        try:
            return await in_thread(function, *args, limiter=self._limiter)
        finally:
            self.leave()

    async def enter(self, peer_host: str) -> None:
        """Return when it is the turn of this address; `leave` when it is over. Raises LoginsBusy."""
        network = place_of(peer_host)
        if self._free:  # then nobody waits
            self._free -= 1
            return
        if self._waiting >= self._longest:
            self._make_room(network)
        place = _Place()
        self._lines.setdefault(network, deque()).append(place)
        self._waiting += 1
        try:
            with trio.move_on_after(PATIENCE):
                await place.called.wait()
        except BaseException:
            if place.has_turn:
                self.leave()
            else:
                self._leave(network, place)
            raise
        if not place.has_turn:
            self._leave(network, place)
            raise LoginsBusy("too many clients wait for their password to be checked")

    def leave(self) -> None:
        """The next one has its turn."""
        if not self._lines:
            self._free += 1
            return
        network, line = next(iter(self._lines.items()))
        place = line.popleft()
        self._waiting -= 1
        if line:
            self._lines.move_to_end(network)
        else:
            del self._lines[network]
        place.has_turn = True
        place.called.set()

    def _make_room(self, network: str) -> None:
        """Send away whoever came last of those of whom there are most. Raises LoginsBusy where they are the same."""
        crowd, line = max(self._lines.items(), key=lambda item: len(item[1]))
        if len(self._lines.get(network, ())) + 1 >= len(line):
            raise LoginsBusy("too many clients wait for their password to be checked")
        place = line[-1]
        self._leave(crowd, place)
        place.called.set()

    def _leave(self, network: str, place: _Place) -> None:
        line = self._lines.get(network)
        if line is None or place not in line:
            return
        line.remove(place)
        self._waiting -= 1
        if not line:
            del self._lines[network]
