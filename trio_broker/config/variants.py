"""Lists of tables of several classes: what a table is follows from one or two of its own keys.

Invariant: a layer replaces the whole list; each table is checked as its class says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from trio_broker.config.kinds import toml_value
from trio_broker.config.setting import Entry, section, show, show_unless_secret
from trio_broker.config.tree import as_table, overlay, plain
from trio_broker.errors import ConfigError


class Variants(Entry):
    """`classes` by what the keys `chosen_by` say, joined by a colon where there are both.

    `apart` is the key, where there is one, by which a second table of a class has a name of its own.
    """

    def __init__(
        self,
        classes: Mapping[str, type[attrs.AttrsInstance]],
        chosen_by: tuple[str, ...],
        doc: str,
        unique: bool,
        apart: str | None = None,
    ) -> None:
        self.classes = classes
        self.chosen_by = chosen_by
        self.doc = doc
        self.unique = unique
        self.apart = () if apart is None else (apart,)

    def overlay(self, current: Any, raw: object, key: str, *, text: bool) -> object:
        value = raw
        if text and isinstance(raw, str):
            try:
                value = toml_value(raw)
            except ValueError as error:
                raise ConfigError(key, f"{show_unless_secret(key, raw)} is not a list of tables") from error
        if not isinstance(value, (list, tuple)):
            raise ConfigError(key, f"{show_unless_secret(key, raw)} is not a list of tables")
        found: dict[str, int] = {}
        made = []
        for number, item in enumerate(value, 1):
            path = f"{key}.{number}"
            table = as_table(item, path)
            name = self.name_of(table, path)
            if self.unique and name in found:
                raise ConfigError(path, f"{name} is there already, as number {found[name]}")
            found[name] = number
            made.append(overlay(self.classes[self.kind_of(table, path)](), table, path))
        return tuple(made)

    def name_of(self, table: Mapping[str, object], path: str) -> str:
        """What a table is known by: the name of its class, and what tells it apart. Raises ConfigError."""
        apart = [str(table[key]) for key in self.apart if table.get(key) is not None]
        return ":".join([self.kind_of(table, path), *apart])

    def like(self, there: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
        """`table` with what tells `there` apart from others, where both are of one class and it does not say itself."""
        same = all(there.get(key) == table.get(key) for key in self.chosen_by)
        told = {key: there[key] for key in self.apart if same and key in there and table.get(key) is None}
        return {**table, **told}

    def kind_of(self, table: Mapping[str, object], path: str) -> str:
        """The name of the class of a table. Raises ConfigError."""
        said = [table[key] for key in self.chosen_by if table.get(key) is not None]
        name = ":".join(str(one) for one in said)
        if name not in self.classes:
            keys = " and ".join(self.chosen_by)
            known = ", ".join(sorted(self.classes))
            raise ConfigError(path, f"{keys} say {show(name)}; there are {known}")
        return name

    def plain(self, current: Any, *, secrets: bool) -> object:
        return [plain(record, secrets=secrets) for record in current]

    def keys(self, key: str) -> Iterator[str]:
        yield key


def variants(
    classes: Mapping[str, type[attrs.AttrsInstance]],
    chosen_by: tuple[str, ...],
    doc: str,
    *,
    unique: bool = True,
    apart: str | None = None,
) -> Any:
    """An attrs field for such a list, as a tuple; `unique`: no two of one name."""
    return section(Variants(classes, chosen_by, doc, unique, apart), factory=tuple, converter=tuple)
