"""Durations as EMQX writes them: `"15s"`, `"1m30s"`, or an integer of milliseconds; seconds as a float inside.

Invariant: `parse_duration(format_duration(x)) == x` for each finite, non-negative x.
"""

from __future__ import annotations

import re
from decimal import Decimal, localcontext

_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
"""Milliseconds in a unit, the largest first."""

_PARTS = re.compile("".join(rf"(?:(?P<{unit}>\d+(?:\.\d+)?){unit})?" for unit in _UNITS), re.ASCII)


def parse_duration(raw: object) -> float:
    """Seconds from an integer (milliseconds), digits (the same) or parts such as `"1m30s"`; ValueError otherwise.

    Each unit may come once, the larger first; a part may have decimals.
    """
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = str(raw)
    if not isinstance(raw, str):
        raise ValueError("not a duration")
    text = raw.strip().lower()
    if text.isascii() and text.isdigit():
        return float(Decimal(text).scaleb(-3))
    parts = _PARTS.fullmatch(text)
    if not text or parts is None:
        raise ValueError("not a duration")
    with localcontext() as context:
        context.prec = 1000  # exact sums, so that what was written out comes back as the same float
        total = sum(Decimal(number) * _UNITS[unit] for unit, number in parts.groupdict().items() if number)
        return float(Decimal(total).scaleb(-3))


def format_duration(seconds: float) -> str:
    """`90.0` as `"1m30s"`; what is finer than a millisecond as decimals of a second."""
    with localcontext() as context:
        context.prec = 1000
        milliseconds = Decimal(repr(float(seconds))).scaleb(3)
        if milliseconds != milliseconds.to_integral_value():
            return f"{milliseconds.scaleb(-3):f}s"
    rest = int(milliseconds)
    text = ""
    for unit in ("d", "h", "m", "s", "ms"):  # weeks are understood, and written as days
        number, rest = divmod(rest, _UNITS[unit])
        text += f"{number}{unit}" if number else ""
    return text or "0s"
