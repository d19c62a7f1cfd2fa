"""`/authentication/:id/users`: clients' users that the broker itself keeps, and files of them.

Invariant: a password or a hash is never in an answer; what was changed is in force for the next CONNECT, and durable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.access.passwords import PasswordError
from trio_broker.access.user_files import PasswordType, UserFileError, UserRow, check_user_id, rows_of, rows_of_file
from trio_broker.actors.authn.users import NoAuthenticator, Unsupported, User, UserExists
from trio_broker.actors.threads import in_thread
from trio_broker.api.bodies import UploadOrJson
from trio_broker.api.context import Api
from trio_broker.api.failures import MALFORMED_JSON, ApiError, Failure, invalid
from trio_broker.api.paging import PageOf, Paging, cut, each, page_meta, select
from trio_broker.api.routes import Documented, Reply, Routes

routes = Routes("Authentication")

NO_AUTHENTICATOR: Final = Failure(404, "NOT_FOUND", "Authenticator '<id>' does not exist")
NO_CHAIN: Final = Failure(404, "NOT_FOUND", "Authenticator not found in the 'global' scope")
USER_NOT_FOUND: Final = Failure(404, "NOT_FOUND", "User not found")
USER_EXISTS: Final = Failure(409, "ALREADY_EXISTS", "User already exists")
UNSUPPORTED: Final = Failure(400, "BAD_REQUEST", "User error: unsupported_operation")
BAD_FILE: Final = Failure(400, "BAD_REQUEST", "bad_format, empty_users and the like; `reason` tells more")
MISSING: Final = (NO_AUTHENTICATOR, NO_CHAIN, UNSUPPORTED)

LARGE: Final = 64 * 1024
"""Bytes of a file that is read in a thread."""


class UsersQuery(Paging, kw_only=True):
    like_user_id: Annotated[str, Meta(description="Part of the user id")] | UnsetType = UNSET
    is_superuser: bool | UnsetType = UNSET


class ImportQuery(Struct, kw_only=True):
    type: Annotated[str, Meta(description="`plain`: rows have passwords; anything else: their hashes")] = "hash"


class NewUser(Struct, kw_only=True, forbid_unknown_fields=True):
    user_id: Annotated[str, Meta(description="User name or client id, see `user_id_type`")]
    password: str
    is_superuser: bool = False


class UserChange(Struct, kw_only=True, forbid_unknown_fields=True):
    password: str
    is_superuser: Annotated[bool, Meta(description="Absent: as it was")] | UnsetType = UNSET


class UserObject(Struct, kw_only=True):
    user_id: str
    is_superuser: bool


class ImportResult(Struct, kw_only=True):
    """`override`: existed with other data; `skipped`: existed as it is in the file."""

    total: int
    success: int
    override: int
    skipped: int
    failed: int


@routes.get("/authentication/:id/users", "List users in built-in database authenticator", failures=MISSING)
async def list_users(api: Api, id: str, query: UsersQuery) -> PageOf[UserObject]:
    with _told():
        users: list[User[Any]] = list(api.questions.authn_users.found(id).users.all.values())
    part, is_superuser = query.like_user_id, query.is_superuser
    if part is not UNSET or is_superuser is not UNSET:
        users = await select(
            users,
            lambda user: (part is UNSET or part in user.user_id) and is_superuser in (UNSET, user.is_superuser),
        )
    meta = page_meta(query, len(users), show_count=part is UNSET)
    return PageOf(await each(cut(users, query), _shown), meta)


@routes.post(
    "/authentication/:id/users",
    "Create users for built-in database authenticator",
    failures=[*MISSING, USER_EXISTS],
    answers=[Documented(201, "The user", UserObject)],
)
async def create_user(api: Api, id: str, body: NewUser) -> Reply:
    with _told():
        authenticator = api.questions.authn_users.found(id)
        _check_user_id(body.user_id)
        return Reply(201, _shown(await authenticator.add_user(body.user_id, body.password, body.is_superuser)))


@routes.get(
    "/authentication/:id/users/:user_id",
    "Get user from built-in database authenticator",
    failures=[*MISSING, USER_NOT_FOUND],
)
async def get_user(api: Api, id: str, user_id: str) -> UserObject:
    with _told():
        user = api.questions.authn_users.found(id).users.all.get(user_id)
    if user is None:
        raise USER_NOT_FOUND.error()
    return _shown(user)


@routes.put(
    "/authentication/:id/users/:user_id",
    "Update user in built-in database authenticator",
    failures=[*MISSING, USER_NOT_FOUND],
)
async def update_user(api: Api, id: str, user_id: str, body: UserChange) -> UserObject:
    is_superuser = None if body.is_superuser is UNSET else body.is_superuser
    with _told():
        user = await api.questions.authn_users.found(id).update_user(user_id, body.password, is_superuser)
    if user is None:
        raise USER_NOT_FOUND.error()
    return _shown(user)


@routes.delete(
    "/authentication/:id/users/:user_id",
    "Delete user in built-in database authenticator, and end the connections of its clients",
    failures=[*MISSING, USER_NOT_FOUND],
)
async def delete_user(api: Api, id: str, user_id: str) -> None:
    with _told():
        if not await api.questions.authn_users.found(id).delete_user(user_id):
            raise USER_NOT_FOUND.error()


@routes.post(
    "/authentication/:id/import_users",
    "Import users into built-in database authenticator, all of a file or nothing",
    failures=[*MISSING, BAD_FILE],
)
async def import_users(api: Api, id: str, query: ImportQuery, body: UploadOrJson) -> ImportResult:
    kind: PasswordType = "plain" if query.type == "plain" else "hash"
    with _told():
        authenticator = api.questions.authn_users.found(id)
        if len(body.content) < LARGE:
            rows = _rows(body, kind)
        else:
            rows = await in_thread(_rows, body, kind)
        counts = await authenticator.import_users(rows, kind)
    return ImportResult(
        total=counts.total,
        success=counts.success,
        override=counts.override,
        skipped=counts.skipped,
        failed=counts.failed,
    )


def _rows(body: UploadOrJson, kind: PasswordType) -> list[UserRow]:
    if body.name is not None:
        return rows_of_file(body.name, body.content, kind)
    try:
        document = msgspec.json.decode(body.content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise MALFORMED_JSON.error() from None
    return rows_of(document, kind)


@contextmanager
def _told() -> Iterator[None]:
    """Why it cannot be done, as an answer."""
    try:
        yield
    except NoAuthenticator as error:
        raise (NO_AUTHENTICATOR.error(str(error)) if error.any_other else NO_CHAIN.error()) from None
    except Unsupported:
        raise UNSUPPORTED.error() from None
    except UserExists:
        raise USER_EXISTS.error() from None
    except UserFileError as error:
        raise ApiError(400, {"code": BAD_FILE.code, "message": error.message, "reason": str(error)}) from None
    except PasswordError as error:
        raise invalid("root.password", str(error)) from None


def _check_user_id(user_id: str) -> None:
    try:
        check_user_id(user_id)
    except ValueError as error:
        raise invalid("root.user_id", str(error)) from None


def _shown(user: User[Any]) -> UserObject:
    return UserObject(user_id=user.user_id, is_superuser=user.is_superuser)
