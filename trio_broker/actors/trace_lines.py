"""One event of a trace as one line, in one of two forms: text as EMQX writes it, or a JSON object.

Invariant: an event is one line whatever is in it: nothing that a client sent can begin another one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from attrs import define, field

from trio_broker.actors.trace_packets import PayloadEncode, cut, describe, payload_text
from trio_broker.protocol.packets import Packet

Formatter = Literal["text", "json"]

# Control characters, and what else some reader may take for the end of a line.
_BREAKS: Final = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_SHORT: Final = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}
_ESCAPES: Final = {code: _SHORT.get(code, f"\\u{code:04x}") for code in _BREAKS}


@define(frozen=True)
class Event:
    """`tag` says what part of the broker it is about, `fields` are shown in their order. Of whom: `peer` is
    `host:port`; both may be empty."""

    tag: str
    msg: str
    client_id: str = ""
    peer: str = ""
    packet: Packet | None = None
    fields: Mapping[str, Any] = field(factory=dict)
    payload: bytes | None = None


def line_of(event: Event, wall_ns: int, formatter: Formatter, encode: PayloadEncode) -> bytes:
    """With its line break."""
    return (_json(event, wall_ns, encode) if formatter == "json" else _text(event, wall_ns, encode)).encode() + b"\n"


def _time(wall_ns: int) -> str:
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.astimezone().isoformat(timespec="microseconds")


def _text(event: Event, wall_ns: int, encode: PayloadEncode) -> str:
    parts = [f"{_time(wall_ns)} [{event.tag}] {cut(event.client_id)}@{event.peer} msg: {event.msg}"]
    if event.packet is not None:
        parts.append(f"packet: {describe(event.packet, encode)}")
    parts += [f"{name}: {_shown(value)}" for name, value in event.fields.items()]
    if event.payload is not None:
        parts.append(f"payload: {payload_text(event.payload, encode)[0]}")
    return ", ".join(parts).translate(_ESCAPES)


def _json(event: Event, wall_ns: int, encode: PayloadEncode) -> str:
    meta: dict[str, Any] = {"trace_tag": event.tag}
    if event.client_id:
        meta["clientid"] = cut(event.client_id)
    if event.peer:
        meta["peername"] = event.peer
    if event.packet is not None:
        meta["packet"] = describe(event.packet, encode)
    for name, value in event.fields.items():
        meta[name] = cut(value) if isinstance(value, str) else value
    if event.payload is not None:
        meta["payload"], meta["payload_encode"] = payload_text(event.payload, encode)
    line = {"time": _time(wall_ns), "level": "debug", "msg": event.msg, "meta": meta}
    # The rest of these characters can only be within a text, where JSON takes the escape for them.
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_shown(part)}" for name, part in value.items()) + "}"
    return cut(str(value))
