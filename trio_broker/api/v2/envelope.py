"""What every answer of EMQ 2 is wrapped in: `code` and `result`; and its result codes.

Invariant: whatever a handler says, the HTTP status is 200, and `code` tells whether it went well.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from msgspec import Struct

from trio_broker.api.failures import ApiError, Failure

__all__ = ["Objects", "Page", "Result", "refused"]

T = TypeVar("T")


class Result(Struct, Generic[T], tag_field="code", tag=0):
    """An operation with nothing to report has an empty list."""

    result: T


class Objects(Struct, Generic[T]):
    """What a look-up finds; nothing, where there is nothing."""

    objects: list[T]


class Page(Struct, Generic[T], kw_only=True):
    """`total_page` is 0 where there is nothing."""

    current_page: int
    page_size: int
    total_num: int
    total_page: int
    objects: list[T]


BAD_RPC: Final = Failure(200, 101, "badrpc")
UNKNOWN_ERROR: Final = Failure(200, 102, "unknown")
WRONG_PASSWORD: Final = Failure(200, 103, "Password error")
EMPTY_NAME_OR_PASSWORD: Final = Failure(200, 104, "Username or password is empty")
NO_USER: Final = Failure(200, 105, "User not found")
ADMIN_STAYS: Final = Failure(200, 106, "admin cannot be deleted")
MISSING_PARAMETER: Final = Failure(200, 107, "params error")
WRONG_TYPE: Final = Failure(200, 108, "params type error")
NOT_JSON: Final = Failure(200, 109, "Body not json")
ALREADY_STARTED: Final = Failure(200, 110, "already_started")
NOT_STARTED: Final = Failure(200, 111, "not_started")
NOT_ONLINE: Final = Failure(200, 112, "")
USER_EXISTS: Final = Failure(200, 113, "User already exist")
WRONG_OLD_PASSWORD: Final = Failure(200, 114, "OldPassword error")


def refused(code: int, message: str) -> ApiError:
    """An error of a result code that is said in words of its own."""
    return Failure(200, code, message).error()
