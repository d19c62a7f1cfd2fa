"""Brokers that are wrong on purpose, to see that the judge finds it: what is done to the data directory."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from attrs import define

__all__ = ["HARMS", "Emptied", "Harm", "SetBack"]

DATABASE: Final = "trio-broker.db"


class Harm:
    """None at all."""

    def started(self, data: Path) -> None:
        """The broker takes connections."""

    def killed(self, data: Path) -> None:
        """It is dead."""


class Emptied(Harm):
    """A broker that keeps nothing."""

    def killed(self, data: Path) -> None:
        shutil.rmtree(data)
        data.mkdir()


@define
class SetBack(Harm):
    """A broker that does not write what it acknowledges: what was there when it began is there again after the kill."""

    starts: int = 0

    def started(self, data: Path) -> None:
        self.starts += 1
        if self.starts == 1:
            return  # sessions and subscriptions stay, so that only messages can be missing
        copy = data / "copy"
        copy.unlink(missing_ok=True)
        with closing(sqlite3.connect(data / DATABASE)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)

    def killed(self, data: Path) -> None:
        copy = data / "copy"
        if copy.exists():  # it may have been killed before it had started
            for suffix in ("-wal", "-shm"):
                (data / f"{DATABASE}{suffix}").unlink(missing_ok=True)
            copy.replace(data / DATABASE)


HARMS: Final[dict[str, type[Harm]]] = {"emptied": Emptied, "set-back": SetBack}
