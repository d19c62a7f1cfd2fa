"""Access rules: who may do what to which topics, in EMQX's terms.

Invariant: the first rule that holds decides. To publish, a rule holds for the topic; to subscribe, one that allows has
to hold for all topics of the filter, and one that denies for any of them, so that no wildcard leads around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import define, field
from attrs.converters import optional

from trio_broker.access.asking import Request, Subject
from trio_broker.access.rule_conditions import FACTS, Condition, all_of, from_network, is_equal, is_like, once
from trio_broker.access.rule_topics import EVERYTHING, RuleTopic
from trio_broker.access.templates import TemplateError
from trio_broker.routing.filter_trie import FilterTrie, has_wildcard
from trio_broker.routing.patterns import PatternError

__all__ = ["ALL_QOS", "Rule", "RuleError", "RuleSet"]

ALL_QOS: Final = frozenset((0, 1, 2))
FEW: Final = 8
"""Topics that are tried one after the other faster than they are looked up."""


class RuleError(ValueError):
    """A rule is wrong: `number` is which one, from 1, `field` is what of it."""

    def __init__(self, number: int, field: str, reason: str) -> None:
        super().__init__(f"rule {number}: {field}: {reason}" if field else f"rule {number}: {reason}")
        self.number = number
        self.field = field
        self.reason = reason


@define(eq=False, frozen=True)
class Rule:
    """`retain` None: it does not matter; `who` None: everybody."""

    allow: bool
    topics: Sequence[RuleTopic]
    publish: bool = True
    subscribe: bool = True
    qos: frozenset[int] = ALL_QOS
    retain: bool | None = None
    who: Condition | None = field(default=None, converter=optional(once))

    def concerns(self, subject: Subject, request: Request) -> bool:
        """All but the topic."""
        return (
            request.qos in self.qos
            and (self.retain is None or request.action == "subscribe" or self.retain == request.retain)
            and (self.who is None or self.who(subject))
        )


@define(eq=False)
class _Publishing:
    """What concerns publishing: the topics of rules with the rules' numbers, the lowest first."""

    known: FilterTrie[list[tuple[int, Rule]]] | None
    """Those that are the same for every client, where they are many."""
    others: list[tuple[int, Rule, RuleTopic]]


class RuleSet:
    """Rules in their order."""

    __slots__ = ("_publishing", "_subscribing", "rules")

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self.rules = tuple(rules)
        self._subscribing = tuple(rule for rule in self.rules if rule.subscribe)
        self._publishing = _prepared(self.rules)

    def __len__(self) -> int:
        return len(self.rules)

    def decide(self, subject: Subject, request: Request) -> bool | None:
        """Allowed, denied, or None: no rule holds."""
        return self._publish(subject, request) if request.action == "publish" else self._subscribe(subject, request)

    def _publish(self, subject: Subject, request: Request) -> bool | None:
        topic = request.topic
        best, decision = len(self.rules), None
        publishing = self._publishing
        if publishing.known is not None:
            for found in publishing.known.match(topic):
                for number, rule in found:
                    if number >= best:
                        break
                    if rule.concerns(subject, request):
                        best, decision = number, rule.allow
                        break
        if publishing.others:
            levels = topic.split("/")
            for number, rule, wanted in publishing.others:
                if number >= best:
                    break
                if wanted.matches(topic, levels, subject) and rule.concerns(subject, request):
                    return rule.allow
        return decision

    def _subscribe(self, subject: Subject, request: Request) -> bool | None:
        topic_filter = request.topic
        levels = topic_filter.split("/")
        for rule in self._subscribing:
            for topic in rule.topics:
                holds = topic.covers if rule.allow else topic.intersects
                if holds(topic_filter, levels, subject) and rule.concerns(subject, request):
                    return rule.allow
        return None

    @classmethod
    def nothing(cls) -> RuleSet:
        """Nothing may be done at all."""
        return cls([Rule(False, (EVERYTHING,))])

    @classmethod
    def from_items(cls, items: object) -> RuleSet:
        """From the array form of REST, of web services and of tokens. Raises RuleError, and ValueError for no array.

        An item is `{permission, action, topic | topics, qos, retain}`, and may have conditions: `username_re`,
        `clientid_re`, `zone`, `zone_re`, `listener`, `listener_re`, `ipaddr`.
        """
        if not isinstance(items, list | tuple):
            raise ValueError("rules are an array")
        return cls([_read(item, number) for number, item in enumerate(items, 1)])

    @classmethod
    def from_claim(cls, value: object) -> RuleSet:
        """The same, or `{"pub": [TOPIC, ...], "sub": [...], "all": [...]}` of what is allowed."""
        if not isinstance(value, Mapping):
            return cls.from_items(value)
        items: list[dict[str, object]] = []
        for action, topics in value.items():
            if action not in ("pub", "sub", "all"):
                raise ValueError(f"{_shown(action)} is none of pub, sub and all")
            if topics is not None and topics != []:
                items.append({"permission": "allow", "action": action, "topics": topics})
        try:
            return cls.from_items(items)
        except RuleError as error:
            raise ValueError(f"{items[error.number - 1]['action']}: {error.reason}") from None


