"""What durability costs: rows for our broker with its store on the disk.

Invariant: each scenario has a broker and a data directory of its own; `store.durability` is "full", its default.
"""

from __future__ import annotations

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
PACED = Options("pairs", 1_000_000, 10, 10, qos=1, rate=10_000, persistent=True, seconds=600.0, prefix="paced")
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
    """Memory-only traffic as fast as it goes, alone and beside 10,000 stored messages a second."""
    with _stored(site) as (own, _):
        own.load(evolve(MEMORY_ONLY, count=1000))
        alone = [own.load(MEMORY_ONLY)]
        with own.background(PACED, niceness=10) as paced:
            time.sleep(1.0)
            loaded = own.load(MEMORY_ONLY)
            stored = paced.finish()
        alone.append(own.load(MEMORY_ONLY))
        troubles = ", ".join(filter(None, (report.trouble for report in (*alone, loaded))))
        for name in ("misordered", "refused", "failed"):
            if stored.figures.get(name):
                troubles += f" {stored.figures[name]} {name} among the stored ones"
        base = sum(report.number("recv_per_s") for report in alone) / len(alone)
        share = loaded.number("recv_per_s") / base if base else 0.0
        return {"stored-beside": Sample(share, troubles, loaded.number("load_cpu"))}


def _backlog(site: Site) -> Samples:
    """A million messages wait for a session that is away: the next ones, and the next start."""
    with _stored(site) as (own, argv):
        own.load(evolve(STORED, count=500))
        alone = own.load(STORED)
        with subscriber(own.port, "away", "backlog/#", qos=1, clean=False):
            pass
        waiting = own.load(BACKLOG)
        retained = own.load(RETAINED)
        loaded = own.load(STORED)
        alone_rate = alone.number("recv_per_s")
        share = loaded.number("recv_per_s") / alone_rate if alone_rate else 0.0
        troubles = ", ".join(filter(None, (alone.trouble, waiting.trouble, retained.trouble, loaded.trouble)))
        own.broker.kill()
        began = time.monotonic()
        with Child(
            argv, site.folder / "again.log", BROKER, folder=site.folder, environment=own.broker.environment
        ) as again:
            again.wait_for_mqtt(own.port)
            seconds = time.monotonic() - began
        return {"stored-backlog": Sample(share, troubles), "stored-start": Sample(seconds, troubles)}


DURABLE: tuple[Scenario, ...] = (
    _rate("stored-q1", 0),
    _rate("stored-q1-5ms", 5),
    Scenario(
        "stored-beside",
        (
            Row(
                "stored-beside",
                "memory-only QoS 1 beside 10,000 stored messages a second / alone",
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
