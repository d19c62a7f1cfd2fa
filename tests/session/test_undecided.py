"""Packets that may not be allowed, which has to be found out first: nothing takes effect before, all in order after."""

from __future__ import annotations

from typing import Any

import pytest
from session.objects import make_channel, make_step

from trio_broker.errors import ProtocolError
from trio_broker.protocol.message import Run
from trio_broker.protocol.packets import Packet, Publish, Subscribe, SubscribeFilter
from trio_broker.session.changes import Answer, SubscribeChange
from trio_broker.session.channel import Channel
from trio_broker.session.requests import RULED_A_STEP
from trio_broker.session.step import Step
from trio_broker.session.subscribe import Asked

Topics = list[tuple[str, list[bytes]]]


class Door:
    """Knows about some topics; learns the others when it is told."""

    def __init__(self, **known: bool) -> None:
        self.known = known

    def publish(self, topic: str, qos: int, retain: bool, now: float) -> bool | None:
        return self.known.get(topic)

    def subscribe(self, match_filter: str, qos: int, now: float) -> bool | None:
        return self.known.get(match_filter)

    def waits_for(self, asked: Asked, now: float) -> bool:
        return asked[1] not in self.known

    def forget(self) -> None:
        """It knows them still."""


def channel_with(door: Door, level: int = 5) -> Channel:
    channel = make_channel(level=level, authorize_publish=door.publish, authorize_subscribe=door.subscribe)
    channel.questions = door
    return channel


def publish(topic: str, payload: bytes = b"", qos: int = 0, identifier: int = 0, **properties: Any) -> Publish:
    packet = Publish(topic, payload, qos, False, False, identifier)
    if properties:
        packet.properties = properties  # type: ignore[assignment]
    return packet


def routed(step: Step) -> Topics:
    return [
        (entry.topic_name, [packet.payload for packet in entry.packets or ()])
        for entry in step.routed
        if isinstance(entry, Run)
    ]


def go_on(channel: Channel) -> Step:
    step = make_step()
    channel.go_on(step)
    return step


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("allowed", [True, False])
def test_what_stands_behind_waits_too(qos: int, allowed: bool) -> None:
    door = Door(a=True)
    channel = channel_with(door)
    step = make_step()
    packets: list[Packet] = [
        publish("a", b"1", qos, 1),
        publish("slow", b"2", qos, 2),
        publish("a", b"3", qos, 3),
        publish("a", b"4", qos, 4),
    ]
    channel.handle(packets, step)
    assert routed(step) == [("a", [b"1"])]
    assert list(channel.undecided) == [("publish", "slow", qos, False)]
    door.known["slow"] = allowed
    step = go_on(channel)
    slow: Topics = [("slow", [b"2"])] if allowed else []
    assert routed(step) == [*slow, ("a", [b"3", b"4"])]
    assert [entry.reason_code for entry in step.routed if isinstance(entry, Answer)] == (
        [] if allowed or qos == 0 else [0x87]
    )
    assert not channel.undecided


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_one_alone(qos: int) -> None:
    door = Door()
    channel = channel_with(door)
    step = make_step()
    channel.handle([publish("slow", b"x", qos, 1)], step)
    assert step.routed == []
    assert channel.session.awaiting_rel == {}
    assert channel.unacknowledged == 0
    door.known["slow"] = True
    assert routed(go_on(channel)) == [("slow", [b"x"])]
    assert len(channel.session.awaiting_rel) == (qos == 2)
    assert channel.unacknowledged == (qos == 1)


def test_it_counts_once() -> None:
    door = Door()
    channel = channel_with(door)
    channel.handle([publish("slow", b"x", 1, 1), Subscribe(2, [SubscribeFilter("slow")])], make_step())
    door.known["slow"] = True
    go_on(channel)
    meter, stats = channel.meter, channel.session.stats
    assert (meter.packets_received, meter.packets_publish_received, meter.messages_qos1_received) == (2, 1, 1)
    assert meter.packets_subscribe_received == 1
    assert stats.recv_pkt == 2


def test_a_topic_alias_is_set_once_it_is_used() -> None:
    door = Door()
    channel = channel_with(door)
    channel.handle([publish("slow", b"1", topic_alias=1), publish("", b"2", topic_alias=1)], make_step())
    assert list(channel.undecided) == [("publish", "slow", 0, False)]
    held = channel.alias_bytes
    door.known["slow"] = True
    assert routed(go_on(channel)) == [("slow", [b"1", b"2"])]
    assert channel.alias_bytes == held == 4


def test_all_filters_of_a_subscribe_are_found_out_together() -> None:
    door = Door(a=True)
    channel = channel_with(door)
    step = make_step()
    filters = [SubscribeFilter(name) for name in ("a", "b", "$share/g/c", "+bad", "d")]
    channel.handle([Subscribe(1, filters), publish("a", b"behind")], step)
    assert step.routed == []
    assert channel.session.subscriptions == {}
    assert list(channel.undecided) == [("subscribe", name, 0, False) for name in "bcd"]
    door.known.update(b=False, c=True, d=True)
    step = go_on(channel)
    change = step.routed[0]
    assert isinstance(change, SubscribeChange)
    assert change.reason_codes == [0, 0x87, 0, 0x8F, 0]
    assert (change.packet_identifier, routed(step)) == (1, [("a", [b"behind"])])
    assert list(channel.session.subscriptions) == ["a", "$share/g/c", "d"]


def test_a_very_long_subscribe_is_found_out_part_by_part() -> None:
    door = Door()
    channel = channel_with(door)
    names = [f"t{number}" for number in range(600)]
    channel.handle([Subscribe(1, [SubscribeFilter(name) for name in names]), publish("t1", b"behind")], make_step())
    answered: list[int] = []
    parts = 0
    while channel.long is not None or channel.undecided:
        door.known.update({asked[1]: asked[1] != "t300" for asked in channel.undecided})
        parts += bool(channel.undecided)
        step = go_on(channel)
        for entry in step.routed:
            if isinstance(entry, SubscribeChange) and entry.packet_identifier:
                answered = entry.reason_codes
    assert parts == -(-600 // RULED_A_STEP)
    assert answered == [0x87 if name == "t300" else 0 for name in names]
    assert routed(step) == [("t1", [b"behind"])]
    assert len(channel.session.subscriptions) == 599


@pytest.mark.parametrize("packet", [publish("no", b"", 1, 1), publish("no"), Subscribe(1, [SubscribeFilter("no")])])
@pytest.mark.parametrize("level", [4, 5])
def test_a_client_may_be_cut_off_for_it(packet: Packet, level: int) -> None:
    channel = channel_with(Door(no=False), level)
    channel.deny_disconnects = True
    step = make_step()
    with pytest.raises(ProtocolError) as caught:
        channel.handle([packet], step)
    assert caught.value.reason_code == 0x87
    assert step.routed == []
    assert channel.session.subscriptions == {}
