"""What a decision of authorization costs: one that is kept, and one that is made of many rules.

    python -m benchmarks.decisions

Invariant: each figure stands beside what the same machine needs at that moment for a call of a Python function that
does nothing, since the machine is not the same from one minute to the next.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter

from benchmarks.brokers import RULES
from trio_broker.access.acl_file import read_acl
from trio_broker.access.asking import Request, Subject
from trio_broker.access.authorization import Authorization, Decisions, Source
from trio_broker.protocol.message import Origin
from trio_broker.session.meter import Meter

CALLS = 200_000
ROUNDS = 7


class Rules(Source):
    type = "file"

    def __init__(self) -> None:
        super().__init__()
        self.rules = read_acl(RULES)

    def authorize(self, subject: Subject, request: Request) -> bool | None:
        return self.rules.decide(subject, request)


def nothing(topic: str, qos: int, retain: bool, now: float) -> bool:
    return True


def microseconds(call: Callable[[str, int, bool, float], bool | None], qos: int, calls: int = CALLS) -> float:
    """The least of some rounds, by call."""
    topic, retain, now = "bench/0/0", False, 1.0
    least = float("inf")
    for _ in range(ROUNDS):
        begin = perf_counter()
        for _ in range(calls):
            call(topic, qos, retain, now)
        least = min(least, perf_counter() - begin)
    return least / calls * 1e6


def main() -> int:
    subject = Subject(Origin("c"), "c")
    authorization = Authorization(Meter(), sources=[Rules()], no_match=False)
    kept = Decisions(authorization, subject)

    def made(topic: str, qos: int, retain: bool, now: float) -> bool | None:
        return authorization.decide_now(subject, Request("publish", topic, qos, retain))

    print(f"{'':32} {'us a message':>14}")
    print(f"{'a call that does nothing':32} {microseconds(nothing, 0):14.3f}")
    for qos in (0, 1, 2):
        print(f"{f'a decision that is kept, QoS {qos}':32} {microseconds(kept.publish, qos):14.3f}")
    print(f"{f'one made of {len(RULES.splitlines())} rules':32} {microseconds(made, 0, CALLS // 20):14.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
