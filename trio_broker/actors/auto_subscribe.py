"""Auto subscribe: what each client is subscribed to when it connects, by the configuration (`auto_subscribe`).

Invariant: such a subscription is one like any other, but that there is no SUBACK and access rules are not asked: in
the session, in the router before anything the client sent with its CONNECT, and kept where the session is.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

from trio_broker.config import Config
from trio_broker.config.topics import PLACEHOLDER, AutoSubscribeTopicConfig
from trio_broker.errors import ProtocolError
from trio_broker.protocol.topics import parse_topic_filter
from trio_broker.routing.subscription import Subscription
from trio_broker.session.changes import SubscribeChange

if TYPE_CHECKING:
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.core import Core
    from trio_broker.actors.session_actor import SessionActor

log = logging.getLogger("trio_broker.auto_subscribe")

ALWAYS: Final = 0
"""The retain handling that sends retained messages each time."""


class AutoSubscribe:
    """`topics` is what is in force; empty where nothing is to be done."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.topics = core.settings.config.auto_subscribe.topics
        core.settings.watch("auto_subscribe", self._changed)

    def _changed(self, before: Config, after: Config) -> None:
        """Nobody who is connected is touched."""
        self.topics = after.auto_subscribe.topics

    def change(self, actor: SessionActor, connection: Connection) -> SubscribeChange | None:
        """Put into the session what it has not yet; for the router. None: nothing is to be done."""
        assert actor.session is not None
        held = actor.session.subscriptions
        change = SubscribeChange(actor, 0, [], [], [])
        for topic in self.topics:
            subscription = self._subscription(topic, actor, connection)
            if subscription is None:
                continue
            there = held.get(subscription.topic_filter)
            if there == subscription and (topic.rh != ALWAYS or subscription.share_name is not None):
                continue  # a session that came back
            held[subscription.topic_filter] = subscription
            change.subscriptions.append(subscription)
            change.existed.append(there is not None)
            change.reason_codes.append(subscription.qos)
        return change if change.subscriptions else None

    def _subscription(
        self, topic: AutoSubscribeTopicConfig, actor: SessionActor, connection: Connection
    ) -> Subscription | None:
        topic_filter = _filled(topic.topic, actor, connection)
        if topic_filter is not None:
            topic_filter = self._core.topic_rewrite.rewrite_filter(topic_filter, actor.origin)
            try:
                share_name, match_filter = parse_topic_filter(topic_filter)
            except ProtocolError:
                topic_filter = None
        if topic_filter is None:
            log.warning("client %r is not subscribed to %r: there is no such filter", actor.client_id, topic.topic)
            return None
        return Subscription(
            topic_filter=topic_filter,
            match_filter=match_filter,
            share_name=share_name,
            qos=min(topic.qos, self._core.limits.max_qos_allowed),
            no_local=topic.nl == 1,
            retain_as_published=topic.rap == 1,
            retain_handling=topic.rh,
        )


def _filled(template: str, actor: SessionActor, connection: Connection) -> str | None:
    """None where there is nothing to fill in, or a client would make itself a wildcard."""
    if "${" not in template:
        return template
    values: dict[str, str | None] = {
        "${clientid}": actor.client_id,
        "${username}": actor.username,
        "${host}": connection.info.peer_host,
        "${port}": str(connection.info.peer_port),
    }
    for name in PLACEHOLDER.findall(template):
        value = values[name]
        if value is None or "+" in value or "#" in value:
            return None
    return re.sub(PLACEHOLDER, lambda found: values[found[0]] or "", template)
