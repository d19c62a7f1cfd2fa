"""A store in memory, and one that forgets.

Invariant: what is in here ends with the process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import trio

from trio_broker.session.outgoing import Outgoing
from trio_broker.store.batch import Batch
from trio_broker.store.database import Database
from trio_broker.store.gathering import Gathering
from trio_broker.store.operations import Kept, Operation, PutDocument
from trio_broker.store.reading import Now
from trio_broker.store.store import Wall
from trio_broker.store.ticket import DONE, Ticket


class MemoryStore(Gathering):
    """A store in memory: it survives the broker that wrote to it, not the process.

    Give it to the next broker to go on with the same sessions. Everything is durable at once, as far as that goes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._database = Database(None, full=False)
        self._database.open()
        self._wall: Wall | None = None
        self.closed = False

    async def open(self, wall: Wall, told: Callable[[str | None], None]) -> None:
        self._wall = wall
        self.closed = False
        await trio.lowlevel.checkpoint()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    def _written(self) -> None:
        if self.is_behind:
            self._commit()

    @property
    def ticket(self) -> Ticket:
        return DONE

    def _commit(self) -> None:
        if self._wall is not None and not self._batch.is_empty:
            batch, self._batch = self._batch, Batch()
            self._database.commit(batch, self._wall.wall_ms)

    async def load(self) -> AsyncIterator[Kept]:
        self._commit()
        await trio.lowlevel.checkpoint()
        if self._wall is None:
            return
        for piece in self._database.everything(Now(self._wall.now(), self._wall.trio_time)):
            for kept in piece:
                yield kept

    async def documents(self) -> list[PutDocument]:
        self._commit()
        await trio.lowlevel.checkpoint()
        return self._database.documents()

    async def room(self) -> None:
        await trio.lowlevel.checkpoint()

    async def queue(self, rows: Sequence[int]) -> list[Outgoing]:
        self._commit()
        await trio.lowlevel.checkpoint()
        assert self._wall is not None
        return self._database.copies(rows, Now(self._wall.now(), self._wall.trio_time))

    async def close(self) -> None:
        self._commit()
        self.closed = True
        await trio.lowlevel.checkpoint()


class ForgetfulStore:
    """Keeps nothing: for brokers whose state lives as long as they do."""

    keeps = False
    is_behind = False
    ticket = DONE

    def __init__(self) -> None:
        self.failure: str | None = None
        self.damaged: str | None = None
        self.persisted = 0

    async def open(self, wall: Wall, told: Callable[[str | None], None]) -> None:
        await trio.lowlevel.checkpoint()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.lowlevel.checkpoint()

    def write(self, *operations: Operation) -> Ticket:
        return DONE

    def new_key(self) -> int:
        return 0

    def add(self, session: int, copies: Sequence[Outgoing]) -> None:
        """There is nobody to give them back to."""

    def change(self, copies: Sequence[Outgoing]) -> None:
        """The same."""

    def remove(self, copies: Sequence[Outgoing]) -> None:
        """The same."""

    def remove_rows(self, rows: Sequence[int], messages: Sequence[int]) -> None:
        """The same."""

    async def room(self) -> None:
        await trio.lowlevel.checkpoint()

    async def load(self) -> AsyncIterator[Kept]:
        nothing: tuple[Kept, ...] = ()
        for kept in nothing:
            yield kept

    async def documents(self) -> list[PutDocument]:
        await trio.lowlevel.checkpoint()
        return []

    async def queue(self, rows: Sequence[int]) -> list[Outgoing]:
        await trio.lowlevel.checkpoint()
        return []

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
