"""Secrets that were right once: whoever comes with one again is not asked the slow way.

Invariant: only digests under a key of this process are kept. A secret that differs from a verified one is wrong,
without a second slow hash; those who come with one secret at one time wait for one answer.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final

import trio
from attrs import define, field

from trio_broker.actors.slow_hash import Line, SlowHash

__all__ = ["VerifiedSecrets"]

_BYTES: Final = 32


@define(eq=False)
class _Check:
    """A secret that is being checked; without an answer at the end, where who asked has gone."""

    done: trio.Event = field(factory=trio.Event)
    is_right: bool | None = None


class VerifiedSecrets:
    """By the name of what they are the secret of; `line`: where callers stand for a slow hash."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._verified: dict[str, bytes] = {}
        self._checks: dict[tuple[str, bytes], _Check] = {}
        self._digest_key = secrets.token_bytes(_BYTES)

    def remember(self, name: str, secret: str) -> None:
        self._verified[name] = self._digest(secret)

    def forget(self, name: str) -> None:
        self._verified.pop(name, None)

    def known(self, name: str, secret: str) -> bool | None:
        """Is it the one that was right? None: none was yet."""
        known = self._verified.get(name)
        return None if known is None else hmac.compare_digest(known, self._digest(secret))

    async def verify(self, name: str, hash: SlowHash, secret: str, address: str) -> bool:
        """Raises TooBusy. What is right is not remembered by itself: it may be void by now."""
        place = name, self._digest(secret)
        while (other := self._checks.get(place)) is not None:
            await other.done.wait()
            if other.is_right is not None:
                return other.is_right
        mine = self._checks[place] = _Check()
        try:
            async with self._line.turn(address):
                mine.is_right = self.known(name, secret)
                if mine.is_right is None:
                    mine.is_right = await self._line.work(hash.verify, secret)
        finally:
            del self._checks[place]
            mine.done.set()
        return mine.is_right

    def _digest(self, secret: str) -> bytes:
        return hmac.digest(self._digest_key, secret.encode("utf-8", "surrogatepass"), "sha256")
