"""Which retained messages are taken, and until when they live: the rules of the `[retainer]` table.

Invariant: asked in the router's turn, about messages with RETAIN only, so that what is decided is in the router's
order; the number of topics it goes by is the number there will be when the retainer has done what it was told.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from trio_broker.config import RetainerConfig
from trio_broker.protocol.message import Message, Run
from trio_broker.protocol.packets import NO_PROPERTIES
from trio_broker.routing.retained_trie import RetainedTrie
from trio_broker.routing.routing_table import Plan

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

log = logging.getLogger("trio_broker.retainer")


class Rules:
    """`admit` is asked by the router; `kept` and `gone` are told by the retainer, who owns `trie`.

    `clearing` is an interceptor, which concerns nobody unless the settings say so.
    """

    def __init__(self, core: Core, trie: RetainedTrie, config: RetainerConfig) -> None:
        self._core = core
        self._trie = trie
        self.clearing = ClearingStopper(core, self)
        self._names: set[str] | None = None
        self.skip: Run | None = None
        self._take(config)

    def use(self, config: RetainerConfig) -> None:
        """Go by these settings from now on; call it in no turn of the router's."""
        was_on = self.clearing.on
        self._take(config)
        if self.clearing.on != was_on:
            self._core.interceptors.changed()

    def _take(self, config: RetainerConfig) -> None:
        self.config = config
        self.enabled = config.is_enabled
        self.clearing.on = config.is_enabled and config.stop_publish_clear_msg
        self._largest = config.max_payload_size
        self._rate = config.max_publish_rate
        self._tokens = max(1.0, self._rate)
        self._filled_at = self._core.clock.now()
        self._most = config.backend.max_retained_messages
        self._lives = bool(config.msg_expiry_interval) or not math.isinf(config.msg_expiry_interval_override)
        self._plain = (
            self.enabled
            and not self._most
            and not self._lives
            and math.isinf(self._rate)
            and not config.stop_publish_clear_msg
        )
        # Of the topics that have one, or will have when the retainer comes to it.
        if not self._most:
            self._names = None
        elif self._names is None:  # it takes its time where there are many
            self._names = {message.topic_name for message in self._trie}

    # -- the router asks

    def admit(self, run: Run) -> Run | None:
        """What of a run is to be retained: the last of its messages counts, an empty one clears; None: nothing."""
        messages = run.messages
        if self._plain and len(messages[-1].payload) <= self._largest:
            return run
        if run is self.skip:
            self.skip = None
            return None
        if not self.enabled:
            return None
        message = self._last(messages)
        if message is None or not self._has_room(message):
            return None
        message = self._with_expiry(message) if self._lives and message.payload else message
        if message is messages[-1]:
            return run
        return Run(run.topic_name, run.qos, True, run.origin, [message], message.properties is NO_PROPERTIES)

    def _last(self, messages: list[Message]) -> Message | None:
        """The last one that is not too large, and not one too many for the rate."""
        last = None
        for message in messages:
            if not message.payload:
                last = message
            elif len(message.payload) > self._largest:
                log.debug("%r is not retained: its payload is too large", message.topic_name)
            elif self._take_token():
                last = message
        return last

    def _take_token(self) -> bool:
        if math.isinf(self._rate):
            return True
        now = self._core.clock.now()
        self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            log.warning("messages are not retained: they come faster than retainer.max_publish_rate")
            return False
        self._tokens -= 1
        return True

    def _has_room(self, message: Message) -> bool:
        names, topic_name = self._names, message.topic_name
        if names is None:
            return True
        if not message.payload:
            names.discard(topic_name)
        elif topic_name not in names:
            if len(names) >= self._most:
                log.warning("messages are not retained: there are retainer.backend.max_retained_messages")
                return False
            names.add(topic_name)
        return True

    def _with_expiry(self, message: Message) -> Message:
        """What says nothing of its end gets the usual one; none lives longer than the override, if that is for it."""
        now = self._core.clock.now()
        config = self.config
        expires_at = message.expires_at
        if expires_at is None and config.msg_expiry_interval:
            expires_at = now + config.msg_expiry_interval
        limit = now + config.msg_expiry_interval_override
        if expires_at is None:
            expires_at = None if config.allow_never_expire or math.isinf(limit) else limit
        else:
            expires_at = min(expires_at, limit)
        if expires_at == message.expires_at:
            return message
        return Message(
            message.topic_name,
            message.payload,
            message.qos,
            message.retain,
            message.message_id,
            message.origin,
            message.publish_at,
            message.properties,
            expires_at,
        )

    # -- the retainer tells

    def kept(self, message: Message) -> None:
        """It has done with this one what was decided."""
        if self._names is not None:
            if message.payload:
                self._names.add(message.topic_name)
            else:
                self._names.discard(message.topic_name)

    def gone(self, topic_name: str) -> None:
        """This topic has none any more."""
        if self._names is not None:
            self._names.discard(topic_name)


class ClearingStopper:
    """`stop_publish_clear_msg`: what clears a topic does so, and is passed on to nobody."""

    def __init__(self, core: Core, rules: Rules) -> None:
        self._core = core
        self._rules = rules
        self.on = False

    def concerns(self, topic_name: str) -> bool:
        return self.on

    def intercept(self, run: Run, plan: Plan[Any]) -> list[Run] | None:
        if not run.retain or all(message.payload for message in run.messages):
            return None
        passed = [message for message in run.messages if message.payload]
        others = [Run(run.topic_name, run.qos, True, run.origin, passed, run.plain)] if passed else []
        last = run.messages[-1]
        if not last.payload:
            clearing = Run(run.topic_name, run.qos, True, run.origin, [last], run.plain)
            self._core.router.retain(clearing)
            run.stored = run.stored or clearing.stored
            if others:
                self._rules.skip = others[0]  # what it would set is cleared already
        return others

    def keeps(self, run: Run) -> bool:
        return run.retain
