"""API keys: who may call the REST API, and in which role.

Invariant: no secret is kept, neither on disk nor in memory; the file has slow salted hashes, the memory digests under
a key of this process. Checking one caller never holds up another whose secret is known already.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import msgspec
import trio
from attrs import define, field
from msgspec import Meta, Struct

from trio_broker.errors import ConfigError

FILE_NAME: Final = "api_keys.json"
BOOTSTRAP_KEY: Final = "api_key.bootstrap_file"
DATA_DIR_KEY: Final = "node.data_dir"


class Role(StrEnum):
    """`viewer` may GET, `publisher` may publish, `administrator` may do everything."""

    ADMINISTRATOR = "administrator"
    VIEWER = "viewer"
    PUBLISHER = "publisher"


@define(frozen=True)
class GeneratedKey:
    """A key that was just made; its secret is known only here, to be shown once."""

    api_key: str
    api_secret: str


class _Stored(Struct, kw_only=True, forbid_unknown_fields=True):
    """One key in the file. `hash` is scrypt over the secret, in base64 like `salt`."""

    api_key: str
    role: Role
    salt: str
    hash: str
    n: Annotated[int, Meta(ge=2, le=2**20)] = 2**14
    r: Annotated[int, Meta(ge=1, le=32)] = 8
    p: Annotated[int, Meta(ge=1, le=16)] = 1

    def verify(self, secret: str) -> bool:
        """Slow on purpose: about 50 ms."""
        return hmac.compare_digest(_scrypt(secret, base64.b64decode(self.salt), self), base64.b64decode(self.hash))


class _File(Struct, kw_only=True, forbid_unknown_fields=True):
    keys: list[_Stored]


@define
class ApiKeys:
    """All keys of this process. `check` is what the API asks."""

    _stored: dict[str, _Stored] = field(factory=dict)
    _roles: dict[str, Role] = field(factory=dict, init=False)
    _verified: dict[str, bytes] = field(factory=dict, init=False)
    _digest_key: bytes = field(factory=lambda: secrets.token_bytes(32), init=False, repr=False)
    _hashing: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(1), init=False)
    """One slow hash at a time: a flood of wrong secrets costs one thread, not the machine."""

    def add(self, api_key: str, secret: str, role: Role) -> None:
        """Let in a key whose secret is known now; only a digest of the secret is kept."""
        self._roles[api_key] = role
        self._verified[api_key] = self._digest(secret)

    async def check(self, api_key: str, secret: str) -> Role | None:
        """The role of the key; None when there is no such key or the secret is wrong."""
        digest = self._digest(secret)
        known = self._verified.get(api_key)
        if known is not None and hmac.compare_digest(known, digest):
            return self._roles[api_key]
        stored = self._stored.get(api_key)
        # A secret that differs from the verified one is wrong: no second slow hash for it.
        if stored is None or known is not None:
            return None
        if not await trio.to_thread.run_sync(stored.verify, secret, limiter=self._hashing):
            return None
        self._roles[api_key] = stored.role
        self._verified[api_key] = digest
        return stored.role

    def _digest(self, secret: str) -> bytes:
        return hmac.digest(self._digest_key, secret.encode("utf-8", "surrogatepass"), "sha256")


def load_keys(data_dir: Path | None, bootstrap_file: Path | None) -> tuple[ApiKeys, GeneratedKey | None]:
    """Read all keys; where there is none, make one for an administrator and give it to the caller to show.

    The generated key is stored (hashed) in `data_dir`; with None it lasts as long as the process. Reads and writes
    files and may take 50 ms: for the start only. ConfigError names the file, and the line where there is one.
    """
    bootstrap = {} if bootstrap_file is None else read_bootstrap_file(bootstrap_file)
    path = None if data_dir is None else data_dir / FILE_NAME
    stored = {} if path is None else _read(path)
    keys = ApiKeys(stored)
    for api_key, (secret, role) in bootstrap.items():
        keys.add(api_key, secret, role)
    if stored or bootstrap:
        return keys, None
    generated = GeneratedKey(secrets.token_hex(8), secrets.token_urlsafe(32))
    keys.add(generated.api_key, generated.api_secret, Role.ADMINISTRATOR)
    if path is not None:
        _write(path, [_hashed(generated.api_key, generated.api_secret, Role.ADMINISTRATOR)])
    return keys, generated


def read_bootstrap_file(path: Path) -> dict[str, tuple[str, Role]]:
    """Secret and role by key, from lines `key:secret[:role]`; blank lines and `#` comments do not count."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(BOOTSTRAP_KEY, f"cannot read {path}: {_why(error)}") from error
    found: dict[str, tuple[str, Role]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        api_key, *rest = line.strip().split(":")
        if not api_key or len(rest) not in (1, 2) or not rest[0]:
            raise ConfigError(BOOTSTRAP_KEY, f"{path}, line {number}: not of the form key:secret or key:secret:role")
        if len(rest) == 2 and rest[1] not in list(Role):
            roles = ", ".join(Role)
            raise ConfigError(BOOTSTRAP_KEY, f"{path}, line {number}: unknown role {rest[1]!r}, there are {roles}")
        if api_key in found:
            raise ConfigError(BOOTSTRAP_KEY, f"{path}, line {number}: key {api_key!r} is there twice")
        found[api_key] = (rest[0], Role(rest[1]) if len(rest) == 2 else Role.ADMINISTRATOR)
    return found


def _read(path: Path) -> dict[str, _Stored]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(DATA_DIR_KEY, f"cannot read {path}: {_why(error)}") from error
    try:
        keys = msgspec.json.decode(raw, type=_File).keys
        for key in keys:
            base64.b64decode(key.salt, validate=True)
            base64.b64decode(key.hash, validate=True)
    except (msgspec.MsgspecError, UnicodeDecodeError, binascii.Error) as error:
        raise ConfigError(DATA_DIR_KEY, f"{path} is not a file of API keys: {error}") from error
    return {key.api_key: key for key in keys}


def _write(path: Path, keys: list[_Stored]) -> None:
    """Replace the file in one step; only its owner may read it."""
    draft = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(_File(keys=keys)), indent=2))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise ConfigError(DATA_DIR_KEY, f"cannot write {path}: {_why(error)}") from error


def _hashed(api_key: str, secret: str, role: Role) -> _Stored:
    salt = secrets.token_bytes(16)
    stored = _Stored(api_key=api_key, role=role, salt=base64.b64encode(salt).decode(), hash="")
    stored.hash = base64.b64encode(_scrypt(secret, salt, stored)).decode()
    return stored


def _scrypt(secret: str, salt: bytes, cost: _Stored) -> bytes:
    memory = 128 * cost.n * cost.r * cost.p + 2**20
    raw = secret.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(raw, salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=memory, dklen=32)


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else f"not UTF-8 ({error.reason})"
