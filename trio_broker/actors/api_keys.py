"""API keys: programs that may call the REST API, and in which role.

Invariant: no secret is kept, neither in the store nor in memory: the store has slow salted hashes, the memory digests
under a key of this process. What a key may do is looked up at each request, so a change holds from the next one on.
Checking one caller never holds up another whose secret is known already.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from enum import StrEnum
from itertools import chain, count
from typing import TYPE_CHECKING, Final

import msgspec
from attrs import define, evolve, field
from msgspec import Struct

from trio_broker.actors.login_guard import LoginGuard
from trio_broker.actors.slow_hash import Line, SlowHash
from trio_broker.actors.verified_secrets import VerifiedSecrets
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
NAME: Final = r"^[A-Za-z]+[A-Za-z0-9_-]*$(?!\n)"
"""What names of keys look like, where somebody may choose."""


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
    app_name: str | None = None
    """What it is called as an application of EMQX 4, where names may be anything; None: as it is called here."""
    is_chosen: bool = False
    """Somebody thought of its secret: it may be guessed, so wrong ones lock it, as they lock a user."""

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
    app_name: str | None = None
    is_chosen: bool = False


class NameTaken(TrioBrokerError):
    """There is a key of this name."""


class ApiKeyTaken(TrioBrokerError):
    """There is a key that is shown as this one would be."""


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
        self._line = Line()
        self._secrets = VerifiedSecrets(self._line)
        self._guard = LoginGuard()
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

        A secret that somebody has chosen is not looked at for a time after too many wrong ones from that `address`.
        Raises TooBusy where so many unknown secrets are checked, of this `address` or of all, that this one has to
        wait too long.
        """
        key = self._usable(api_key)
        if key is None or self._is_locked(key, address):
            return None
        known = self._secrets.known(key.name, secret)
        if known:
            return key.role
        if known is not None or key.hash is None or not await self._secrets.verify(key.name, key.hash, secret, address):
            self._was_wrong(key, address)
            return None
        now = self._usable(api_key)
        if now is None or now.hash is not key.hash:
            return None  # it was taken away meanwhile
        self._secrets.remember(key.name, secret)
        return now.role

    def is_slow(self, api_key: str, secret: str, address: str = "") -> bool:
        """Does `check` ask a slow hash about these?"""
        key = self._usable(api_key)
        if key is None or key.hash is None or self._is_locked(key, address):
            return False
        return self._secrets.known(key.name, secret) is None

    def _is_locked(self, key: ApiKey, address: str) -> bool:
        return key.is_chosen and self._guard.is_locked(_guarded(key), address, self._core.clock.now())

    def _was_wrong(self, key: ApiKey, address: str) -> None:
        if key.is_chosen:
            core = self._core
            if self._guard.failed(_guarded(key), address, core.clock.now(), core.settings.config.dashboard):
                log.warning("too many wrong secrets for the API key %s from %s: locked", key.name, address or "here")

    # -- to be managed ------------------------------------------------------------------------------------------

    def rows(self) -> list[ApiKey]:
        return list(self._keys.values())

    def get(self, name: str) -> ApiKey | None:
        return self._keys.get(name)

    def by_api_key(self, api_key: str) -> ApiKey | None:
        return self._by_api_key.get(api_key)

    def free_name(self, *wanted: str) -> str:
        """The first that no key is called by, else the last with a number behind it."""
        numbered = (f"{wanted[-1]}-{number}" for number in count(2))
        return next(name for name in chain(wanted, numbered) if name not in self._keys)

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
        api_key: str | None = None,
        api_secret: str | None = None,
        app_name: str | None = None,
        address: str = "",
    ) -> tuple[ApiKey, GeneratedKey]:
        """A new key, and its secret; both are made where they are not given. What was made is known to nobody else.

        Raises NameTaken, ApiKeyTaken, TooManyKeys, TooBusy.
        """
        self._check_new(name, api_key)
        made = GeneratedKey(api_key or secrets.token_hex(8), api_secret or secrets.token_urlsafe(32))
        async with self._line.turn(address):
            hash = await self._line.work(SlowHash.made, made.api_secret)
        self._check_new(name, api_key)  # somebody may have been faster
        key = ApiKey(name, made.api_key, role, desc, enable, self.now(), expired_at, hash, app_name)
        key = evolve(key, is_chosen=api_secret is not None)
        self._put(key)
        self._secrets.remember(name, made.api_secret)
        await self._core.durable()
        return key, made

    async def update(
        self,
        name: str,
        role: Role,
        *,
        expired_at: int | None,
        desc: str | None = None,
        enable: bool | None = None,
        app_name: str | None = None,
    ) -> ApiKey | None:
        """What is None of `desc`, `enable` and `app_name` stays. None: there is no such key."""
        key = self._keys.get(name)
        if key is None:
            return None
        key = evolve(
            key,
            role=role,
            expired_at=expired_at,
            desc=key.desc if desc is None else desc,
            enable=key.enable if enable is None else enable,
            app_name=key.app_name if app_name is None else app_name,
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
        self._secrets.forget(name)
        self._guard.forgive(_guarded(key))
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
        self._secrets.remember(name, secret)
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

    def _check_new(self, name: str, api_key: str | None) -> None:
        if name in self._keys:
            raise NameTaken(name)
        if api_key in self._by_api_key:
            raise ApiKeyTaken(api_key)
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
            app_name=key.app_name,
            is_chosen=key.is_chosen,
        )
        self._core.documents.put(DOCUMENTS, key.name, msgspec.to_builtins(body))

    def _index(self) -> None:
        """Of two keys that are called the same, the one of the file is meant."""
        self._by_api_key = {key.api_key: key for key in sorted(self._keys.values(), key=lambda key: key.hash is None)}


def _guarded(key: ApiKey) -> str:
    """What stands for it where user names stand, whatever it is called."""
    return hashlib.sha256(key.api_key.encode()).hexdigest()
