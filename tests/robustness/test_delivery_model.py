"""The promises of delivery under loss: whatever breaks between any two packets, order, QoS and identifiers hold."""

from __future__ import annotations

from typing import Final

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from robustness.delivery_watch import Character
from robustness.delivery_world import (
    Action,
    Coming,
    Leaving,
    Plan,
    Publishing,
    Reading,
    Sending,
    Step,
    run,
)
from trio.testing import MockClock

TOPICS = ["a/x", "a/y", "b/x"]
FILTERS = ["a/x", "a/y", "b/x", "a/+", "+/x", "a/#", "#"]
PEERS = 3
ALL = 1000  # packets: more than ever wait
GROUPS = 50

peers = st.integers(0, PEERS - 1)
maxima = st.sampled_from([65535, 1, 2, 3, 5])

characters = st.builds(
    Character,
    level=st.sampled_from([4, 5]),
    filters=st.lists(
        st.tuples(st.sampled_from(FILTERS), st.sampled_from([2, 1, 0, 2])),
        max_size=3,
        unique_by=lambda wanted: wanted[0],
    ).map(tuple),
    identifier=st.sampled_from([0, 0, 7]),
    receive_maximum=maxima,
)

counts = st.sampled_from([ALL, ALL, 1, 2, 0])
turns = st.sampled_from([None, None, 0, 1, 4])
refusals = st.sampled_from([False, False, True])
forgetting = st.sampled_from([False] * 9 + [True])


@st.composite
def publishing(draw: st.DrawFn) -> list[Action]:
    """A single message or a run, with or without what waited before it."""
    qos, count = draw(st.sampled_from([1, 2, 0])), draw(st.integers(1, 6))
    return [Publishing(draw(peers), draw(st.sampled_from(TOPICS)), qos, count, draw(st.booleans()))]


@st.composite
def exchanging(draw: st.DrawFn) -> list[Action]:
    """Read some, answer some; the rest is withheld."""
    peer = draw(peers)
    return [Reading(peer, draw(counts), draw(refusals)), Sending(peer, draw(counts), draw(counts))]


@st.composite
def breaking(draw: st.DrawFn) -> list[Action]:
    """Read some, lose the rest, cut off within the answers, come back: a hole anywhere in any handshake."""
    peer = draw(peers)
    return [
        Reading(peer, draw(counts), draw(refusals)),
        Sending(peer, draw(counts), draw(counts), draw(st.integers(0, 100))),
        Coming(peer, draw(maxima)),
    ]


@st.composite
def finishing(draw: st.DrawFn) -> list[Action]:
    """Read and answer everything until own handshakes are over, so that their identifiers come again."""
    peer = draw(peers)
    return [Sending(peer, ALL, ALL), Reading(peer, ALL), Sending(peer, ALL, ALL), Reading(peer, ALL)]


def alone(action: Action) -> list[Action]:
    return [action]


leaving = st.builds(Leaving, peers, st.booleans()).map(alone)
coming = st.builds(Coming, peers, maxima, forgetting).map(alone)
KINDS: Final = [publishing(), exchanging(), breaking(), publishing(), finishing(), coming, leaving]


@st.composite
def groups(draw: st.DrawFn) -> list[Step]:
    """Steps that belong together, with other pauses between them."""
    actions = draw(KINDS[draw(st.integers(0, len(KINDS) - 1))])
    return [Step(action, draw(turns)) for action in actions]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    return Plan(
        characters=tuple(draw(st.lists(characters, min_size=2, max_size=PEERS))),
        steps=tuple(step for _ in range(draw(st.integers(0, GROUPS))) for step in draw(groups())),
        max_inflight=draw(st.sampled_from([32, 1, 2, 3, 5])),
        max_awaiting_rel=draw(st.sampled_from([100, 1, 2, 3, 5])),
    )


@settings(max_examples=300, deadline=None)
@given(plans())
def test_delivery(plan: Plan) -> None:
    """[MQTT-4.3.1-1 to 4.3.3-13], [MQTT-4.4.0-1], [MQTT-4.6.0-1 to 4.6.0-5], [MQTT-3.3.4-9], [MQTT-2.2.1-4]."""
    trio.run(run, plan, clock=MockClock(autojump_threshold=0))
