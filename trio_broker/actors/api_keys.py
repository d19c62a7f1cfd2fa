"""API keys: programs that may call the REST API, and in which role.

Invariant: no secret is kept, neither in the store nor in memory: the store has slow salted hashes, the memory digests
under a key of this process. What a key may do is looked up at each request, so a change holds from the next one on.
Checking one caller never holds up another whose secret is known already.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Final

import msgspec
import trio
from attrs import define, evolve, field
from msgspec import Struct

from trio_broker.actors.slow_hash import Line, SlowHash
from trio_broker.errors import TrioBrokerError

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

log = logging.getLogger("trio_broker.api_keys")

DOCUMENTS: Final = "api_key"
"""The kind of the documents; the key is the name."""
MOST: Final = 100
"""Keys, beside those of the bootstrap file."""
OF_FILE: Final = "from_bootstrap_file_"
"""What names of keys in the bootstrap file begin with."""


class Role(StrEnum):
    """`viewer` may GET, `publisher` may publish, `administrator` may do everything."""

    ADMINISTRATOR = "administrator"
    VIEWER = "viewer"
    PUBLISHER = "publisher"


@define(frozen=True)
class GeneratedKey:
    """A key that was just made; its secret is known only here, to be shown once."""

    api_key: str
    api_secret: str = field(repr=False)


@define(frozen=True)
class ApiKey:
    """Times in seconds of the wall clock; `expired_at` None: never."""

    name: str
    api_key: str
    role: Role
    desc: str = ""
    enable: bool = True
    created_at: int = 0
    expired_at: int | None = None
    hash: SlowHash | None = field(default=None, repr=False)
    """None: the key is of the bootstrap file, which has its secret."""

    def is_expired(self, now: int) -> bool:
        return self.expired_at is not None and self.expired_at <= now


class _Body(Struct, kw_only=True, forbid_unknown_fields=True):
    """A document. Without `hash` it is what was changed of a key of the bootstrap file."""

    api_key: str
    role: Role
    desc: str
    enable: bool
    created_at: int
    expired_at: int | None
    hash: SlowHash | None


@define(eq=False)
class _Check:
    """A secret that is being checked; without an answer at the end, where who asked has gone."""

    done: trio.Event = field(factory=trio.Event)
    is_right: bool | None = None


class NameTaken(TrioBrokerError):
    """There is a key of this name."""


class TooManyKeys(TrioBrokerError):
    """No more can be made."""


class KeyOfFile(TrioBrokerError):
    """It would come back with the next start: it stands in the bootstrap file."""


class ApiKeys:
    """All keys of this broker, by name. What changes one returns when that is durable."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._keys: dict[str, ApiKey] = {}
        self._by_api_key: dict[str, ApiKey] = {}
        self._of_file: dict[str, _Body] = {}
        self._verified: dict[str, bytes] = {}
        self._checks: dict[tuple[str, bytes], _Check] = {}
        self._digest_key = secrets.token_bytes(32)
        self._line = Line()
        for name, document in core.documents.of(DOCUMENTS).items():
            try:
                body = msgspec.convert(document, _Body)
                if body.hash is None:
                    self._of_file[name] = body
                    continue
                body.hash.check()
            except (msgspec.ValidationError, ValueError) as error:
                log.error("the API key %r in the store is left out: %s", name, error)
                continue
            self._keys[name] = ApiKey(name, **msgspec.structs.asdict(body))
        self._index()

    # -- at a request -------------------------------------------------------------------------------------------

    async def check(self, api_key: str, secret: str, address: str = "") -> Role | None:
        """The role of the key; None when there is no such key, it is not to be used, or the secret is wrong.

        Raises TooBusy where so many unknown secrets are checked, of this `address` or of all, that this one has to
        wait too long.
        """
        key = self._usable(api_key)
        if key is None:
            return None
        digest = self._digest(secret)
        known = self._verified.get(key.name)
        # A secret that differs from the verified one is wrong: no second slow hash for it.
        if known is not None or key.hash is None:
            return key.role if known is not None and hmac.compare_digest(known, digest) else None
        if not await self._is_right(key, key.hash, secret, digest, address):
            return None
        now = self._usable(api_key)
        if now is None or now.hash is not key.hash:
            return None  # it was taken away meanwhile
        self._verified[key.name] = digest
        return now.role

    async def _is_right(self, key: ApiKey, hash: SlowHash, secret: str, digest: bytes, address: str) -> bool:
        """Those who come with one secret at one time wait for one answer: after a start a program may send many."""
        place = key.name, digest
        while (other := self._checks.get(place)) is not None:
            await other.done.wait()
            if other.is_right is not None:
                return other.is_right
        mine = self._checks[place] = _Check()
        try:
            async with self._line.turn(address):
                known = self._verified.get(key.name)
                if known is None:
                    mine.is_right = await self._line.work(hash.verify, secret)
                else:
                    mine.is_right = hmac.compare_digest(known, digest)
        finally:
            del self._checks[place]
            mine.done.set()
        return mine.is_right

    # -- to be managed ------------------------------------------------------------------------------------------

    def rows(self) -> list[ApiKey]:
        return list(self._keys.values())

    def get(self, name: str) -> ApiKey | None:
        return self._keys.get(name)

    def now(self) -> int:
        """The wall clock in seconds."""
        clock = self._core.clock
        return clock.wall_ms(clock.now()) // 1000

    async def create(
        self,
        name: str,
        role: Role = Role.ADMINISTRATOR,
        *,
        desc: str = "",
        enable: bool = True,
        expired_at: int | None = None,
        address: str = "",
    ) -> tuple[ApiKey, GeneratedKey]:
        """A new key, and its secret, which is known to nobody else. Raises NameTaken, TooManyKeys, TooBusy."""
        self._check_new(name)
        made = GeneratedKey(secrets.token_hex(8), secrets.token_urlsafe(32))
        async with self._line.turn(address):
            hash = await self._line.work(SlowHash.made, made.api_secret)
        self._check_new(name)  # somebody may have been faster
        key = ApiKey(name, made.api_key, role, desc, enable, self.now(), expired_at, hash)
        self._put(key)
        self._verified[name] = self._digest(made.api_secret)
        await self._core.durable()
        return key, made

    async def update(
        self, name: str, role: Role, *, expired_at: int | None, desc: str | None = None, enable: bool | None = None
    ) -> ApiKey | None:
        """What is None of `desc` and `enable` stays. None: there is no such key."""
        key = self._keys.get(name)
        if key is None:
            return None
        key = evolve(
            key,
            role=role,
            expired_at=expired_at,
            desc=key.desc if desc is None else desc,
            enable=key.enable if enable is None else enable,
        )
        self._put(key)
        await self._core.durable()
        return key

    async def delete(self, name: str) -> bool:
        """False when there is none. Raises KeyOfFile."""
        key = self._keys.get(name)
        if key is None:
            return False
        if key.hash is None:
            raise KeyOfFile(name)
        del self._keys[name]
        self._verified.pop(name, None)
        self._index()
        self._core.documents.delete(DOCUMENTS, name)
        await self._core.durable()
        return True

    # -- at the start -------------------------------------------------------------------------------------------

    def add(self, api_key: str, secret: str, role: Role) -> None:
        """Let in a key of the bootstrap file, as it was changed over REST since; its secret stays in the file."""
        name = OF_FILE + hashlib.sha512(api_key.encode()).hexdigest()[:16]
        key = ApiKey(name, api_key, role, "Bootstrapped From File", created_at=self.now())
        changed = self._of_file.get(name)
        if changed is not None and changed.api_key == api_key:
            key = ApiKey(name, **msgspec.structs.asdict(changed))
        self._keys[name] = key
        self._verified[name] = self._digest(secret)
        self._by_api_key[api_key] = key

    def take_over(self, api_key: str, role: Role, hash: SlowHash, created_at: int) -> None:
        """A key that was kept elsewhere before, if it is not here already. Wait until that is durable."""
        if api_key in self._by_api_key:
            return
        names = ("generated-key" if number == 1 else f"generated-key-{number}" for number in count(1))
        name = next(name for name in names if name not in self._keys)
        self._put(ApiKey(name, api_key, role, "Made at the first start", created_at=created_at, hash=hash))

    async def durable(self) -> None:
        """Return when what was taken over is. Raises AskTimeout."""
        await self._core.durable()

    # -- inside -------------------------------------------------------------------------------------------------

    def _usable(self, api_key: str) -> ApiKey | None:
        key = self._by_api_key.get(api_key)
        return key if key is not None and key.enable and not key.is_expired(self.now()) else None

    def _check_new(self, name: str) -> None:
        if name in self._keys:
            raise NameTaken(name)
        if sum(key.hash is not None for key in self._keys.values()) >= MOST:
            raise TooManyKeys(name)

    def _put(self, key: ApiKey) -> None:
        self._keys[key.name] = key
        self._index()
        body = _Body(
            api_key=key.api_key,
            role=key.role,
            desc=key.desc,
            enable=key.enable,
            created_at=key.created_at,
            expired_at=key.expired_at,
            hash=key.hash,
        )
        self._core.documents.put(DOCUMENTS, key.name, msgspec.to_builtins(body))

    def _index(self) -> None:
        """Of two keys that are called the same, the one of the file is meant."""
        self._by_api_key = {key.api_key: key for key in sorted(self._keys.values(), key=lambda key: key.hash is None)}

    def _digest(self, secret: str) -> bytes:
        return hmac.digest(self._digest_key, secret.encode("utf-8", "surrogatepass"), "sha256")