def _prepared(rules: Sequence[Rule]) -> _Publishing:
    wanted = [(number, rule, topic) for number, rule in enumerate(rules) if rule.publish for topic in rule.topics]
    if len(wanted) <= FEW:
        return _Publishing(None, wanted)
    known: FilterTrie[list[tuple[int, Rule]]] = FilterTrie()
    others = []
    for number, rule, topic in wanted:
        if topic.template is not None or topic is EVERYTHING:
            others.append((number, rule, topic))
        elif not topic.literal or not has_wildcard(topic.text):  # else it is no topic name
            _hang(known, topic.text, number, rule)
    return _Publishing(known, others)


def _hang(trie: FilterTrie[list[tuple[int, Rule]]], text: str, number: int, rule: Rule) -> None:
    there = trie.get(text)
    if there is None:
        trie.insert(text, [(number, rule)])
    elif there[-1][0] != number:
        there.append((number, rule))


# -- the array form -----------------------------------------------------------------------------------------------

_PERMISSIONS: Final = {"allow": True, "deny": False}
_ACTIONS: Final = {
    "publish": (True, False),
    "pub": (True, False),
    "subscribe": (False, True),
    "sub": (False, True),
    "all": (True, True),
}
_QOS: Final = {0: 0, 1: 1, 2: 2, "0": 0, "1": 1, "2": 2}
_RETAIN: Final[Mapping[Any, bool | None]] = {
    "true": True,
    "false": False,
    "all": None,
    "1": True,
    "0": False,
    1: True,  # True is the same key
    0: False,
    None: None,
}
_CONDITIONS: Final = ("zone", "listener", "ipaddr", "username_re", "clientid_re", "zone_re", "listener_re")
_FIELDS: Final = frozenset({"permission", "action", "topic", "topics", "qos", "retain", *_CONDITIONS})


def _read(item: object, number: int) -> Rule:
    if not isinstance(item, Mapping):
        raise RuleError(number, "", "a rule is an object")
    for name in item:
        if name not in _FIELDS:
            # To overlook a condition would make a rule hold for more than was meant.
            raise RuleError(number, str(name)[:60], "there is no such field")
    publish, subscribe = _one_of(item, "action", _ACTIONS, number)
    return Rule(
        allow=_one_of(item, "permission", _PERMISSIONS, number),
        topics=_topics(item, number),
        publish=publish,
        subscribe=subscribe,
        qos=_qos(item, number),
        retain=_retain(item, number),
        who=all_of(
            [_condition(name, item[name], number) for name in sorted(_CONDITIONS) if item.get(name) is not None]
        ),
    )


def _one_of(item: Mapping[str, Any], name: str, known: Mapping[str, Any], number: int) -> Any:
    said = item.get(name)
    if said is None:
        raise RuleError(number, name, "it is missing")
    if not isinstance(said, str) or said not in known:
        raise RuleError(number, name, f"{_shown(said)} is none of {', '.join(known)}")
    return known[said]


def _topics(item: Mapping[str, Any], number: int) -> tuple[RuleTopic, ...]:
    name, said = ("topic", item.get("topic")) if item.get("topic") is not None else ("topics", item.get("topics"))
    if said is None:
        raise RuleError(number, "topic", "it is missing")
    if name == "topic":
        said = [said]
    if not isinstance(said, list | tuple) or not all(isinstance(one, str) for one in said):
        raise RuleError(number, name, "a text is expected" if name == "topic" else "an array of texts is expected")
    topics = []
    for text in said:
        try:
            topics.append(RuleTopic.read(text))
        except (TemplateError, ValueError) as error:
            raise RuleError(number, name, f"{_shown(text)}: {error}") from None
    return tuple(topics)


def _qos(item: Mapping[str, Any], number: int) -> frozenset[int]:
    said = item.get("qos")
    if said is None:
        return ALL_QOS
    given = said if isinstance(said, list | tuple) else said.split(",") if isinstance(said, str) else [said]
    for one in given:
        if isinstance(one, bool) or not isinstance(one, int | str) or one not in _QOS:
            raise RuleError(number, "qos", f"{_shown(one)} is none of 0, 1, 2")
    if not given:
        raise RuleError(number, "qos", "without one the rule never holds")
    return frozenset(_QOS[one] for one in given)


def _retain(item: Mapping[str, Any], number: int) -> bool | None:
    said = item.get("retain")
    if not isinstance(said, bool | int | str | None) or said not in _RETAIN:
        raise RuleError(number, "retain", f"{_shown(said)} is none of true, false, all")
    return _RETAIN[said]


def _condition(name: str, said: object, number: int) -> Condition:
    if not isinstance(said, str):
        raise RuleError(number, name, "a text is expected")
    try:
        if name == "ipaddr":
            return from_network([said])
        fact = name.removesuffix("_re")
        assert fact in FACTS
        return is_like(fact, said) if name.endswith("_re") else is_equal(fact, said)
    except PatternError as error:
        raise RuleError(number, name, f"bad regular expression: {error}") from None
    except ValueError as error:
        raise RuleError(number, name, str(error)) from None


def _shown(said: object) -> str:
    text = repr(said)
    return text if len(text) <= 60 else text[:57] + "..."
