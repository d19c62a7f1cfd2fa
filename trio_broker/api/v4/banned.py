"""`/banned` of EMQX 4: who is kept out.

Invariant: a ban takes the place of the one that there is for the same `as` and `who`. All times are seconds since the
epoch; a ban that never ends is shown to end with the year 9999.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.banned import Ban, canonical
from trio_broker.api.context import Api
from trio_broker.api.failures import ApiError
from trio_broker.api.formats import LATEST
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.v4.envelope import BAD_PARAMETER, MISSING_PARAMETER, Data, Done, Listed
from trio_broker.api.v4.formats import UNDEFINED
from trio_broker.api.v4.paging import Paging, cut, listing, page_meta

routes = Routes("Banned")

KINDS: Final = ("clientid", "username", "peerhost")
MISSING: Final = "missing mandatory params: ['who', 'as']"
BAD_KIND: Final = "value of 'as' must be one of: ['clientid', 'username', 'peerhost']"
LASTING: Final = 300
"""Seconds, where nothing is said of the end."""

Seconds = Annotated[int, Meta(ge=0, le=LATEST, description="Seconds since the epoch")] | UnsetType


class BanBody(Struct, kw_only=True, rename={"kind": "as"}):
    who: Annotated[str, Meta(description="Client id, user name or address")] | UnsetType = UNSET
    kind: Annotated[str, Meta(description="`clientid`, `username` or `peerhost`")] | UnsetType = UNSET
    reason: str = UNDEFINED
    by: str = "user"
    at: Seconds = UNSET
    until: Seconds = UNSET


class BanObject(Struct, kw_only=True, rename={"kind": "as"}):
    who: str
    kind: str
    reason: str
    by: str
    at: int
    until: int


@routes.get("/banned", "List banned")
async def list_banned(api: Api, query: Paging) -> Listed[BanObject] | Reply:
    bans = api.questions.banned.rows()
    return await listing(cut(bans, query), _shown, page_meta(query, len(bans), hasnext=False))


@routes.post("/banned", "Create banned", failures=[MISSING_PARAMETER, BAD_PARAMETER])
async def create_banned(api: Api, query: BanBody) -> Data[BanObject]:
    if query.who is UNSET or query.kind is UNSET:
        raise MISSING_PARAMETER.error(MISSING)
    if query.kind not in KINDS:
        raise BAD_PARAMETER.error(BAD_KIND)
    banned = api.questions.banned
    now = banned.now()
    at = now if query.at is UNSET else query.at
    until = now + LASTING if query.until is UNSET else query.until
    try:
        who = canonical(query.kind, query.who)
    except ValueError:
        raise _bad_who(query.who) from None
    if not 1 <= len(who) <= 65_535:
        raise _bad_who(who)
    ban = Ban(query.kind, who, query.by, query.reason, at, until)
    await banned.put([ban])
    return Data(_shown(ban))


@routes.delete("/banned/:as/:who", "Delete banned", failures=[BAD_PARAMETER])
async def delete_banned(api: Api, who: str, **path: str) -> Done:
    kind = path["as"]  # no name for an argument
    if kind not in KINDS:
        raise BAD_PARAMETER.error(BAD_KIND)
    try:
        who = canonical(kind, who)
    except ValueError:
        return Done()  # nobody can be banned so
    await api.questions.banned.delete(kind, who)
    return Done()


def _bad_who(who: str) -> ApiError:
    return BAD_PARAMETER.error(f"bad value of 'who': {who[:200]}")


def _shown(ban: Ban) -> BanObject:
    return BanObject(
        who=ban.who,
        kind=ban.kind,
        reason=ban.reason,
        by=ban.by,
        at=ban.at,
        until=LATEST if ban.until is None else ban.until,
    )
