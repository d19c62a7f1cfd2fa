"""`rewrite` and `auto_subscribe`: topics that are put in the place of others, and what clients are subscribed to.

Invariant: a list that passed its check here can be put in force; only what depends on a client or a topic is left open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from trio_broker.config.kinds import Choice, Integer, Text
from trio_broker.config.setting import setting, show
from trio_broker.config.tree import records
from trio_broker.errors import ConfigError, ProtocolError
from trio_broker.protocol.topics import parse_topic_filter, validate_topic_filter
from trio_broker.routing.patterns import Pattern, PatternError

PLACEHOLDER: Final = re.compile(r"\$\{(?:clientid|username|host|port)\}")


@frozen(kw_only=True)
class RewriteConfig:
    """One rule. Of those whose filter matches a topic, the last one counts."""

    action: str = setting(Choice(("publish", "subscribe", "all")), "all", "whose topics: of messages, of subscriptions")
    source_topic: str = setting(Text(), "", "a filter; topics it does not match are left alone")
    re: str = setting(Text(), "", "a regular expression that is looked for in the topic; without it the topic stays")
    dest_topic: str = setting(Text(), "", "the new topic; $1 to $9 are groups, ${clientid} and ${username} the client")


@frozen(kw_only=True)
class AutoSubscribeTopicConfig:
    topic: str = setting(Text(), "", "a filter; ${clientid}, ${username}, ${host} and ${port} are filled in")
    qos: int = setting(Integer(0, 2), 0, "the highest QoS of what is sent")
    rh: int = setting(Integer(0, 2), 0, "retained messages: 0 = each time, 1 = to a new subscription, 2 = none")
    rap: int = setting(Integer(0, 1), 0, "1 = RETAIN is passed on as it was published")
    nl: int = setting(Integer(0, 1), 0, "1 = nobody gets messages of its own")


@frozen(kw_only=True)
class AutoSubscribeConfig:
    topics: tuple[AutoSubscribeTopicConfig, ...] = records(
        AutoSubscribeTopicConfig, "what each client is subscribed to when it connects"
    )


def check_rewrite(rules: Sequence[RewriteConfig], key: str) -> None:
    """Raises ConfigError for the first rule that cannot be; its number stands behind `key`."""
    for number, rule in enumerate(rules, 1):
        _check_filter(rule.source_topic, f"{key}.{number}.source_topic", is_whole=False)
        try:
            Pattern(rule.re)
        except PatternError as error:
            raise ConfigError(f"{key}.{number}.re", f"{show(rule.re)} is no regular expression: {error}") from None
        destination = re.sub(r"\$[1-9]", "x", rule.dest_topic)
        _check_filter(destination, f"{key}.{number}.dest_topic", is_whole=False, shown=rule.dest_topic)
        if rule.action != "subscribe" and ("+" in destination or "#" in destination):
            raise ConfigError(
                f"{key}.{number}.dest_topic", f"{show(rule.dest_topic)} has a wildcard: nobody can publish there"
            )


def check_auto_subscribe(topics: Sequence[AutoSubscribeTopicConfig], key: str) -> None:
    """The same for what clients are subscribed to."""
    for number, topic in enumerate(topics, 1):
        _check_filter(topic.topic, f"{key}.{number}.topic", is_whole=True)
        if topic.nl and topic.topic.startswith(("$share/", "$queue/")):  # [MQTT-3.8.3-4]
            raise ConfigError(f"{key}.{number}.nl", "must be 0 for a shared subscription")


def _check_filter(text: str, key: str, *, is_whole: bool, shown: str | None = None) -> None:
    """`is_whole`: it may be a shared one."""
    filled = PLACEHOLDER.sub("x", text)
    try:
        if is_whole:
            parse_topic_filter(filled)
        else:
            validate_topic_filter(filled)
    except ProtocolError as error:
        raise ConfigError(key, f"{show(shown or text)}: {error.message}") from None
    if not is_whole and filled.startswith(("$share/", "$queue/")):
        raise ConfigError(key, f"{show(shown or text)}: the filter within a shared subscription is what counts")
