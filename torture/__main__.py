"""`python -m torture`: kill the broker again and again; ends with 1 if anything that was acknowledged is gone."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from collections import Counter
from functools import partial
from typing import Final

import trio
from attrs import evolve

from torture.run import Options, torture
from torture.wrong import HARMS

__all__ = ["main"]

MOST_OF_A_KIND: Final = 5
"""Violations that are told; one fault mostly leads to many."""
PATIENCE_WITH_A_WRONG_ONE: Final = 4


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="so many kills (default: 50)")
    parser.add_argument("--minutes", type=float, help="as many kills as fit into this time")
    parser.add_argument("--seed", type=int, help="make the choices of an earlier run again (default: a new one)")
    parser.add_argument("--durability", choices=("full", "normal", "relaxed"), default="full", help="default: full")
    parser.add_argument("--publishers", type=int, default=5, help="at least 4 (default: 5)")
    parser.add_argument("--subscribers", type=int, default=8, help="at least 6 (default: 8)")
    parser.add_argument("--limit", type=int, default=0, help="let queues drop: this is the longest (default: no limit)")
    parser.add_argument("--keep", action="store_true", help="keep the data directory also when all is well")
    parser.add_argument("--wrong", choices=sorted(HARMS), help="spoil the directory, to see that it is found out")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    options = Options(
        seed=random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed,
        rounds=given.rounds,
        minutes=given.minutes,
        durability=given.durability,
        publishers=given.publishers,
        subscribers=given.subscribers,
        limit=given.limit,
    )
    if given.wrong:
        options = evolve(options, patience=PATIENCE_WITH_A_WRONG_ONE)
    say(f"seed {options.seed}")
    began = time.monotonic()
    harm = HARMS[given.wrong]() if given.wrong else None
    report = trio.run(partial(torture, options, say, harm=harm))
    say(
        f"{report.kills} kills in {time.monotonic() - began:.0f} s: {report.published} published,"
        f" {report.acknowledged} acknowledged, {report.received} received, {report.duplicates} of them duplicates,"
        f" {report.missing} dropped"
    )
    told: Counter[str] = Counter()
    for violation in report.violations:
        told[violation.kind] += 1
        if told[violation.kind] <= MOST_OF_A_KIND:
            say(f"{violation.kind.upper()}: {violation.text}")
    for kind, number in told.items():
        if number > MOST_OF_A_KIND:
            say(f"{kind.upper()}: {number} in all")
    if report.violations:
        say(f"{len(report.violations)} violations; seed {options.seed}, directory {report.folder}")
        return 1
    if given.keep:
        say(f"directory {report.folder}")
    else:
        shutil.rmtree(report.folder)
    say("nothing that was acknowledged is gone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
