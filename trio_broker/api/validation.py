"""From untyped JSON and query texts to the Struct a handler asks for, or a 400 that says what is wrong and where.

Invariant: no input raises anything but `ApiError`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec

from trio_broker.api.failures import MALFORMED_JSON, ApiError, invalid

_PLACE: Final = re.compile(r"(?s)(?P<reason>.*?)(?: - at `\$(?P<place>.*)`)?")
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[\.\.\.\]")
_FIELD: Final = re.compile(r".*field `(.*)`")
_ENUM: Final = "Invalid enum value"


def parse_body(raw: bytes, wanted: Any) -> Any:
    """The JSON document `raw` as `wanted`; no body at all counts as `{}`, a null field as absent."""
    try:
        document = msgspec.json.decode(raw) if raw.strip() else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # A number out of range is a ValidationError, bytes that are no UTF-8 a UnicodeDecodeError.
        raise MALFORMED_JSON.error() from None
    return _convert(_without_nulls(document), wanted, "root")


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


def list_fields(wanted: type[msgspec.Struct]) -> set[str]:
    """The parameters that may be repeated."""
    return {
        field.encode_name
        for field in msgspec.structs.fields(wanted)
        if any(get_origin(_bare(part)) is list for part in (field.type, *get_args(field.type)))
    }


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _convert(value: Any, wanted: Any, root: str) -> Any:
    try:
        # strict=False: numbers also as numeric texts, in queries and (as the contract has it) in bodies.
        return msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), value, root) from None


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
        if isinstance(value, str | int | float):
            more["value"] = value if not isinstance(value, str) else value[:200]
    return invalid(".".join(path), reason, **more)
