"""SubscriptionTable: one or many subscriptions of a recipient, and the counts."""

from __future__ import annotations

from routing.reference import Client, subscription

from trio_broker.routing.subscription_table import SubscriptionTable


def test_one_then_two_then_none() -> None:
    table = SubscriptionTable[Client]()
    client = Client("c")
    one, two, three = subscription("a"), subscription("b/+"), subscription("a", "g")
    assert table.put(client, one) is None
    assert (table.of(client), table.count, table.shared_count, len(table)) == ([one], 1, 0, 1)
    assert table.put(client, two) is None
    assert table.put(client, three) is None
    assert (table.of(client), table.count, table.shared_count, len(table)) == ([one, two, three], 3, 1, 1)
    assert [table.pop(client, it) for it in ("a", "a", "c")] == [one, None, None]
    assert table.pop_all(client) == [two, three]
    assert (table.of(client), table.count, table.shared_count, len(table)) == ([], 0, 0, 0)


def test_replacing_changes_no_count_and_no_order() -> None:
    table = SubscriptionTable[Client]()
    client = Client("c")
    old, new, other = subscription("a", "g"), subscription("a", "g", qos=2), subscription("b")
    table.put(client, old)
    assert table.put(client, new) is old
    assert (table.of(client), table.count, table.shared_count) == ([new], 1, 1)
    table.put(client, other)
    assert table.put(client, old) is new
    assert (table.of(client), table.count, table.shared_count) == ([old, other], 2, 1)


def test_the_last_of_one_and_the_last_of_many() -> None:
    table = SubscriptionTable[Client]()
    client, other = Client("c"), Client("c")  # two sessions are two recipients, whatever they are called
    table.put(client, subscription("a"))
    table.put(client, subscription("b"))
    table.put(other, subscription("a"))
    assert len(table) == 2
    assert table.pop(client, "a") is not None
    assert table.pop(client, "b") is not None
    assert len(table) == 1
    assert table.pop(other, "b") is None
    assert table.pop(other, "a") is not None
    assert (len(table), table.count) == (0, 0)


def test_strangers() -> None:
    table = SubscriptionTable[Client]()
    stranger = Client("c")
    assert table.pop(stranger, "a") is None
    assert table.pop_all(stranger) == []
    assert table.of(stranger) == []
