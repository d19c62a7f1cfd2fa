"""RoutingTable: pages of subscriptions and of filters, found without a look at what is before them."""

from __future__ import annotations

from random import Random

import pytest
from routing.reference import Client, subscription

from trio_broker.routing.routing_table import RoutingTable
from trio_broker.routing.subscription import Subscription


def filters(table: RoutingTable[Client], offset: int, limit: int) -> list[str]:
    """A page of filters, as the router's callers put it together."""
    number, skip = table.before_filter(offset)
    found: list[str] = []
    while True:
        some, number = table.after(number, 3)
        if not some:
            break
        found += [it.topic_filter for client, held in some for it in held if table.leads(client, it)]
    return found[skip : skip + limit]


def filled(clients: int, each: int, pool: int, seed: int = 1) -> tuple[RoutingTable[Client], list[Client]]:
    """Many clients with filters out of a pool: most filters are had by several of them."""
    random = Random(seed)
    table = RoutingTable[Client]()
    everybody = [Client(f"c{number}") for number in range(clients)]
    for client in everybody:
        for _ in range(each):
            number = random.randrange(pool)
            share = f"g{number % 2}" if number % 3 == 0 else None
            table.subscribe(client, subscription(f"t/{number}/+" if number % 4 == 0 else f"t/{number}", share))
    return table, everybody


def check(table: RoutingTable[Client]) -> None:
    everything = [(client, it) for client, it in table.subscriptions()]
    for offset in (0, 1, len(everything) // 2, len(everything) - 1, len(everything)):
        assert table.page(offset, 7) == everything[offset : offset + 7]
    names = sorted(table.topic_filters())
    whole = filters(table, 0, len(names) + 1)
    assert sorted(whole) == names
    assert table.topics_count == len(names)
    for offset in range(0, len(names) + 5, 5):
        assert filters(table, offset, 5) == whole[offset : offset + 5]


@pytest.mark.parametrize("pool", [20, 3000])
def test_pages_are_right_whoever_comes_and_goes(pool: int) -> None:
    table, everybody = filled(400, 5, pool)
    check(table)
    random = Random(2)
    random.shuffle(everybody)
    for at, client in enumerate(everybody):
        if at % 3:
            table.remove(client)
        else:
            for held in table.subscriptions_of(client)[1:]:
                table.unsubscribe(client, held.topic_filter)
        if at % 100 == 0:
            check(table)
    check(table)
    for client in everybody:
        table.remove(client)
    check(table)
    assert table._subscriptions._of.blocks == []
    assert table._subscriptions._leaving == {}


def test_each_filter_is_listed_once_also_while_one_who_led_them_leaves_in_parts() -> None:
    table = RoutingTable[Client]()
    first, second = Client("c1"), Client("c2")
    for number in range(50):
        table.subscribe(first, subscription(f"t/{number}"))
        table.subscribe(first, subscription(f"t/{number}", "g"))
    for number in range(0, 50, 2):
        table.subscribe(second, subscription(f"t/{number}"))
        table.subscribe(second, subscription(f"t/{number}", "g"))
    steps = table.removal(first)
    for _ in range(60):
        next(steps)
    assert len(filters(table, 0, 1000)) == len(set(filters(table, 0, 1000)))
    list(steps)
    check(table)
    assert table.topics_count == 50


@pytest.mark.parametrize("order", [1, -1])
def test_the_lead_passes_on_when_all_leave_in_order(order: int) -> None:
    table = RoutingTable[Client]()
    everybody = [Client(f"c{number}") for number in range(300)]
    for client in everybody:
        table.subscribe(client, subscription("all"))
        table.subscribe(client, subscription("all", "g"))
    for left, client in zip(range(299, -1, -1), everybody[::order], strict=True):
        assert sorted(filters(table, 0, 9)) == ["$share/g/all", "all"]
        table.remove(client)
        assert table.subscribers_count == left
    assert filters(table, 0, 9) == []


@pytest.mark.parametrize("share_name", [None, "g"])
def test_the_lead_passes_to_one_who_is_leaving(share_name: str | None) -> None:
    """In the end nobody is in the table any more, and one who waits for its removal has the last filter."""
    table = RoutingTable[Client]()
    first, second = Client("c1"), Client("c2")
    for client in (first, second):
        table.subscribe(client, subscription("t", share_name))
    steps = table.removal(second)
    assert len(table.remove(first)) == 1
    assert table.topics_count == 1
    assert len(list(steps)) == 1
    assert (table.topics_count, table._subscriptions._of.blocks, table._subscriptions._leaving) == (0, [], {})


def test_who_is_put_out_of_a_group_before_it_leaves() -> None:
    """The router does so with a member that has ended; the last of the others may leave before it is removed."""
    table = RoutingTable[Client]()
    ended, other, late = Client("c1"), Client("c2"), Client("c3")
    for client in (ended, other):
        table.subscribe(client, subscription("t", "g"))
    steps = table.removal(ended)
    group = table.shared_group("g", "t")
    assert group is not None
    group.discard(ended)
    assert table.unsubscribe(other, "$share/g/t")
    assert (table.topics_count, table.topic_filters()) == (0, [])
    table.subscribe(late, subscription("t"))
    assert [it.topic_filter for it in steps] == ["$share/g/t"]
    assert (table.topics_count, filters(table, 0, 9)) == (1, ["t"])
    assert table.remove(late) == ["t"]
    assert table._subscriptions._of.blocks == []
    assert table._groups_of == {}


def test_who_has_a_filter() -> None:
    table = RoutingTable[Client]()
    first, second = Client("c1"), Client("c2")
    table.subscribe(first, subscription("t/+"))
    assert table.has_filter(None, "t/+")
    assert not table.has_filter("g", "t/+")
    assert table.subscribers(None, "t/+") == [first]
    assert table.subscribers("g", "t/+") == []
    table.subscribe(second, subscription("t/+", "g"))
    table.subscribe(second, subscription("t/+", qos=2))
    assert table.has_filter("g", "t/+")
    assert not table.has_filter("h", "t/+")
    assert not table.has_filter(None, "t")
    assert table.subscribers(None, "t/+") == [first, second]
    assert table.subscribers("g", "t/+") == [second]
    assert table.subscribers("h", "t/+") == table.subscribers(None, "t") == []
    assert table.subscription(second, None, "t/+") == Subscription("t/+", "t/+", qos=2)
    assert table.subscription(second, "g", "t/+") == subscription("t/+", "g")
    assert table.subscription(first, "g", "t/+") is None
    assert table.subscription(first, None, "t") is None
    table.unsubscribe(first, "t/+")
    table.unsubscribe(second, "t/+")
    assert not table.has_filter(None, "t/+")
    assert table.has_filter("g", "t/+")
