"""What routing costs: matching a topic, cached and not, memory a filter, and retained messages.

    python -m benchmarks.routing [--sizes 1000 10000 100000 1000000]

Every tenth filter has wildcards; each client has ten filters. Times are medians of five runs over many topics; absolute
figures differ from machine to machine, their ratios less so. "memory" is what the routing table adds, the
subscriptions themselves (with their text) stand beside it.
"""

from __future__ import annotations

import argparse
import gc
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import islice
from random import Random
from statistics import median
from time import perf_counter

from attrs import define

from trio_broker.protocol.message import Message, Origin
from trio_broker.routing.retained_trie import RetainedTrie
from trio_broker.routing.routing_table import RoutingTable
from trio_broker.routing.subscription import Subscription

TOPICS = 20_000
RUNS = 5


@define(eq=False)
class Client:
    client_id: str


def topic_name(number: int) -> str:
    """Ten devices in a hall, halls spread over a hundred sites."""
    return f"site{number // 10 % 100}/hall{number // 10}/device{number}/temperature"


def match_filter(number: int) -> str:
    if number % 10:
        return topic_name(number)
    site, hall, device = topic_name(number + 1).split("/")[:3]
    return (
        f"{site}/{hall}/#",
        f"{site}/{hall}/+/temperature",
        f"+/{hall}/{device}/temperature",
        f"{site}/+/{device}/#",
        f"{site}/{hall}/{device}/+",
    )[number // 10 % 5]


def cost(work: Callable[[], object], steps: int) -> float:
    """Microseconds a step."""
    start = perf_counter()
    work()
    return (perf_counter() - start) / steps * 1e6


def exhaust(items: Iterable[object]) -> int:
    return sum(1 for _ in items)


def measure_table(size: int) -> None:
    tracemalloc.start()
    clients = [Client(f"client{number}") for number in range(max(1, size // 10))]
    before = tracemalloc.get_traced_memory()[0]
    subscriptions = [Subscription(text, text) for text in map(match_filter, range(size))]
    between = tracemalloc.get_traced_memory()[0]
    table: RoutingTable[Client] = RoutingTable()
    for number, subscription in enumerate(subscriptions):
        table.subscribe(clients[number // 10 % len(clients)], subscription)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert table.topics_count == size
    gc.collect()
    gc.freeze()

    random = Random(1)
    topics = [topic_name(random.randrange(size)) for _ in range(TOPICS)]
    topics = list(dict.fromkeys(topics))
    uncached, cached, inlined = [], [], []
    for _ in range(RUNS):
        table.plans.clear()
        uncached.append(cost(lambda: [table.match(name) for name in topics], len(topics)))
        cached.append(cost(lambda: [table.match(name) for name in topics], len(topics)))
        inlined.append(cost(lambda: [table.plans.get(name) for name in topics], len(topics)))
    found = sum(len(table.match(name).deliveries) for name in topics) / len(topics)

    again: RoutingTable[Client] = RoutingTable()
    owners = [clients[number // 10 % len(clients)] for number in range(size)]
    subscribing = cost(lambda: [again.subscribe(*it) for it in zip(owners, subscriptions, strict=True)], size)
    removing = cost(lambda: [again.remove(client) for client in clients], size)
    assert again.topics_count == 0
    print(
        f"{size:>9,} {median(uncached):>9.2f} {median(cached):>8.3f} {median(inlined):>9.3f} {found:>8.2f}"
        f" {subscribing:>9.2f} {removing:>7.2f} {(after - between) / size:>9.0f} {(between - before) / size:>14.0f}"
    )
    gc.unfreeze()


def measure_retained(size: int) -> None:
    origin = Origin("publisher")
    messages = [Message(topic_name(number), b"21.5", 0, True, number, origin, 0) for number in range(size)]
    tracemalloc.start()
    trie = RetainedTrie()
    for message in messages:
        trie.set(message)
    memory = tracemalloc.get_traced_memory()[0] / size
    tracemalloc.stop()
    gc.collect()
    gc.freeze()
    again = RetainedTrie()
    setting = cost(lambda: [again.set(message) for message in messages], size)
    replacing = cost(lambda: [again.set(message) for message in messages], size)
    random = Random(1)
    names = [topic_name(random.randrange(size)) for _ in range(min(size, TOPICS))]
    exact = cost(lambda: [exhaust(trie.match(name)) for name in names], len(names))
    one = names[0].split("/")
    single = f"+/{one[1]}/{one[2]}/+"
    first = cost(lambda: next(trie.match("#")), 1)
    assert exhaust(trie.match("#")) == size
    everything = median(cost(lambda: exhaust(trie.match("#")), size) for _ in range(RUNS))
    levels = median(cost(lambda: exhaust(trie.match("+/+/+/temperature")), size) for _ in range(RUNS))
    found = cost(lambda: exhaust(trie.match(single)), 1)
    half = list(islice(names, len(names) // 2))
    deleting = cost(lambda: [trie.delete(name) for name in half], len(half))
    print(
        f"{size:>9,} {setting:>8.2f} {replacing:>8.2f} {deleting:>8.2f} {exact:>8.2f} {first:>9.1f} {everything:>9.2f}"
        f" {levels:>9.2f} {found:>11.1f} {memory:>9.0f}"
    )
    gc.unfreeze()


def main() -> None:
    parser = argparse.ArgumentParser(description="What routing costs.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    sizes: list[int] = parser.parse_args().sizes
    print("Subscriptions: microseconds a topic (match) or filter (subscribe, remove); bytes a filter")
    print("  filters  uncached   cached plans.get  matches subscribe  remove    memory  subscriptions")
    for size in sizes:
        measure_table(size)
    print("\nRetained messages: microseconds a message, where the head does not say more; bytes a message in the trie")
    print(" messages      set  replace   delete    exact first of # all of # +/+/+/te. +/h/d/+ (all)   memory")
    for size in sizes:
        measure_retained(size)


if __name__ == "__main__":
    main()
