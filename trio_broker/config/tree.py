"""Walks over the configuration as a tree of tables: laying one layer over it, writing it out, listing its keys.

Invariant: `overlay(Config(), to_dict(config, secrets=True)) == config`.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar, cast

import attrs

from trio_broker.config.kinds import toml_value
from trio_broker.config.setting import Entry, attribute, entries, section, show_unless_secret
from trio_broker.errors import ConfigError

S = TypeVar("S", bound=attrs.AttrsInstance)
Hides: TypeAlias = Callable[[Any], Collection[str]]


class UnknownKey(ConfigError):
    """A key that is not known; `with_nearest` makes a better message once all keys are at hand."""

    def __init__(self, key: str, value: object, nearest: str = "") -> None:
        hint = f"; the nearest known key is {nearest}" if nearest else ""
        super().__init__(key, f"unknown key (value {show_unless_secret(key, value)}){hint}")
        self.value = value

    def with_nearest(self, known: Iterable[str]) -> UnknownKey:
        return UnknownKey(self.key, self.value, _nearest(self.key, known))


def _nearest(key: str, known: Iterable[str]) -> str:
    """A neighbour that is spelled like it, else one of the same name elsewhere, where there are most of them, else what
    is most like it.
    """
    parts = key.split(".")
    *table, name = parts
    candidates = [_filled(candidate, parts) for candidate in known]
    siblings = sorted({found[len(table)] for found in candidates if found[: len(table)] == table})
    for sibling in difflib.get_close_matches(name, siblings, n=1):
        return ".".join([*table, sibling])
    roots = Counter(candidate[0] for candidate in candidates if candidate[-1] == name)
    usual = roots.most_common(1)[0][0] if roots else ""
    namesakes = [".".join(candidate) for candidate in candidates if candidate[-1] == name and candidate[0] == usual]
    everything = [".".join(candidate) for candidate in candidates]
    return next(iter(difflib.get_close_matches(key, namesakes or everything, n=1, cutoff=0.0)), "")


def _filled(key: str, parts: list[str]) -> list[str]:
    """The parts of `listeners.tcp.*.bind`, with the name that the user wrote for the `*`."""
    return [
        part if part != "*" else parts[index] if index < len(parts) - 1 else "default"
        for index, part in enumerate(key.split("."))
    ]


class _Table(Entry):
    """A table below, in a class of its own; None while an optional one is absent."""

    def __init__(self, cls: type[attrs.AttrsInstance], doc: str, hides: Hides | None) -> None:
        self.cls = cls
        self.doc = doc
        self._hides = hides

    def overlay(self, current: Any, raw: object, key: str, *, text: bool) -> object:
        return overlay(self.cls() if current is None else current, as_table(raw, key, text=text), key, text=text)

    def plain(self, current: Any, *, secrets: bool) -> object:
        if current is None:
            return None
        hidden = () if self._hides is None or secrets else self._hides(current)
        return {key: value for key, value in plain(current, secrets=secrets).items() if key not in hidden}

    def keys(self, key: str) -> Iterator[str]:
        return keys(self.cls, key)


def table(cls: type[attrs.AttrsInstance], doc: str, *, optional: bool = False, hides: Hides | None = None) -> Any:
    """An attrs field for a table below; an `optional` one is None until something is said of it.

    `hides`: the keys that are not shown, as they mean nothing beside what the others say; they are kept all the same.
    """
    return section(_Table(cls, doc, hides), factory=_absent if optional else cls)


class Records(Entry):
    """A list of tables of one class; a layer replaces the whole list."""

    def __init__(self, cls: type[attrs.AttrsInstance], doc: str) -> None:
        self.cls = cls
        self.doc = doc

    def overlay(self, current: Any, raw: object, key: str, *, text: bool) -> object:
        value = raw
        if text and isinstance(raw, str):
            try:
                value = toml_value(raw)
            except ValueError as error:
                raise ConfigError(key, f"{show_unless_secret(key, raw)} is not a list of tables") from error
        if not isinstance(value, (list, tuple)):
            raise ConfigError(key, f"{show_unless_secret(key, raw)} is not a list of tables")
        return tuple(
            overlay(self.cls(), as_table(item, f"{key}.{number}"), f"{key}.{number}")
            for number, item in enumerate(value, 1)
        )

    def plain(self, current: Any, *, secrets: bool) -> object:
        return [plain(record, secrets=secrets) for record in current]

    def keys(self, key: str) -> Iterator[str]:
        yield key


def records(cls: type[attrs.AttrsInstance], doc: str) -> Any:
    """An attrs field for a list of tables, as a tuple; empty unless something is said of it."""
    return section(Records(cls, doc), factory=tuple, converter=tuple)


def _absent() -> None:
    return None


def as_table(raw: object, key: str, *, text: bool = False) -> Mapping[str, object]:
    """`raw` if it is a table (from the environment: a TOML inline table); ConfigError otherwise."""
    value = raw
    if text and isinstance(raw, str) and raw.lstrip().startswith("{"):
        try:
            value = toml_value(raw)
        except ValueError as error:
            raise ConfigError(key, f"{show_unless_secret(key, raw)} is not a table") from error
    if not isinstance(value, Mapping):
        raise ConfigError(key, f"{show_unless_secret(key, raw)} is not a table")
    return value


def overlay(target: S, layer: Mapping[str, object], key: str = "", *, text: bool = False) -> S:
    """`target` with what `layer` says; `text` = its values are text. None counts as absent. Raises ConfigError."""
    known = entries(type(target))
    changes: dict[str, object] = {}
    for name, raw in layer.items():
        path = f"{key}.{name}" if key else name
        if name not in known:
            raise UnknownKey(path, raw)
        if raw is not None:
            field = attribute(name)
            changes[field] = known[name].overlay(getattr(target, field), raw, path, text=text)
    evolved: S = attrs.evolve(cast(Any, target), **changes)
    return evolved


def plain(target: attrs.AttrsInstance, *, secrets: bool = False) -> dict[str, Any]:
    """Plain tables in EMQX's text forms; secrets as `******` unless asked for."""
    pairs = (
        (name, entry.plain(getattr(target, attribute(name)), secrets=secrets))
        for name, entry in entries(type(target)).items()
    )
    return {name: value for name, value in pairs if value is not None}


def keys(cls: type[attrs.AttrsInstance], key: str = "") -> Iterator[str]:
    """The dotted names of all values; `*` stands for the name of a listener."""
    for name, entry in entries(cls).items():
        yield from entry.keys(f"{key}.{name}" if key else name)


to_dict = plain
