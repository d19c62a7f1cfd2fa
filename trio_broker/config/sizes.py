"""Byte sizes as EMQX writes them: `"10KB"`, `"1MB"`, `"2GB"` (1024-based), or an integer of bytes.

Invariant: `parse_size(format_size(x)) == x` for each x >= 0.
"""

from __future__ import annotations

import re

_UNITS = {"gb": 1 << 30, "mb": 1 << 20, "kb": 1 << 10, "b": 1, "": 1}

_SIZE = re.compile(r"(\d+)\s*(gb|mb|kb|b|)", re.ASCII)


def parse_size(raw: object) -> int:
    """Bytes from an integer, digits, or digits with a unit in any case; ValueError otherwise."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        if raw < 0:
            raise ValueError("not a size")
        return raw
    match = _SIZE.fullmatch(raw.strip().lower()) if isinstance(raw, str) else None
    if match is None:
        raise ValueError("not a size")
    return int(match[1]) * _UNITS[match[2]]


def format_size(size: int) -> str:
    """`1048576` as `"1MB"`: the largest unit that leaves no rest."""
    for unit, factor in _UNITS.items():
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit.upper()}"
    return f"{size}B"
