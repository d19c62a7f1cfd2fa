"""Which normative statement a test shows.

Invariant: a test carries an identifier only if it would fail were the broker wrong about that statement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["conforms"]

T = TypeVar("T", bound=Callable[..., Any])


def conforms(*, v311: str = "", v5: str = "", edge: str = "") -> Callable[[T], T]:
    """Mark a test with identifiers, as words: `@conforms(v311="3.1.0-2", v5="3.1.0-2 4.13.1-1", edge="connecting-2")`.

    They are read from the source (`conformance/identifiers.py`), so they have to be literal.
    """

    def mark(test: T) -> T:
        return test

    return mark
