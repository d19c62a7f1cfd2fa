"""The scenarios: what is asked of a broker, which rows of the table come of it, and where their floors and aims are.

Invariant: floors and aims stand here and in benchmarks/fairness.py, and nowhere else in the code.
"""

from __future__ import annotations

import time
from functools import partial

from attrs import evolve

from benchmarks.durable import DURABLE
from benchmarks.fairness import FAIRNESS
from benchmarks.load import Options
from benchmarks.peer import subscriber
from benchmarks.scenario import Row, Sample, Samples, Scenario, Site, absolute, beside

__all__ = ["SCENARIOS", "Row", "Sample", "Scenario", "Site"]


def _rate(key: str, options: Options, figure: str, site: Site) -> Samples:
    """Messages or connections a second, or a latency: one figure of one run."""
    before = site.broker.cpu_seconds()
    report = site.load(options)
    spent = site.broker.cpu_seconds() - before
    handled = report.number("received") or report.number("connections")
    return {
        key: Sample(
            report.number(figure),
            report.trouble,
            report.number("load_cpu"),
            spent * 1e6 / handled if handled else None,
        )
    }


def _messages(
    key: str, title: str, options: Options, floor: float, aim: float | None, higher_is_better: bool = True
) -> Scenario:
    figure, unit = ("recv_per_s", "msg/s") if higher_is_better else ("p99_ms", "ms")
    row = Row(key, title, unit, floor, aim, higher_is_better, options=" ".join(options.words()))
    return Scenario(key, (row,), partial(_rate, key, options, figure), options.version)


# Patience: a broker that serves a retained flood first may let these wait for most of a minute, and loses nothing.
PACED = Options("pairs", 200, 100, 100, rate=5000, seconds=120.0)
CONNECTS = Options("connect", 4000)
QUEUED = Options("pairs", 50_000, 1, 1, qos=1, prefix="queued")


def _memory(site: Site) -> Samples:
    """Resident memory of a connection: what `idle_count` more of them cost beside 100 that are held already.

    The first hundred pay for what is loaded and allocated once.
    """
    hold = Options("idle", 100, seconds=600.0)
    with site.background(hold) as first:
        troubles = [first.ready().trouble]
        time.sleep(0.3)
        count = site.idle_count(10_000)
        before = site.broker.rss_kb()
        with site.background(evolve(hold, count=count)) as second:
            troubles.append(second.ready().trouble)
            time.sleep(0.5)
            after = site.broker.rss_kb()
            troubles.append(second.finish().trouble)
    return {"memory": Sample((after - before) / count, ", ".join(filter(None, troubles)))}


def _queued(site: Site) -> Samples:
    """Resident memory of a message in the queue of a session that is away."""
    with subscriber(site.port, "away", "queued/#", qos=1, clean=False):
        pass
    time.sleep(0.3)
    site.load(QUEUED)
    before = site.broker.rss_kb()
    report = site.load(QUEUED)
    grown = site.broker.rss_kb() - before
    return {"queued": Sample(grown * 1024 / max(1.0, report.number("acked")), report.trouble)}


def _idle_latency(site: Site) -> Samples:
    """The paced pairs alone, then the same beside 10,000 connections that say nothing."""
    alone = site.load(PACED)
    with site.background(Options("idle", site.idle_count(10_000), seconds=600.0)) as idle:
        up = idle.ready()
        if up.trouble:
            return {"idle-latency": Sample(0.0, up.trouble)}
        loaded = site.load(PACED)
        held = idle.finish()
    return {"idle-latency": beside(alone, loaded, held.trouble)}


def _retained(site: Site) -> Samples:
    """A `#` subscriber that fetches all retained messages over and over while the paced pairs run."""
    stored = site.load(Options("retain", 10_000, 10, qos=1))
    if stored.trouble:
        return {key: Sample(0.0, stored.trouble) for key in ("retained-first", "retained-others")}
    alone = site.load(PACED)
    replay = Options("replay", int(stored.number("acked")), seconds=600.0)
    # Behind the paced load in the queue for their core: its own hunger must not be taken for the broker's delay.
    with site.background(replay, niceness=10) as subscriber:
        time.sleep(0.2)
        loaded = site.load(PACED)
        fetched = subscriber.finish()
    return {
        "retained-first": Sample(fetched.number("first_ms"), fetched.trouble),
        "retained-others": beside(alone, loaded, fetched.trouble),
    }


SCENARIOS: tuple[Scenario, ...] = (
    _messages("pairs-q0", "pairs, QoS 0", Options("pairs", 20_000, 10, 10), 3, 9),
    _messages("fanin-q0", "fan-in, QoS 0", Options("fanin", 2_000, 100, 1), 3, 9),
    _messages("fanout-q0", "fan-out, QoS 0", Options("fanout", 5_000, 1, 100), 15, 50),
    _messages("pairs-q1", "pairs, QoS 1, window 20", Options("pairs", 5_000, 10, 10, qos=1), 2.5, 6),
    _messages("fanout-q1", "fan-out, QoS 1", Options("fanout", 500, 1, 100, qos=1), 2.5, 6),
    _messages("pairs-q2", "pairs, QoS 2, window 20", Options("pairs", 2_000, 10, 10, qos=2), 2, 5),
    _messages("pairs-q0-v5", "MQTT 5, pairs, QoS 0", Options("pairs", 20_000, 10, 10, version=5), 3, 9),
    _messages("pairs-q1-v5", "MQTT 5, pairs, QoS 1", Options("pairs", 5_000, 10, 10, qos=1, version=5), 2.5, 6),
    _messages("sparse-100", "sparse, QoS 1, 100 pairs", Options("pairs", 200, 100, 100, qos=1, window=1), 0.6, 1),
    _messages("sparse-1000", "sparse, QoS 1, 1000 pairs", Options("pairs", 20, 1000, 1000, qos=1, window=1), 0.6, 1),
    _messages("ping-pong", "ping-pong, one pair, QoS 1", Options("pairs", 2_000, 1, 1, qos=1, window=1), 0.7, 1),
    _messages("latency", "p99 at 5,000 msg/s over 100 pairs", PACED, 3, 1.5, higher_is_better=False),
    Scenario(
        "connects",
        (Row("connects", "connects per second", "conn/s", 0.3, 0.7, options=" ".join(CONNECTS.words())),),
        partial(_rate, "connects", CONNECTS, "per_s"),
    ),
    Scenario(
        "memory",
        (absolute("memory", "memory per idle connection", "KB", 10, 4, Options("idle", 10_000)),),
        _memory,
    ),
    Scenario(
        "queued",
        (absolute("queued", "memory per queued QoS 1 message, 64 bytes", "bytes", 600, None, QUEUED),),
        _queued,
    ),
    Scenario(
        "idle-latency",
        (absolute("idle-latency", "p99 beside 10,000 idle connections / alone", "x", 2, None),),
        _idle_latency,
    ),
    Scenario(
        "retained",
        (
            absolute("retained-first", "100,000 retained messages: first one to a # subscriber", "ms", 50, None),
            absolute("retained-others", "p99 of the others meanwhile / alone", "x", 3, None),
        ),
        _retained,
    ),
    *FAIRNESS,
    *DURABLE,
)
