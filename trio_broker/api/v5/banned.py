"""`/banned`: who is kept out.

Invariant: there is no update: who is banned is banned as was said first, until that is over or deleted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.banned import KINDS, AlreadyBanned, Ban, BanKind, canonical
from trio_broker.api.context import Api
from trio_broker.api.failures import BAD_REQUEST, Failure, invalid
from trio_broker.api.paging import Paging, cut, each, select
from trio_broker.api.routes import Routes
from trio_broker.routing.patterns import Pattern, PatternError

routes = Routes("Banned")

ALREADY_EXISTS: Final = Failure(400, "ALREADY_EXISTS", "The ban that is there, as JSON text")
NOT_FOUND: Final = Failure(404, "NOT_FOUND", "<as>: <who> not found")
INFINITY: Final = "infinity"
LATEST: Final = 253_402_214_400
"""The last day that can be written in every time zone: the end of the year 9999."""

_DIGITS: Final = re.compile(r"[0-9]{1,18}")

Like = Annotated[str, Meta(description="Regular expression, searched in the value")]


class BannedQuery(Paging, kw_only=True):
    """At most one of the filters."""

    clientid: Annotated[str, Meta(description="Exact client id")] | UnsetType = UNSET
    username: Annotated[str, Meta(description="Exact user name")] | UnsetType = UNSET
    peerhost: Annotated[str, Meta(description="Exact address")] | UnsetType = UNSET
    like_clientid: Like | UnsetType = UNSET
    like_username: Like | UnsetType = UNSET
    like_peerhost: Like | UnsetType = UNSET
    like_peerhost_net: Like | UnsetType = UNSET


EXACT: Final = ("clientid", "username", "peerhost")
LIKE: Final = {
    "like_clientid": ("clientid", "clientid_re"),
    "like_username": ("username", "username_re"),
    "like_peerhost": ("peerhost",),
    "like_peerhost_net": ("peerhost_net",),
}


class BanBody(Struct, kw_only=True, forbid_unknown_fields=True, rename={"kind": "as"}):
    kind: BanKind
    who: Annotated[str, Meta(min_length=1, max_length=65535)]
    by: str = "mgmt_api"
    reason: str = ""
    at: Annotated[int | str, Meta(description="RFC 3339 or seconds since the epoch; absent: now")] | UnsetType = UNSET
    until: Annotated[int | str, Meta(description="The same, or `infinity`")] = INFINITY


class BanObject(Struct, kw_only=True, rename={"kind": "as"}):
    kind: BanKind
    who: str
    by: str
    reason: str
    at: str
    until: str


class BannedMeta(Struct, kw_only=True):
    """`count` is absent with a `like_` filter, `hasnext` without any."""

    page: int
    limit: int
    count: int | UnsetType = UNSET
    hasnext: bool | UnsetType = UNSET


class BannedPage(Struct, kw_only=True):
    data: list[BanObject]
    meta: BannedMeta


@routes.get("/banned", "List all currently banned client IDs, usernames and IP addresses")
async def list_banned(api: Api, query: BannedQuery) -> BannedPage:
    wanted = _filter(query)
    bans = api.questions.banned.rows()
    if wanted is not None:
        bans = await select(bans, wanted)
    meta = BannedMeta(page=query.page, limit=query.limit)
    is_fuzzy = any(getattr(query, name) is not UNSET for name in LIKE)
    if not is_fuzzy:
        meta.count = len(bans)
    if wanted is not None:
        meta.hasnext = query.offset + query.limit < len(bans)
    return BannedPage(data=await each(cut(bans, query), _shown), meta=meta)


@routes.post("/banned", "Add a client ID, username or IP address to the blacklist", failures=[ALREADY_EXISTS])
async def ban(api: Api, body: BanBody) -> BanObject:
    banned = api.questions.banned
    now = banned.now()
    at = now if body.at is UNSET else _seconds("root.at", body.at)
    until = None if body.until == INFINITY else _seconds("root.until", body.until)
    if until is not None and until <= now:
        raise BAD_REQUEST.error(f"Cannot create expired banned, {_time(at)} to {_time(until)}")
    new = Ban(body.kind, _who(body.kind, body.who, "root.who"), body.by, body.reason, at, until)
    try:
        await banned.add(new)
    except AlreadyBanned as error:
        raise ALREADY_EXISTS.error(msgspec.json.encode(_shown(error.ban)).decode()) from None
    return _shown(new)


@routes.delete("/banned", "Clear all banned data")
async def clear(api: Api) -> None:
    await api.questions.banned.clear()


@routes.delete(
    "/banned/:as/:who", "Remove a client ID, username or IP address from the blacklist", failures=[NOT_FOUND]
)
async def delete_ban(api: Api, who: str, **path: str) -> None:
    kind = path["as"]  # no name for an argument
    if kind not in KINDS:
        raise invalid("as", "not_a_enum_symbol", value=kind[:200])
    if not await api.questions.banned.delete(kind, _who(kind, who, "who")):
        raise NOT_FOUND.error(f"{kind}: {who} not found")


def _filter(query: BannedQuery) -> Callable[[Ban], bool] | None:
    """Which bans are meant; None = all of them."""
    given = [(name, value) for name in (*EXACT, *LIKE) if (value := getattr(query, name)) is not UNSET]
    if not given:
        return None
    if len(given) > 1:
        raise BAD_REQUEST.error("too_many_filters")
    [(name, value)] = given
    if name in LIKE:
        pattern, kinds = _pattern(value), LIKE[name]
        return lambda ban: ban.kind in kinds and pattern.matches(ban.who)
    if name == "peerhost":
        try:
            value = canonical(name, value)
        except ValueError:
            raise BAD_REQUEST.error("bad peerhost") from None
    return lambda ban: ban.key == (name, value)


def _pattern(text: str) -> Pattern:
    try:
        return Pattern(text)
    except PatternError as error:
        detail = {
            "message": "The filter is not a validation regex expression",
            "reason": error.reason,
            "position": error.position,
            "filter": text[:200],
        }
        raise BAD_REQUEST.error(msgspec.json.encode(detail).decode()) from None


def _who(kind: str, who: str, path: str) -> str:
    """In the form in which it is compared."""
    try:
        return canonical(kind, who)
    except PatternError as error:
        raise invalid(path, f"bad regular expression: {error}", value=who[:200]) from None
    except ValueError:
        reason = "bad peerhost" if kind == "peerhost" else "bad peerhost_net, expected a CIDR such as 192.168.0.0/24"
        raise invalid(path, reason, value=who[:200]) from None


def _seconds(path: str, value: int | str) -> int:
    seconds = int(value) if isinstance(value, int) or _DIGITS.fullmatch(value) else _moment(path, value)
    if not 0 <= seconds <= LATEST:
        raise invalid(path, "Expected a time from 1970 to 9999", value=value)
    return seconds


def _moment(path: str, value: str) -> int:
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("no offset")
        return int(moment.timestamp())
    except (ValueError, OverflowError):
        raise invalid(path, "Expected type epoch_second or RFC 3339 time", value=value[:200]) from None


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(timespec="seconds")


def _shown(ban: Ban) -> BanObject:
    return BanObject(
        kind=ban.kind,  # type: ignore[arg-type]  # what is in force is one of them
        who=ban.who,
        by=ban.by,
        reason=ban.reason,
        at=_time(ban.at),
        until=INFINITY if ban.until is None else _time(ban.until),
    )
