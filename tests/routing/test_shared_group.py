"""SharedGroup: who is picked under each strategy, and who is preferred."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import get_args

import pytest
from routing.reference import Client, subscription

from trio_broker.routing.shared_group import MAX_PUBLISHERS, STRATEGIES, SharedGroup, Strategy

EVERY_STRATEGY = pytest.mark.parametrize("strategy", get_args(Strategy))


def group_of(size: int, strategy: Strategy = "round_robin", seed: int = 1) -> tuple[SharedGroup[Client], list[Client]]:
    group: SharedGroup[Client] = SharedGroup("g", "a/+", strategy, Random(seed))
    clients = [Client(f"c{number}") for number in range(size)]
    for client in clients:
        group.add(client, subscription("a/+", "g", qos=1))
    return group, clients


def picked(group: SharedGroup[Client], origin: str = "p", topic_name: str = "a/b") -> str | None:
    delivery = group.pick(origin, topic_name)
    return None if delivery is None else delivery.recipient.client_id


def test_the_strategies_are_the_known_ones() -> None:
    assert set(STRATEGIES) == {
        "random",
        "round_robin",
        "round_robin_per_group",
        "sticky",
        "local",
        "hash_topic",
        "hash_clientid",
    }


def test_an_unknown_strategy() -> None:
    with pytest.raises(ValueError, match=r"'fair'.*round_robin"):
        SharedGroup[Client]("g", "a", "fair", Random(1))  # type: ignore[arg-type]


def test_names() -> None:
    group, _ = group_of(0)
    assert (group.name, group.match_filter, group.topic_filter) == ("g", "a/+", "$share/g/a/+")


@EVERY_STRATEGY
def test_nobody_there(strategy: Strategy) -> None:
    group, _ = group_of(0, strategy)
    assert group.pick("p", "a/b") is None


@EVERY_STRATEGY
def test_one_member_gets_everything(strategy: Strategy) -> None:
    group, _ = group_of(1, strategy)
    assert {picked(group) for _ in range(5)} == {"c0"}


@EVERY_STRATEGY
def test_the_delivery_is_the_members_own(strategy: Strategy) -> None:
    group, clients = group_of(2, strategy)
    group.add(clients[0], subscription("a/+", "g", qos=2, identifier=9))
    found = {picked.recipient: picked for number in range(50) if (picked := group.pick(f"p{number}", f"a/{number}"))}
    assert found[clients[0]].qos == 2
    assert found[clients[0]].identifiers == (9,)
    assert found[clients[0]].topic_filter == "$share/g/a/+"
    assert found[clients[1]].qos == 1
    assert found[clients[1]].plain


@EVERY_STRATEGY
def test_online_members_are_preferred(strategy: Strategy) -> None:
    group, clients = group_of(4, strategy)
    for client in clients[:3]:
        group.set_online(client, False)
    assert {picked(group, f"p{number}", f"a/{number}") for number in range(40)} == {"c3"}


@EVERY_STRATEGY
def test_offline_members_where_no_one_is_online(strategy: Strategy) -> None:
    group, clients = group_of(3, strategy)
    for client in clients:
        group.set_online(client, False)
    assert {picked(group, f"p{number}", f"a/{number}") for number in range(100)} == {"c0", "c1", "c2"}
    group.set_online(clients[1], True)
    assert {picked(group, f"p{number}", f"a/{number}") for number in range(100)} == {"c1"}


@EVERY_STRATEGY
def test_who_left_gets_nothing(strategy: Strategy) -> None:
    group, clients = group_of(3, strategy)
    assert {picked(group, f"p{number}", f"a/{number}") for number in range(100)} == {"c0", "c1", "c2"}
    assert group.discard(clients[1])
    assert not group.discard(clients[1])
    assert {picked(group, f"p{number}", f"a/{number}") for number in range(100)} == {"c0", "c2"}
    assert list(group.members) == [clients[0], clients[2]]


def test_a_member_can_join_offline() -> None:
    group, clients = group_of(1)
    late = Client("late")
    group.add(late, subscription("a/+", "g"), online=False)
    assert {picked(group) for _ in range(4)} == {"c0"}
    group.set_online(clients[0], False)
    assert {picked(group) for _ in range(4)} == {"c0", "late"}
    group.add(late, subscription("a/+", "g"))
    assert {picked(group) for _ in range(4)} == {"late"}


def test_set_online_of_a_stranger() -> None:
    group, _ = group_of(1)
    group.set_online(Client("stranger"), True)
    group.set_online(Client("stranger"), False)
    assert len(group.members) == 1
    assert picked(group) == "c0"


def test_round_robin_is_in_turns_for_each_publisher() -> None:
    group, _ = group_of(3)
    one = [picked(group, "one") for _ in range(6)]
    assert one == ["c0", "c1", "c2", "c0", "c1", "c2"]
    assert [picked(group, origin) for origin in ("two", "one", "two", "one")] == ["c1", "c0", "c2", "c1"]


def test_round_robin_is_fair_to_publishers_of_one_message() -> None:
    group, _ = group_of(4)
    counts = Counter(picked(group, f"p{number}") for number in range(400))
    assert set(counts.values()) == {100}


def test_round_robin_per_group_is_in_turns_for_all() -> None:
    group, _ = group_of(3, "round_robin_per_group")
    assert [picked(group, f"p{number % 2}") for number in range(6)] == ["c0", "c1", "c2"] * 2


def test_a_member_that_comes_back_has_its_old_place() -> None:
    group, clients = group_of(3, "hash_topic")
    before = [picked(group, "p", f"a/{number}") for number in range(20)]
    group.set_online(clients[0], False)
    group.set_online(clients[0], False)
    group.set_online(clients[0], True)
    assert [picked(group, "p", f"a/{number}") for number in range(20)] == before


@pytest.mark.parametrize("strategy", ["random", "local"])
def test_random_is_even_and_repeatable(strategy: Strategy) -> None:
    group, _ = group_of(4, strategy, seed=7)
    run = [picked(group) for _ in range(4000)]
    assert all(900 < amount < 1100 for amount in Counter(run).values())
    again, _ = group_of(4, strategy, seed=7)
    assert [picked(again) for _ in range(4000)] == run


def test_sticky_stays_until_the_member_is_away() -> None:
    group, clients = group_of(5, "sticky")
    first = picked(group)
    assert {picked(group, "p", f"a/{number}") for number in range(20)} == {first}
    assert len({picked(group, f"p{number}") for number in range(50)}) == 5
    stuck = next(client for client in clients if client.client_id == first)
    group.set_online(stuck, False)
    second = picked(group)
    assert second != first
    group.set_online(stuck, True)
    assert {picked(group) for _ in range(20)} == {second}
    group.discard(next(client for client in clients if client.client_id == second))
    third = picked(group)
    assert third not in (None, second)
    assert {picked(group) for _ in range(20)} == {third}


@pytest.mark.parametrize(("strategy", "by_topic"), [("hash_topic", True), ("hash_clientid", False)])
def test_hash_depends_on_one_thing_only(strategy: Strategy, by_topic: bool) -> None:
    group, _ = group_of(4, strategy)
    for fixed in range(20):
        name = f"x{fixed}"
        same = {picked(group, f"p{it}", name) if by_topic else picked(group, name, f"a/{it}") for it in range(20)}
        assert len(same) == 1
    different = {picked(group, f"p{it}", f"a/{it}") for it in range(100)}
    assert len(different) == 4


def test_hash_is_the_same_after_a_restart() -> None:
    group, _ = group_of(3, "hash_topic")
    # These are the CRC-32 of the names, modulo 3.
    assert [picked(group, "p", name) for name in ("a/b", "a/c", "a/\u00e9", "/")] == ["c1", "c2", "c2", "c1"]


@pytest.mark.parametrize("strategy", ["round_robin", "sticky"])
def test_what_is_remembered_of_publishers_is_bounded(strategy: Strategy) -> None:
    group, _ = group_of(3, strategy)
    for number in range(2 * MAX_PUBLISHERS):
        assert picked(group, f"p{number}") is not None
    assert len(group._turn_of) + len(group._sticks_to) == MAX_PUBLISHERS
    assert f"p{2 * MAX_PUBLISHERS - 1}" in {**group._turn_of, **group._sticks_to}


@EVERY_STRATEGY
def test_no_local_members_never_get_their_own(strategy: Strategy) -> None:
    group, clients = group_of(3, strategy)
    group.add(clients[0], subscription("a/+", "g", no_local=True))
    assert {picked(group, "c0", f"a/{number}") for number in range(50)} <= {"c1", "c2"}
    assert {picked(group, "c1", f"a/{number}") for number in range(50)} <= {"c0", "c1", "c2"}
    group.set_online(clients[1], False)
    group.set_online(clients[2], False)
    assert {picked(group, "c0", f"a/{number}") for number in range(50)} <= {"c1", "c2"}
    assert picked(group, "other") == "c0"
    group.discard(clients[1])
    group.discard(clients[2])
    assert group.pick("c0", "a/b") is None
    group.add(clients[0], subscription("a/+", "g"))
    assert picked(group, "c0") == "c0"
