"""Access rules as EMQX 4 writes them, and as the built-in database keeps them.

Invariant: pure functions; a rule that was read here is shown as it was written.

What EMQX 4 cannot say is shown as far as it goes: conditions (QoS, retain, addresses, patterns) are left out, `eq` and
other placeholders than those of client id and user name stand in the topic as they are. Nobody can write such a topic
here: for EMQX 4 it would mean something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from trio_broker.access.rule_topics import EQ
from trio_broker.access.rules import RuleError
from trio_broker.access.user_files import check_user_id
from trio_broker.actors.authz.built_in import ALL, RuleItem, Whose, compiled
from trio_broker.api.v4.formats import echoed

EVERYBODY: Final = "$all"

Action = Literal["publish", "subscribe"]

ACTIONS: Final[Mapping[str, tuple[Action, ...]]] = {
    "pub": ("publish",),
    "sub": ("subscribe",),
    "pubsub": ("publish", "subscribe"),
}
_SHOWN: Final[Mapping[str, tuple[str, ...]]] = {"publish": ("pub",), "subscribe": ("sub",), "all": ("pub", "sub")}
_PLACEHOLDERS: Final = {"%c": "${clientid}", "%u": "${username}"}
_BACK: Final = {there: here for here, there in _PLACEHOLDERS.items()}


class BadRule(ValueError):
    """`field` is EMQX's name of what is wrong: login, topic, action or access."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{{error,{field}}}")
        self.field = field


class RuleRow(Struct, kw_only=True):
    """It has one of `clientid`, `username` and `all`."""

    clientid: Any = UNSET
    username: Any = UNSET
    all: Any = UNSET
    topic: Any = UNSET
    action: Any = UNSET
    access: Any = UNSET
    result: str | UnsetType = UNSET


class NewRule(Struct):
    whose: Whose
    name: str
    items: list[RuleItem]


def read_rule(said: Mapping[str, Any]) -> NewRule:
    """Raises BadRule."""
    whose, name = _who(said)
    topic, action, access = (said.get(field) for field in ("topic", "action", "access"))
    if not isinstance(topic, str) or topic.startswith(EQ) or "${" in topic:
        raise BadRule("topic")
    if not isinstance(action, str) or action not in ACTIONS:
        raise BadRule("action")
    if access not in ("allow", "deny"):
        raise BadRule("access")
    kept = "/".join(_PLACEHOLDERS.get(level, level) for level in topic.split("/"))
    items = [RuleItem(topic=kept, permission=access, action=one) for one in ACTIONS[action]]
    try:
        compiled(items)
    except RuleError:
        raise BadRule("topic") from None
    return NewRule(whose, name, items)


def _who(said: Mapping[str, Any]) -> tuple[Whose, str]:
    if "clientid" in said and "username" in said:
        raise BadRule("login")
    whose: Whose
    for whose in ("clientid", "username"):
        if whose in said:
            try:
                return whose, check_user_id(said[whose])
            except ValueError:
                raise BadRule("login") from None
    return "all", ALL


def answer_of(said: Mapping[str, Any], result: str) -> RuleRow:
    """The rule as it was sent, and what became of it."""
    row = RuleRow(result=result)
    for field in ("clientid", "username", "topic", "action", "access"):
        if field in said:
            setattr(row, field, echoed(said[field]))
    if row.clientid is UNSET and row.username is UNSET:
        row.all = EVERYBODY
    return row


def rows_of(whose: Whose, name: str, items: Sequence[RuleItem]) -> Iterator[RuleRow]:
    """The newest first; a rule about both actions is two."""
    for item in items:
        for action in _SHOWN[item.action]:
            row = RuleRow(topic=shown_topic(item.topic), action=action, access=item.permission)
            setattr(row, whose, EVERYBODY if whose == ALL else name)
            yield row


def shown_topic(topic: str) -> str:
    return "/".join(_BACK.get(level, level) for level in topic.split("/"))


def with_rule(items: Sequence[RuleItem], new: Sequence[RuleItem]) -> list[RuleItem]:
    """The new ones in front; those that were about the same topic and action are gone."""
    kept = list(items)
    for one in new:
        kept = [left for item in kept if (left := _without(item, one.topic, one.action)) is not None]
    return [*new, *kept]


def without_topic(items: Sequence[RuleItem], topic: str) -> list[RuleItem]:
    """`topic` as it is shown."""
    return [item for item in items if shown_topic(item.topic) != topic]


def _without(item: RuleItem, topic: str, action: str) -> RuleItem | None:
    """What is left of a rule."""
    if item.topic != topic or item.action == action:
        return None if item.topic == topic else item
    if item.action != "all":
        return item
    return replace(item, action="subscribe" if action == "publish" else "publish")
