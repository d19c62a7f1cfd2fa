"""Faults to be put where there should be none.

Invariant: a fault is never an error that the broker raises itself.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


class Fault(Exception):
    """What the tests put where there should be none."""


def fail_when(
    monkeypatch: pytest.MonkeyPatch, owner: type | ModuleType, name: str, meant: Callable[..., bool] = lambda *_: True
) -> None:
    """Have method (or function) `name` of `owner` fail where `meant` says so of its arguments."""
    original = getattr(owner, name)

    def method(self: Any, *arguments: Any, **named: Any) -> Any:
        if meant(*arguments, *named.values()):
            raise Fault(f"{owner.__name__}.{name}")
        return original(self, *arguments, **named)

    monkeypatch.setattr(owner, name, method)


def leaves(error: BaseException | None) -> list[BaseException]:
    """The errors of a group, however deep, or the one that it is."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [] if error is None else [error]
