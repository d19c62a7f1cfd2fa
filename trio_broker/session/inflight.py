"""The copies sent with QoS 1 and 2 whose handshake is not complete [MQTT-4.3.2-1 to 4.3.3-6, 4.9.0-2].

Invariant: a packet identifier stands for one copy at a time; `open` never passes `maximum`, and no copy is added to as
many as `window`.
"""

from __future__ import annotations

from collections import deque

from trio_broker.session.mqueue import NOTHING
from trio_broker.session.outgoing import PUBREL_SENT, Outgoing

MAX_PACKET_IDENTIFIER = 65535


class Inflight:
    """Copies by packet identifier, in the order in which they were first sent.

    `open` counts what uses the send quota of the present connection; `resend` holds what a resumed session still has
    to send again, in order [MQTT-4.4.0-1, 4.6.0-1]. `releasing` counts those whose PUBREL was sent.
    """

    __slots__ = ("copies", "last", "maximum", "open", "releasing", "resend", "window")

    def __init__(self, window: int = MAX_PACKET_IDENTIFIER) -> None:
        self.copies: dict[int, Outgoing] = {}
        self.window = window
        self.maximum = MAX_PACKET_IDENTIFIER
        self.open = self.releasing = 0
        self.resend = NOTHING
        self.last = 0

    def __len__(self) -> int:
        return len(self.copies)

    def has_room(self) -> bool:
        """May another PUBLISH with QoS above 0 be sent on this connection?"""
        return self.open < self.maximum and len(self.copies) < self.window

    def room(self) -> int:
        """How many more of them."""
        return max(0, min(self.maximum - self.open, self.window - len(self.copies)))

    def has_quota(self) -> bool:
        """May an inflight PUBLISH be sent again on this connection?"""
        return self.open < self.maximum

    def add(self, copy: Outgoing) -> int:
        """Give the copy a packet identifier that is not in use [MQTT-2.2.1-4]. Needs `has_room`."""
        copies = self.copies
        identifier = self.last
        while True:
            identifier = identifier + 1 if identifier < MAX_PACKET_IDENTIFIER else 1
            if identifier not in copies:
                break
        self.last = identifier
        copy.packet_identifier = identifier
        copy.counted = True
        self.open += 1
        copies[identifier] = copy
        return identifier

    def get(self, packet_identifier: int) -> Outgoing | None:
        return self.copies.get(packet_identifier)

    def remove(self, copy: Outgoing) -> None:
        """The handshake is complete; the identifier is free again [MQTT-4.4.0-1]."""
        del self.copies[copy.packet_identifier]
        if copy.counted:
            copy.counted = False
            self.open -= 1
        if copy.phase == PUBREL_SENT:
            self.releasing -= 1

    def restart(self, maximum: int) -> None:
        """A new connection: nothing is open on it yet, all that is inflight has to be sent again, in order."""
        self.maximum = min(maximum, self.window)
        self.open = 0
        if not self.copies:
            self.resend = NOTHING
            return
        for copy in self.copies.values():
            copy.counted = False
        self.resend = deque(self.copies.values())

    def page(self, after: int | None, limit: int) -> list[Outgoing]:
        """Up to `limit` copies in the order of their insertion stamp, later than `after` (nanoseconds)."""
        rows = sorted(self.copies.values(), key=lambda copy: copy.inserted_at_ns)
        return [copy for copy in rows if after is None or copy.inserted_at_ns > after][:limit]
