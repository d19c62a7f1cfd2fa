"""`GET /error_codes`: what the `code` of an error body can be. Needs no credentials.

Invariant: names and order are those of the contract.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from trio_broker.api.context import Api
from trio_broker.api.failures import Failure
from trio_broker.api.routes import EVERYBODY, Routes

routes = Routes("Error Codes")

UNKNOWN_CODE: Final = Failure(400, "BAD_REQUEST", "No such error code")

ERROR_CODES: Final[dict[str, str]] = {
    "BAD_USERNAME_OR_PWD": "The user name or the password is wrong",
    "BAD_API_KEY_OR_SECRET": "The API key or its secret is wrong",
    "BAD_REQUEST": "The request has a parameter or a body that cannot be used",
    "NOT_MATCH": "The conditions of the request do not hold",
    "ALREADY_EXISTS": "Something of that name is there already",
    "BAD_CONFIG_SCHEMA": "The configuration has a key or a value that is not allowed",
    "BAD_LISTENER_ID": "The listener id is wrong or not known",
    "BAD_NODE_NAME": "The node name is wrong",
    "BAD_RPC": "A node could not be asked",
    "BAD_TOPIC": "The topic is not well formed",
    "EXCEED_LIMIT": "A limit would be exceeded",
    "INVALID_PARAMETER": "A parameter has a value that is not allowed",
    "CONFLICT": "Another request got there first",
    "NO_DEFAULT_VALUE": "This setting has no default value",
    "DEPENDENCY_EXISTS": "Something else still needs this",
    "MESSAGE_ID_SCHEMA_ERROR": "The message id is not well formed",
    "INVALID_ID": "The id is not well formed",
    "MESSAGE_ID_NOT_FOUND": "There is no message of that id",
    "NOT_FOUND": "What was asked for does not exist",
    "CLIENTID_NOT_FOUND": "There is no session of that client id",
    "CLIENT_NOT_FOUND": "There is no such client",
    "RESOURCE_NOT_FOUND": "There is no such resource",
    "TOPIC_NOT_FOUND": "There is no such topic",
    "USER_NOT_FOUND": "There is no such user",
    "INTERNAL_ERROR": "The server failed; its log tells more",
    "SERVICE_UNAVAILABLE": "The server cannot answer now",
    "SOURCE_ERROR": "A source of data failed",
    "UPDATE_FAILED": "The update was not carried out",
    "REST_FAILED": "The setting could not be put back to its default",
    "CLIENT_NOT_RESPONSE": "The client did not answer",
    "UNSUPPORTED_MEDIA_TYPE": "The body is of a type that is not understood",
}


class ErrorCode(Struct):
    code: str
    description: str


@routes.get("/error_codes", "List error codes", access=EVERYBODY)
async def list_error_codes(api: Api) -> list[ErrorCode]:
    return [ErrorCode(code, description) for code, description in ERROR_CODES.items()]


@routes.get("/error_codes/:code", "Get an error code", access=EVERYBODY, failures=[UNKNOWN_CODE])
async def error_code(api: Api, code: str) -> ErrorCode:
    if code not in ERROR_CODES:
        raise UNKNOWN_CODE.error()
    return ErrorCode(code, ERROR_CODES[code])
