"""Texts with placeholders: `${username}`, `${clientid}`, `${client_attrs.NAME}` and the like.

Invariant: what is filled in is never looked at for placeholders again, and `escape` sees all of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Final

__all__ = ["ABOUT_CLIENTS", "Template", "TemplateError"]

_PLACEHOLDER: Final = re.compile(r"\$\{([^{}]*)\}")
_ATTRIBUTE: Final = re.compile(r"client_attrs\.[A-Za-z0-9_-]+")

ABOUT_CLIENTS: Final = frozenset(
    {"username", "clientid", "peerhost", "peerport", "zone", "listener", "cert_subject", "cert_common_name"}
)
"""What is known of every client, beside `client_attrs.NAME`; `password` only while it is authenticated."""


class TemplateError(ValueError):
    """A placeholder that there is not."""


def _as_it_is(value: str) -> str:
    return value


class Template:
    """`names` are its placeholders. Raises TemplateError for one that is not in `known`."""

    __slots__ = ("_parts", "names", "text")

    def __init__(self, text: str, known: Collection[str] = ABOUT_CLIENTS) -> None:
        self.text = text
        # Text and names take turns.
        self._parts: tuple[str, ...] = tuple(_PLACEHOLDER.split(text))
        self.names: frozenset[str] = frozenset(self._parts[1::2])
        for name in sorted(self.names):
            if name not in known and not _ATTRIBUTE.fullmatch(name):
                there = ", ".join(f"${{{one}}}" for one in sorted(known))
                raise TemplateError(f"there is no placeholder ${{{name}}}; there are {there}, ${{client_attrs.NAME}}")

    def fill(
        self,
        value: Callable[[str], str | None],
        escape: Callable[[str], str] = _as_it_is,
        missing: str | None = None,
    ) -> str | None:
        """The text with the value of each name; None where one has no value and `missing` does not stand for it."""
        if not self.names:
            return self.text
        filled = []
        for index, part in enumerate(self._parts):
            if index % 2 == 0:
                filled.append(part)
                continue
            found = value(part)
            if found is None:
                found = missing
            if found is None:
                return None
            filled.append(escape(found))
        return "".join(filled)
