"""A shared subscription: the members of one `$share/NAME/FILTER`, and whose turn it is [MQTT 5.0 section 4.8.2].

Invariant: each message goes to one member at most; to one that is away only while none is online. What is remembered
of publishers is bounded.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final, Generic, Literal, get_args
from zlib import crc32

from attrs import Attribute, define, field

from trio_broker.routing.delivery import Delivery, R, delivery_for
from trio_broker.routing.subscription import Subscription

Strategy = Literal["random", "round_robin", "round_robin_per_group", "sticky", "local", "hash_topic", "hash_clientid"]
STRATEGIES: Final[tuple[str, ...]] = get_args(Strategy)

MAX_PUBLISHERS: Final = 1024
"""Of how many publishers a group remembers where their round stands or to whom they stick."""


def _check_strategy(_group: Any, _attribute: Attribute[Any], value: str) -> None:
    if value not in STRATEGIES:
        raise ValueError(f"unknown shared subscription strategy {value!r}; known: {', '.join(STRATEGIES)}")


@define(eq=False, repr=False)
class SharedGroup(Generic[R]):
    """The strategies are EMQX's `shared_subscription_strategy`:

    `random`, and `local` (which on one node is the same); `round_robin`: in turns for each publisher, a new publisher
    beginning where the group stands; `round_robin_per_group`: in turns for all together; `sticky`: a publisher keeps
    the member it first got (at random) until that goes away; `hash_topic`, `hash_clientid`: always the same member
    for a topic or a publisher, as long as the same members are online.
    """

    name: str
    match_filter: str
    strategy: Strategy = field(validator=_check_strategy)
    random: Random
    members: dict[R, Subscription] = field(factory=dict, init=False)
    lead: R | None = field(default=None, init=False)
    """Who of them stands for the group where filters are listed; the routing table says so."""
    _deliveries: dict[R, Delivery[R]] = field(factory=dict, init=False)
    _offline: set[R] = field(factory=set, init=False)
    _choices: list[Delivery[R]] = field(factory=list, init=False)  # of those whose turn it can be; [] = not known yet
    _no_local_count: int = field(default=0, init=False)
    _turn: int = field(default=0, init=False)
    _turn_of: dict[str, int] = field(factory=dict, init=False)  # by client id of the publisher
    _sticks_to: dict[str, R] = field(factory=dict, init=False)

    @property
    def topic_filter(self) -> str:
        """The filter in full."""
        return f"$share/{self.name}/{self.match_filter}"

    def use_strategy(self, strategy: Strategy) -> None:
        """Go by another one from now on; what was remembered of publishers is forgotten."""
        self.strategy = strategy
        self._turn_of.clear()
        self._sticks_to.clear()

    def add(self, recipient: R, subscription: Subscription, online: bool = True) -> None:
        """Let a member in, or put a new subscription in the place of its old one."""
        old = self.members.get(recipient)
        if old is not None:
            self._no_local_count -= old.no_local
        self._no_local_count += subscription.no_local
        self.members[recipient] = subscription
        self._deliveries[recipient] = delivery_for(recipient, subscription)
        self._choices = []
        self.set_online(recipient, online)

    def discard(self, recipient: R) -> bool:
        """Let a member go; False when it is none."""
        old = self.members.pop(recipient, None)
        if old is None:
            return False
        self._no_local_count -= old.no_local
        del self._deliveries[recipient]
        self._offline.discard(recipient)
        self._choices = []
        if self._sticks_to:
            self._sticks_to = {publisher: kept for publisher, kept in self._sticks_to.items() if kept != recipient}
        return True

    def set_online(self, recipient: R, online: bool) -> None:
        """A member's connection came or went; who is no member is none of our business."""
        if recipient not in self.members or online == (recipient not in self._offline):
            return
        if online:
            self._offline.remove(recipient)
        else:
            self._offline.add(recipient)
        self._choices = []

    def pick(self, origin_client_id: str, topic_name: str) -> Delivery[R] | None:
        """How the next message goes out and to whom; None when nobody may have it."""
        choices = self._choices
        if not choices:
            choices = self._choices = self._find_choices()
        if self._no_local_count:
            choices = self._not_to(origin_client_id, choices)
        count = len(choices)
        if count < 2:
            return choices[0] if choices else None
        match self.strategy:
            case "round_robin":
                turn = self._turn_of.get(origin_client_id)
                if turn is None:
                    turn = self._take_turn()
                    _make_room(self._turn_of)
                self._turn_of[origin_client_id] = turn + 1
                return choices[turn % count]
            case "round_robin_per_group":
                return choices[self._take_turn() % count]
            case "random" | "local":
                return choices[int(self.random.random() * count)]
            case "hash_topic":
                return choices[_stable_hash(topic_name) % count]
            case "hash_clientid":
                return choices[_stable_hash(origin_client_id) % count]
            case "sticky":
                return self._stick(origin_client_id, choices)

    def _find_choices(self) -> list[Delivery[R]]:
        # In the order in which they joined, so that a member that comes back finds its old place.
        everybody = self._deliveries.items()
        offline = self._offline
        return [it for recipient, it in everybody if recipient not in offline] or list(self._deliveries.values())

    def _take_turn(self) -> int:
        turn = self._turn
        self._turn = turn + 1
        return turn

    def _stick(self, origin_client_id: str, choices: list[Delivery[R]]) -> Delivery[R]:
        recipient = self._sticks_to.get(origin_client_id)
        if recipient is None:
            _make_room(self._sticks_to)
        elif recipient not in self._offline or len(self._offline) == len(self.members):
            kept = self._deliveries.get(recipient)
            if kept is not None and not _is_barred(kept, origin_client_id):
                return kept
        chosen = choices[int(self.random.random() * len(choices))]
        self._sticks_to[origin_client_id] = chosen.recipient
        return chosen

    def _not_to(self, origin_client_id: str, choices: list[Delivery[R]]) -> list[Delivery[R]]:
        # MQTT 5 clients cannot ask for no local here [MQTT-3.8.3-4]; bridges of 3.x never want their own messages back.
        for some in (choices, self._deliveries.values()):
            allowed = [delivery for delivery in some if not _is_barred(delivery, origin_client_id)]
            if allowed:
                return allowed
        return []


def _is_barred(delivery: Delivery[Any], origin_client_id: str) -> bool:
    return delivery.no_local and delivery.recipient.client_id == origin_client_id


def _make_room(remembered: dict[str, Any]) -> None:
    if len(remembered) >= MAX_PUBLISHERS:
        del remembered[next(iter(remembered))]


def _stable_hash(text: str) -> int:
    # Not hash(): that differs from one start of the broker to the next.
    return crc32(text.encode())
