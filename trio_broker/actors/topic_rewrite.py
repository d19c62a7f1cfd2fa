"""Topic rewrite: messages and subscriptions of some topics go to others, by rules of the configuration (`rewrite`).

Invariant: of the rules for an action whose filter matches, exactly the last one counts; what it does not lead to a good
topic stays as it is. The broker's own messages (`$SYS/`) are never rewritten; access rules are asked for the topic that
the client named.

A message is rewritten between its publisher and the router's plan, a whole run at once; topics that no rule is for have
nothing of it in their plan. A filter is rewritten before the session knows it, so that all there is of the
subscription has the new one.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
from attrs import define

from trio_broker.config import Config
from trio_broker.config.topics import RewriteConfig
from trio_broker.errors import ProtocolError
from trio_broker.protocol.message import Origin, Run
from trio_broker.protocol.topics import QUEUE_PREFIX, SHARE_PREFIX, matches, parse_topic_filter, validate_topic_name
from trio_broker.routing.patterns import Pattern
from trio_broker.routing.routing_table import LONGEST_PLANNED, Plan

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

log = logging.getLogger("trio_broker.rewrite")

OWN: Final = "$SYS/"
CLIENT_ID: Final = "${clientid}"
USERNAME: Final = "${username}"
MAX_KNOWN: Final = 10_000
"""Topics whose rule and groups are remembered."""

_PARTS: Final = re.compile(r"(\$[1-9]|\$\{clientid\}|\$\{username\})")

Found = tuple["_Rule", list[str]]


@define(eq=False)
class _Rule:
    source_topic: str
    pattern: Pattern
    parts: list[str]
    told: bool = False

    def destination(self, groups: list[str], origin: Origin) -> str | None:
        """None: the client has no user name, or what is filled in would be a wildcard."""
        filled = ""
        for part in self.parts:
            if part in (CLIENT_ID, USERNAME):
                value = origin.client_id if part == CLIENT_ID else origin.username
                if value is None or "+" in value or "#" in value:
                    return None
                filled += value
            elif len(part) == 2 and part[0] == "$" and part[1] in "123456789":
                number = int(part[1])
                # As EMQX does, a group that is not there is no group.
                filled += groups[number - 1] if number <= len(groups) else part
            else:
                filled += part
        return filled

    def tell(self, topic: str, result: str | None) -> None:
        """Once: who publishes there will do so again."""
        if not self.told:
            self.told = True
            why = "nothing to fill in" if result is None else f"{result[:200]!r} is no topic for it"
            log.warning("rewrite: %r stays as it is by the rule for %r: %s", topic[:200], self.source_topic, why)


class TopicRewrite:
    """An interceptor for messages; `rewrite_filter` for subscriptions."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._publish: list[_Rule] = []
        self._subscribe: list[_Rule] = []
        self._known: dict[str, Found | None] = {}
        self._take(core.settings.config.rewrite)
        core.settings.watch("rewrite", self._changed)

    def _changed(self, before: Config, after: Config) -> None:
        self._take(after.rewrite)
        self._core.interceptors.changed()

    def _take(self, rules: tuple[RewriteConfig, ...]) -> None:
        """The last one comes first."""
        made = [
            (rule.action, _Rule(rule.source_topic, Pattern(rule.re), _PARTS.split(rule.dest_topic)))
            for rule in reversed(rules)
        ]
        self._publish = [rule for action, rule in made if action != "subscribe"]
        self._subscribe = [rule for action, rule in made if action != "publish"]
        self._known = {}

    # -- messages

    def concerns(self, topic_name: str) -> bool:
        return not topic_name.startswith(OWN) and any(matches(rule.source_topic, topic_name) for rule in self._publish)

    def intercept(self, run: Run, plan: Plan[Any]) -> list[Run] | None:
        topic = self._topic_of(run)
        if topic == run.topic_name:
            return None
        messages = [msgspec.structs.replace(message, topic_name=topic) for message in run.messages]
        return [Run(topic, run.qos, run.retain, run.origin, messages, run.plain)]

    def keeps(self, run: Run) -> bool:
        """Would a session that is kept get it under its new topic, or whoever sees it after us keep it?"""
        topic = self._topic_of(run)
        if topic == run.topic_name:
            return False
        plan = self._core.router.table.match(topic)
        recipients = [delivery.recipient for delivery in plan.deliveries if delivery.qos]
        recipients += [member for group in plan.groups for member in group.members]
        others: Any = plan.special or ()
        return any(recipient.journal is not None for recipient in recipients) or any(
            other.keeps(run) for other in self._core.interceptors.behind(self, others)
        )

    def _topic_of(self, run: Run) -> str:
        topic = run.topic_name
        try:
            found = self._known[topic]
        except KeyError:
            found = _find(self._publish, topic)
            if len(topic) <= LONGEST_PLANNED:
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                self._known[topic] = found
        if found is None:
            return topic
        rule, groups = found
        result = rule.destination(groups, run.origin)
        if result is not None:
            try:
                validate_topic_name(result)
            except ProtocolError:
                pass  # told below
            else:
                return result
        rule.tell(topic, result)
        return topic

    # -- subscriptions

    def rewrite_filter(self, topic_filter: str, origin: Origin) -> str:
        """The filter, in full, that this client's one stands for; it stays as it is unless the new one is good."""
        if not self._subscribe:
            return topic_filter
        share, inner = _share_of(topic_filter)
        found = _find(self._subscribe, inner)
        if found is None:
            return topic_filter
        rule, groups = found
        result = rule.destination(groups, origin)
        if result is not None and not result.startswith((SHARE_PREFIX, QUEUE_PREFIX)):
            try:
                parse_topic_filter(share + result)
            except ProtocolError:
                pass  # told below
            else:
                return share + result
        rule.tell(topic_filter, result)
        return topic_filter


def _find(rules: list[_Rule], topic: str) -> Found | None:
    """The one rule that counts, and its groups; None: the topic stays."""
    for rule in rules:
        if matches(rule.source_topic, topic):
            groups = rule.pattern.groups(topic)
            return None if groups is None else (rule, groups)
    return None


def _share_of(topic_filter: str) -> tuple[str, str]:
    """`$share/NAME/` and the filter behind it; "" where it is not shared."""
    if topic_filter.startswith(SHARE_PREFIX):
        end = topic_filter.find("/", len(SHARE_PREFIX)) + 1
        if end:
            return topic_filter[:end], topic_filter[end:]
    elif topic_filter.startswith(QUEUE_PREFIX):
        return QUEUE_PREFIX, topic_filter[len(QUEUE_PREFIX) :]
    return "", topic_filter
