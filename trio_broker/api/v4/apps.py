"""`/apps`: the programs that may call this API. People manage them: no application will do here.

Invariant: applications are the API keys of EMQX 5: `app_id` is `api_key`, `status` is `enable`, `expired` is
`expired_at`. Secrets are kept as hashes only: one is shown once, in the answer to the request that brought or made it,
and `GET /apps/:appid` has no `secret`.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from msgspec import Meta, Struct

from trio_broker.actors.api_keys import NAME, OF_FILE, ApiKey, ApiKeyTaken, KeyOfFile, NameTaken, TooManyKeys
from trio_broker.api.context import Api, Caller
from trio_broker.api.failures import BUSY
from trio_broker.api.formats import LATEST
from trio_broker.api.routes import Routes
from trio_broker.api.v4.envelope import BAD_PARAMETER, UNKNOWN_ERROR, USER_EXISTS, Data, Done
from trio_broker.api.v4.formats import UNDEFINED

routes = Routes("Applications")

Text = Annotated[str, Meta(max_length=1024)]
Expired = Annotated[int | str, Meta(description="Seconds since the epoch; `undefined` or absent: never")]

_APP_ID: Final = re.compile(r"[A-Za-z0-9]+[A-Za-z0-9_-]*")
_LONGEST: Final = 256
"""Characters of an `app_id`, and of the name of a key."""
_EXPIRED: Final = re.compile(r"[0-9]{1,12}")


class Changes(Struct, kw_only=True):
    """All four are replaced. An application without `status` cannot be used."""

    name: Text = ""
    desc: Text = ""
    status: bool = False
    expired: Expired = UNDEFINED


class NewApplication(Changes, kw_only=True):
    app_id: str
    secret: Annotated[Text, Meta(description="Absent or empty: one is made")] = ""


class Application(Struct, kw_only=True):
    app_id: str
    name: str
    desc: str
    status: bool
    expired: int | str


class NoApplication(Struct):
    """Where there is none."""


class Secret(Struct):
    secret: str


@routes.get("/apps", "List applications", tokens_only=True)
async def list_applications(api: Api) -> Data[list[Application]]:
    keys = api.questions.api_keys
    return Data([_shown(key) for key in keys.rows() if keys.by_api_key(key.api_key) is key])


@routes.get("/apps/:appid", "Get an application", tokens_only=True)
async def get_application(api: Api, appid: str) -> Data[Application | NoApplication]:
    key = api.questions.api_keys.by_api_key(appid)
    return Data(NoApplication() if key is None else _shown(key))


@routes.post("/apps", "Create an application", tokens_only=True, failures=[USER_EXISTS, UNKNOWN_ERROR, BUSY])
async def create_application(api: Api, query: NewApplication, caller: Caller) -> Data[Secret]:
    if len(query.app_id) > _LONGEST or not _APP_ID.fullmatch(query.app_id):
        raise UNKNOWN_ERROR.error("bad_app_id")
    if "\0" in query.secret:
        raise BAD_PARAMETER.error("bad_secret")
    expired_at = _expired_at(query.expired)
    keys = api.questions.api_keys
    is_name = len(query.name) <= _LONGEST and re.search(NAME, query.name) and not query.name.startswith(OF_FILE)
    while True:
        try:
            _, made = await keys.create(
                keys.free_name(*([query.name] if is_name else []), query.app_id),
                desc=query.desc,
                enable=query.status,
                expired_at=expired_at,
                api_key=query.app_id,
                api_secret=query.secret,
                app_name=query.name,
                address=caller.address,
            )
        except NameTaken:
            continue  # somebody was faster
        except ApiKeyTaken:
            raise USER_EXISTS.error("already_existed") from None
        except TooManyKeys:
            raise UNKNOWN_ERROR.error("Maximum number of applications reached.") from None
        return Data(Secret(made.api_secret))


@routes.put("/apps/:appid", "Change an application", tokens_only=True, failures=[UNKNOWN_ERROR])
async def change_application(api: Api, appid: str, query: Changes) -> Done:
    keys = api.questions.api_keys
    expired_at = _expired_at(query.expired)
    key = keys.by_api_key(appid)
    if key is None:
        raise UNKNOWN_ERROR.error("not_found")
    await keys.update(
        key.name, key.role, expired_at=expired_at, desc=query.desc, enable=query.status, app_name=query.name
    )
    return Done()


@routes.delete("/apps/:appid", "Delete an application; one that is not there is deleted", tokens_only=True)
async def delete_application(api: Api, appid: str) -> Done:
    keys = api.questions.api_keys
    key = keys.by_api_key(appid)
    try:
        if key is not None:
            await keys.delete(key.name)
    except KeyOfFile:
        why = "It stands in the bootstrap file, and would come back: take it out there, or set its status to false"
        raise UNKNOWN_ERROR.error(why) from None
    return Done()


def _expired_at(value: int | str) -> int | None:
    """Raises 108."""
    if value == UNDEFINED:
        return None
    seconds = value if isinstance(value, int) else int(value) if _EXPIRED.fullmatch(value) else -1
    if not 0 <= seconds <= LATEST:
        raise BAD_PARAMETER.error("bad_expired")
    return seconds


def _shown(key: ApiKey) -> Application:
    return Application(
        app_id=key.api_key,
        name=(key.name if key.app_name is None else key.app_name) or UNDEFINED,
        desc=key.desc or UNDEFINED,
        status=key.enable,
        expired=UNDEFINED if key.expired_at is None else key.expired_at,
    )
