"""What every answer of EMQX 4 is wrapped in: `code`, `data`, `meta`; and the result codes of the Cloud document.

Invariant: whatever a handler says, the HTTP status is 200, and `code` tells whether it went well.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from msgspec import UNSET, Struct, UnsetType

from trio_broker.api.failures import ApiError, Failure

__all__ = ["Data", "Done", "Listed", "Meta", "refused"]

T = TypeVar("T")


class Done(Struct, tag_field="code", tag=0):
    """It went well, and there is nothing to say."""


class Data(Struct, Generic[T], tag_field="code", tag=0):
    """One thing, or a list that has no pages."""

    data: T


class Meta(Struct, kw_only=True):
    """`count` is -1 where it was not counted."""

    page: int
    limit: int
    count: int
    hasnext: bool | UnsetType = UNSET


class Listed(Struct, Generic[T], tag_field="code", tag=0):
    """A page of rows."""

    data: list[T]
    meta: Meta


BAD_RPC: Final = Failure(200, 101, "nodedown")
UNKNOWN_ERROR: Final = Failure(200, 102, "unknown_error")
WRONG_PASSWORD: Final = Failure(200, 103, "Username/Password error")
EMPTY_NAME_OR_PASSWORD: Final = Failure(200, 104, "Username or password undefined")
NO_USER: Final = Failure(200, 105, "Username Not Found")
ADMIN_STAYS: Final = Failure(200, 106, "Cannot delete admin")
MISSING_PARAMETER: Final = Failure(200, 107, "params_not_found")
BAD_PARAMETER: Final = Failure(200, 108, "bad_params")
NOT_JSON: Final = Failure(400, 109, "Bad Request")
ALREADY_STARTED: Final = Failure(200, 110, "already_started")
NOT_STARTED: Final = Failure(200, 111, "not_started")
NOT_FOUND: Final = Failure(200, 112, "not_found")
USER_EXISTS: Final = Failure(200, 113, "existed")
WRONG_OLD_PASSWORD: Final = Failure(200, 114, "Username/Password error")
BAD_TOPIC: Final = Failure(200, 115, "bad_topic")
BAD_QOS: Final = Failure(200, 116, "bad_qos")


def refused(code: int, message: str) -> ApiError:
    """An error of a result code that is said in words of its own."""
    return Failure(200, code, message).error()
