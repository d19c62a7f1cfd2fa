"""Which test shows which REST operation: the table in the docs is made from these marks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Test = TypeVar("Test", bound=Callable[..., Any])


def shows(*operations: str) -> Callable[[Test], Test]:
    """`@shows("GET /clients/:clientid")`: this test shows that the operation answers as the contract says."""

    def mark(test: Test) -> Test:
        test.shows = operations  # type: ignore[attr-defined]
        return test

    return mark
