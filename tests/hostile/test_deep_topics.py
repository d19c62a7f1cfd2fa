"""Topic filters and names as deep and as long as MQTT allows: refused by default, and harmless where they are let in.

Invariant: the work that matching takes is counted in lines of the broker's code, never in time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product
from types import FrameType
from typing import Any

import pytest
from hostile.conftest import Sites
from hostile.site import MEGABYTE, connected, frames, heard, measured
from robustness.scene import shake_hands

from trio_broker.protocol.packets import Disconnect, PubAck, Publish, Subscribe, SubscribeFilter, Will
from trio_broker.routing.routing_table import RoutingTable
from trio_broker.routing.subscription import Subscription

LONGEST = 65_535
LEVELS = 32_768  # with one byte each, and 32,767 slashes
ALL_PLUS = "/".join("+" * LEVELS)
DEEP_NAME = "/".join("a" * LEVELS)
PLUS_AND_X = ALL_PLUS[:-1] + "x"
PLUS_AND_HASH = ALL_PLUS[:-1] + "#"
DEPTHS = {"max_topic_levels": 65_535}
MQTT = pytest.mark.parametrize("level", [3, 4, 5])


def test_the_texts_are_what_they_are_meant_to_be() -> None:
    for text in (ALL_PLUS, DEEP_NAME, PLUS_AND_X, PLUS_AND_HASH):
        assert len(text) == LONGEST
        assert text.count("/") == LEVELS - 1


@pytest.mark.parametrize("door", ["tcp", "ws"])
@pytest.mark.parametrize(("level", "refusal"), [(4, 0x80), (5, 0x8F)])
async def test_a_deep_filter_is_refused_alone(door: str, level: int, refusal: int, site: Sites) -> None:
    """The others of the same SUBSCRIBE are granted, and 128 levels are not too many."""
    allowed = "/".join("+" * 128)
    async with site(door) as it, connected(it, door, "bad", level) as client:
        filters = [ALL_PLUS, PLUS_AND_HASH, f"$share/g/{ALL_PLUS[:-10]}", allowed, f"{allowed}/+", "fine"]
        answer = await client.subscribe([SubscribeFilter(one) for one in filters])
        assert answer.reason_codes == [refusal, refusal, refusal, 0, refusal, 0]
        await client.ping()


async def test_a_deep_filter_at_3_1_ends_the_connection(site: Sites) -> None:
    async with site("tcp") as it:
        stream = await it.open("tcp")
        await shake_hands(stream, "bad", 3)
        await stream.send_all(frames(Subscribe(1, [SubscribeFilter(ALL_PLUS)]), level=3))
        assert await heard(stream, 3) == []
        await stream.aclose()


@MQTT
async def test_a_deep_name_ends_the_connection(level: int, site: Sites) -> None:
    async with site("tcp") as it:
        for qos in (0, 1, 2):
            stream = await it.open("tcp")
            await shake_hands(stream, "bad", level)
            await stream.send_all(frames(Publish(DEEP_NAME, b"x", qos, packet_identifier=1 if qos else 0), level=level))
            packets = await heard(stream, level)
            codes = [packet.reason_code for packet in packets if isinstance(packet, Disconnect)]
            assert codes == ([0x90] if level == 5 else [])
            await stream.aclose()


async def test_a_deep_will_is_refused_at_connect(site: Sites) -> None:
    async with site("tcp") as it:
        async with await it.open("tcp") as stream:
            connack = await shake_hands(stream, "bad", will=Will(DEEP_NAME, b"x"))
        assert connack.reason_code == 0x90


@MQTT
async def test_where_they_are_let_in_they_match(level: int, site: Sites) -> None:
    """Live and retained, exact and with wildcards, shared and not, forked at the last level."""
    async with site("tcp", mqtt=DEPTHS) as it, connected(it, "tcp", "bad", level) as client:
        filters = [ALL_PLUS, PLUS_AND_X, PLUS_AND_HASH, DEEP_NAME, f"$share/g/{ALL_PLUS[:-10]}"]
        answer = await client.subscribe([SubscribeFilter(one, 1) for one in filters])
        assert answer.reason_codes == [1] * 5
        async with connected(it, "tcp", "publisher", level) as publisher:
            await publisher.publish(DEEP_NAME, b"deep", 1, retain=True)
            await it.round_trips()
            topics = {(await client.receive(ack=True)).topic_name for _ in range(1)}
            assert topics == {DEEP_NAME}
            await publisher.publish("shallow", b"x", 1)
            await publisher.publish(DEEP_NAME, b"", 1, retain=True)
        await client.unsubscribe(*filters)
        assert (await client.ping()) is not None


async def test_many_deep_filters_are_bounded_and_given_back(site: Sites) -> None:
    """A hundred of 64 KB, many of them forked at their last level."""
    count = 100
    filters = [f"{ALL_PLUS[:-7]}{at:04}" for at in range(count // 2)]
    filters += [f"{at:04}{ALL_PLUS[5:]}" for at in range(count // 2)]
    size = sum(map(len, filters))
    async with site("tcp", mqtt=DEPTHS) as it:
        with measured() as memory:
            async with connected(it) as client:
                for one in filters:
                    assert (await client.subscribe(one, 1)).reason_codes == [1]
                memory.look()
                # A level costs an entry in a tuple (eight bytes for two on the wire), or a node of a shared path.
                assert memory.grown < 8 * size + 8 * MEGABYTE
                await it.round_trips()
                await client.publish(DEEP_NAME, b"x", 1)
                await it.round_trips()
            del client
            await it.unhurt()
        assert memory.grown < 2 * MEGABYTE


# -- the work of matching, counted


def steps(work: Callable[[], object]) -> int:
    """How many lines of `trio_broker.routing` run."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if "routing" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def table(*filters: str) -> RoutingTable[Any]:
    made: RoutingTable[Any] = RoutingTable()
    for one in filters:
        made.subscribe("somebody", Subscription(one, one))
    return made


