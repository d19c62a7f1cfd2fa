"""A store in use, as a broker has it: opened, with its committer running, and closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from store.model import Model, Read, TestWall, read

from trio_broker.protocol.message import Message, Origin
from trio_broker.session.outgoing import Outgoing
from trio_broker.store.operations import Operation, PutSession
from trio_broker.store.sqlite import SqliteStore
from trio_broker.store.store import Store, Wall

GUARD = 60.0
"""Seconds on the real clock after which something hangs for certain."""


def ignore(reason: str | None) -> None:
    """For tests in which the store does not fail."""
    assert reason is None


@asynccontextmanager
async def opened(store: Store, wall: Wall) -> AsyncIterator[None]:
    """Open, without a committer."""
    await store.open(wall, ignore)
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await store.close()


class Use:
    """Writes to a store and to a model of it. `told`: the changes of the store's `failure`."""

    def __init__(self, store: SqliteStore, wall: Wall) -> None:
        self.store = store
        self.wall = wall
        self.model = Model(wall)
        self.told: list[str | None] = []
        self.session = 0
        self._number = 0

    def write(self, *operations: Operation) -> None:
        for operation in operations:
            self.model.write(operation)
        self.store.write(*operations)

    def begin(self) -> int:
        """A session, which those that follow belong to."""
        key = self.session = self.store.new_key()
        self.write(PutSession(key, f"c{key}", None, 1, 1000))
        return key

    def copy(self, payload: bytes = b"p") -> Outgoing:
        self._number += 1
        message = Message("t", payload, 1, False, self._number << 20, Origin("p"), self._number)
        return Outgoing(message, 1, False, (), self._number)

    def add(self, *copies: Outgoing) -> None:
        self.store.add(self.session, copies)
        self.model.add(self.session, copies)

    def change(self, *copies: Outgoing) -> None:
        self.store.change(copies)
        self.model.change(copies)

    def remove(self, *copies: Outgoing) -> None:
        self.model.remove([copy.row for copy in copies])
        self.store.remove(copies)


async def committing(store: SqliteStore) -> None:
    """Return when something is being committed, or there is nothing to commit."""
    while store._committing is None and store._batch.size:
        await trio.lowlevel.checkpoint()


async def committed(store: SqliteStore) -> None:
    """Return when everything is committed, also where nobody has to wait for that ("relaxed")."""
    while True:
        if store._batch.size:
            await store._batch.ticket.wait()
        elif store._committing is not None:
            await store._committing.ticket.wait()
        else:
            return


@asynccontextmanager
async def used(store: SqliteStore, wall: Wall | None = None) -> AsyncIterator[Use]:
    """Open, with its committer running; closed at the end."""
    use = Use(store, TestWall() if wall is None else wall)
    await store.open(use.wall, use.told.append)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            yield use
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await store.close()


async def what_is_kept(data_dir: Path, wall: Wall | None = None) -> Read:
    """Read by a new store. The file must not be damaged."""
    store = SqliteStore(data_dir)
    wall = TestWall() if wall is None else wall
    async with opened(store, wall):
        assert store.damaged is None
        return await read(store, wall)
