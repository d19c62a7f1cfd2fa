"""The parameters of a request: query string and JSON body in one, the query first; each parameter's first value.

Invariant: nothing here raises anything but ApiError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from trio_broker.api.failures import ApiError
from trio_broker.api.v4.envelope import BAD_PARAMETER, MISSING_PARAMETER

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")

_FAULT: Final = re.compile(r"(Expected `(?:int|bool)`|Invalid enum value).* - at `\$\.([^.\[]+)`", re.DOTALL)
_WORDS: Final = {"Expected `int`": "integer", "Expected `bool`": "atom", "Invalid enum value": "atom"}


class Parameters(dict[str, Any]):
    """By their names, as they were sent. `batch` is the body where that is an array, else None."""

    def __init__(self, body: Any, query: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(body if isinstance(body, dict) else {})
        for name, value in reversed(query):
            self[name] = value
        self.batch: list[Any] | None = body if isinstance(body, list) else None


def converted(params: Mapping[str, Any], wanted: type[S]) -> S:
    """As `wanted`, where numbers and flags may be texts. 107 for one that is missing, 108 for a wrong type."""
    missing = [
        field.encode_name
        for field in msgspec.structs.fields(wanted)
        if field.required and params.get(field.encode_name) is None
    ]
    if missing:
        raise MISSING_PARAMETER.error(f"missing mandatory params: {missing}")
    try:
        return msgspec.convert(
            {name: value for name, value in params.items() if value is not None}, wanted, strict=False
        )
    except msgspec.ValidationError as error:
        fault = _FAULT.fullmatch(str(error))
        if fault is not None and isinstance(value := params.get(fault[2]), str):
            raise wrong_type(value, _WORDS[fault[1]]) from None
        raise BAD_PARAMETER.error(str(error)) from None


def wrong_type(value: object, wanted: str) -> ApiError:
    """108: the text of a parameter is not what it has to be, in EMQX 4's words for it."""
    return BAD_PARAMETER.error(f'Can\'t convert <<"{str(value)[:200]}">> to {wanted} type')


def or_none(value: T | UnsetType) -> T | None:
    return None if value is UNSET else value
