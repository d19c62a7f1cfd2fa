"""Secrets as they are kept: slow salted hashes, one computed at a time.

Invariant: a flood of wrong secrets costs one thread, and the wait of those who stand in the same line; nobody else. One
address after the other has its turn, so that who sends many waits for himself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Final, TypeVar

import trio
from msgspec import Meta, Struct

from trio_broker.actors.authn.login_line import LoginLine, LoginsBusy
from trio_broker.actors.threads import in_thread
from trio_broker.errors import TrioBrokerError

Result = TypeVar("Result")

COST: Final = 2**14
"""scrypt's N for new hashes: about 50 ms."""
LONGEST: Final = 64
"""Callers who wait in a line."""


class TooBusy(TrioBrokerError):
    """Too many secrets are to be checked at one time; try again."""

    def __init__(self) -> None:
        super().__init__("too many secrets are being checked")


class SlowHash(Struct, kw_only=True, forbid_unknown_fields=True):
    """scrypt over a secret, in base64 like its `salt`. Blocks for 50 ms: `made` and `verify` are for a thread."""

    salt: str
    hash: str
    n: Annotated[int, Meta(ge=2, le=2**20)] = COST
    r: Annotated[int, Meta(ge=1, le=32)] = 8
    p: Annotated[int, Meta(ge=1, le=16)] = 1

    @classmethod
    def made(cls, secret: str) -> SlowHash:
        """A new hash with a salt of its own."""
        salt = secrets.token_bytes(16)
        made = cls(salt=base64.b64encode(salt).decode(), hash="", n=COST)
        made.hash = base64.b64encode(made._of(secret, salt)).decode()
        return made

    def verify(self, secret: str) -> bool:
        is_equal = hmac.compare_digest(self._of(secret, base64.b64decode(self.salt)), base64.b64decode(self.hash))
        # HMAC, below scrypt, fills short keys up with NUL.
        return is_equal and not secret.endswith("\0")

    def check(self) -> None:
        """Raises ValueError where it cannot be verified against."""
        base64.b64decode(self.salt, validate=True)
        base64.b64decode(self.hash, validate=True)

    def _of(self, secret: str, salt: bytes) -> bytes:
        memory = 128 * self.n * self.r * self.p + 2**20
        raw = secret.encode("utf-8", "surrogatepass")
        return hashlib.scrypt(raw, salt=salt, n=self.n, r=self.r, p=self.p, maxmem=memory, dklen=32)

    def __repr__(self) -> str:
        return "SlowHash(...)"


class Line:
    """Callers stand in it for a slow hash.

    async with line.turn(address):
        await line.work(stored.verify, secret)
    """

    def __init__(self) -> None:
        self._line = LoginLine(threads=1, longest=LONGEST)
        self._thread = trio.CapacityLimiter(1)

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Until the block ends nobody else has theirs. Raises TooBusy when it is too long, or does not move."""
        try:
            await self._line.enter(address)
        except LoginsBusy:
            raise TooBusy from None
        try:
            yield
        finally:
            self._line.leave()

    async def work(self, function: Callable[[str], Result], secret: str) -> Result:
        """In a thread. Who is cancelled meanwhile waits for its end: 50 ms."""
        return await in_thread(function, secret, limiter=self._thread)
