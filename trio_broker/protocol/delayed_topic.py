"""`$delayed/SECONDS/TOPIC`: a message that is published later (EMQX's, not MQTT's own).

Invariant: there is no delay within a delay.
"""

from __future__ import annotations

from typing import Final

__all__ = ["PREFIX", "parse_delayed"]

PREFIX: Final = "$delayed/"


def parse_delayed(topic_name: str) -> tuple[int, str] | None:
    """`$delayed/15/a/b` as (15, "a/b"); None for what is not of this form, and for a delay within a delay."""
    number, _, rest = topic_name.removeprefix(PREFIX).partition("/")
    if not rest or not (number.isascii() and number.isdigit()) or len(number) > 20 or rest.startswith(PREFIX):
        return None
    return int(number), rest
