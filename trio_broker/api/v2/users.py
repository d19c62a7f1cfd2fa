"""`/users`, `/auth` and `/change_pwd`: people who may use this API.

Invariant: a password is never in an answer. Who is not let in is told the same, whatever was wrong.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct

from trio_broker.actors.dashboard_users import (
    DashboardUser,
    LastAdministrator,
    LoginLocked,
    UserError,
    WrongPassword,
)
from trio_broker.api.context import Api, Caller
from trio_broker.api.failures import BUSY
from trio_broker.api.routes import EVERYBODY, VIEWERS, Routes
from trio_broker.api.tags import retag, role_of, tags_of
from trio_broker.api.v2.envelope import (
    ADMIN_STAYS,
    EMPTY_NAME_OR_PASSWORD,
    MISSING_PARAMETER,
    NO_USER,
    UNKNOWN_ERROR,
    USER_EXISTS,
    WRONG_OLD_PASSWORD,
    WRONG_PASSWORD,
    WRONG_TYPE,
    Result,
)

routes = Routes("Users")

TOO_MANY: Final = "Too many wrong passwords, try again later"
LONGEST: Final = 1024
"""Characters of a text."""

Text = Annotated[str, Meta(max_length=LONGEST)]
# Of the two spellings of a field one is looked at, so its type cannot be checked before it is known which.
Either = Annotated[Any, Meta(extra_json_schema={"type": "string", "maxLength": LONGEST})]
Nothing = list[None]


class Credentials(Struct, kw_only=True):
    username: Text
    password: Text


class NewUser(Credentials, kw_only=True):
    tags: Text


class Tags(Struct, kw_only=True):
    tags: Text


class Passwords(Struct, kw_only=True):
    """`password` and `oldpassword` are the names of EMQ 2's document, the others those of its releases."""

    new_pwd: Either = UNSET
    old_pwd: Either = UNSET
    password: Either = UNSET
    oldpassword: Either = UNSET


class User(Struct, kw_only=True):
    username: str
    tags: str


@routes.get("/users", "List dashboard users")
async def list_users(api: Api) -> Result[list[User]]:
    return Result([_shown(user) for user in api.questions.dashboard_users.rows()])


@routes.get("/users/:username", "Get a dashboard user; an empty list where there is none")
async def user_by_name(api: Api, username: str) -> Result[User | Nothing]:
    user = api.questions.dashboard_users.get(username)
    return Result([] if user is None else _shown(user))


@routes.post(
    "/users",
    "Create a dashboard user; one with the tag `viewer` may only look",
    failures=[EMPTY_NAME_OR_PASSWORD, USER_EXISTS, UNKNOWN_ERROR, BUSY],
)
async def create_user(api: Api, body: NewUser, caller: Caller) -> Result[Nothing]:
    _check_filled(body.username, body.password)
    users = api.questions.dashboard_users
    try:
        await users.create(
            body.username, body.password, role_of(body.tags), body.tags, address=caller.address, plain=True
        )
    except UserError as error:
        if users.get(body.username) is not None:
            raise USER_EXISTS.error() from None
        raise UNKNOWN_ERROR.error(str(error)) from None
    return Result([])


@routes.put("/users/:username", "Change the tags of a dashboard user", failures=[NO_USER, ADMIN_STAYS])
async def change_user(api: Api, username: str, body: Tags) -> Result[Nothing]:
    try:
        user = await retag(api.questions.dashboard_users, username, body.tags)
    except LastAdministrator as error:
        raise ADMIN_STAYS.error(str(error)) from None
    if user is None:
        raise NO_USER.error()
    return Result([])


@routes.delete("/users/:username", "Delete a dashboard user", failures=[ADMIN_STAYS, NO_USER])
async def delete_user(api: Api, username: str) -> Result[Nothing]:
    users = api.questions.dashboard_users
    if username == users.config.default_username:
        raise ADMIN_STAYS.error(f"{username} cannot be deleted")
    try:
        is_gone = await users.delete(username)
    except LastAdministrator as error:
        raise ADMIN_STAYS.error(str(error)) from None
    if not is_gone:
        raise NO_USER.error()
    return Result([])


@routes.post(
    "/auth",
    "Check the name and the password of a dashboard user",
    access=EVERYBODY,
    failures=[EMPTY_NAME_OR_PASSWORD, WRONG_PASSWORD, BUSY],
)
async def authenticate(api: Api, body: Credentials, caller: Caller) -> Result[Nothing]:
    _check_filled(body.username, body.password)
    try:
        await api.questions.dashboard_users.log_in(body.username, body.password, caller.address)
    except WrongPassword:
        raise WRONG_PASSWORD.error() from None
    except LoginLocked:
        raise WRONG_PASSWORD.error(TOO_MANY) from None
    return Result([])


@routes.put(
    "/change_pwd/:username",
    "Change a password; a viewer's own only",
    access=VIEWERS,
    own="username",
    failures=[EMPTY_NAME_OR_PASSWORD, NO_USER, WRONG_OLD_PASSWORD, UNKNOWN_ERROR, BUSY],
)
async def change_password(api: Api, username: str, body: Passwords, caller: Caller) -> Result[Nothing]:
    old, new = _passwords(body)
    _check_filled(old, new)
    users = api.questions.dashboard_users
    if users.get(username) is None:
        raise NO_USER.error()
    try:
        await users.change_password(username, old, new, caller.address, plain=True)
    except UserError as error:
        raise UNKNOWN_ERROR.error(str(error)) from None
    except WrongPassword:
        raise WRONG_OLD_PASSWORD.error() from None
    except LoginLocked:
        raise WRONG_OLD_PASSWORD.error(TOO_MANY) from None
    return Result([])


def _shown(user: DashboardUser) -> User:
    return User(username=user.username, tags=tags_of(user))


def _check_filled(*texts: str) -> None:
    if not all(texts):
        raise EMPTY_NAME_OR_PASSWORD.error()


def _passwords(body: Passwords) -> tuple[str, str]:
    """The old one and the new one."""
    old = body.oldpassword if body.old_pwd is UNSET else body.old_pwd
    new = body.password if body.new_pwd is UNSET else body.new_pwd
    if old is UNSET or new is UNSET:
        raise MISSING_PARAMETER.error()
    if not all(isinstance(text, str) and len(text) <= LONGEST for text in (old, new)):
        raise WRONG_TYPE.error()
    return old, new
