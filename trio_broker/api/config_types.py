"""Types for the API, made from the tables of the configuration: what a root looks like in requests and answers.

Invariant: a key that is declared in the configuration is in the API document with its meaning and its default; what
values it takes beyond their JSON type is checked by the configuration alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import attrs
import msgspec
from msgspec import UNSET, Meta, UnsetType

from trio_broker.config import kinds
from trio_broker.config.setting import Kind, Setting, entries

_TYPES: Final[dict[type[Kind], Any]] = {
    kinds.Flag: bool,
    kinds.Integer: int,
    kinds.Number: float,
    kinds.Text: str,
    kinds.Choice: str,
    kinds.Percentage: str,
    kinds.Address: str | int,
    kinds.Duration: str | int,
    kinds.Size: str | int,
    kinds.Rate: str | float,
    kinds.Mark: str | int,
}


def struct_of(cls: type[attrs.AttrsInstance], name: str) -> type[msgspec.Struct]:
    """A Struct with the keys of a table, all of which may be left out; tables below it are Structs too."""
    fields: list[tuple[str, Any, Any]] = []
    for key, entry in entries(cls).items():
        below = getattr(entry, "cls", None)
        if isinstance(entry, Setting):
            hint: Any = type_of(entry.kind)
            described: Any = Annotated[hint, Meta(description=entry.doc, extra_json_schema={"example": entry.default})]
        elif below is not None and type(entry).__name__ == "_Table":
            described = struct_of(below, f"{name}{key.title().replace('_', '')}")
        else:
            described = list[dict[str, Any]] if below is not None else dict[str, Any]
        fields.append((key, described | UnsetType, UNSET))
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)


def type_of(kind: Kind) -> Any:
    """The JSON type of values of this kind."""
    if isinstance(kind, kinds.Or):
        return type_of(kind.kind) | str
    if isinstance(kind, kinds.ListOf):
        items = list[type_of(kind.kind)]  # type: ignore[misc,valid-type]
        return items | str if kind.commas else items
    if isinstance(kind, kinds.Table):
        return dict[str, type_of(kind.kind)]  # type: ignore[misc]
    return next((_TYPES[base] for base in type(kind).__mro__ if base in _TYPES), Any)
