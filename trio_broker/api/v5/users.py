"""`/users`: people who log in to this API. No API key will do here.

Invariant: a password is never in an answer; the default user and who asks stay.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.api_keys import Role
from trio_broker.actors.dashboard_users import (
    DashboardUser,
    LastAdministrator,
    LoginLocked,
    UserError,
    WrongPassword,
)
from trio_broker.api.context import Api, Caller
from trio_broker.api.failures import BAD_REQUEST, BUSY, Failure
from trio_broker.api.routes import VIEWERS, Routes

routes = Routes("Users")

USER_NOT_FOUND: Final = Failure(404, "USER_NOT_FOUND", "username_not_found")
NOT_ALLOWED: Final = Failure(400, "NOT_ALLOWED", "Cannot delete self")
ERROR_PWD_NOT_MATCH: Final = Failure(400, "ERROR_PWD_NOT_MATCH", "Old password not match")

Text = Annotated[str, Meta(max_length=1024)]
RoleName = Literal["administrator", "viewer"]


class NewUserBody(Struct, kw_only=True, forbid_unknown_fields=True):
    username: Text
    password: Text
    description: Text = ""
    role: RoleName = "administrator"


class UserBody(Struct, kw_only=True, forbid_unknown_fields=True):
    description: Text
    role: Annotated[RoleName, Meta(description="Absent: as it was")] | UnsetType = UNSET


class PasswordBody(Struct, kw_only=True, forbid_unknown_fields=True):
    old_pwd: Text
    new_pwd: Text


class UserObject(Struct, kw_only=True):
    username: str
    description: str
    role: RoleName
    backend: Literal["local"] = "local"


@routes.get("/users", "List dashboard users", tokens_only=True)
async def list_users(api: Api) -> list[UserObject]:
    return [_shown(user) for user in api.questions.dashboard_users.rows()]


@routes.post("/users", "Create a dashboard user", tokens_only=True, failures=[BUSY])
async def create_user(api: Api, body: NewUserBody, caller: Caller) -> UserObject:
    if not body.username or not body.password:
        raise BAD_REQUEST.error("Username or password undefined")
    try:
        user = await api.questions.dashboard_users.create(
            body.username, body.password, Role(body.role), body.description, address=caller.address
        )
    except UserError as error:
        raise BAD_REQUEST.error(str(error)) from None
    return _shown(user)


@routes.put("/users/:username", "Change a dashboard user", tokens_only=True, failures=[USER_NOT_FOUND, NOT_ALLOWED])
async def change_user(api: Api, username: str, body: UserBody) -> UserObject:
    try:
        user = await api.questions.dashboard_users.update(
            username, body.description, None if body.role is UNSET else Role(body.role)
        )
    except LastAdministrator as error:
        raise NOT_ALLOWED.error(str(error)) from None
    if user is None:
        raise USER_NOT_FOUND.error()
    return _shown(user)


@routes.delete("/users/:username", "Delete a dashboard user", tokens_only=True, failures=[USER_NOT_FOUND, NOT_ALLOWED])
async def delete_user(api: Api, username: str, caller: Caller) -> None:
    users = api.questions.dashboard_users
    if username == users.config.default_username:
        raise NOT_ALLOWED.error(f'Cannot delete user <<"{username}">>')
    if username == caller.username:
        raise NOT_ALLOWED.error()
    if not await users.delete(username):
        raise USER_NOT_FOUND.error()


@routes.post(
    "/users/:username/change_pwd",
    "Change a password; a viewer's own only",
    access=VIEWERS,
    tokens_only=True,
    own="username",
    failures=[USER_NOT_FOUND, ERROR_PWD_NOT_MATCH, BUSY],
)
async def change_password(api: Api, username: str, body: PasswordBody, caller: Caller) -> None:
    if not body.old_pwd or not body.new_pwd:
        raise BAD_REQUEST.error("Old password or new password undefined")
    users = api.questions.dashboard_users
    if users.get(username) is None:
        raise USER_NOT_FOUND.error("User not found")
    try:
        await users.change_password(username, body.old_pwd, body.new_pwd, caller.address)
    except UserError as error:
        raise BAD_REQUEST.error(str(error)) from None
    except WrongPassword:
        raise ERROR_PWD_NOT_MATCH.error() from None
    except LoginLocked:
        raise ERROR_PWD_NOT_MATCH.error("Too many wrong passwords, try again later") from None


def _shown(user: DashboardUser) -> UserObject:
    return UserObject(
        username=user.username,
        description=user.description,
        role=user.role.value,  # type: ignore[arg-type]  # no user is a publisher
    )
