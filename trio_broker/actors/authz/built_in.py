"""The authorization source `built_in_database`: rules of single clients, of single users and of all, set over REST.

Invariant: the rules are documents, and nothing but the documents says what they are; what was compiled of one holds as
long as the document is the same. Clients that are connected go by a change before it is told to be done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import trio
from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.access.asking import Request, Subject
from trio_broker.access.authorization import Source
from trio_broker.access.rule_topics import EVERYTHING
from trio_broker.access.rules import Rule, RuleSet
from trio_broker.actors.authorizing import refresh, refresh_named
from trio_broker.config.authorization import BuiltInSourceConfig

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = ["BuiltInRules", "Change", "RuleItem", "Whose"]

log = logging.getLogger("trio_broker.authorization")

Whose = Literal["clientid", "username", "all"]

KINDS: Final[Mapping[Whose, str]] = {"clientid": "authz_clientid", "username": "authz_username", "all": "authz_all"}
"""The kinds of the documents, in the order in which they are asked. The key is the name, the body is the JSON text of
the items: there may be a hundred thousand users, and as objects their rules take four times the memory.
"""
ALL: Final = "all"
"""The key of the rules for all."""
COMPILED: Final = 4096
"""Clients and users whose rules are kept compiled: those that are asked about are connected."""
STRIDE: Final = 64
"""Entries that are written before others have their turn."""

Qos = Annotated[list[Annotated[int, Meta(ge=0, le=2)]], Meta(min_length=1, extra_json_schema={"default": [0, 1, 2]})]
Condition = Annotated[str, Meta(max_length=1024)]


class RuleItem(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rule as REST has it; what is not said of a condition does not matter."""

    topic: Annotated[str, Meta(min_length=1, max_length=65535)]
    permission: Literal["allow", "deny"]
    action: Literal["publish", "subscribe", "all"]
    qos: Qos = msgspec.field(default_factory=lambda: [0, 1, 2])
    retain: bool | Literal["all"] = "all"
    username_re: Condition | UnsetType = UNSET
    clientid_re: Condition | UnsetType = UNSET
    zone: Condition | UnsetType = UNSET
    zone_re: Condition | UnsetType = UNSET
    listener: Condition | UnsetType = UNSET
    listener_re: Condition | UnsetType = UNSET
    ipaddr: Condition | UnsetType = UNSET


Change = Callable[[list[RuleItem]], Sequence[RuleItem]]
"""From the rules that there are to those that there shall be."""

_WRITE: Final = msgspec.json.Encoder()
_READ: Final = msgspec.json.Decoder(list[RuleItem])
_CLOSED: Final = RuleSet([Rule(False, (EVERYTHING,))])
_CLOSED_ITEM: Final = RuleItem(topic="#", permission="deny", action="all")


def compiled(items: Sequence[RuleItem]) -> RuleSet:
    """Raises RuleError."""
    return RuleSet.from_items([msgspec.to_builtins(item) for item in items])


class BuiltInRules(Source):
    """All changes take items that `compiled` takes, and return when they are in force and durable."""

    type = "built_in_database"

    def __init__(self, config: BuiltInSourceConfig, core: Core) -> None:
        super().__init__()
        self.config = config
        self._core = core
        self._compiled: dict[tuple[Whose, str], tuple[str, RuleSet]] = {}

    def authorize(self, subject: Subject, request: Request) -> bool | None:
        documents = self._core.documents
        names = (subject.client_id, subject.username, ALL)
        for (whose, kind), name in zip(KINDS.items(), names, strict=True):
            kept = documents.of(kind)
            if name is not None and name in kept:
                decision = self._rules(whose, name, kept[name]).decide(subject, request)
                if decision is not None:
                    return decision
        return None

    # -- what there is --------------------------------------------------------------------------------------------

    def names(self, whose: Whose) -> list[str]:
        """Who has rules, in the order in which they came."""
        return list(self._core.documents.of(KINDS[whose]))

    def items(self, whose: Whose, name: str = ALL) -> list[RuleItem]:
        """None of them where there is no entry; of one that cannot be read, what is in force instead."""
        text = self._core.documents.of(KINDS[whose]).get(name, "[]")
        try:
            return _READ.decode(text)
        except (msgspec.MsgspecError, TypeError):
            return [_CLOSED_ITEM]

    def has(self, whose: Whose, name: str) -> bool:
        return name in self._core.documents.of(KINDS[whose])

    # -- changes --------------------------------------------------------------------------------------------------

    async def put(self, whose: Whose, entries: Mapping[str, Sequence[RuleItem]]) -> None:
        """Make or replace the rules of each name (`ALL` for all)."""
        documents, kind = self._core.documents, KINDS[whose]
        with trio.CancelScope(shield=True):  # what is said for many holds for all of them
            for number, (name, items) in enumerate(entries.items(), 1):
                documents.put(kind, name, _WRITE.encode(items).decode())
                if number % STRIDE == 0:
                    await trio.lowlevel.checkpoint()
            await self._tell(whose, entries)
        await self._core.durable()

    async def change(self, whose: Whose, changes: Mapping[str, Change]) -> None:
        """Put what each of them makes of the rules of that name; who has none then has no entry any more."""
        documents, kind = self._core.documents, KINDS[whose]
        with trio.CancelScope(shield=True):
            for number, (name, change) in enumerate(changes.items(), 1):
                items = change(self.items(whose, name))
                if items:
                    documents.put(kind, name, _WRITE.encode(items).decode())
                elif documents.delete(kind, name):
                    self._compiled.pop((whose, name), None)
                if number % STRIDE == 0:
                    await trio.lowlevel.checkpoint()
            await self._tell(whose, changes)
        await self._core.durable()

    async def remove(self, whose: Whose, name: str = ALL) -> bool:
        """False when there is none."""
        if not self._core.documents.delete(KINDS[whose], name):
            return False
        self._compiled.pop((whose, name), None)
        with trio.CancelScope(shield=True):
            await self._tell(whose, [name])
        await self._core.durable()
        return True

    async def clear(self) -> None:
        """Delete all rules of everybody."""
        documents = self._core.documents
        with trio.CancelScope(shield=True):
            for whose, kind in KINDS.items():
                for number, name in enumerate(self.names(whose), 1):
                    documents.delete(kind, name)
                    if number % STRIDE == 0:
                        await trio.lowlevel.checkpoint()
            self._compiled.clear()
            await self._tell(ALL, ())
        await self._core.durable()

    async def delete(self) -> None:
        await self.clear()

    # -- inside ---------------------------------------------------------------------------------------------------

    async def _tell(self, whose: Whose, names: Collection[str]) -> None:
        """Those who are connected, and whom it concerns, forget what was decided before."""
        if all(source.type != self.type for source in self._core.authorization.sources):
            await trio.lowlevel.checkpoint()
        elif whose == "clientid":
            await refresh_named(self._core, list(names))
        elif whose == "username":
            await refresh(self._core, lambda actor: actor.username in names)
        else:
            await refresh(self._core)

    def _rules(self, whose: Whose, name: str, text: str) -> RuleSet:
        there = self._compiled.get((whose, name))
        if there is not None and there[0] is text:
            return there[1]
        try:
            rules = compiled(_READ.decode(text))
        except (ValueError, TypeError) as error:
            # Written by another version, or damaged: what it denied must not be open.
            log.error("the rules of %s %r in the store cannot be read, so all is denied: %s", whose, name, error)
            rules = _CLOSED
        if len(self._compiled) >= COMPILED:
            oldest = next(one for one in self._compiled if one[0] != ALL)
            del self._compiled[oldest]
        self._compiled[whose, name] = (text, rules)
        return rules
