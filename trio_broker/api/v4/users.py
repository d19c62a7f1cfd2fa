"""`/users`, `/auth` and `/change_pwd`: people who may use this API. No application will do here.

Invariant: a password is never in an answer. Who is not let in is told the same, whatever was wrong.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from trio_broker.actors.dashboard_users import LastAdministrator, LoginLocked, UserError, WrongPassword
from trio_broker.api.context import Api, Caller
from trio_broker.api.failures import BUSY
from trio_broker.api.routes import EVERYBODY, VIEWERS, Routes
from trio_broker.api.tags import retag, role_of, tags_of
from trio_broker.api.v4.envelope import (
    ADMIN_STAYS,
    EMPTY_NAME_OR_PASSWORD,
    NO_USER,
    UNKNOWN_ERROR,
    USER_EXISTS,
    WRONG_OLD_PASSWORD,
    WRONG_PASSWORD,
    Data,
    Done,
)

routes = Routes("Dashboard users")

TOO_MANY: Final = "Too many wrong passwords, try again later"
EXISTS: Final = "Username Already Exist"

Text = Annotated[str, Meta(max_length=1024)]


# What is missing is refused as what is empty: with words of its own.
class Credentials(Struct, kw_only=True):
    username: Text = ""
    password: Text = ""


class NewUser(Credentials, kw_only=True):
    tags: Text = ""


class Tags(Struct, kw_only=True):
    tags: Text


class Passwords(Struct, kw_only=True):
    old_pwd: Text
    new_pwd: Text


class User(Struct, kw_only=True):
    username: str
    tags: str


@routes.get("/users", "List dashboard users", tokens_only=True)
async def list_users(api: Api) -> Data[list[User]]:
    users = api.questions.dashboard_users.rows()
    return Data([User(username=user.username, tags=tags_of(user)) for user in users])


@routes.post(
    "/users",
    "Create a dashboard user; one with the tag `viewer` may only look",
    tokens_only=True,
    failures=[EMPTY_NAME_OR_PASSWORD, USER_EXISTS, UNKNOWN_ERROR, BUSY],
)
async def create_user(api: Api, query: NewUser, caller: Caller) -> Done:
    if not query.username or not query.password:
        raise EMPTY_NAME_OR_PASSWORD.error()
    users = api.questions.dashboard_users
    try:
        await users.create(query.username, query.password, role_of(query.tags), query.tags, address=caller.address)
    except UserError as error:
        if users.get(query.username) is not None:
            raise USER_EXISTS.error(EXISTS) from None
        raise UNKNOWN_ERROR.error(str(error)) from None
    return Done()


@routes.put("/users/:name", "Change the tags of a dashboard user", tokens_only=True, failures=[NO_USER, ADMIN_STAYS])
async def change_user(api: Api, name: str, query: Tags) -> Done:
    try:
        user = await retag(api.questions.dashboard_users, name, query.tags)
    except LastAdministrator as error:
        raise ADMIN_STAYS.error(str(error)) from None
    if user is None:
        raise NO_USER.error()
    return Done()


@routes.delete("/users/:name", "Delete a dashboard user", tokens_only=True, failures=[ADMIN_STAYS, NO_USER])
async def delete_user(api: Api, name: str) -> Done:
    users = api.questions.dashboard_users
    if name == users.config.default_username:
        raise ADMIN_STAYS.error(f"Cannot delete {name}")
    try:
        is_gone = await users.delete(name)
    except LastAdministrator as error:
        raise ADMIN_STAYS.error(str(error)) from None
    if not is_gone:
        raise NO_USER.error()
    return Done()


@routes.post(
    "/auth",
    "Check the name and the password of a dashboard user",
    access=EVERYBODY,
    failures=[EMPTY_NAME_OR_PASSWORD, WRONG_PASSWORD, BUSY],
)
async def authenticate(api: Api, query: Credentials, caller: Caller) -> Done:
    for name, text in (("Username", query.username), ("Password", query.password)):
        if not text:
            raise EMPTY_NAME_OR_PASSWORD.error(f"{name} undefined")
    try:
        await api.questions.dashboard_users.log_in(query.username, query.password, caller.address)
    except WrongPassword:
        raise WRONG_PASSWORD.error() from None
    except LoginLocked:
        raise WRONG_PASSWORD.error(TOO_MANY) from None
    return Done()


@routes.put(
    "/change_pwd/:username",
    "Change a password; a viewer's own only",
    access=VIEWERS,
    tokens_only=True,
    own="username",
    failures=[WRONG_OLD_PASSWORD, UNKNOWN_ERROR, BUSY],
)
async def change_password(api: Api, username: str, query: Passwords, caller: Caller) -> Done:
    try:
        await api.questions.dashboard_users.change_password(username, query.old_pwd, query.new_pwd, caller.address)
    except UserError as error:
        raise UNKNOWN_ERROR.error(str(error)) from None
    except WrongPassword:
        raise WRONG_OLD_PASSWORD.error() from None
    except LoginLocked:
        raise WRONG_OLD_PASSWORD.error(TOO_MANY) from None
    return Done()
