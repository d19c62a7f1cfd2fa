"""The message a will becomes when it is published [MQTT 5.0 section 3.1.2.5].

Invariant: its expiry begins when it is published; its delay is nobody else's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_broker.protocol.message import Message, Origin, Run
from trio_broker.protocol.packets import NO_PROPERTIES, Will

if TYPE_CHECKING:
    from trio_broker.actors.core import Core


def will_run(core: Core, will: Will, origin: Origin) -> Run:
    """The will as a run of one message, ready for the router [MQTT-3.1.2-14, 3.1.2-15, 3.1.3-10]."""
    now = core.clock.now()
    wall_ms = core.clock.wall_ms(now)
    properties = NO_PROPERTIES
    if will.properties:
        properties = will.properties.copy()
        properties.pop("will_delay_interval", None)
    interval = properties.get("message_expiry_interval", core.limits.message_expiry_interval)
    message = Message(
        will.topic_name,
        will.payload,
        will.qos,
        will.retain,
        core.message_id(wall_ms),
        origin,
        wall_ms,
        properties,
        None if interval is None else now + interval,
    )
    plain = not properties and message.expires_at is None
    return Run(will.topic_name, will.qos, will.retain, origin, [message], plain)
