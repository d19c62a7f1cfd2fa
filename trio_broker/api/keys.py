"""Who may call the REST API when it opens: the bootstrap file, the file of before, the first key and user.

Invariant: what is shown here once is not kept anywhere in clear.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import msgspec
import trio
from attrs import define
from msgspec import Struct

from trio_broker.actors.api_keys import ApiKeys, GeneratedKey, Role
from trio_broker.actors.dashboard_users import DashboardUsers, GeneratedUser
from trio_broker.actors.slow_hash import SlowHash
from trio_broker.errors import ConfigError

__all__ = [
    "ApiKeys",
    "Generated",
    "GeneratedKey",
    "GeneratedUser",
    "Role",
    "open_administrators",
    "read_bootstrap_file",
]

log = logging.getLogger("trio_broker.api_keys")

FILE_NAME: Final = "api_keys.json"
"""Where the generated key was kept before the store had keys."""
BOOTSTRAP_KEY: Final = "api_key.bootstrap_file"
DATA_DIR_KEY: Final = "node.data_dir"
FIRST_KEY: Final = "generated-key"


@define(frozen=True)
class Generated:
    """What was made because there was nothing; to be shown once."""

    key: GeneratedKey | None
    user: GeneratedUser | None


class _Kept(SlowHash, kw_only=True, forbid_unknown_fields=True):
    """One key in the file of before."""

    api_key: str
    role: Role


class _File(Struct, kw_only=True, forbid_unknown_fields=True):
    keys: list[_Kept]


async def open_administrators(
    keys: ApiKeys,
    users: DashboardUsers,
    data_dir: Path | None,
    bootstrap_file: Path | None,
    *,
    new_password: bool = False,
) -> Generated:
    """Let in the keys of all files; at the first start make a key and a user, and give them to the caller to show.

    `data_dir` None: nothing is kept on disk. `new_password`: the default user's was lost. Reads files: for the start
    only. ConfigError names the file, and the line where there is one.
    """
    for api_key, (secret, role) in ({} if bootstrap_file is None else read_bootstrap_file(bootstrap_file)).items():
        keys.add(api_key, secret, role)
    if data_dir is not None:
        await _take_over(keys, data_dir / FILE_NAME)
    key = None
    if not keys.rows() and not users.rows():
        _, key = await keys.create(FIRST_KEY, desc="Made at the first start")
    return Generated(key, await users.renew() if new_password else await users.first())


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
            roles = ", ".join(Role)  # what is there instead may be half of a secret
            raise ConfigError(BOOTSTRAP_KEY, f"{path}, line {number}: unknown role, there are {roles}")
        if api_key in found:
            raise ConfigError(BOOTSTRAP_KEY, f"{path}, line {number}: key {api_key!r} is there twice")
        found[api_key] = (rest[0], Role(rest[1]) if len(rest) == 2 else Role.ADMINISTRATOR)
    return found


async def _take_over(keys: ApiKeys, path: Path) -> None:
    """The keys of the file are kept in the store from now on; once they are, the file goes."""
    kept, created_at = _read(path)
    if kept is None:
        return
    for key in kept:
        hash = SlowHash(salt=key.salt, hash=key.hash, n=key.n, r=key.r, p=key.p)
        keys.take_over(key.api_key, key.role, hash, created_at)
    await keys.durable()
    try:
        await trio.Path(path).unlink()
    except OSError as error:
        # A key that is deleted would come back from it.
        raise ConfigError(DATA_DIR_KEY, f"cannot remove {path}: {_why(error)}") from error
    log.info("%s: its keys are in the store now, the file was removed", path)


def _read(path: Path) -> tuple[list[_Kept] | None, int]:
    """Its keys (None: there is no such file), and when it was written, in seconds."""
    try:
        raw = path.read_bytes()
        created_at = int(path.stat().st_mtime)
    except FileNotFoundError:
        return None, 0
    except OSError as error:
        raise ConfigError(DATA_DIR_KEY, f"cannot read {path}: {_why(error)}") from error
    try:
        keys = msgspec.json.decode(raw, type=_File).keys
        for key in keys:
            key.check()
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(DATA_DIR_KEY, f"{path} is not a file of API keys: {error}") from error
    return keys, created_at


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else f"not UTF-8 ({error.reason})"
