"""The broker's own publishing and subscribing, for the program it is embedded in.

Invariant: both go through the router like everything else, so order, counters and retained messages are the same.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from trio_broker.actors.local_subscriber import LocalSubscriber
from trio_broker.actors.messages import Flush, Gone
from trio_broker.errors import ActorGone
from trio_broker.protocol.topics import parse_topic_filter
from trio_broker.routing.subscription import Subscription
from trio_broker.session.changes import SubscribeChange

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

log = logging.getLogger("trio_broker")

LAST_WORD = 1.0  # seconds


def make_subscription(
    topic_filter: str,
    qos: int = 0,
    no_local: bool = False,
    retain_as_published: bool = False,
    retain_handling: int = 0,
) -> Subscription:
    """A subscription from its options. Raises ProtocolError when the filter is not valid."""
    share_name, match_filter = parse_topic_filter(topic_filter)
    return Subscription(
        topic_filter=topic_filter,
        match_filter=match_filter,
        share_name=share_name,
        qos=qos,
        no_local=no_local,
        retain_as_published=retain_as_published,
        retain_handling=retain_handling,
    )


@asynccontextmanager
async def local_subscription(
    core: Core, subscription: Subscription, client_id: str, buffer: int
) -> AsyncIterator[LocalSubscriber]:
    """In effect when the block begins; ends with it."""
    subscriber = LocalSubscriber(core, client_id, buffer)
    core.subscribers.add(subscriber)
    change = SubscribeChange(subscriber, 0, [subscription], [False], [subscription.qos])
    try:
        await core.router.put([change])
        await core.router.ask(Flush())
        yield subscriber
    finally:
        subscriber.close()
        core.subscribers.discard(subscriber)
        # Also when the program is being cancelled: the routing table must not keep what nobody reads.
        with trio.move_on_after(LAST_WORD, shield=True):
            try:
                await core.router.put(Gone(subscriber))
            except ActorGone:
                log.debug("the broker ended before the subscription of %r", client_id)
