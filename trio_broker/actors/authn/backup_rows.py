"""Users in data backup: their rows as plain values, checked when they come back.

Invariant: hashes and keys go as they are, passwords are not known; users that are there already are replaced, nobody is
deleted, and nobody is thrown out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import trio
from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.access.passwords import PasswordHash
from trio_broker.access.scram import ScramKeys
from trio_broker.access.user_files import check_user_id
from trio_broker.actors.authn.user_tables import PASSWORDS
from trio_broker.actors.authn.users import STRIDE, User

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

Text = Annotated[str, Meta(max_length=65535)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**53)]


class PasswordRow(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """As a file to be imported has it; `user_table` is that of a second built-in database."""

    user_id: str
    password_hash: Text
    salt: Text
    is_superuser: bool
    created_at: Milliseconds | UnsetType = UNSET
    user_table: Literal["username", "clientid"] | UnsetType = UNSET


class ScramRow(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Salt and keys in base64."""

    user_id: str
    salt: Text
    stored_key: Text
    server_key: Text
    iterations: Annotated[int, Meta(ge=1, le=10_000_000)]
    is_superuser: bool
    created_at: Milliseconds | UnsetType = UNSET


def password_users(core: Core) -> Iterator[Any]:
    for authenticator_id, users in core.authn_users.tables.items():
        table: Any = authenticator_id.removeprefix(PASSWORDS)[1:] or UNSET
        for user in list(users.all.values()):
            secret, made = user.secret, _made(user)
            yield msgspec.to_builtins(
                PasswordRow(user.user_id, secret.hash, secret.salt, user.is_superuser, made, table)
            )


def read_password_user(row: bytes) -> PasswordRow:
    found = msgspec.json.decode(row, type=PasswordRow)
    check_user_id(found.user_id)
    return found


async def take_password_users(core: Core, rows: Sequence[PasswordRow]) -> None:
    """Each goes into its table, whether there is such an authenticator or not."""
    users: dict[str, list[User[PasswordHash]]] = {}
    for number, row in enumerate(rows, 1):
        users.setdefault(_authenticator_of(row), []).append(_user(row))
        if number % STRIDE == 0:
            await trio.lowlevel.checkpoint()
    for authenticator_id, of_one in users.items():
        await core.authn_users.tables[authenticator_id].put_all(of_one)
    await core.durable()


def _user(row: PasswordRow) -> User[PasswordHash]:
    secret = PasswordHash(row.password_hash, row.salt)
    return User(row.user_id, secret, row.is_superuser, _moment(row.created_at))


def _authenticator_of(row: PasswordRow) -> str:
    return PASSWORDS if row.user_table is UNSET else f"{PASSWORDS}:{row.user_table}"


def scram_users(core: Core) -> Iterator[Any]:
    for user in list(core.authn_users.scram.all.values()):
        salt, stored_key, server_key, iterations = user.secret.kept()
        row = ScramRow(user.user_id, salt, stored_key, server_key, iterations, user.is_superuser, _made(user))
        yield msgspec.to_builtins(row)


def read_scram_user(row: bytes) -> User[ScramKeys]:
    found = msgspec.json.decode(row, type=ScramRow)
    keys = ScramKeys.read(found.salt, found.stored_key, found.server_key, found.iterations)
    return User(check_user_id(found.user_id), keys, found.is_superuser, _moment(found.created_at))


async def take_scram_users(core: Core, users: Sequence[User[ScramKeys]]) -> None:
    await core.authn_users.scram.put_all(users)
    await core.durable()


def _made(user: User[Any]) -> int | UnsetType:
    return UNSET if user.created_at is None else user.created_at


def _moment(created_at: int | UnsetType) -> int | None:
    return None if isinstance(created_at, UnsetType) else created_at
