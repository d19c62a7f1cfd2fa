"""The judge: what was promised to publishers, against what subscribers got.

Invariant: it does no I/O and has no clock but the one it is given; what it says follows from what it was told alone.
Each publisher, and each subscription, is told of by one thread at a time.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import count
from typing import Final

from attrs import define, field

from trio_broker.protocol.topics import matches

__all__ = ["Inbox", "Judge", "Violation", "body", "identify"]

PADDING: Final = b"\xa5" * 5000
LATEST_ROUND: Final = 65535
NEVER: Final = 0


def body(publisher: str, sequence: int) -> bytes:
    """The payload of a message: who and which, and padding; a few are longer than a page of a database."""
    size = 5000 if sequence % 61 == 0 else sequence * 7919 % 97
    return b"%s %d " % (publisher.encode(), sequence) + PADDING[:size]


def identify(payload: bytes) -> tuple[str, int]:
    """Publisher and sequence number. Raises ValueError for what no publisher of ours sent."""
    publisher, number, _ = payload.split(b" ", 2)
    found = publisher.decode(), int(number)
    if body(*found) != payload:
        raise ValueError("damaged payload")
    return found


@define(frozen=True)
class Violation:
    """A promise that was broken: `kind` is one word, `text` says which message, when, and what was said of it."""

    kind: str
    text: str


@define(eq=False)
class Inbox:
    """What the receiver of QoS 2 messages has to keep: the identifiers whose PUBREL has not come [MQTT 4.3.3]."""

    waiting: dict[int, bytes] = field(factory=dict)

    def publish(self, packet_identifier: int, payload: bytes) -> bool:
        """Is it a new message? ValueError where another one still has this identifier: that one would be lost."""
        known = self.waiting.get(packet_identifier)
        if known is None:
            self.waiting[packet_identifier] = payload
            return True
        if known != payload:
            raise ValueError(f"identifier {packet_identifier} of {known[:24]!r} was given to {payload[:24]!r}")
        return False

    def release(self, packet_identifier: int) -> None:
        self.waiting.pop(packet_identifier, None)


@define(eq=False)
class Stream:
    """What one publisher sent, by sequence number less one; `window` is the most it has in flight."""

    name: str
    qos: int
    topics: tuple[str, ...]
    window: int = 1
    ticks: array[int] = field(factory=lambda: array("Q"))
    sent_at: array[float] = field(factory=lambda: array("f"))
    acknowledged_at: array[float] = field(factory=lambda: array("f"))
    """0 = it is not acknowledged."""
    acknowledged: int = 0
    again: set[int] = field(factory=set)
    again_ticks: list[int] = field(factory=list)
    newest: dict[str, int] = field(factory=dict)
    """The last acknowledged number of each topic."""

    def topic_of(self, sequence: int) -> str:
        return self.topics[sequence % len(self.topics)]

    @property
    def sends(self) -> int:
        return len(self.ticks) + len(self.again_ticks)

    def sends_after(self, tick: int) -> int:
        return self.sends - bisect_right(self.ticks, tick) - bisect_right(self.again_ticks, tick)


@define(eq=False)
class Seen:
    """What one subscription got of one publisher; `rounds` by sequence number: the round of the last copy, 0 = none."""

    rounds: array[int] = field(factory=lambda: array("H"))
    distinct: int = 0
    highest: int = 0


@define(eq=False)
class Drops:
    """Messages that a full queue dropped, as far as the broker could be asked."""

    counted: int = 0
    unknown: int = 0
    """Sent since it was last asked, before it was killed: at most so many drops are not counted."""
    doubtful: int = 0
    """Unacknowledged when it was killed: so many drops may have been counted and not committed."""
    here: int = 0
    asked: int = 0
    """`sends` when the broker that runs now was last asked, or began."""


@define(eq=False)
class Subscription:
    """One subscription of one session; of all members together where it is shared."""

    name: str
    topic_filter: str
    qos: int
    is_shared: bool = False
    since: int = NEVER
    """When its SUBACK had been seen."""
    is_slow: bool = False
    """It takes few messages at a time."""
    seen: dict[str, Seen] = field(factory=dict)
    streams: list[Stream] = field(factory=list)
    received: int = 0
    duplicates: int = 0
    drops: Drops = field(factory=Drops)

    @property
    def sends(self) -> int:
        return sum(stream.sends for stream in self.streams)

    @property
    def behind(self) -> int:
        """About how many acknowledged messages it has still to get."""
        return sum(
            stream.acknowledged - (self.seen[stream.name].distinct if stream.name in self.seen else 0)
            for stream in self.streams
        )


@define(eq=False)
class Judge:
    """`limit`: the longest queue of the broker, 0 = nothing may be dropped."""

    limit: int = 0
    clock: Callable[[], float] = time.monotonic
    violations: list[Violation] = field(factory=list)
    streams: dict[str, Stream] = field(factory=dict)
    subscriptions: dict[str, Subscription] = field(factory=dict)
    kills: int = 0
    _began: float = 0.0
    _round_at: list[float] = field(factory=list)
    _sessions: set[str] = field(factory=set)
    _ticks: Iterator[int] = field(factory=lambda: count(1))

    def __attrs_post_init__(self) -> None:
        self._began = self.clock()

    # -- what the harness tells

    def stream(self, name: str, qos: int, topics: tuple[str, ...], window: int = 1) -> Stream:
        stream = self.streams[name] = Stream(name, qos, topics, window)
        for subscription in self.subscriptions.values():
            self._join(subscription, stream)
        return stream

    def subscription(self, name: str, topic_filter: str, qos: int) -> Subscription:
        """`name` is the session, or the group of a shared subscription, which all members name."""
        known = self.subscriptions.get(name)
        if known is None:
            is_shared = topic_filter.startswith("$share/")
            plain = topic_filter.split("/", 2)[2] if is_shared else topic_filter
            known = self.subscriptions[name] = Subscription(name, plain, qos, is_shared)
            for stream in self.streams.values():
                self._join(known, stream)
        return known

    @staticmethod
    def _join(subscription: Subscription, stream: Stream) -> None:
        if any(matches(subscription.topic_filter, topic) for topic in stream.topics):
            subscription.streams.append(stream)

    def begin_round(self) -> None:
        """A broker is started."""
        self._round_at.append(self._now())
        for subscription in self.subscriptions.values():
            subscription.drops.here = 0
            subscription.drops.asked = subscription.sends

    def killed(self) -> None:
        self.kills += 1
        for subscription in self.subscriptions.values():
            drops = subscription.drops
            drops.counted += drops.here
            drops.here = 0
            drops.unknown += subscription.sends - drops.asked
            drops.asked = subscription.sends
            drops.doubtful += sum(len(stream.ticks) - stream.acknowledged for stream in subscription.streams)

    def connected(self, client: str, session_present: bool) -> None:
        """A CONNACK of a session that outlives its connection."""
        if client in self._sessions and not session_present:
            self.say("session", f"{client} has no session any more, in round {self.round}")
        self._sessions.add(client)

    def subscribed(self, subscription: Subscription) -> None:
        """A SUBACK."""
        if subscription.since == NEVER:
            subscription.since = next(self._ticks)

    def sent(self, stream: Stream, sequence: int) -> None:
        """A message is about to be sent, for the first time (then numbers have no gaps) or again."""
        if sequence <= len(stream.ticks):
            stream.again.add(sequence)
            stream.again_ticks.append(next(self._ticks))
            return
        assert sequence == len(stream.ticks) + 1
        stream.ticks.append(next(self._ticks))
        stream.sent_at.append(self._now())
        stream.acknowledged_at.append(0.0)

    def acknowledged(self, stream: Stream, sequence: int) -> None:
        """Its PUBACK or PUBREC."""
        if stream.acknowledged_at[sequence - 1] == 0.0:
            stream.acknowledged_at[sequence - 1] = max(self._now(), 1e-6)
            stream.acknowledged += 1
            topic = stream.topic_of(sequence)
            stream.newest[topic] = max(sequence, stream.newest.get(topic, 0))

    def received(self, subscription: Subscription, topic: str, payload: bytes, *, qos: int, dup: bool) -> None:
        """A message as an application gets it: with QoS 2 not the copies that the receiver drops."""
        subscription.received += 1
        try:
            name, sequence = identify(payload)
        except ValueError:
            self.say("damaged", f"{subscription.name} got {payload[:40]!r} on {topic}")
            return
        stream = self.streams[name]
        if sequence > len(stream.ticks) or stream.topic_of(sequence) != topic:
            self.say("invented", f"{subscription.name} got {name} {sequence} on {topic}, which was never sent so")
            return
        if qos != min(stream.qos, subscription.qos) and not subscription.is_shared:
            self.say("qos", f"{subscription.name} got {self._of(stream, sequence)} with QoS {qos}")
        seen = subscription.seen.setdefault(name, Seen())
        rounds = seen.rounds
        while len(rounds) < sequence:
            rounds.extend(bytes(1024))
        last, rounds[sequence - 1] = rounds[sequence - 1], min(self.round, LATEST_ROUND)
        if not last:
            seen.distinct += 1
            # A short queue may drop the first of two QoS 1 copies, and forget by a kill that it dropped one at all.
            is_strict = qos == 2 or not self.limit
            if sequence < seen.highest and is_strict and not subscription.is_shared:
                first, now = self._of(stream, sequence), self._when(self._now())
                self.say("order", f"{subscription.name} got {first} for the first time after {seen.highest}, {now}")
            seen.highest = max(sequence, seen.highest)
            return
        subscription.duplicates += 1
        if subscription.is_shared:
            return
        again = self._of(stream, sequence)
        if qos == 2:
            self.say("doubled", f"{subscription.name} got {again} in round {last} and again in round {self.round}")
        elif not dup and last == self.round and not (stream.qos == 1 and sequence in stream.again):
            # After a kill the broker need not know that it sent a message; without one it has to say DUP.
            self.say("doubled", f"{subscription.name} got {again} twice in round {last}, without DUP")

    def dropped(self, subscription: Subscription, number: int, sends: int) -> None:
        """The running broker says that it dropped so many since it began; `sends` is from before it was asked."""
        subscription.drops.here = number
        subscription.drops.asked = sends

    def retained_floor(self, topic: str) -> int:
        """The oldest value that may be retained for a topic if somebody asks now."""
        return max((stream.newest.get(topic, 0) for stream in self.streams.values()), default=0)

    def retained(self, topic: str, payload: bytes | None, floor: int) -> None:
        """What somebody got who asked after `floor` was taken; None = nothing."""
        if payload is None:
            if floor:
                self.say("retained", f"nothing is retained for {topic}; number {floor} was acknowledged")
            return
        try:
            name, sequence = identify(payload)
        except ValueError:
            self.say("damaged", f"{payload[:40]!r} is retained for {topic}")
            return
        stream = self.streams[name]
        if sequence > len(stream.ticks) or stream.topic_of(sequence) != topic:
            self.say("invented", f"{name} {sequence} is retained for {topic}, where it was never sent")
        elif sequence < floor:
            self.say("retained", f"{topic} has number {sequence}; acknowledged was {self._of(stream, floor)}")

    def say(self, kind: str, text: str) -> None:
        self.violations.append(Violation(kind, text))

    # -- the verdict

    @property
    def round(self) -> int:
        return len(self._round_at)

    def missing(self, subscription: Subscription) -> Iterator[tuple[Stream, int]]:
        """Acknowledged messages that it had to get and did not."""
        if subscription.since == NEVER:
            return
        for stream in subscription.streams:
            seen = subscription.seen.get(stream.name, Seen())
            if seen.distinct == len(stream.ticks):
                continue
            first = bisect_right(stream.ticks, subscription.since) + 1
            for sequence in range(first, len(stream.ticks) + 1):
                got = sequence <= len(seen.rounds) and seen.rounds[sequence - 1]
                if not got and stream.acknowledged_at[sequence - 1]:
                    yield stream, sequence

    @property
    def is_complete(self) -> bool:
        """Has everybody got everything?"""
        return not any(True for subscription in self.subscriptions.values() for _ in self.missing(subscription))

    def verdict(self) -> list[Violation]:
        """All that is wrong, when everything that was sent is acknowledged and nothing more comes."""
        for subscription in self.subscriptions.values():
            if self.limit:
                self._judge_drops(subscription)
            else:
                for stream, sequence in self.missing(subscription):
                    self.say("lost", f"{subscription.name} never got {self._of(stream, sequence)}")
        return self.violations

    def _judge_drops(self, subscription: Subscription) -> None:
        """A queue drops its oldest: never one that fewer than `limit` others came after, and it counts them all."""
        missing = list(self.missing(subscription))
        for stream, sequence in missing:
            tick = stream.ticks[sequence - 1]
            after = sum(other.sends_after(tick) for other in subscription.streams)
            # What others had in flight just then may have come after it, too.
            after += sum(other.window for other in subscription.streams if other is not stream)
            if after < self.limit:
                self.say(
                    "lost",
                    f"{subscription.name} never got {self._of(stream, sequence)}, after which at most {after} came"
                    f" into a queue of {self.limit}",
                )
        drops = subscription.drops
        counted = drops.counted + drops.here
        if len(missing) > counted + drops.unknown:
            self.say(
                "uncounted",
                f"{subscription.name} misses {len(missing)}; dropped were {counted}, and at most {drops.unknown} more",
            )
        # With QoS 1 a copy may be dropped of which another was received.
        exactly = subscription.qos == 2 and all(stream.qos == 2 for stream in subscription.streams)
        if exactly and len(missing) < counted - drops.doubtful:
            self.say(
                "uncounted",
                f"{subscription.name} misses {len(missing)}; dropped were {counted}, at most {drops.doubtful} of them"
                " not for good",
            )

    # -- words

    def _now(self) -> float:
        return self.clock() - self._began

    def _when(self, moment: float) -> str:
        return f"at {moment:.3f} s in round {bisect_right(self._round_at, moment)}"

    def _of(self, stream: Stream, sequence: int) -> str:
        acknowledged = stream.acknowledged_at[sequence - 1]
        begin = self._when(stream.sent_at[sequence - 1]) + (", sent again" if sequence in stream.again else "")
        end = f"acknowledged {self._when(acknowledged)}" if acknowledged else "not acknowledged"
        return f"{stream.name} {sequence} (QoS {stream.qos}, sent {begin}, {end})"
