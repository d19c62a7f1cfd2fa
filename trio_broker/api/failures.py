"""Answers that are not a success, each written once: raised by handlers, listed by the API document.

Invariant: what a caller is told comes from here and never holds a traceback or a secret.
"""

from __future__ import annotations

from typing import Final

import msgspec
from attrs import define, field


class ApiError(Exception):
    """Ends the handling of a request; `body` is encoded as JSON (None = empty body)."""

    def __init__(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.headers = headers or {}


@define(frozen=True)
class Failure:
    """One documented failure: `raise FAILURE.error()`. `code` is a word in v5, a number before; no message, no key."""

    status: int
    code: str | int
    message: str
    headers: dict[str, str] = field(factory=dict)

    def error(self, message: str | None = None) -> ApiError:
        body: dict[str, object] = {"code": self.code}
        if text := self.message if message is None else message:
            body["message"] = text
        return ApiError(self.status, body, self.headers)


CHALLENGE: Final = {"www-authenticate": 'Basic Realm="emqx-dashboard"'}

BAD_REQUEST: Final = Failure(400, "BAD_REQUEST", "A parameter or the body is not as it must be (JSON text)")
MALFORMED_JSON: Final = Failure(400, "BAD_REQUEST", "Invalid json message received")
INVALID_PARAMETER: Final = Failure(400, "INVALID_PARAMETER", "A parameter has a wrong value")
NO_CREDENTIALS: Final = Failure(
    401, "AUTHORIZATION_HEADER_ERROR", "Support authorization: basic/bearer ", headers=CHALLENGE
)
BAD_API_KEY: Final = Failure(401, "BAD_API_KEY_OR_SECRET", "Check api_key/api_secret", headers=CHALLENGE)
BAD_TOKEN: Final = Failure(401, "BAD_TOKEN", "Get a token by POST /login")
TOKEN_TIME_OUT: Final = Failure(401, "TOKEN_TIME_OUT", "Token expired, get new token by POST /login")
API_KEY_NOT_ALLOW: Final = Failure(
    401,
    "API_KEY_NOT_ALLOW",
    "Please use bearer Token instead, using API key/secret in <resource> path is not permitted",
    headers=CHALLENGE,
)
CROSS_SITE: Final = Failure(
    403, "NOT_ALLOWED", "A page of another site asked for it in a browser; dashboard.cors = true would let it"
)
USER_TOO_WEAK: Final = Failure(403, "UNAUTHORIZED_ROLE", "You don't have permission to access this resource")
ROLE_TOO_WEAK: Final = Failure(403, "UNAUTHORIZED_ROLE", "This API Key don't have permission to access this resource")
NOT_FOUND: Final = Failure(404, "NOT_FOUND", "Request Path Not Found")
BODY_TIMEOUT: Final = Failure(408, "BAD_REQUEST", "The request body did not arrive in time")
BODY_TOO_LARGE: Final = Failure(413, "EXCEED_LIMIT", "The request body is too large")
NOT_JSON: Final = Failure(415, "UNSUPPORTED_MEDIA_TYPE", "content-type:application/json Required")
INTERNAL_ERROR: Final = Failure(500, "INTERNAL_ERROR", "Internal error, the log of the broker tells more")
NODE_DOWN: Final = Failure(500, "NODE_DOWN", 'bad rpc call <name>, Reason <<"invalid node">>')
BUSY: Final = Failure(
    503, "SERVICE_UNAVAILABLE", "Too many secrets are being checked, try again", headers={"retry-after": "1"}
)
UNAVAILABLE: Final = Failure(503, "SERVICE_UNAVAILABLE", "The broker did not answer")

CLIENT_NOT_FOUND: Final = Failure(404, "CLIENTID_NOT_FOUND", "Client ID not found")
CLIENT_SHUTDOWN: Final = Failure(404, "CLIENT_SHUTDOWN", "Client connection has been shutdown")


def invalid(path: str, reason: str, **more: object) -> ApiError:
    """400 BAD_REQUEST whose message is a JSON text that names `path` and `reason`."""
    detail = {"kind": "validation_error", "path": path, "reason": reason, **more}
    return BAD_REQUEST.error(msgspec.json.encode(detail).decode())
