"""`trio-broker check`: is the store of a broker, running or not, in order?

Invariant: nothing is changed; exit code 0 = all is well, 1 = something is wrong, or nothing could be looked at.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import apsw

from trio_broker.errors import StoreError
from trio_broker.store.backup import open_to_read, readable, size_of, written_by
from trio_broker.store.integrity import check
from trio_broker.store.schema import version_of
from trio_broker.tools.progress import Progress
from trio_broker.tools.words import amount, say, store_in

HELP = "look for damage in what the broker keeps, also while it runs"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", help="look at this backup, or store that was set aside, instead"
    )


def run(data_dir: Path, wanted: argparse.Namespace, progress: Progress) -> int:
    path: Path = wanted.file or store_in(data_dir)
    db = open_to_read(path)
    try:
        about = f"{path}: {readable(size_of(db))}, schema {version_of(db)}, trio-broker {written_by(db)}"
        report = check(db, progress)
    except apsw.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    finally:
        db.close()
    progress.end()
    say(about)
    for name, count in report.counts.items():
        say(f"  {amount(count, name)}")
    for kind, problems in report.problems.items():
        say(f"wrong: {kind}: {problems.count:,}")
        for example in problems.examples:
            say(f"  {example}")
        if problems.count > len(problems.examples):
            say(f"  and {problems.count - len(problems.examples):,} more")
    say("something is wrong" if report.problems else "all is well")
    return 1 if report.problems else 0
