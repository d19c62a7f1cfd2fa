"""What durability costs: rows for our broker with its store on the disk.

Invariant: each scenario has a broker and a data directory of its own; `store.durability` is "full", its default.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import evolve

from benchmarks import brokers
from benchmarks.load import Options, build_library
from benchmarks.peer import subscriber
from benchmarks.processes import BROKER, Child
from benchmarks.scenario import Row, Sample, Samples, Scenario, Site

__all__ = ["DURABLE"]

STORED = Options("pairs", 10_000, 10, 10, qos=1, persistent=True)
"""200 messages in flight."""
MEMORY_ONLY = Options("pairs", 30_000, 10, 10, qos=1, prefix="memory", seconds=120.0)
PACED = Options("pairs", 1_000_000, 10, 10, qos=1, rate=5000, seconds=600.0, prefix="paced")
BACKLOG = Options("pairs", 1_000_000, 1, 1, qos=1, window=1000, prefix="backlog", seconds=300.0)
RETAINED = Options("retain", 10_000, 10, qos=1)


@contextmanager
def _stored(site: Site, sync_ms: int = 0) -> Iterator[tuple[Site, list[str]]]:
    """A broker with a store; the words that start it again."""
    broker = brokers.stored(site.folder / "data")
    environment = dict(broker.environment)
    if sync_ms:
        environment |= {"LD_PRELOAD": str(build_library("slowsync")), "SLOWSYNC_MS": str(sync_ms)}
    with brokers.running(evolve(broker, environment=environment), site.folder) as (child, port):
        yield evolve(site, broker=child, port=port), child.argv


def _rate(key: str, sync_ms: int) -> Scenario:
    def measure(site: Site) -> Samples:
        with _stored(site, sync_ms) as (own, _):
            own.load(evolve(STORED, count=500))
            before = own.broker.cpu_seconds()
            report = own.load(STORED)
            spent = own.broker.cpu_seconds() - before
            received = report.number("received")
            per_message = spent * 1e6 / received if received else None
            return {key: Sample(report.number("recv_per_s"), report.trouble, report.number("load_cpu"), per_message)}

    slow = f", each sync {sync_ms} ms slower" if sync_ms else ""
    floor = 10_000 if sync_ms else 40_000
    row = Row(
        key,
        f"QoS 1 to persistent sessions, 200 in flight{slow}",
        "msg/s",
        floor,
        None,
        is_ratio=False,
        options=" ".join(STORED.words()),
    )
    return Scenario(key, (row,), measure, ours=True)


def _beside(site: Site) -> Samples:
    """Memory-only traffic as fast as it goes beside 5,000 messages a second, which are stored (10,000 rows) or not.

    They are for somebody who is there, and in the one case for somebody who is away as well.
    """
    with _stored(site) as (own, _):
        own.load(evolve(MEMORY_ONLY, count=1000))
        shares, troubles, load_cpu = [], "", 0.0
        with own.background(PACED, niceness=10) as paced:
            for _round in range(5):
                rates = []
                for clean in (True, False):
                    with subscriber(own.port, "away", "paced/#", qos=1, clean=clean):
                        pass  # a clean session ends here, the other one stays and is kept
                    time.sleep(0.5)
                    report = own.load(MEMORY_ONLY)
                    troubles = troubles or report.trouble
                    load_cpu = report.number("load_cpu")
                    rates.append(report.number("recv_per_s"))
                shares.append(rates[1] / rates[0] if rates[0] else 0.0)
            stored = paced.finish()
        for name in ("misordered", "refused", "failed"):
            if stored.figures.get(name):
                troubles += f" {stored.figures[name]} {name} among the stored ones"
        return {"stored-beside": Sample(statistics.median(shares), troubles, load_cpu)}


def _backlog(site: Site) -> Samples:
    """A million messages wait for a session that is away: the next ones, and the next start."""
    with _stored(site) as (own, argv):
        reports = [own.load(_own_topics(STORED, number)) for number in range(4)][1:]
        with subscriber(own.port, "away", "backlog/#", qos=1, clean=False):
            pass
        waiting = [own.load(BACKLOG), own.load(RETAINED)]
        loaded = [own.load(_own_topics(STORED, number)) for number in range(4, 7)]
        before, behind = (
            statistics.median(report.number("recv_per_s") for report in some) for some in (reports, loaded)
        )
        troubles = ", ".join(filter(None, (report.trouble for report in (*reports, *waiting, *loaded))))
        own.broker.kill()
        began = time.monotonic()
        environment = own.broker.environment
        with Child(argv, site.folder / "again.log", BROKER, folder=site.folder, environment=environment) as again:
            again.wait_for_mqtt(own.port)
            seconds = time.monotonic() - began
        return {
            "stored-backlog": Sample(behind / before if before else 0.0, troubles),
            "stored-start": Sample(seconds, troubles),
        }


def _own_topics(options: Options, number: int) -> Options:
    """The sessions of a run stay, so the next one must not publish to them."""
    return evolve(options, prefix=f"run{number}")


DURABLE: tuple[Scenario, ...] = (
    _rate("stored-q1", 0),
    _rate("stored-q1-5ms", 5),
    Scenario(
        "stored-beside",
        (
            Row(
                "stored-beside",
                "memory-only QoS 1 beside 10,000 stored rows a second / beside the same unstored",
                "x",
                0.9,
                None,
                is_ratio=False,
                options=" ".join(MEMORY_ONLY.words()),
            ),
        ),
        _beside,
        ours=True,
    ),
    Scenario(
        "stored-backlog",
        (
            Row(
                "stored-backlog", "stored QoS 1 beside a backlog of 1,000,000 / without", "x", 0.9, None, is_ratio=False
            ),
            Row(
                "stored-start",
                "start after kill -9 with 1,000,000 queued and 100,000 retained",
                "s",
                10,
                None,
                higher_is_better=False,
                is_ratio=False,
            ),
        ),
        _backlog,
        ours=True,
    ),
)
