"""What one recipient gets of a topic: its subscriptions that match, as one delivery.

Invariant: a delivery never changes; however many subscriptions of one recipient overlap, it gets one copy, with the
highest QoS [MQTT-3.3.4-2] and every identifier [MQTT-3.3.4-3].
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from attrs import define

from trio_broker.routing.subscription import Subscription


class Recipient(Protocol):
    """Whom deliveries go to; told apart by its hash and equality (in the broker: by identity)."""

    @property
    def client_id(self) -> str: ...

    def __hash__(self) -> int: ...


R = TypeVar("R", bound=Recipient)


@define(eq=False, weakref_slot=False)
class Delivery(Generic[R]):
    """How one recipient gets the messages of a topic.

    `topic_filter` is the filter (in full) with the highest QoS. `no_local` says that some of the subscriptions are
    not for what the recipient itself published [MQTT-3.8.3-3]; of its own messages it then gets what `own` says, which
    is nothing where that is None. Without `no_local`, `own` means nothing.
    `plain`: no identifier, not retain as published, not no local: the message goes out as for everybody else.
    """

    recipient: R
    qos: int
    no_local: bool
    retain_as_published: bool
    identifiers: tuple[int, ...]
    plain: bool
    own: Delivery[R] | None
    topic_filter: str
    share: str | None = None
    """The filter in full where it is a shared subscription."""


def delivery_for(recipient: R, subscription: Subscription) -> Delivery[R]:
    """The delivery that stands for one subscription alone."""
    no_local, as_published, identifier = (
        subscription.no_local,
        subscription.retain_as_published,
        subscription.identifier,
    )
    return Delivery(
        recipient,
        subscription.qos,
        no_local,
        as_published,
        (identifier,) if identifier else (),
        not (no_local or as_published or identifier),
        None,
        subscription.topic_filter,
        None if subscription.share_name is None else subscription.topic_filter,
    )


def merge(deliveries: Iterable[Delivery[R]]) -> Delivery[R]:
    """One delivery for several subscriptions (one at least) of the same recipient, each as `delivery_for` made it.

    An identifier that was given to several of them comes as often as it was given [MQTT 5.0 section 3.3.4].
    """
    parts = list(deliveries)
    best = max(parts, key=attrgetter("qos"))
    no_local = any(part.no_local for part in parts)
    as_published = any(part.retain_as_published for part in parts)
    identifiers = tuple(identifier for part in parts for identifier in part.identifiers)
    own: Delivery[R] | None = None
    if no_local:
        others = [part for part in parts if not part.no_local]
        if others:
            own = merge(others)
    plain = not (no_local or as_published or identifiers)
    return Delivery(best.recipient, best.qos, no_local, as_published, identifiers, plain, own, best.topic_filter)
