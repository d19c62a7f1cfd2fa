"""What EMQX 4 lets an administrator set for one connection: keep alive, rate limits and quota.

Invariant: it holds for the connection there is; the next one of the client begins with what its CONNECT and its
listener say.

The rates are averages: `"100KB, 10s"` is 10 KB a second, and who is faster is read later. `conn_messages_routing`
of a quota, which in EMQX 4 counts each delivery of a message, counts messages as they come in here.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.api.context import Api
from trio_broker.api.routes import Routes
from trio_broker.api.v4.envelope import BAD_PARAMETER, MISSING_PARAMETER, NOT_FOUND, UNKNOWN_ERROR, Done
from trio_broker.config.durations import parse_duration
from trio_broker.config.sizes import parse_size
from trio_broker.session.info import SessionInfo

routes = Routes("Clients")

OUT_OF_RANGE: Final = "mqtt3.1.1 specification: keepalive must between 0~65535"
LONGEST: Final = 64
"""Characters of a limit: numbers may be of any length, and take their time to be read."""
LEAST: Final = 1 / 86_400
"""A second; who may send less than one a day is as good as stopped."""

Limit = Annotated[str, Meta(description='`"<amount>, <period>"`, such as `"100, 1m"`')] | UnsetType
Bytes = Annotated[str, Meta(description='The same with bytes, such as `"100KB, 10s"`')] | UnsetType


class KeepAlive(Struct, kw_only=True):
    interval: Annotated[int, Meta(description="Seconds, 0 to 65535; 0: never")] | UnsetType = UNSET


class RateLimits(Struct, kw_only=True):
    conn_bytes_in: Bytes = UNSET
    conn_messages_in: Limit = UNSET


class Quota(Struct, kw_only=True):
    conn_messages_routing: Limit = UNSET


@routes.put(
    "/clients/:clientid/keepalive",
    "Set the keepalive of a client",
    failures=[UNKNOWN_ERROR, MISSING_PARAMETER, NOT_FOUND],
)
async def set_keepalive(api: Api, clientid: str, query: KeepAlive) -> Done:
    if query.interval is UNSET:
        raise MISSING_PARAMETER.error()
    if not 0 <= query.interval <= 65_535:
        raise UNKNOWN_ERROR.error(OUT_OF_RANGE)
    return _done(await api.questions.set_keep_alive(clientid, query.interval))


@routes.post("/clients/:clientid/ratelimit", "Set the rate limits of a client", failures=[BAD_PARAMETER, NOT_FOUND])
async def set_ratelimit_policy(api: Api, clientid: str, query: RateLimits) -> Done:
    """What is not given is as the listener has it from now on; where nothing is given, nothing happens."""
    bytes_rate, messages_rate = _rate(query.conn_bytes_in, sized=True), _rate(query.conn_messages_in)
    if bytes_rate is None and messages_rate is None:
        return Done()
    return _done(await api.questions.set_rates(clientid, messages_rate, bytes_rate))


@routes.delete("/clients/:clientid/ratelimit", "Take the rate limits of a client back", failures=[NOT_FOUND])
async def clean_ratelimit(api: Api, clientid: str) -> Done:
    return _done(await api.questions.set_rates(clientid, None, None))


@routes.post("/clients/:clientid/quota", "Set the quota of a client", failures=[BAD_PARAMETER, NOT_FOUND])
async def set_quota_policy(api: Api, clientid: str, query: Quota) -> Done:
    messages_rate = _rate(query.conn_messages_routing)
    if messages_rate is None:
        return Done()
    return _done(await api.questions.set_quota(clientid, messages_rate))


@routes.delete("/clients/:clientid/quota", "Take the quota of a client back", failures=[NOT_FOUND])
async def clean_quota(api: Api, clientid: str) -> Done:
    return _done(await api.questions.set_quota(clientid, None))


def _done(info: SessionInfo | None) -> Done:
    """112 where there is no connection that it could hold for."""
    if info is None or not info.connected:
        raise NOT_FOUND.error()
    return Done()


def _rate(text: str | UnsetType, *, sized: bool = False) -> float | None:
    """How much a second; None where nothing is said, 108 for what is no limit."""
    if text is UNSET:
        return None
    wrong = BAD_PARAMETER.error(f"not a limit: {text[:LONGEST]}")
    if len(text) > LONGEST:
        raise wrong
    amount, _, period = text.partition(",")
    try:
        count = parse_size(amount) if sized else _count(amount)
        rate = count / parse_duration(period)
    except (ValueError, ArithmeticError):
        raise wrong from None
    if not LEAST <= rate < math.inf:
        raise wrong
    return rate


def _count(text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError("not a number")
    return int(digits)