@pytest.mark.parametrize(
    "filters",
    [[ALL_PLUS], [PLUS_AND_HASH], [ALL_PLUS, PLUS_AND_X], [ALL_PLUS, PLUS_AND_X, PLUS_AND_HASH, "#"]],
    ids=["one tail", "with #", "forked", "forked thrice"],
)
def test_matching_is_linear_in_the_levels(filters: list[str]) -> None:
    made = table(*filters)
    assert len(made.match(DEEP_NAME).deliveries) == 1
    for name in (f"{DEEP_NAME[:-2]}/b", DEEP_NAME[2:]):
        assert steps(lambda name=name: made.match(name)) < 40 * LEVELS  # type: ignore[misc]
    # Short topics pay nothing for deep filters.
    assert steps(lambda: made.match("a/b")) < 200


def test_filters_that_fork_everywhere_are_visited_once_each() -> None:
    """All of `+` and `a` on ten levels match one topic: as many steps as filters, not as paths times levels."""
    filters = ["/".join(levels) for levels in product("+a", repeat=10)]
    made = table(*filters)
    name = "/".join("a" * 10)
    assert steps(lambda: made.match(name)) < 60 * len(filters)
    # One level more or less, and another last level: what does not match is left early, or at the end at the latest.
    assert steps(lambda: made.match(name[:-1] + "b")) < 60 * len(filters)
    assert steps(lambda: made.match("b" + name[1:])) < 60 * len(filters)
    assert steps(lambda: made.match("b")) < 200


def test_removing_a_deep_filter_leaves_no_node() -> None:
    made = table(ALL_PLUS, PLUS_AND_X, PLUS_AND_HASH)
    for one in (PLUS_AND_X, ALL_PLUS, PLUS_AND_HASH):
        assert made.unsubscribe("somebody", one)
    assert made.topic_filters() == []
    assert made._filters.count_nodes() == 0


async def test_a_retained_message_deep_down_is_found_and_forgotten(site: Sites) -> None:
    async with site("tcp", mqtt=DEPTHS) as it, connected(it) as client:
        for at in range(3):
            answer = await client.publish(f"{DEEP_NAME[:-1]}{at}", b"x", 1, retain=True)
            assert isinstance(answer, PubAck)
        await client.subscribe([SubscribeFilter(ALL_PLUS), SubscribeFilter(f"{DEEP_NAME[:-1]}1")])
        found = [(await client.receive()).topic_name[-1] for _ in range(4)]
        assert sorted(found) == ["0", "1", "1", "2"]
        await it.round_trips()
        for at in range(3):
            await client.publish(f"{DEEP_NAME[:-1]}{at}", b"", 1, retain=True)
