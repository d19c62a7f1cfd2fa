"""`/api_key`: programs that may call this API. People manage them: no API key will do here.

Invariant: a secret is shown once, in the answer to the request that made it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.api_keys import NAME, OF_FILE, ApiKey, KeyOfFile, NameTaken, Role, TooManyKeys
from trio_broker.api.context import Api, Caller
from trio_broker.api.failures import BAD_REQUEST, BUSY, Failure
from trio_broker.api.formats import rfc3339, seconds
from trio_broker.api.routes import Routes

routes = Routes("API keys")

INFINITY: Final = "infinity"
NOT_FOUND: Final = Failure(404, "NOT_FOUND", "Name NOT FOUND")
NAME_TAKEN: Final = Failure(400, "BAD_REQUEST", "name_already_existed")
TOO_MANY: Final = Failure(400, "BAD_REQUEST", "Maximum number of ApiKeys reached.")

Name = Annotated[str, Meta(pattern=NAME, min_length=1, max_length=256)]
Description = Annotated[str, Meta(max_length=1024)]
ExpiredAt = Annotated[int | str, Meta(description="RFC 3339, seconds since the epoch, or `infinity`")]
RoleName = Literal["administrator", "viewer", "publisher"]


# Fields that are not known are left alone in these two.
class NewKeyBody(Struct, kw_only=True):
    name: Name
    enable: bool = True
    desc: Description = ""
    expired_at: ExpiredAt = INFINITY
    role: RoleName = "administrator"


class KeyBody(Struct, kw_only=True):
    """What is absent of `enable` and `desc` stays; `expired_at` and `role` are as their defaults."""

    enable: bool | UnsetType = UNSET
    desc: Description | UnsetType = UNSET
    expired_at: ExpiredAt = INFINITY
    role: RoleName = "administrator"


class KeyObject(Struct, kw_only=True):
    name: str
    api_key: str
    enable: bool
    desc: str
    created_at: str
    expired_at: str
    expired: bool
    role: str


class NewKeyObject(KeyObject, kw_only=True):
    """With the secret, which is not shown again."""

    api_secret: str


@routes.get("/api_key", "List API keys", tokens_only=True)
async def list_api_keys(api: Api) -> list[KeyObject]:
    return [KeyObject(**_shown(api, key)) for key in api.questions.api_keys.rows()]


@routes.post("/api_key", "Create an API key", tokens_only=True, failures=[NAME_TAKEN, TOO_MANY, BUSY])
async def create_api_key(api: Api, body: NewKeyBody, caller: Caller) -> NewKeyObject:
    if body.name.startswith(OF_FILE):
        raise BAD_REQUEST.error(f"Names that begin with {OF_FILE} are for keys of the bootstrap file")
    expired_at = _expired_at(body.expired_at)
    try:
        key, made = await api.questions.api_keys.create(
            body.name,
            Role(body.role),
            desc=body.desc,
            enable=body.enable,
            expired_at=expired_at,
            address=caller.address,
        )
    except NameTaken:
        raise NAME_TAKEN.error() from None
    except TooManyKeys:
        raise TOO_MANY.error() from None
    return NewKeyObject(**_shown(api, key), api_secret=made.api_secret)


@routes.get("/api_key/:name", "Get an API key", tokens_only=True, failures=[NOT_FOUND])
async def get_api_key(api: Api, name: str) -> KeyObject:
    return _found(api, api.questions.api_keys.get(name))


@routes.put("/api_key/:name", "Change an API key", tokens_only=True, failures=[NOT_FOUND])
async def change_api_key(api: Api, name: str, body: KeyBody) -> KeyObject:
    changed = await api.questions.api_keys.update(
        name,
        Role(body.role),
        expired_at=_expired_at(body.expired_at),
        desc=None if body.desc is UNSET else body.desc,
        enable=None if body.enable is UNSET else body.enable,
    )
    return _found(api, changed)


@routes.delete("/api_key/:name", "Delete an API key", tokens_only=True, failures=[NOT_FOUND])
async def delete_api_key(api: Api, name: str) -> None:
    try:
        is_gone = await api.questions.api_keys.delete(name)
    except KeyOfFile:
        why = "It stands in the bootstrap file, and would come back: take it out there, or disable it"
        raise BAD_REQUEST.error(why) from None
    if not is_gone:
        raise NOT_FOUND.error()


def _expired_at(value: int | str) -> int | None:
    return None if value == INFINITY else seconds("root.expired_at", value)


def _found(api: Api, key: ApiKey | None) -> KeyObject:
    if key is None:
        raise NOT_FOUND.error()
    return KeyObject(**_shown(api, key))


def _shown(api: Api, key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "api_key": key.api_key,
        "enable": key.enable,
        "desc": key.desc,
        "created_at": rfc3339(key.created_at),
        "expired_at": INFINITY if key.expired_at is None else rfc3339(key.expired_at),
        "expired": key.is_expired(api.questions.api_keys.now()),
        "role": key.role.value,
    }
