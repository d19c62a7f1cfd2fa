"""How short of memory the broker is: one object that everybody may look at, and one actor writes.

Invariant: nothing that was accepted is thrown away for it but QoS 0; the rest is refused before it is accepted.
"""

from __future__ import annotations

from attrs import define

NONE = 0
HIGH = 1
"""No new connections; QoS 0 messages are not queued."""
CRITICAL = 2
"""No QoS 0 messages at all, and those with QoS 1 and 2 are refused."""


@define(eq=False)
class Pressure:
    level: int = NONE
