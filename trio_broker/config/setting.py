"""How a class of the configuration declares its keys: `setting` for a value, `section` for a table below.

Invariant: everything that is known of a key stands in its declaration (kind, default in EMQX's text form, what it is
for); the walkers of `tree` are the only readers.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from keyword import iskeyword
from typing import Any

import attrs

from trio_broker.errors import ConfigError

ENTRY = "trio_broker.config"
"""The key of an `Entry` in the metadata of an attrs field."""

HIDDEN = "******"
"""What a secret looks like from outside."""

SECRET = re.compile(r"auth|token|secret|key|pas+w|pwd|cookie", re.IGNORECASE)
"""What is called so may be a secret, though nobody declared it."""

_USER = re.compile(r"\w:[^\s\"]*@")
"""Maybe a user and a password in a URL."""


class Kind(ABC):
    """What values a key may have, in text and inside. `read` and `check` raise ValueError, `expects` says the rule."""

    expects: str

    @abstractmethod
    def read(self, raw: object) -> object:
        """The value inside, from its form in TOML, JSON or text."""

    def read_text(self, text: str) -> object:
        """The same from the environment or the command line, where everything is text."""
        return self.read(text)

    @abstractmethod
    def check(self, value: Any) -> object:
        """A value made in code (or read) if it is one of this kind, perhaps made simpler."""

    def plain(self, value: Any) -> object:
        """The form for TOML and JSON."""
        return value

    def told(self, raw: object) -> str:
        """A value that is refused, as the message has it."""
        return show(raw)

    def parse(self, raw: object, *, text: bool = False) -> object:
        return self.check(self.read_text(raw) if text and isinstance(raw, str) else self.read(raw))


class Entry(ABC):
    """One key of a table."""

    doc: str

    @abstractmethod
    def overlay(self, current: Any, raw: object, key: str, *, text: bool) -> object:
        """`current` with what a layer says of this key; ConfigError names `key`."""

    @abstractmethod
    def plain(self, current: Any, *, secrets: bool) -> object:
        """The form for TOML and JSON; None when there is nothing to say."""

    @abstractmethod
    def keys(self, key: str) -> Iterator[str]:
        """The dotted names of all values at and below this key; `*` where any name may stand."""


@attrs.frozen
class Setting(Entry):
    """A value. `default` is in EMQX's text form, and comes out as it was declared."""

    kind: Kind
    default: object
    doc: str
    secret: bool = False

    def overlay(self, current: Any, raw: object, key: str, *, text: bool) -> object:
        if self.secret and raw == HIDDEN:
            return current  # what was shown hidden comes back unchanged
        try:
            return self.kind.parse(raw, text=text)
        except (ValueError, OverflowError) as error:
            shown = HIDDEN if self.secret else self.kind.told(raw)
            raise ConfigError(key, f"{shown} is not {self.kind.expects}") from error

    def plain(self, current: Any, *, secrets: bool) -> object:
        if self.secret and current and not secrets:
            return HIDDEN
        if hasattr(current, "text"):  # as it was written, also where that is another way to write the default
            return self.kind.plain(current)
        return self.default if current == self.kind.parse(self.default) else self.kind.plain(current)

    def keys(self, key: str) -> Iterator[str]:
        yield key


def setting(kind: Kind, default: object, doc: str, *, secret: bool = False) -> Any:
    """An attrs field for a value; `default` as it would stand in a file."""

    def check(value: Any, field: attrs.Attribute[Any]) -> object:
        try:
            return kind.check(value)
        except ValueError as error:
            shown = HIDDEN if secret else kind.told(value)
            raise ConfigError(field.name, f"{shown} is not {kind.expects}") from error

    converter = attrs.Converter(check, takes_field=True)
    entry = Setting(kind, default, doc, secret)
    return attrs.field(default=kind.parse(default), converter=converter, repr=not secret, metadata={ENTRY: entry})


def section(entry: Entry, factory: Callable[[], object], converter: Callable[[Any], object] | None = None) -> Any:
    """An attrs field for a table below."""
    return attrs.field(factory=factory, converter=converter, metadata={ENTRY: entry})


def entries(cls: type[attrs.AttrsInstance]) -> Mapping[str, Entry]:
    """The keys of a class, in their order. A key that is a word of Python has an underscore behind it in the class."""
    return {
        field.name.removesuffix("_"): field.metadata[ENTRY] for field in attrs.fields(cls) if ENTRY in field.metadata
    }


def attribute(key: str) -> str:
    """The name that a key has in its class."""
    return f"{key}_" if iskeyword(key) else key


def show(raw: object) -> str:
    """A value within one line of a message."""
    text = json.dumps(raw, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def show_unless_secret(key: str, raw: object) -> str:
    """The same of a value that is in the wrong place or of the wrong form: nobody knows what is in it."""
    full = json.dumps(raw, default=str)
    hidden = SECRET.search(key.rpartition(".")[2]) or SECRET.search(full) or _USER.search(full)
    return HIDDEN if hidden else show(raw)
