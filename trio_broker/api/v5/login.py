"""`/login` and `/logout`: a token for a password, and its end.

Invariant: who is not let in is told the same, whatever was wrong.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from trio_broker.actors.dashboard_users import LoginLocked, WrongPassword
from trio_broker.api.context import Api, Caller
from trio_broker.api.failures import BUSY, Failure
from trio_broker.api.routes import EVERYBODY, VIEWERS, Routes

routes = Routes("Login")

BAD_USERNAME_OR_PWD: Final = Failure(401, "BAD_USERNAME_OR_PWD", "Auth failed")
LOGIN_LOCKED: Final = Failure(401, "LOGIN_LOCKED", "Login locked")
WRONG_TOKEN_OR_USERNAME: Final = Failure(401, "WRONG_TOKEN_OR_USERNAME", "Ensure your token & username")

Username = Annotated[str, Meta(max_length=100)]
Password = Annotated[str, Meta(max_length=1024)]


class LoginBody(Struct, kw_only=True, forbid_unknown_fields=True):
    username: Username
    password: Password


class License(Struct):
    edition: Literal["opensource"] = "opensource"


class LoginObject(Struct, kw_only=True):
    """`version` is the level of the API that is served."""

    token: str
    version: str
    license: License
    role: Literal["administrator", "viewer"]
    trio_broker_version: str


class LogoutBody(Struct, kw_only=True, forbid_unknown_fields=True):
    username: Username


@routes.post(
    "/login", "Get a token for a password", access=EVERYBODY, failures=[BAD_USERNAME_OR_PWD, LOGIN_LOCKED, BUSY]
)
async def login(api: Api, body: LoginBody, caller: Caller) -> LoginObject:
    try:
        user = await api.questions.dashboard_users.log_in(body.username, body.password, caller.address)
    except WrongPassword:
        raise BAD_USERNAME_OR_PWD.error() from None
    except LoginLocked:
        raise LOGIN_LOCKED.error() from None
    return LoginObject(
        token=api.tokens.issue(user),
        version=api.level,
        license=License(),
        role=user.role.value,  # type: ignore[arg-type]  # no user is a publisher
        trio_broker_version=api.questions.broker_version,
    )


@routes.post(
    "/logout", "End the token that is sent", access=VIEWERS, tokens_only=True, failures=[WRONG_TOKEN_OR_USERNAME]
)
async def logout(api: Api, body: LogoutBody, caller: Caller) -> None:
    if body.username != caller.username:
        raise WRONG_TOKEN_OR_USERNAME.error()
    assert caller.token is not None
    api.tokens.revoke(caller.token)
