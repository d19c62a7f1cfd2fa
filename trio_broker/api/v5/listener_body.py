"""What is said of a listener in a request.

Invariant: the fields are those of the configuration (`trio_broker.config.listeners`), which checks their values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.api.config_types import struct_of
from trio_broker.api.failures import Failure, invalid
from trio_broker.config.listeners import LISTENER_KINDS, ListenerConfig

TYPE_INCONSISTENT: Final = Failure(400, "BAD_REQUEST", "listener_type_inconsistent")
ID_MISMATCH: Final = Failure(400, "BAD_LISTENER_ID", "Path and body's listener id not match")

Type = Literal["tcp", "ssl", "ws", "wss", "quic", "unix", "memory"]

if TYPE_CHECKING:
    Options = Struct
else:
    Options = struct_of(ListenerConfig, "ListenerOptions")


class ListenerFields(Options, kw_only=True, forbid_unknown_fields=True):
    """`running` and `current_connections` are taken, since answers have them, and say nothing."""

    running: bool | UnsetType = UNSET
    current_connections: int | UnsetType = UNSET


class NewListener(ListenerFields):
    type: Type
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=255)]
    id: str | UnsetType = UNSET


class KnownListener(ListenerFields):
    """`id` is that of the path."""

    type: Type
    id: str
    name: str | UnsetType = UNSET


_NOT_OPTIONS: Final = ("type", "id", "name", "running", "current_connections")


def options_of(body: ListenerFields) -> dict[str, Any]:
    """As in a `[listeners.<kind>.<name>]` table."""
    said = msgspec.to_builtins(body)
    return {name: value for name, value in said.items() if name not in _NOT_OPTIONS}


def check_id(body: KnownListener, id: str) -> None:
    """400 unless type, name and id say the same, and that is what the path says."""
    kind, _, name = body.id.partition(":")
    if kind != body.type:
        raise TYPE_INCONSISTENT.error()
    if body.id != id or body.name not in (UNSET, name):
        raise ID_MISMATCH.error()


def check_new(kind: str, options: dict[str, Any]) -> None:
    """400 for what cannot become a listener, whatever else is said of it."""
    if kind not in LISTENER_KINDS:
        reason = f"There are no {kind} listeners in this broker; there are {', '.join(LISTENER_KINDS)}"
        raise invalid("root.type", reason, value=kind)
    if "bind" not in options and kind != "memory":
        raise invalid("root.bind", "required_field")
