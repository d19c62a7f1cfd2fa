"""Regular expressions that users set, matched in time linear in the text: for bans and for topic rewrite.

Python's `re` goes back and tries again: `(a+)+$` takes a minute for forty characters, in C code that holds the
interpreter, so that neither a thread nor a deadline of Trio's helps; and who connects or publishes chooses the text. To
refuse dangerous patterns does not do either: `^.*-.*-.*-.*$` is harmless to write, and cubic. RE2 never goes back. The
price: no backreferences, and no looking ahead or behind.

Invariant: the time for one text grows with its length and the pattern's, and with nothing else; what a pattern may take
of memory is bounded.
"""

from __future__ import annotations

from typing import Any, Final

import re2  # type: ignore[import-untyped]

MAX_PATTERN: Final = 1024
"""Characters of a pattern."""
MEMORY: Final = 1 << 20
"""Bytes that RE2 may use for one pattern."""


class PatternError(ValueError):
    """It is no regular expression, or none of this kind; `position` is where, as far as that is known."""

    def __init__(self, reason: str, position: int | None = None) -> None:
        super().__init__(reason if position is None else f"{reason} at position {position}")
        self.reason = reason
        self.position = position


class Pattern:
    """One regular expression. Raises PatternError; `count` is how many groups it has."""

    __slots__ = ("_compiled", "count")

    def __init__(self, text: str) -> None:
        if len(text) > MAX_PATTERN:
            raise PatternError(f"longer than {MAX_PATTERN} characters")
        options = re2.Options()
        options.max_mem = MEMORY
        options.log_errors = False
        try:
            self._compiled: Any = re2.compile(text, options)
        except UnicodeEncodeError as error:
            raise PatternError("not Unicode", error.start) from None
        except re2.error as error:
            raise _explained(text, error.args[0]) from None
        self.count: int = self._compiled.groups

    def matches(self, text: str) -> bool:
        """Is it found anywhere in the text?"""
        return self._compiled.search(text) is not None

    def groups(self, text: str) -> list[str] | None:
        """What its groups hold where it is found first, empty where one took no part; None when it is not found."""
        found = self._compiled.search(text)
        return None if found is None else [group or "" for group in found.groups()]


def _explained(text: str, said: bytes | str) -> PatternError:
    """RE2 says what is wrong, and which part of the pattern it is."""
    message = said.decode(errors="replace") if isinstance(said, bytes) else said
    reason, colon, part = message.partition(": ")
    position = text.find(part) if colon and part else -1
    if "too large" in reason or position < 0:
        return PatternError(reason)
    return PatternError(f"{reason} {part}", position)
