"""Clients that come and go too often are kept out for a while (EMQX: flapping detect).

Invariant: who was not let in is not counted, so nobody can have another banned without being let in under its
identifier; what is remembered is bounded, whoever comes, and nothing is while the detection is off.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from attrs import define

from trio_broker.actors.banned import Ban
from trio_broker.config.zone import FlappingDetectConfig

if TYPE_CHECKING:
    from trio_broker.actors.core import Core
    from trio_broker.actors.timers import Timer

log = logging.getLogger("trio_broker.flapping")

BY: Final = "flapping detector"
MAX_TRACKED: Final = 50_000
"""Client identifiers whose ends are counted at one time; for one more the oldest count is forgotten."""
MAX_BANS: Final = 10_000
"""With so many bans in force none is added here: a crowd under ever new identifiers must not fill the store."""
STRIDE: Final = 1000
"""Counts that are forgotten before others have their turn."""


@define
class _Window:
    """The ends of one client since the first of them, a Trio time."""

    began: float
    count: int = 0


class Flapping:
    """Told of each end of a connection while `enabled`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        # By the hash of the identifier, which may be long; it is salted, so nobody can make two of them alike.
        self._windows: OrderedDict[int, _Window] = OrderedDict()
        self._sweeping: Timer | None = None
        self.use(core.settings.config.flapping_detect)

    def use(self, config: FlappingDetectConfig) -> None:
        """Go by these settings from now on; what was counted under others is forgotten."""
        self._config = config
        self.enabled = config.enable
        self._windows.clear()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    @property
    def tracked(self) -> int:
        """Client identifiers whose ends are counted now."""
        return len(self._windows)

    def disconnected(self, client_id: str, peer_host: str) -> None:
        """A client that was let in is gone, whoever ended it: itself, the network, a takeover, an administrator."""
        now = self._core.clock.now()
        key = hash(client_id)
        window = self._windows.get(key)
        if window is None or now - window.began >= self._config.window_time:
            self._windows.pop(key, None)  # a new one goes to the end: they stay in the order of their beginnings
            window = self._windows[key] = _Window(now)
            if len(self._windows) > MAX_TRACKED:
                self._windows.popitem(last=False)
            if self._sweeping is None:
                self._sweep_at(now + self._config.window_time)
        window.count += 1
        if window.count >= self._config.max_count:
            del self._windows[key]
            self._ban(client_id, peer_host, window.count, now - window.began)

    def _ban(self, client_id: str, peer_host: str, count: int, seconds: float) -> None:
        banned = self._core.banned
        if len(banned.all) >= MAX_BANS:
            log.warning("client %r comes and goes, and is not banned: %d bans are in force", client_id, MAX_BANS)
            return
        at = banned.now()
        until = at + math.ceil(self._config.ban_time)
        reason = f"flapping is detected: disconnected {count} times in {seconds:.3g} s, the last time from {peer_host}"
        banned.note(Ban("clientid", client_id, BY, reason, at, until))

    def _sweep_at(self, deadline: float) -> None:
        self._sweeping = self._core.timers.at(deadline, self._sweep)

    def _sweep(self) -> None:
        """Forget the windows that are over. Nobody wakes up while there is none."""
        self._sweeping = None
        now, length = self._core.clock.now(), self._config.window_time
        for _ in range(STRIDE):
            if not self._windows:
                return
            oldest = next(iter(self._windows.values()))
            if now - oldest.began < length:
                # Not for each of them on its own: those that end soon after are forgotten together.
                self._sweep_at(now + length)
                return
            self._windows.popitem(last=False)
        self._sweep_at(now)
