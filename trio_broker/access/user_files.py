"""Users in a file: JSON (an array of objects) or CSV (a line with the names of the columns, then one for each user).

Invariant: what is wrong is told with the number of the row it is in, and without what the row says; a file with one bad
row is no file of users.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import PurePath
from typing import Any, Final, Literal

from attrs import field, frozen

__all__ = ["EMPTY_USERS", "PasswordType", "UserFileError", "UserRow", "check_user_id", "rows_of", "rows_of_file"]

PasswordType = Literal["plain", "hash"]

LONGEST: Final = 65_535
"""Bytes of a text or a password in MQTT."""
BAD_FORMAT: Final = "bad_format"
EMPTY_USERS: Final = "empty_users"
# EMQX says these two in quotes.
NEEDS: Final = {
    "plain": ("password", '"plain_import_requires_password_field"'),
    "hash": ("password_hash", '"hash_import_requires_password_hash_field"'),
}


class UserFileError(ValueError):
    """`message` is EMQX's word for it, `detail` says more; `place` is where: "row 3" or "line 4", "" = everywhere."""

    def __init__(self, message: str, detail: str = "", place: str = "") -> None:
        super().__init__(": ".join(part for part in (place, message, detail) if part))
        self.message = message
        self.detail = detail
        self.place = place


@frozen
class UserRow:
    """`secret` is a password or its hash. `place` as `UserFileError` has it."""

    user_id: str
    secret: str = field(repr=False)
    salt: str = field(repr=False)
    is_superuser: bool
    place: str


def check_user_id(user_id: object) -> str:
    """Raises ValueError for what no client can call itself."""
    if not isinstance(user_id, str) or not user_id:
        raise ValueError("user_id is missing or no text")
    try:
        size = len(user_id.encode())
    except UnicodeEncodeError:
        raise ValueError("user_id is no Unicode text") from None
    if size > LONGEST:
        raise ValueError(f"user_id is longer than {LONGEST} bytes")
    if "\0" in user_id:
        raise ValueError("user_id has a NUL, which no name in MQTT has")
    return user_id


def rows_of_file(name: str, content: bytes, kind: PasswordType) -> list[UserRow]:
    """The users of a file; what it is is told by how its name ends. Raises UserFileError."""
    suffix = PurePath(name).suffix
    if suffix == ".json":
        try:
            document = json.loads(content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise UserFileError(BAD_FORMAT, f"byte {error.start} is not UTF-8") from None
        except json.JSONDecodeError as error:
            raise UserFileError(BAD_FORMAT, f"no JSON: {error.msg}, line {error.lineno}") from None
        except (ValueError, RecursionError):
            raise UserFileError(BAD_FORMAT, "no JSON") from None
        return rows_of(document, kind)
    if suffix == ".csv":
        return [_row(columns, kind, place) for place, columns in _csv(content)]
    if not suffix:
        raise UserFileError("unknown_file_format")
    raise UserFileError(f'{{unsupported_file_format,<<"{suffix[:20]}">>}}')


def rows_of(document: object, kind: PasswordType) -> list[UserRow]:
    """The users of a JSON document. Raises UserFileError."""
    if not isinstance(document, list):
        raise UserFileError("unknown_file_format")
    return [_row(item, kind, f"row {number}") for number, item in enumerate(document, 1)]


def _csv(content: bytes) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each user with the line it is in. Lines without anything are passed over, an empty field counts as absent."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserFileError(BAD_FORMAT, "it is not UTF-8", f"line {line}") from None
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    names: Sequence[str] | None = None
    line = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserFileError(BAD_FORMAT, str(error), f"line {line}") from None
        place, line = f"line {line}", reader.line_num + 1
        if not any(fields):
            continue
        if names is None:
            names = [name.strip() for name in fields]
            if "user_id" not in names:
                raise UserFileError(BAD_FORMAT, "the first line has no user_id among the names of the columns", place)
        elif len(fields) != len(names):
            raise UserFileError(BAD_FORMAT, f"{len(fields)} fields, but {len(names)} columns", place)
        else:
            yield place, dict(_given(names, fields))


def _given(names: Iterable[str], fields: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name, value in zip(names, fields, strict=True):
        if value:
            yield name, value


def _row(item: Any, kind: PasswordType, place: str) -> UserRow:
    if not isinstance(item, Mapping):
        raise UserFileError(BAD_FORMAT, "it is no object", place)
    try:
        user_id = check_user_id(item.get("user_id"))
    except ValueError as error:
        raise UserFileError(BAD_FORMAT, str(error), place) from None
    name, missing = NEEDS[kind]
    secret, salt = item.get(name), item.get("salt")
    if secret is None:
        raise UserFileError(missing, "", place)
    for what, value in ((name, secret), ("salt", "" if salt is None else salt)):
        if not isinstance(value, str) or not _is_text(value):
            raise UserFileError(BAD_FORMAT, f"{what} is no text of at most {LONGEST} bytes", place)
    return UserRow(user_id, secret, salt or "", _is_true(item.get("is_superuser")), place)


def _is_text(value: str) -> bool:
    try:
        return len(value.encode()) <= LONGEST
    except UnicodeEncodeError:
        return False


def _is_true(value: object) -> bool:
    return value is True or value == "true"
