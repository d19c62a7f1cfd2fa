"""Keys that a web service publishes (JWKS, RFC 7517): fetched in the background, again and again.

Invariant: the last set that was good stays until there is another one; however many tokens name keys that nobody knows,
the service is asked no more than once in `LEAST_PAUSE`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import trio

from trio_broker.access.tokens import Key, key_set
from trio_broker.actors.authn.base import ResourceFigures, Status

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = ["KeySet", "KeySetFailure"]

log = logging.getLogger("trio_broker.authentication")

TIMEOUT: Final = 10.0
"""Seconds that one request may take in all."""
LEAST_PAUSE: Final = 10.0
"""Seconds from one request to the next, when a token names a key that is not in the set, or a request failed."""


class KeySetFailure(Exception):
    """The service gave no key set; the message may be shown."""


class KeySet:
    """The keys at one place. `name` is what alarms and the log call it, `fetch` gives the text of a JWKS or raises
    KeySetFailure, `refresh_interval` is in seconds.
    """

    def __init__(
        self, core: Core, name: str, place: str, fetch: Callable[[], Awaitable[bytes]], refresh_interval: float
    ) -> None:
        self.keys: tuple[Key, ...] = ()
        self.status: Status = "connecting"
        self.figures = ResourceFigures()
        self._core = core
        self._name = name
        self._place = place
        self._fetch = fetch
        self._refresh_interval = refresh_interval
        self._scope = trio.CancelScope()
        self._round = trio.Event()
        """The end of the request that is under way, or comes next."""
        self._wanted = trio.Event()
        self._asked_at = -LEAST_PAUSE
        self._fetching = False
        self._over = False

    @property
    def alarm(self) -> str:
        return f"{self._name}:key_set"

    def start(self) -> None:
        self._fetching = True
        self._core.sessions_nursery.start_soon(self._run)

    def close(self) -> None:
        """No further request; who waits for one goes on."""
        self._over = True
        self._fetching = False
        self._scope.cancel()
        self._round.set()
        self._core.alarms.deactivate(self.alarm)

    async def first(self) -> None:
        """Return when the first request has an answer, or has failed."""
        if self.status == "connecting" and not self._over:
            await self._round.wait()

    async def look_again(self) -> None:
        """A token names a key that is not there: there may be new ones. Returns when the service was asked.

        At once where that was not long ago.
        """
        now = self._core.clock.now()
        if not self._fetching:
            if self._over or now < self._asked_at + LEAST_PAUSE:
                return
            self._wanted.set()
        await self._round.wait()

    async def _run(self) -> None:
        failures = 0
        with self._scope:
            while not self._over:
                self._wanted = trio.Event()
                self._fetching = True
                failures = 0 if await self._ask() else failures + 1
                self._fetching = False
                self._asked_at = self._core.clock.now()
                self._round.set()
                self._round = trio.Event()
                pause = min(self._refresh_interval, LEAST_PAUSE * 2 ** min(failures - 1, 10)) if failures else None
                with trio.move_on_after(self._refresh_interval if pause is None else pause):
                    await self._wanted.wait()

    async def _ask(self) -> bool:
        """Is there a good set?"""
        self.figures.matched += 1
        reason = f"no answer within {TIMEOUT:g} s"
        with trio.move_on_after(TIMEOUT):
            try:
                self._succeeded(key_set(await self._fetch()))
                return True
            except (KeySetFailure, ValueError) as error:
                reason = str(error)
            except Exception as error:  # a fault of ours: what there is goes on
                log.exception("the key set of %s could not be fetched", self._name)
                reason = type(error).__name__
        self._failed(reason)
        return False

    def _succeeded(self, keys: tuple[Key, ...]) -> None:
        self.figures.success += 1
        if self.status != "connected":
            log.info("%s has %d keys from %s", self._name, len(keys), self._place)
        self.keys = keys
        self.status = "connected"
        self._core.alarms.deactivate(self.alarm)

    def _failed(self, reason: str) -> None:
        self.figures.failed += 1
        if self._over:
            return
        self.status = "disconnected"
        message = f"No keys from {self._place}: {reason}"  # the log has it, too
        self._core.alarms.activate(self.alarm, message, {"reason": reason, "endpoint": self._place})
