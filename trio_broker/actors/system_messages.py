"""What the broker itself says under `$SYS`.

Invariant: nothing is made that nobody is subscribed to; nothing is retained, and everything has QoS 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trio_broker.actors.messages import SystemRuns
from trio_broker.protocol.message import Message, Origin, Run

if TYPE_CHECKING:
    from trio_broker.actors.core import Core


def publish_system(core: Core, entries: Iterable[tuple[str, object]]) -> None:
    """Pairs of topic name and value, in this order."""
    may_match = core.router.table.may_match
    wall_ms = core.clock.wall_ms(core.clock.now())
    origin = Origin(core.node_name)
    runs = []
    for topic_name, value in entries:
        if may_match(topic_name):
            message = Message(topic_name, str(value).encode(), 0, False, core.message_id(wall_ms), origin, wall_ms)
            runs.append(Run(topic_name, 0, False, origin, [message], True))
    if runs:
        core.router.take([SystemRuns(runs)])
