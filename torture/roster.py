"""Who takes part: every kind of publisher and subscriber that the judge tells apart, the rest as the seed says."""

from __future__ import annotations

from typing import Final

from attrs import define, field

from torture.independent import PahoPublisher, PahoSubscriber
from torture.publishers import Publisher
from torture.subscribers import Subscriber
from torture.world import World
from trio_broker.protocol.packets import MQTT5, MQTT311

__all__ = ["ROOT", "Roster", "make_roster"]

ROOT: Final = "torture"
CREW: Final = "crew"
"""The group of the shared subscription."""


@define
class Roster:
    publishers: list[Publisher] = field(factory=list)
    subscribers: list[Subscriber] = field(factory=list)
    paho: list[PahoPublisher | PahoSubscriber] = field(factory=list)
    retained_topics: list[str] = field(factory=list)

    @property
    def is_done(self) -> bool:
        """Has every publisher finished what it had in flight?"""
        return all(publisher.is_done for publisher in self.publishers) and not any(
            client.open for client in self.paho if isinstance(client, PahoPublisher)
        )


def make_roster(world: World, publishers: int, subscribers: int) -> Roster:
    """At least 4 publishers (QoS 1, QoS 2, retained, paho) and 6 subscribers (see `_subscriber`)."""
    roster = Roster()
    for number in range(max(4, publishers)):
        _publisher(world, roster, number)
    for number in range(max(6, subscribers)):
        _subscriber(world, roster, number)
    return roster


def _publisher(world: World, roster: Roster, number: int) -> None:
    name = f"p{number}"
    chance = world.chance(f"{name} as it is")
    kind = number % 4
    qos = 2 if kind in (1, 3) else 1
    topics = tuple(f"{ROOT}/{name}/{which}" for which in range(3 if kind == 2 else 1))
    # Mostly many in flight, but also one at a time.
    window = 1 if number and chance.random() < 0.15 else chance.randint(2, 50)
    stream = world.judge.stream(name, qos, topics, window)
    level = chance.choice((MQTT311, MQTT5))
    if kind == 3:
        roster.paho.append(PahoPublisher(world, stream, level))
        return
    if kind == 2:
        roster.retained_topics += topics
    roster.publishers.append(Publisher(world, stream, level, retain=kind == 2))


def _subscriber(world: World, roster: Roster, number: int) -> None:
    """First: one for everything, two members of a group, paho, one that is mostly away, and one for QoS 2 alone."""
    name = f"s{number}"
    chance = world.chance(f"{name} as it is")
    judge = world.judge
    level = MQTT5 if number == 5 else chance.choice((MQTT311, MQTT5))
    is_slow = number == 5 or (number > 5 and level == MQTT5 and chance.random() < 0.3)
    receive_maximum = chance.randint(1, 5) if is_slow else None
    qos = 2 if number < 6 else chance.choice((1, 2))
    everything = f"{ROOT}/#"
    one = f"{ROOT}/{chance.choice(sorted(judge.streams))}/#"
    if number in (1, 2) and not judge.limit:
        # Who drops what of a group is not told apart; with a short queue there is none.
        crew = judge.subscription(CREW, f"$share/{CREW}/{everything}", 2)
        roster.subscribers.append(Subscriber(world, name, crew, crew_filter(everything), 2, level))
        return
    topic_filter = {0: everything, 3: everything, 4: f"{ROOT}/p1/#", 5: f"{ROOT}/p1/#"}.get(number, one)
    subscription = judge.subscription(name, topic_filter, qos)
    if number == 3:
        roster.paho.append(PahoSubscriber(world, name, subscription, topic_filter, level))
        return
    subscription.is_slow = is_slow
    subscriber = Subscriber(world, name, subscription, topic_filter, qos, level, receive_maximum)
    if number == 4:
        subscriber.is_often_away = True
        subscriber.rounds_away = (2, 5)
    roster.subscribers.append(subscriber)


def crew_filter(topic_filter: str) -> str:
    return f"$share/{CREW}/{topic_filter}"
