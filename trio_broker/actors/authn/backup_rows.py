"""Users in data backup: their rows as plain values, checked when they come back.

Invariant: hashes and keys go as they are, passwords are not known; users that are there already are replaced, nobody is
deleted, and nobody is thrown out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from trio_broker.access.passwords import PasswordHash
from trio_broker.access.scram import ScramKeys
from trio_broker.access.user_files import check_user_id
from trio_broker.actors.authn.users import User

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

Text = Annotated[str, Meta(max_length=65535)]


class PasswordRow(Struct, forbid_unknown_fields=True):
    """As a file to be imported has it."""

    user_id: str
    password_hash: Text
    salt: Text
    is_superuser: bool


class ScramRow(Struct, forbid_unknown_fields=True):
    """Salt and keys in base64."""

    user_id: str
    salt: Text
    stored_key: Text
    server_key: Text
    iterations: Annotated[int, Meta(ge=1, le=10_000_000)]
    is_superuser: bool


def password_users(core: Core) -> Iterator[Any]:
    for user in list(core.authn_users.passwords.all.values()):
        yield msgspec.to_builtins(PasswordRow(user.user_id, user.secret.hash, user.secret.salt, user.is_superuser))


def read_password_user(row: bytes) -> User[PasswordHash]:
    found = msgspec.json.decode(row, type=PasswordRow)
    return User(check_user_id(found.user_id), PasswordHash(found.password_hash, found.salt), found.is_superuser)


async def take_password_users(core: Core, users: Sequence[User[PasswordHash]]) -> None:
    await core.authn_users.passwords.put_all(users)
    await core.durable()


def scram_users(core: Core) -> Iterator[Any]:
    for user in list(core.authn_users.scram.all.values()):
        salt, stored_key, server_key, iterations = user.secret.kept()
        row = ScramRow(user.user_id, salt, stored_key, server_key, iterations, user.is_superuser)
        yield msgspec.to_builtins(row)


def read_scram_user(row: bytes) -> User[ScramKeys]:
    found = msgspec.json.decode(row, type=ScramRow)
    keys = ScramKeys.read(found.salt, found.stored_key, found.server_key, found.iterations)
    return User(check_user_id(found.user_id), keys, found.is_superuser)


async def take_scram_users(core: Core, users: Sequence[User[ScramKeys]]) -> None:
    await core.authn_users.scram.put_all(users)
    await core.durable()
