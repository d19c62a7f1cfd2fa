"""From untyped JSON and query texts to the Struct a handler asks for, or a 400 that says what is wrong and where.

Invariant: no input raises anything but `ApiError`.
"""

from __future__ import annotations

import re
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec

from trio_broker.api.failures import MALFORMED_JSON, ApiError, invalid

_PLACE: Final = re.compile(r"(?s)(?P<reason>.*?)(?: - at `\$(?P<place>.*)`)?")
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[\.\.\.\]")
_FIELD: Final = re.compile(r".*field `(.*)`")
_ENUM: Final = "Invalid enum value"
_SECRET: Final = frozenset({"password", "old_pwd", "new_pwd", "secret"})
"""Fields whose values are not told, not even to who sent them."""


def parse_body(raw: bytes, wanted: Any) -> Any:
    """The JSON document `raw` as `wanted`; no body at all counts as `{}`, a null field as absent."""
    try:
        document = msgspec.json.decode(raw) if raw.strip() else {}
        if b"null" in raw:
            document = _without_nulls(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # A number out of range is a ValidationError, bytes that are no UTF-8 a UnicodeDecodeError.
        raise MALFORMED_JSON.error() from None
    converted = _convert(document, wanted, "root")
    if (flags := _flags(wanted)) is not None:
        _check_flags(document, flags, "root")
    return converted


def parse_query(query_string: bytes, wanted: type[msgspec.Struct]) -> Any:
    """The query as `wanted`: unknown parameters are ignored; of a repeated scalar the first one counts."""
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise invalid("query", "Expected percent-encoded UTF-8") from None
    lists = list_fields(wanted)
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in lists:
            values.setdefault(name, []).append(value)
        else:
            values.setdefault(name, value)
    return _convert(values, wanted, "")


@cache  # it is asked for each request, and takes longer than most of them
def list_fields(wanted: type[msgspec.Struct]) -> frozenset[str]:
    """The parameters that may be repeated."""
    return frozenset(
        field.encode_name
        for field in msgspec.structs.fields(wanted)
        if any(get_origin(_bare(part)) is list for part in (field.type, *get_args(field.type)))
    )


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _convert(value: Any, wanted: Any, root: str) -> Any:
    try:
        # strict=False: numbers also as numeric texts, in queries and (as the contract has it) in bodies.
        return msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), value, root) from None


@cache
def _flags(wanted: Any) -> Any:
    """Where `wanted` has booleans: a frozenset is one, of the words that may stand there as well; a dict has them by
    field, a list in its items; None: nowhere.
    """
    wanted = _bare(wanted)
    if wanted is bool:
        return frozenset[str]()
    if get_origin(wanted) is list:
        inner = _flags(get_args(wanted)[0])
        return None if inner is None else [inner]
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        found = {field.encode_name: _flags(field.type) for field in msgspec.structs.fields(wanted)}
        return {name: inner for name, inner in found.items() if inner is not None} or None
    parts = [part for part in get_args(wanted) if part not in (msgspec.UnsetType, NoneType)]
    if get_origin(wanted) not in (Union, UnionType):
        return None
    if len(parts) == 2 and parts[0] is bool and get_origin(parts[1]) is Literal:
        return frozenset(get_args(parts[1]))
    return _flags(parts[0]) if len(parts) == 1 else None


def _check_flags(value: Any, flags: Any, path: str) -> None:
    """Where numbers may be texts, msgspec takes 0 and 1 for booleans; the contract does not."""
    if isinstance(flags, frozenset):
        if not isinstance(value, bool) and value not in ("true", "false", *flags):
            raise invalid(path, " or ".join(["Expected type boolean", *sorted(flags)]), value=value)
    elif isinstance(flags, dict) and isinstance(value, dict):
        for name, inner in flags.items():
            if name in value:
                _check_flags(value[name], inner, f"{path}.{name}")
    elif isinstance(flags, list) and isinstance(value, list):
        for number, item in enumerate(value, 1):
            _check_flags(item, flags[0], f"{path}.{number}")


def _without_nulls(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _without_nulls(value) for key, value in document.items() if value is not None}
    if isinstance(document, list):
        return [_without_nulls(value) for value in document]
    return document


def _refusal(text: str, value: Any, root: str) -> ApiError:
    found = _PLACE.fullmatch(text)
    assert found is not None  # the pattern takes every text
    path, reason, more = [root] if root else [], found["reason"], dict[str, object]()
    for key, index in _STEP.findall(found["place"] or ""):
        if key:
            path.append(key)
            value = value.get(key) if isinstance(value, dict) else None
        elif index:
            path.append(str(int(index) + 1))
            value = value[int(index)] if isinstance(value, list) else None
        else:
            value = None
    field = _FIELD.fullmatch(reason)
    if field and reason.startswith("Object missing required field"):
        path.append(field[1])
        reason = "required_field"
    elif field and reason.startswith("Object contains unknown field"):
        reason, more["unknown"] = "unknown_fields", field[1]
    else:
        if reason.startswith(_ENUM):
            more["matched_type"], reason = reason, "not_a_enum_symbol"
        if isinstance(value, str | int | float) and not _SECRET.intersection(path):
            more["value"] = value if not isinstance(value, str) else value[:200]
    return invalid(".".join(path), reason, **more)
