"""What the API document says of EMQX 4: results are numbers within a 200, parameters go into the query or the body."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from trio_broker.api.dialect import Dialect
from trio_broker.api.failures import BODY_TIMEOUT, BODY_TOO_LARGE, ROLE_TOO_WEAK, UNAVAILABLE, Failure
from trio_broker.api.routes import EVERYBODY, Documented, Route
from trio_broker.api.v4.envelope import BAD_PARAMETER, MISSING_PARAMETER, NOT_JSON, UNKNOWN_ERROR

__all__ = ["DIALECT"]

_SCHEMES: Final = {"basicAuth": {"type": "http", "scheme": "basic", "description": "AppID and AppSecret"}}

_PLAIN: Final = "text/plain"
_WITH_BODY: Final = ("POST", "PUT")


class Refused(msgspec.Struct):
    """The body of most failures. `code` is never 0; a few operations say a word."""

    code: int | str
    message: str


class _Four(Dialect):
    title = "trio-broker API (EMQX 4)"
    error = Refused
    schemes = _SCHEMES

    def failures(self, route: Route) -> list[Failure]:
        failures = [said for failure in route.failures for said in _as_said(failure)]
        if route.query is not None:
            failures = [MISSING_PARAMETER, BAD_PARAMETER, *failures]
        failures += [NOT_JSON, _said(BODY_TIMEOUT), _said(BODY_TOO_LARGE)]
        if route.access != EVERYBODY:
            failures.append(_said(ROLE_TOO_WEAK))
        return [*failures, _said(UNAVAILABLE)]

    def answers(self, route: Route) -> list[Documented]:
        unknown = [] if route.access == EVERYBODY else [Documented(401, "Nobody we know", content_type=_PLAIN)]
        return [
            *unknown,
            Documented(404, "No such node, or not for these credentials", content_type=_PLAIN),
            Documented(500, "A fault of the broker, its log tells more", content_type=_PLAIN),
        ]

    def description(self, route: Route) -> str:
        text = super().description(route)
        if route.tokens_only:
            text += " A dashboard user's name and password are needed, no application will do."
        return text + (" Parameters may also be in the query." if self.body(route) is not None else "")

    def query(self, route: Route) -> Any:
        return None if route.method in _WITH_BODY else route.query

    def body(self, route: Route) -> Any:
        return (route.takes or route.query) if route.method in _WITH_BODY else None

    def needs_body(self, route: Route) -> bool:
        return False


def _as_said(failure: Failure) -> list[Failure]:
    """One of v5, in the words of this generation; none where it has no JSON body here (see `answers`)."""
    if isinstance(failure.code, int) or failure.status == 200:
        return [failure]
    return [_said(failure)] if failure.status in (403, 408, 413, 503) else []


def _said(failure: Failure) -> Failure:
    return Failure(failure.status, UNKNOWN_ERROR.code, failure.message)


DIALECT: Final = _Four()
