"""Fairness: what many suffer from the one who reads nothing, floods, or asks for long lists.

Invariant: a row is the victims' p99 beside the trouble maker, divided by their p99 alone, on the same process.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.brokers import ROOT
from benchmarks.load import Options
from benchmarks.peer import subscriber
from benchmarks.processes import LOAD, Child
from benchmarks.scenario import Samples, Scenario, Site, absolute, beside

__all__ = ["FAIRNESS"]

FANOUT = Options("fanout", 200, 1, 100, rate=50, seconds=120.0)
# Enough for the kernel's buffers and the broker's bounded one.
BURST = Options("pairs", 100_000, 1, 1, prefix="burst")
PING_PONG = Options("pairs", 200, 100, 100, qos=1, window=1, seconds=120.0)
FLOOD = Options("pairs", 1_000_000_000, 1, 1, seconds=600.0, prefix="flood")
PACED = Options("pairs", 200, 100, 100, rate=5000, seconds=120.0)
LISTED = 1000


def _never_reads(site: Site) -> Samples:
    alone = site.load(FANOUT)
    with subscriber(site.port, "stuck", "#"):  # and reads nothing any more
        burst = site.load(BURST)  # what is kept for it is full from here on
        loaded = site.load(FANOUT)
    return {"never-reads": beside(alone, loaded, burst.trouble)}


def _flood(site: Site) -> Samples:
    alone = site.load(PING_PONG)
    # Behind the others in the queue for their core: its own hunger must not be taken for the broker's delay.
    with site.background(FLOOD, niceness=10) as flood:
        time.sleep(0.5)
        loaded = site.load(PING_PONG)
        report = flood.finish()
    figures = report.figures
    troubles = [
        f"{figures[name]} {name} in the flood" for name in ("misordered", "refused", "failed") if figures.get(name)
    ]
    if not figures.get("received"):
        troubles.append("no flood")
    return {"flood": beside(alone, loaded, *troubles)}


def _rest_lists(site: Site) -> Samples:
    with site.background(Options("idle", site.idle_count(LISTED), seconds=600.0)) as idle:
        idle.ready()
        alone = site.load(PACED)
        argv = [sys.executable, "-m", "benchmarks.rest_lists", str(site.rest_port)]
        log = Path(site.folder) / "rest.log"
        with Child(argv, log, LOAD, folder=ROOT, capture=True, niceness=10) as lists:
            lists.read_line()  # the first answer is there
            loaded = site.load(PACED)
            lists.process.terminate()
            line = lists.read_line()
        figures = json.loads(line) if line else {"answers": 0, "failed": lists.tail()}
        held = idle.finish()
    trouble = f"REST calls failed: {figures['failed']}" if figures["failed"] or not figures["answers"] else ""
    return {"rest-lists": beside(alone, loaded, held.trouble, trouble)}


FAIRNESS: tuple[Scenario, ...] = (
    Scenario(
        "never-reads",
        (absolute("never-reads", "p99 of 100 subscribers beside one that never reads / alone", "x", 3, None, FANOUT),),
        _never_reads,
    ),
    Scenario(
        "flood",
        (absolute("flood", "p99 of 100 ping-pongs beside a flooding publisher / alone", "x", 3, None, PING_PONG),),
        _flood,
    ),
    Scenario(
        "rest-lists",
        (absolute("rest-lists", "p99 beside REST lists of 1,000 clients / alone", "x", 3, None, PACED),),
        _rest_lists,
        rest=True,
    ),
)
