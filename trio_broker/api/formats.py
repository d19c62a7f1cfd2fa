"""How times, sizes and message ids are written in requests and answers.

Invariant: pure functions; nothing here knows a route.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from trio_broker.api.failures import invalid
from trio_broker.config.sizes import parse_size
from trio_broker.protocol.reason_codes import ReasonCode

QUARTER: Final = 900_000
"""Milliseconds of a quarter of an hour."""

LATEST: Final = 253_402_214_400
"""Seconds: the last day that can be written in every time zone, the end of the year 9999."""

_DIGITS: Final = re.compile(r"[0-9]{1,18}")
# A plus sign that was sent unescaped in a query arrives as a space; before an offset it can mean nothing else.
_LOST_PLUS: Final = re.compile(r" (?=[0-9]{2}:?[0-9]{2}$)")


def rfc3339_ms(milliseconds: int) -> str:
    """Milliseconds since the epoch as local time with its offset: `2024-01-01T12:34:56.789+08:00`."""
    quarters, rest = divmod(milliseconds, QUARTER)
    minutes, rest = divmod(rest, 60_000)
    hour, minute, offset = _quarter(quarters, time.tzname)
    return f"{hour}{minute + minutes:02}:{rest // 1000:02}.{rest % 1000:03}{offset}"


def local_time(milliseconds: int) -> str:
    """The same as the older generations write it: `2024-01-01 12:34:56`, without offset and parts of a second."""
    quarters, rest = divmod(milliseconds, QUARTER)
    hour, minute, _ = _quarter(quarters, time.tzname)
    return f"{hour[:10]} {hour[11:]}{minute + rest // 60_000:02}:{rest // 1000 % 60:02}"


@lru_cache(maxsize=1024)
def _quarter(quarters: int, zone: tuple[str, str]) -> tuple[str, int, str]:
    """Date and hour, minute and offset at the beginning of a quarter of an hour since the epoch.

    No zone changes its offset within one, and a list has the same few of them a thousand times.
    """
    moment = datetime.fromtimestamp(quarters * QUARTER // 1000, UTC).astimezone()
    text = moment.isoformat(timespec="seconds")
    return text[:14], moment.minute, text[19:]


def milliseconds(name: str, value: str) -> int:
    """Milliseconds since the epoch from their decimal digits or an RFC 3339 time; 400 naming `name` otherwise."""
    if _DIGITS.fullmatch(value):
        return int(value)
    try:
        moment = datetime.fromisoformat(_LOST_PLUS.sub("+", value))
        if moment.tzinfo is None:
            raise ValueError("no offset")
        return int(moment.timestamp() * 1000 + 0.5)
    except (ValueError, OverflowError):
        raise invalid(name, "Expected type epoch_millisecond or RFC 3339 time", value=value[:200]) from None


def rfc3339(seconds: int) -> str:
    """Seconds since the epoch as local time with its offset: `2024-01-01T12:34:56+08:00`."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(timespec="seconds")


def seconds(name: str, value: int | str) -> int:
    """Seconds since the epoch, of 1970 to 9999, from their number or an RFC 3339 time; 400 naming `name` otherwise."""
    if isinstance(value, int) or _DIGITS.fullmatch(value):
        found = int(value)
    else:
        try:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                raise ValueError("no offset")
            found = int(moment.timestamp())
        except (ValueError, OverflowError):
            raise invalid(name, "Expected type epoch_second or RFC 3339 time", value=value[:200]) from None
    if not 0 <= found <= LATEST:
        raise invalid(name, "Expected a time from 1970 to 9999", value=value)
    return found


def byte_size(name: str, value: str) -> int:
    """Bytes from `1024`, `"32KB"`, `"1MB"`, `"2GB"` (1024 based); at least 1, else 400 naming `name`."""
    try:
        size = parse_size(value)
    except ValueError:
        size = 0
    if size < 1:
        raise invalid(name, "Expected type bytesize above 0", value=value[:200])
    return size


def memory(size: int) -> str:
    """Bytes as `15.52G`, `3.10M`, `1.00K`; below 1 K the plain number."""
    for unit, letter in ((1024**3, "G"), (1024**2, "M"), (1024, "K")):
        if size >= unit:
            return f"{size / unit:.2f}{letter}"
    return str(size)


def message_id_text(message_id: int, suffix: int) -> str:
    """32 upper case hexadecimal digits: our 64-bit message id, then 64 bits that tell this broker from others."""
    return f"{message_id:016X}{suffix:016X}"


def username_text(username: str | None) -> str:
    """EMQX writes the absent user name of a publisher as the word `undefined`."""
    return "undefined" if username is None else username


def by_reason(counts: Mapping[int, int], words: Mapping[ReasonCode, str]) -> dict[str, int]:
    """Counts of reason codes by the words for them; those without one are called as the reason codes are."""
    shown: dict[str, int] = {}
    for code, count in counts.items():
        reason = ReasonCode(code)
        word = words.get(reason, reason.name.lower())
        shown[word] = shown.get(word, 0) + count
    return shown
