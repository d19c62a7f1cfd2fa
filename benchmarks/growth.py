"""How cost grows with number: filters, retained messages, sessions. A table and a picture.

    python -m benchmarks.growth [--quick] [--only routing|retained|sessions] [--docs | --no-docs]

Invariant: a curve is judged by its steps: ten times as many may cost at most so many times as much (`STEP`), where a
walk through all of them would cost ten times. Exit code 1 when a curve is steeper.
"""

from __future__ import annotations

import argparse
import base64
import gc
import http.client
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from statistics import median

from attrs import define, field

from benchmarks import brokers, load
from benchmarks.brokers import OURS, REST_KEY, ROOT
from benchmarks.load import Options, run_load
from benchmarks.processes import Child, free_port, raise_file_limit
from benchmarks.routing import Client, cost, exhaust, match_filter, topic_name
from trio_broker.protocol.message import Message, Origin
from trio_broker.routing.retained_trie import RetainedTrie
from trio_broker.routing.routing_table import RoutingTable
from trio_broker.routing.subscription import Subscription

__all__ = ["Curve", "main", "markdown", "retained", "routing", "sessions"]

STEP = 2.5
"""A logarithm doubles from a thousand to a million; caches of the processor that are too small cost as much again."""
TOPICS = 20_000
RUNS = 3
PACED = Options("pairs", 400, 100, 100, rate=5000, seconds=120.0)
SCRAPED = ("/api/v5/metrics", "/api/v5/stats", "/api/v5/clients?limit=100")


@define
class Curve:
    """`points` is number -> value in `unit`; None as a bound: only shown."""

    title: str
    unit: str
    bound: float | None = STEP
    points: dict[int, float] = field(factory=dict)

    def steps(self) -> list[float]:
        """What each tenfold number costs, in times of the one before."""
        values = list(self.points.values())
        return [later / earlier if earlier else 0.0 for earlier, later in pairwise(values)]

    @property
    def is_steep(self) -> bool:
        return self.bound is not None and any(step > self.bound for step in self.steps())


def _best(work: Callable[[], object], steps: int) -> float:
    """Microseconds a step: the median of some runs."""
    return median(cost(work, steps) for _ in range(RUNS))


