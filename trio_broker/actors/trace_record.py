"""What one trace is to record, from when until when; how that is checked and kept.

Invariant: a record never changes; its name can be a file name, and leads to no other directory. Times are wall clock in
seconds.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal, get_args

from attrs import define, field

from trio_broker.access.addresses import plain_address
from trio_broker.actors.trace_lines import Formatter
from trio_broker.actors.trace_packets import PayloadEncode
from trio_broker.errors import ProtocolError, TrioBrokerError
from trio_broker.protocol.primitives import MAXIMUM_STRING_SIZE
from trio_broker.protocol.topics import parse_topic_filter

TraceType = Literal["clientid", "topic", "ip_address", "ruleid"]
Status = Literal["waiting", "running", "stopped"]

MOST: Final = 30
"""Traces there may be at one time."""
LENGTH: Final = 600
"""Seconds a trace runs when nothing else is said."""
LONGEST: Final = 7 * 86_400
"""Seconds a trace may run."""
LONGEST_WAIT: Final = 366 * 86_400
"""Seconds a trace may wait for its start."""
LONGEST_NAME: Final = 200
"""Characters."""

_YEAR_9999: Final = 253_370_764_800
# EMQX writes `[A-Za-z]+` at its beginning, which is the same, but takes time with the square of a name's length.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-_]*")


class TraceRefused(TrioBrokerError):
    """A trace cannot be made; `code` is the one that REST answers with."""

    def __init__(
        self, code: Literal["ALREADY_EXISTS", "DUPLICATE_CONDITION", "BAD_TYPE", "INVALID_PARAMS"], message: str
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@define(frozen=True)
class NewTrace:
    """What is asked for; `value` is a client identifier, a topic filter or an address, as `type` says."""

    name: str
    type: TraceType
    value: str
    start_at: int | None = None
    end_at: int | None = None
    payload_encode: PayloadEncode = "text"
    formatter: Formatter = "text"


@define(frozen=True)
class TraceRecord:
    """`enable` is false when it was stopped, or when its end has passed."""

    name: str
    type: TraceType
    value: str
    start_at: int
    end_at: int
    payload_encode: PayloadEncode
    formatter: Formatter
    enable: bool = field(default=True)

    def status(self, now_ms: int) -> Status:
        if not self.enable or now_ms >= self.end_at * 1000:
            return "stopped"
        return "waiting" if now_ms < self.start_at * 1000 else "running"

    def body(self) -> dict[str, Any]:
        """As it is kept, without its name."""
        return {
            "type": self.type,
            "value": self.value,
            "start_at": self.start_at,
            "end_at": self.end_at,
            "payload_encode": self.payload_encode,
            "formatter": self.formatter,
            "enable": self.enable,
        }


def from_body(name: str, body: dict[str, Any]) -> TraceRecord:
    """The opposite of `TraceRecord.body`. Raises ValueError for what was never written by it."""
    try:
        record = TraceRecord(name, **body)
    except TypeError as error:
        raise ValueError(str(error)) from None
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise ValueError("its name cannot be a file name")
    value: Any = record.value
    times: tuple[Any, ...] = (record.start_at, record.end_at)
    if not isinstance(value, str) or not all(type(time) is int and 0 <= time < _YEAR_9999 for time in times):
        raise ValueError("a value is of another type")
    if record.type not in get_args(TraceType):
        raise ValueError(f"its type is {record.type!r}")
    return record


def settled(new: NewTrace, now: int) -> TraceRecord:
    """With its times, if all is as it must be. Raises TraceRefused."""
    if not _NAME.fullmatch(new.name):
        raise _invalid("Name should be ^[A-Za-z]+[A-Za-z0-9-_]*$")
    if len(new.name) > LONGEST_NAME:
        raise _invalid(f"Name Length must =< {LONGEST_NAME}")
    start_at = now if new.start_at is None else max(now, new.start_at)
    end_at = start_at + LENGTH if new.end_at is None else new.end_at
    if end_at <= now:
        raise _invalid("end_at time has already passed")
    if end_at <= start_at:
        raise _invalid("failed by start_at >= end_at")
    if start_at - now > LONGEST_WAIT:
        raise _invalid(f"start_at is more than {LONGEST_WAIT // 86_400} days away")
    if end_at - start_at > LONGEST:
        raise _invalid(f"end_at is more than {LONGEST // 86_400} days after start_at")
    value = _value(new.type, new.value)
    return TraceRecord(new.name, new.type, value, start_at, end_at, new.payload_encode, new.formatter)


def _value(kind: TraceType, value: str) -> str:
    if kind == "ruleid":
        raise TraceRefused("BAD_TYPE", "ruleid: this broker has no rules that could be traced")
    if kind == "topic":
        try:
            share_name, _ = parse_topic_filter(value)
        except ProtocolError as error:
            raise _invalid(f"topic: {error.message}") from None
        if share_name is not None:
            raise _invalid("topic: a trace is for topics, whoever shares them: leave out $share/NAME/ or $queue/")
        return value
    if kind == "ip_address":
        try:
            return str(plain_address(value))
        except ValueError:
            raise _invalid("ip_address: Expected an IPv4 or IPv6 address") from None
    if not value or "\0" in value or len(value.encode()) > MAXIMUM_STRING_SIZE:
        raise _invalid("clientid: Expected a client identifier")
    return value


def _invalid(message: str) -> TraceRefused:
    return TraceRefused("INVALID_PARAMS", message)
