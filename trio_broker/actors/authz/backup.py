"""The built-in rules in a data backup.

Invariant: as `trio_broker.actors.backup_tables` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from trio_broker.actors.authz.built_in import ALL, KINDS, BuiltInRules, RuleItem, Whose, compiled
from trio_broker.config.authorization import BuiltInSourceConfig

if TYPE_CHECKING:
    from trio_broker.actors.core import Core


class RulesRow(Struct, forbid_unknown_fields=True):
    """The rules of one client, one user, or all (`who` is "all" then)."""

    type: Whose
    who: Annotated[str, Meta(min_length=1, max_length=65535)]
    rules: list[RuleItem]


def rules(core: Core) -> Iterator[Any]:
    source = _source(core)
    for whose in KINDS:
        for name in source.names(whose):
            yield msgspec.to_builtins(RulesRow(whose, name, source.items(whose, name)))


def read_rules(row: bytes) -> RulesRow:
    found = msgspec.json.decode(row, type=RulesRow)
    if found.type == ALL and found.who != ALL:
        raise ValueError(f"the rules for all are of {ALL!r}, not of {found.who[:60]!r}")
    compiled(found.rules)
    return found


async def take_rules(core: Core, values: Sequence[RulesRow]) -> None:
    """They take the place of those that the same client or user has; whether the source is configured or not."""
    source = _source(core)
    for whose in KINDS:
        entries = {row.who: row.rules for row in values if row.type == whose}
        if entries:
            await source.put(whose, entries)


def _source(core: Core) -> BuiltInRules:
    return BuiltInRules(BuiltInSourceConfig(), core)