def routing(sizes: Sequence[int]) -> list[Curve]:
    """Matching a topic, with and without the cache of plans."""
    curves = []
    for kind in ("exact filters", "a tenth of them with wildcards"):
        uncached, cached = Curve(f"match a topic, {kind}", "µs"), Curve(f"the same from the cache, {kind}", "µs")
        for size in sizes:
            table: RoutingTable[Client] = RoutingTable()
            clients = [Client(f"client{number}") for number in range(max(1, size // 10))]
            make = match_filter if "wildcards" in kind else topic_name
            for number in range(size):
                text = make(number)
                table.subscribe(clients[number // 10 % len(clients)], Subscription(text, text))
            random = Random(1)
            # As many different topics for every size, or the smallest would fit into the processor's cache alone.
            topics = list(dict.fromkeys(topic_name(random.randrange(size)) for _ in range(min(TOPICS, size))))
            gc.collect()
            gc.freeze()

            def match_all(names: Sequence[str] = topics, table: RoutingTable[Client] = table) -> None:
                for name in names:
                    table.match(name)

            times = []
            for _ in range(RUNS):
                table.plans.clear()
                times.append(cost(match_all, len(topics)))
            uncached.points[size] = median(times)
            cached.points[size] = _best(match_all, len(topics))
            gc.unfreeze()
            _said(f"routing, {kind}, {size:,}")
        curves += [uncached, cached]
    return curves


def retained(sizes: Sequence[int]) -> list[Curve]:
    """Storing and finding retained messages."""
    store, exact = Curve("store a retained message", "µs"), Curve("find one by its topic", "µs")
    some, first = Curve("find ten by a filter with a wildcard", "µs"), Curve("the first 100 of `#`", "µs")
    origin = Origin("publisher")
    for size in sizes:
        messages = [Message(topic_name(number), b"21.5", 0, True, number, origin, 0) for number in range(size)]
        trie = RetainedTrie()
        gc.collect()
        gc.freeze()
        store.points[size] = cost(lambda trie=trie, messages=messages: [trie.set(it) for it in messages], size)
        random = Random(1)
        numbers = [random.randrange(size) for _ in range(2000)]
        names = [topic_name(number) for number in numbers]
        halls = [f"+/hall{number // 10}/+/temperature" for number in numbers[:200]]
        exact.points[size] = _best(lambda trie=trie, names=names: [exhaust(trie.match(it)) for it in names], len(names))
        some.points[size] = _best(lambda trie=trie, halls=halls: [exhaust(trie.match(it)) for it in halls], len(halls))
        first.points[size] = _best(lambda trie=trie: exhaust(islice(trie.match("#"), 100)), 1)
        gc.unfreeze()
        _said(f"retained messages, {size:,}")
    return [store, exact, some, first]


def leave_sessions(port: int, first: int, count: int, at_once: int = 100) -> None:
    """So many clients connect, subscribe to a topic of their own, and go; their sessions stay."""
    for start in range(first, first + count, at_once):
        peers = []
        for number in range(start, min(start + at_once, first + count)):
            name = f"sleeper{number}".encode()
            topic = f"sleeping/{number}".encode()
            connect = b"\x00\x04MQTT\x04\x00\x00\x00" + len(name).to_bytes(2, "big") + name
            subscribe = b"\x00\x01" + len(topic).to_bytes(2, "big") + topic + b"\x01"
            peer = socket.create_connection(("127.0.0.1", port))
            frames = (b"\x10", connect), (b"\x82", subscribe), (b"\xe0", b"")
            peer.sendall(b"".join(kind + bytes((len(body),)) + body for kind, body in frames))
            peers.append(peer)
        for peer in peers:
            while peer.recv(64):
                pass
            peer.close()


@define
class Scraper:
    """Asks what a monitoring system asks, once a second, until told to stop; `spent` is milliseconds a scrape."""

    port: int
    spent: list[float] = field(factory=list)
    failed: int = 0
    _stop: threading.Event = field(factory=threading.Event)

    def run(self) -> None:
        headers = {"Authorization": f"Basic {base64.b64encode(REST_KEY.encode()).decode()}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self._stop.wait(1.0):
            began = time.perf_counter()
            for path in SCRAPED:
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                answer.read()
                self.failed += answer.status != 200
            self.spent.append((time.perf_counter() - began) * 1e3)

    def stop(self) -> None:
        self._stop.set()


def _paced(site: tuple[int, Path], scraper: Scraper | None, factor: float) -> float:
    """The p99 of the live pairs, in milliseconds; RuntimeError when a message was lost."""
    thread = threading.Thread(target=scraper.run) if scraper else None
    if thread:
        thread.start()
    try:
        report = run_load(PACED.scaled(factor), *site)
    finally:
        if scraper and thread:
            scraper.stop()
            thread.join()
    if report.trouble or (scraper and scraper.failed):
        raise RuntimeError(report.trouble or "REST calls failed")
    return report.number("p99_ms")


def sessions(sizes: Sequence[int], factor: float = 1.0) -> list[Curve]:
    """Sessions of clients that are away, a hundred pairs that are not, and a scrape of the REST API every second."""
    scrape = Curve("a scrape over REST: metrics, stats, 100 clients", "ms")
    p99 = Curve("p99 of 100 pairs, 5,000 msg/s, scraped every second", "ms")
    memory = Curve("memory of a session that is away, with a subscription", "bytes", None)
    ours = next(broker for broker in brokers.known_brokers() if broker.name == OURS)
    rest_port = free_port()
    with tempfile.TemporaryDirectory(prefix="trio-broker-growth-") as name:
        folder = Path(name)
        with brokers.running(ours, folder, rest_port=rest_port) as (child, port):
            _paced((port, folder), None, 0.1)
            before, there = child.rss_kb(), 0
            for size in sizes:
                leave_sessions(port, there, size - there)
                there = size
                memory.points[size] = (child.rss_kb() - before) * 1024 / size
                scraper = Scraper(rest_port)
                p99.points[size] = _paced((port, folder), scraper, factor)
                scrape.points[size] = median(scraper.spent) if scraper.spent else 0.0
                _said(f"sessions, {size:,}")
            _check(child)
    return [scrape, p99, memory]


def _check(child: Child) -> None:
    if child.process.poll() is not None:
        raise RuntimeError(f"the broker has ended:\n{child.tail()}")


def _said(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def markdown(curves: Sequence[Curve]) -> str:
    """One table a group of curves with the same numbers."""
    lines: list[str] = []
    sizes: list[int] = []
    for curve in curves:
        if list(curve.points) != sizes:
            sizes = list(curve.points)
            head = " | ".join(f"{size:,}" for size in sizes)
            lines += [
                "",
                f"| | unit | {head} | steepest step | allowed | verdict |",
                "|---|---" + "|---" * len(sizes) + "|---|---|---|",
            ]
        values = " | ".join(f"{value:.3g}" if value < 100 else f"{value:,.0f}" for value in curve.points.values())
        steepest = f"{max(curve.steps()):.2f} x" if curve.steps() else "-"
        allowed = "-" if curve.bound is None else f"{curve.bound:g} x"
        verdict = "-" if curve.bound is None else "STEEP" if curve.is_steep else "holds"
        lines.append(f"| {curve.title} | {curve.unit} | {values} | {steepest} | {allowed} | {verdict} |")
    return "\n".join(lines).strip() + "\n"


def draw(curves: Sequence[Curve], path: Path) -> None:
    """An SVG file: each curve in times of its first point. ImportError where matplotlib is missing."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "trio-broker"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5))
    for curve in curves:
        sizes, values = list(curve.points), list(curve.points.values())
        axes.plot(sizes, [value / values[0] for value in values], marker="o", label=curve.title)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(0.1, 20)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel("number of filters, retained messages or sessions")
    axes.set_ylabel("times the cost with the smallest number")
    axes.legend(fontsize="x-small", loc="upper left")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.growth", description="How cost grows with number.")
    parser.add_argument("--quick", action="store_true", help="small numbers: does it work?")
    parser.add_argument("--only", choices=("routing", "retained", "sessions"), help="one of the three")
    docs = parser.add_mutually_exclusive_group()
    docs.add_argument("--docs", action="store_true", help="write into docs/ even if this is not a full run")
    docs.add_argument("--no-docs", action="store_true", help="write into benchmarks/results/ only")
    options = parser.parse_args(argv)
    raise_file_limit()
    largest = 10_000 if options.quick else 1_000_000
    sizes = [size for size in (1_000, 10_000, 100_000, 1_000_000) if size <= largest]
    curves: list[Curve] = []
    try:
        if options.only in (None, "routing"):
            curves += routing(sizes)
        if options.only in (None, "retained"):
            curves += retained(sizes)
        if options.only in (None, "sessions"):
            load.build()
            curves += sessions([size for size in sizes if size <= 100_000], 0.1 if options.quick else 1.0)
    except RuntimeError as error:
        print(f"benchmarks.growth: {error}", file=sys.stderr)
        return 1
    text = markdown(curves)
    print(text)
    full = not options.quick and options.only is None
    folder = ROOT / "docs" if (full and not options.no_docs) or options.docs else ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    head = "<!-- Written by `make growth`; do not edit. What it means: performance.md. -->\n"
    (folder / "performance-growth.md").write_text(head + text)
    try:
        draw(curves, folder / "performance-growth.svg")
    except ImportError:
        print("no picture: matplotlib is missing (pip install 'trio-broker[bench]')", file=sys.stderr)
    print(f"written to {folder.relative_to(ROOT)}/", file=sys.stderr)
    return int(any(curve.is_steep for curve in curves))


if __name__ == "__main__":
    sys.exit(main())
