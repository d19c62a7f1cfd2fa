"""What the API document says of EMQX 5: API keys and tokens, a status for each kind of failure."""

from __future__ import annotations

from typing import Final

import msgspec

from trio_broker.api import bodies
from trio_broker.api.dialect import Dialect
from trio_broker.api.failures import (
    API_KEY_NOT_ALLOW,
    BAD_API_KEY,
    BAD_REQUEST,
    BAD_TOKEN,
    BODY_TIMEOUT,
    BODY_TOO_LARGE,
    INTERNAL_ERROR,
    MALFORMED_JSON,
    NO_CREDENTIALS,
    NOT_JSON,
    ROLE_TOO_WEAK,
    TOKEN_TIME_OUT,
    UNAVAILABLE,
    USER_TOO_WEAK,
    Failure,
)
from trio_broker.api.routes import EVERYBODY, Route

__all__ = ["DIALECT"]

_SCHEMES: Final = {
    "basicAuth": {"type": "http", "scheme": "basic", "description": "API key and secret"},
    "bearerAuth": {"type": "http", "scheme": "bearer", "description": "Token of POST /login"},
}


class Error(msgspec.Struct):
    """The body of most failures."""

    code: str
    message: str


class _Five(Dialect):
    title = "trio-broker API"
    error = Error
    schemes = _SCHEMES

    def failures(self, route: Route) -> list[Failure]:
        failures = list(route.failures)
        if route.query is not None or route.body is not None or route.path_names:
            failures.insert(0, BAD_REQUEST)
        if route.body is not None:
            failures += [BODY_TIMEOUT, BODY_TOO_LARGE]
            failures += [bodies.failure_of(route.body)] if bodies.is_special(route.body) else [MALFORMED_JSON, NOT_JSON]
        if route.access != EVERYBODY:
            keys = [API_KEY_NOT_ALLOW] if route.tokens_only else [BAD_API_KEY]
            failures += [NO_CREDENTIALS, *keys, BAD_TOKEN, TOKEN_TIME_OUT]
            failures += [USER_TOO_WEAK] if route.tokens_only else [ROLE_TOO_WEAK, USER_TOO_WEAK]
            failures += [INTERNAL_ERROR, UNAVAILABLE]
        return failures

    def description(self, route: Route) -> str:
        return super().description(route) + (" No API key will do." if route.tokens_only else "")

    def security(self, route: Route) -> list[dict[str, list[str]]]:
        return [{"bearerAuth": []}] if route.tokens_only else super().security(route)


DIALECT: Final = _Five()
