"""What the API document says of EMQ 2: dashboard users, results that are numbers within a 200."""

from __future__ import annotations

from typing import Final

import msgspec

from trio_broker.api.dialect import Dialect
from trio_broker.api.failures import BODY_TIMEOUT, BODY_TOO_LARGE, UNAVAILABLE, USER_TOO_WEAK, Failure
from trio_broker.api.routes import EVERYBODY, Documented, Route
from trio_broker.api.v2.envelope import BAD_RPC, MISSING_PARAMETER, NOT_JSON, UNKNOWN_ERROR, WRONG_TYPE

__all__ = ["DIALECT"]

_NODES: Final = frozenset(("node", "node_name"))
_SCHEMES: Final = {"basicAuth": {"type": "http", "scheme": "basic", "description": "Dashboard user and password"}}


class Refused(msgspec.Struct):
    """The body of most failures. `code` is never 0; a few say no more than that."""

    code: int
    message: str = ""


class _Two(Dialect):
    title = "trio-broker API (EMQ 2)"
    error = Refused
    schemes = _SCHEMES

    def failures(self, route: Route) -> list[Failure]:
        failures = [said for failure in route.failures for said in _as_said(failure)]
        if _NODES.intersection(route.path_names):
            failures.append(BAD_RPC)
        if route.body is not None:
            failures = [MISSING_PARAMETER, WRONG_TYPE, NOT_JSON, *failures, _said(BODY_TIMEOUT), _said(BODY_TOO_LARGE)]
        if route.access != EVERYBODY:
            failures.append(_said(USER_TOO_WEAK))
        return [*failures, _said(UNAVAILABLE)]

    def answers(self, route: Route) -> list[Documented]:
        unknown = [] if route.access == EVERYBODY else [Documented(401, "Nobody we know; the body is empty")]
        return [*unknown, Documented(404, "Not there, or a query that is none; no text", content_type="text/plain")]


def _as_said(failure: Failure) -> list[Failure]:
    """One of v5, in the words of this generation; none where it has no JSON body here (see `answers`)."""
    if isinstance(failure.code, int):
        return [failure]
    return [_said(failure)] if failure.status in (403, 408, 413, 503) else []


def _said(failure: Failure) -> Failure:
    return Failure(failure.status, UNKNOWN_ERROR.code, failure.message)


DIALECT: Final = _Two()
