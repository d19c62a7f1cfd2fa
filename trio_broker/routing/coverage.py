"""How topic filters lie to each other: one within another, or with topics in common.

Invariant: both ask about all topic names there can be; wildcards at the beginning do not reach names that begin with
`$` [MQTT-4.7.2-1].
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["covers", "covers_levels", "intersects", "intersects_levels"]


def covers(outer: str, inner: str) -> bool:
    """Does `outer` match each topic name that `inner` (a well-formed filter, or a name) matches?"""
    return outer == inner or covers_levels(outer.split("/"), inner.split("/"))


def intersects(one: str, other: str) -> bool:
    """Is there a topic name that both match?"""
    return intersects_levels(one.split("/"), other.split("/"))


def covers_levels(outer: Sequence[str], inner: Sequence[str]) -> bool:
    """The same for filters that are taken apart already."""
    if outer[0] in ("+", "#") and inner[0][:1] == "$":
        return False
    end = len(inner)
    if inner[-1] == "#" and (end == 1 or (end == 2 and not inner[0])):
        inner = [*inner[:-1], "+", "#"]  # the same topics, since no name is empty
        end += 1
    depth = 0
    for wanted in outer:
        if wanted == "#":
            return True  # `a/#` matches `a` too
        if depth == end:
            return False
        given = inner[depth]
        if wanted != given and (wanted != "+" or given == "#"):
            return False
        depth += 1
    return depth == end


def intersects_levels(one: Sequence[str], other: Sequence[str]) -> bool:
    """The same for filters that are taken apart already."""
    if (one[0] in ("+", "#") and other[0][:1] == "$") or (other[0] in ("+", "#") and one[0][:1] == "$"):
        return False
    for first, second in zip(one, other, strict=False):
        if first == "#" or second == "#":
            return True
        if first != second and first != "+" and second != "+":
            return False
    if len(one) == len(other):
        return True
    longer, rest = (one, len(other)) if len(one) > len(other) else (other, len(one))
    return longer[rest] == "#" and (rest > 1 or longer[0] != "")  # `/#` begins with `/`, since no name is empty
