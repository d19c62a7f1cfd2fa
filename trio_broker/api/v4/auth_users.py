"""`/auth_username` and `/auth_clientid`: users of clients that the broker itself keeps, by name and by client id.

Invariant: a password or a hash is never in an answer; what was changed is in force for the next CONNECT, and durable.
The users are those of the built-in database that looks them up in this way. Where there is none it is as if the plugin
were not running.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import trio
from msgspec import UNSET, Struct, UnsetType

from trio_broker.access.passwords import PasswordError
from trio_broker.access.user_files import check_user_id
from trio_broker.actors.authn.user_tables import UserIdType
from trio_broker.actors.authn.users import NoAuthenticator, User, UserAuthenticator, UserExists
from trio_broker.api.context import Api
from trio_broker.api.failures import ApiError, Failure
from trio_broker.api.paging import LONG_STEP, select
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.v4.envelope import (
    EMPTY_NAME_OR_PASSWORD,
    NO_USER,
    UNKNOWN_ERROR,
    USER_EXISTS,
    Data,
    Done,
    Listed,
)
from trio_broker.api.v4.formats import UNDEFINED, echoed
from trio_broker.api.v4.paging import Paging, cut, listing, page_meta
from trio_broker.api.v4.parameters import Parameters
from trio_broker.api.v4.taken import NewClientId, NewPassword, NewUsername

routes = Routes("Authentication")

NOT_RUNNING: Final = Failure(404, "NOT_FOUND", "Not found.")
NO_NAME: Final = Failure(200, EMPTY_NAME_OR_PASSWORD.code, "login")
NO_PASSWORD: Final = Failure(200, EMPTY_NAME_OR_PASSWORD.code, "password")
BAD_NAME: Final = Failure(200, UNKNOWN_ERROR.code, "login")
BAD_PASSWORD: Final = Failure(200, UNKNOWN_ERROR.code, "password")
NO_SUCH_USER: Final = Failure(200, NO_USER.code, "noexisted")

ADDING: Final = (NOT_RUNNING, NO_NAME, BAD_NAME, NO_PASSWORD, BAD_PASSWORD, USER_EXISTS)
CHANGING: Final = (NOT_RUNNING, NO_PASSWORD, BAD_PASSWORD, NO_SUCH_USER)


class UsernameQuery(Paging, kw_only=True):
    username: str | UnsetType = UNSET
    like: str | UnsetType = msgspec.field(name="_like_username", default=UNSET)


class ClientIdQuery(Paging, kw_only=True):
    clientid: str | UnsetType = UNSET
    like: str | UnsetType = msgspec.field(name="_like_clientid", default=UNSET)


class UserRow(Struct, kw_only=True):
    """It has `username` or `clientid`. Without `created_at`: nobody knows any more."""

    username: str | UnsetType = UNSET
    clientid: str | UnsetType = UNSET
    created_at: int | UnsetType = UNSET


class NoUser(Struct):
    """Nothing at all."""


# -- by user name -------------------------------------------------------------------------------------------------


@routes.get("/auth_username", "List users by name", failures=[NOT_RUNNING])
async def list_usernames(api: Api, query: UsernameQuery) -> Reply | Listed[UserRow]:
    return await _list(api, "username", query, query.username, query.like)


@routes.get("/auth_username/:username", "Get a user", failures=[NOT_RUNNING])
async def get_username(api: Api, username: str) -> Data[UserRow] | Data[NoUser]:
    return _get(api, "username", username)


@routes.post(
    "/auth_username", "Add a user, or an array of them", failures=ADDING, takes=NewUsername | list[NewUsername]
)
async def add_username(api: Api, params: Parameters) -> Done | Data[dict[str, str]]:
    return await _add(api, "username", params)


@routes.put("/auth_username/:username", "Change the password of a user", failures=CHANGING, takes=NewPassword)
async def update_username(api: Api, username: str, params: Parameters) -> Done:
    return await _update(api, "username", username, params)


@routes.delete("/auth_username/:username", "Delete a user", failures=[NOT_RUNNING])
async def delete_username(api: Api, username: str) -> Done:
    return await _delete(api, "username", username)


# -- by client id -------------------------------------------------------------------------------------------------


@routes.get("/auth_clientid", "List users by client id", failures=[NOT_RUNNING])
async def list_client_ids(api: Api, query: ClientIdQuery) -> Reply | Listed[UserRow]:
    return await _list(api, "clientid", query, query.clientid, query.like)


@routes.get("/auth_clientid/:clientid", "Get the user of a client id", failures=[NOT_RUNNING])
async def get_client_id(api: Api, clientid: str) -> Data[UserRow] | Data[NoUser]:
    return _get(api, "clientid", clientid)


@routes.post(
    "/auth_clientid",
    "Add the user of a client id, or an array of them",
    failures=ADDING,
    takes=NewClientId | list[NewClientId],
)
async def add_client_id(api: Api, params: Parameters) -> Done | Data[dict[str, str]]:
    return await _add(api, "clientid", params)


@routes.put("/auth_clientid/:clientid", "Change the password of a client id", failures=CHANGING, takes=NewPassword)
async def update_client_id(api: Api, clientid: str, params: Parameters) -> Done:
    return await _update(api, "clientid", clientid, params)


@routes.delete("/auth_clientid/:clientid", "Delete the user of a client id", failures=[NOT_RUNNING])
async def delete_client_id(api: Api, clientid: str) -> Done:
    return await _delete(api, "clientid", clientid)


# -- both ---------------------------------------------------------------------------------------------------------


def _found(api: Api, kind: UserIdType) -> UserAuthenticator[Any]:
    found = api.questions.authn_users.looked_up_by(kind)
    if found is None:
        raise NOT_RUNNING.error()
    return found


async def _list(api: Api, kind: UserIdType, query: Paging, user_id: str | UnsetType, like: str | UnsetType) -> Reply:
    """The newest first, as far as one page goes."""
    there = _found(api, kind).users.all
    users: Sequence[User[Any]]
    if not isinstance(user_id, UnsetType):
        users = [there[user_id]] if user_id in there else []
    else:
        users = list(there.values())[::-1]
        if not isinstance(like, UnsetType):
            users = await select(users, lambda user: like in user.user_id)
    meta = page_meta(query, len(users), counted=user_id is UNSET and like is UNSET)
    page = sorted(cut(users, query), key=lambda user: user.created_at or 0, reverse=True)
    return await listing(page, lambda user: _shown(kind, user), meta)


def _get(api: Api, kind: UserIdType, user_id: str) -> Data[UserRow] | Data[NoUser]:
    user = _found(api, kind).users.all.get(user_id)
    return Data(NoUser()) if user is None else Data(_shown(kind, user))


async def _add(api: Api, kind: UserIdType, params: Parameters) -> Done | Data[dict[str, str]]:
    authenticator = _found(api, kind)
    if params.batch is not None:
        return Data(await _add_all(authenticator, kind, params.batch))
    user_id, password = _read(kind, params)
    with _told():
        await authenticator.add_user(user_id, password)
    return Done()


async def _add_all(authenticator: UserAuthenticator[Any], kind: UserIdType, batch: Sequence[Any]) -> dict[str, str]:
    """By name what became of each; of those that are there twice, of the last one."""
    results: dict[str, str] = {}
    wanted: list[tuple[str, str]] = []
    for number, item in enumerate(batch, 1):
        said = item if isinstance(item, dict) else {}
        name = echoed(said.get(kind, UNDEFINED))
        name = name if isinstance(name, str) else msgspec.json.encode(name).decode()
        try:
            wanted.append(_read(kind, said))
            results[name] = "ok"
        except ApiError as error:
            body: Any = error.body
            results[name] = f"{{error,{body['message']}}}"
        if number % LONG_STEP == 0:
            await trio.lowlevel.checkpoint()
    with _told():
        outcomes = await authenticator.add_users(wanted)
    for (name, _), outcome in zip(wanted, outcomes, strict=True):
        if outcome is not None:
            results[name] = "{error,existed}" if isinstance(outcome, UserExists) else "{error,password}"
    return results


async def _update(api: Api, kind: UserIdType, user_id: str, params: Parameters) -> Done:
    authenticator = _found(api, kind)
    password = _password(params)
    with _told():
        user = await authenticator.update_user(user_id, password)
    if user is None:
        raise NO_SUCH_USER.error()
    return Done()


async def _delete(api: Api, kind: UserIdType, user_id: str) -> Done:
    """The connections of its clients end, too."""
    await _found(api, kind).delete_user(user_id)
    return Done()


def _read(kind: UserIdType, params: Mapping[str, Any]) -> tuple[str, str]:
    """User id and password. Raises ApiError."""
    user_id = params.get(kind)
    if not isinstance(user_id, str) or not user_id:
        raise NO_NAME.error()
    try:
        check_user_id(user_id)
    except ValueError:
        raise BAD_NAME.error() from None
    return user_id, _password(params)


def _password(params: Mapping[str, Any]) -> str:
    password = params.get("password")
    if not isinstance(password, str) or not password:
        raise NO_PASSWORD.error()
    return password


@contextmanager
def _told() -> Iterator[None]:
    """Why it cannot be done, as an answer."""
    try:
        yield
    except NoAuthenticator:
        raise NOT_RUNNING.error() from None
    except UserExists:
        raise USER_EXISTS.error() from None
    except PasswordError:
        raise BAD_PASSWORD.error() from None


def _shown(kind: UserIdType, user: User[Any]) -> UserRow:
    row = UserRow(created_at=UNSET if user.created_at is None else user.created_at)
    setattr(row, kind, user.user_id)
    return row
