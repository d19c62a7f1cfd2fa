"""What stands between a store and its disk in a test: commits that wait for the test, and a disk that fails.

Invariant: what is let through is done by the store itself.
"""

from __future__ import annotations

from typing import Any

import apsw
import pytest
import trio
from actors.flows import settle
from store.restart_world import World

from trio_broker.store.batch import Batch
from trio_broker.store.operations import PutDocument
from trio_broker.store.sqlite import SqliteStore

__all__ = ["FULL", "IO", "Disk", "Gate", "break_disk"]

FULL = apsw.FullError("database or disk is full")
IO = apsw.IOError("disk I/O error")


class Gate:
    """Commits of a store wait here while it is shut; `step` lets one of them through."""

    def __init__(self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self._original = store._commit
        self._is_shut = False
        self._changed = trio.Event()
        self._passes = 0
        self.waiting = 0
        monkeypatch.setattr(store, "_commit", self._commit)

    def shut(self) -> None:
        self._is_shut = True

    async def open(self) -> None:
        self._is_shut = False
        self._wake()
        await settle()

    async def step(self) -> None:
        self._passes += 1
        self._wake()
        await settle()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _commit(self, batch: Batch) -> None:
        self.waiting += 1
        while self._is_shut and not self._passes:
            await self._changed.wait()
        self.waiting -= 1
        if self._is_shut:
            self._passes -= 1
        await self._original(batch)


class Disk:
    """`error` is what happens to every commit; None = it works. `tries` counts those that failed."""

    def __init__(self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: apsw.Error | None = None
        self.tries = 0
        self._original = store._database.commit
        monkeypatch.setattr(store._database, "commit", self._commit)

    def _commit(self, *arguments: Any) -> None:
        if self.error is not None:
            self.tries += 1
            raise self.error
        self._original(*arguments)

    async def mend(self) -> None:
        """It works again, and the store has found that out."""
        self.error = None
        await trio.sleep(30)
        await settle()


async def break_disk(world: World, disk: Disk, error: apsw.Error = FULL) -> None:
    """From here on nothing can be written, and the store knows it."""
    disk.error = error
    world.store.write(PutDocument("test", "test", "{}"))
    await settle()
    assert world.store.failure is not None
