"""The store on disk: a batch collects while the one before it is committed, and then is committed whole.

Invariant: batches are committed in order, none is skipped; a batch that cannot be committed is tried again until it
can, and until then nobody is told that anything in it is durable.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

import apsw
import trio
from trio.lowlevel import ParkingLot

from trio_broker.errors import ConfigError, StoreError
from trio_broker.session.outgoing import Outgoing
from trio_broker.store.batch import Batch
from trio_broker.store.database import DAMAGED, TRANSIENT, Database
from trio_broker.store.files import DATA_DIR_KEY, FILE_NAME, Lock
from trio_broker.store.gathering import Gathering
from trio_broker.store.operations import Kept, LastMessageId, PutDocument
from trio_broker.store.reading import Now
from trio_broker.store.store import Wall
from trio_broker.store.ticket import DONE, Ticket
from trio_broker.store.writer import Writer

log = logging.getLogger("trio_broker.store")

FAULTS: Final = (*TRANSIENT, *DAMAGED, OSError)
"""What may be over when it is tried again."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SYNC_INTERVAL: Final = 1.0
"""At "normal" and "relaxed": the longest that a commit waits to be synced to the disk."""
GATHER: Final = 0.010
"""The longest that a batch waits for more."""
ENOUGH: Final = 64
"""Writes that are worth a commit."""
PATIENCE: Final = 0.000_2
"""How long a busy loop has to be quiet."""
IDLE_TURN: Final = 0.000_1
"""A turn of the loop in which there was nothing to do takes less."""
FIRST_RETRY: Final = 0.1
LAST_RETRY: Final = 5.0
LAST_WORDS: Final = 5.0
"""How long the last commit may take when the broker ends."""


class SqliteStore(Gathering):
    """One file in `data_dir`. `durability`: what an acknowledgement promises, "full", "normal" or "relaxed".

    `vfs` names a virtual file system of SQLite; for tests.
    """

    def __init__(self, data_dir: str | Path, durability: str = "full", *, vfs: str | None = None) -> None:
        super().__init__()
        self.data_dir = Path(data_dir)
        self.durability = durability
        self.path = self.data_dir / FILE_NAME
        self._database = Database(self.path, full=durability == "full", vfs=vfs)
        self._waits = durability != "relaxed"
        self._lock: Lock | None = None
        self._wall: Wall | None = None
        self._told: Callable[[str | None], None] | None = None
        self._committing: Batch | None = None
        self._bell = ParkingLot()
        self._crowd = ParkingLot()
        self._writer = Writer()
        self._reader = trio.CapacityLimiter(1)
        self._inline = False
        self._is_sound = True
        self._is_closing = False

    async def open(self, wall: Wall, told: Callable[[str | None], None]) -> None:
        """Raises ConfigError. A damaged file is set aside, which is logged."""
        self._wall = wall
        self._told = told
        # Beside a mock clock, a thread's work would take no time at all, or all of it.
        self._inline = not wall.is_real
        self._lock = Lock(self.data_dir)
        try:
            await self._in_thread(self._open)
        except BaseException:
            self._lock.release()
            self._lock = None
            self._writer.close()
            raise

    def _open(self) -> None:
        aside = self._database.open()
        self.damaged = None if aside is None else str(aside)
        self._references = self._database.references()
        self._next_key = self._database.next_key()

    async def _in_thread(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Do what may take long beside the loop, in the one thread that writes."""
        if self._inline:
            await trio.lowlevel.checkpoint()
            return function(*arguments)
        # Only the last commit has a deadline, and only then is it left behind.
        return await self._writer.do(function, *arguments, abandon=self._is_closing)

    @property
    def wall(self) -> Wall:
        if self._wall is None:
            raise StoreError("the store is not open")
        return self._wall

    @property
    def _at(self) -> Now:
        return Now(self.wall.now(), self.wall.trio_time)

    async def documents(self) -> list[PutDocument]:
        return await self._read(self._database.documents)

    async def load(self) -> AsyncIterator[Kept]:
        pieces = self._database.everything(self._at)
        while True:
            piece: list[Kept] | None = await self._read(next, pieces, None)
            if piece is None:
                return
            for kept in piece:
                if isinstance(kept, LastMessageId):
                    self._reserved_id = kept.message_id
                yield kept

    async def _read(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """At the start; raises ConfigError."""
        try:
            return await self._in_thread(function, *arguments)
        except (apsw.Error, StoreError) as error:
            self._is_sound = False  # the next start looks at all of it first
            if isinstance(error, StoreError):
                await self._in_thread(self._database.is_damaged, str(error))
            raise ConfigError(
                DATA_DIR_KEY, f"{self.path} cannot be read: {error}; if it is damaged, the next start sets it aside"
            ) from error

    # -- writing

    @property
    def ticket(self) -> Ticket:
        if not self._waits:
            return DONE
        if self._batch.size:
            return self._batch.ticket
        return DONE if self._committing is None else self._committing.ticket

    def _written(self) -> None:
        if self._bell:
            self._bell.unpark_all()

    async def room(self) -> None:
        await trio.lowlevel.checkpoint()
        while self.is_behind:
            await self._crowd.park()

    # -- committing

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            while not self._batch.size:
                with trio.move_on_after(SYNC_INTERVAL if self._has_leisure_work() else math.inf) as scope:
                    await self._bell.park()
                if scope.cancelled_caught and not self._batch.size:
                    await self._tidy()
            await self._gather()
            await self._commit(self._take())

    def _take(self) -> Batch:
        batch, self._batch = self._batch, Batch()
        batch.freeze()
        self._committing = batch
        self._crowd.unpark_all()
        return batch

    async def _commit(self, batch: Batch) -> None:
        """Try until it is done."""
        retry = FIRST_RETRY
        while True:
            try:
                if self.failure is not None or not batch.is_empty:
                    await self._in_thread(self._attempt, batch, self.failure is not None)
                break
            except FAULTS as error:
                self._fail(error)
                await trio.sleep(retry)
                retry = min(retry * 2, LAST_RETRY)
        self._recovered()
        self._committing = None
        self.persisted += batch.stored_messages()
        batch.ticket.resolve()
        if batch.is_empty:
            await trio.lowlevel.checkpoint()

    def _attempt(self, batch: Batch, again: bool) -> None:
        if again:
            self._database.reopen()
        if not batch.is_empty:
            self._database.commit(batch, self.wall.wall_ms)
        self._database.sync_if_due(SYNC_INTERVAL)

    async def _gather(self) -> None:
        """Let come together what comes together.

        In an idle loop that is what comes before a turn that brings nothing: a publisher that waits for its PUBACK
        loses some microseconds. A busy loop, whose turns are long, is given more time between two commits, as each
        costs it something, and much of what subscribers acknowledge meanwhile need not be written at all: until
        nothing has come for a while, or there is enough.
        """
        now = trio.current_time()
        deadline = now + GATHER
        quiet_since = now
        patience = 0.0
        while now < deadline and self._batch.size < ENOUGH:
            size = self._batch.size
            await trio.lowlevel.checkpoint()
            before, now = now, trio.current_time()
            if now - before > IDLE_TURN:
                patience = PATIENCE
                quiet_since = now
            elif size != self._batch.size:
                quiet_since = now
            elif now - quiet_since >= patience:
                return

    def _has_leisure_work(self) -> bool:
        return self.failure is not None or self._database.is_unsynced or (self._database.has_slack and not self._inline)

    async def _tidy(self) -> None:
        """Nothing is to be committed: sync what is not, give back a part of what is free in the file."""
        try:
            await self._in_thread(self._database.tidy, self.failure is not None)
        except FAULTS as error:
            self._fail(error)
        else:
            self._recovered()

    def _fail(self, error: Exception) -> None:
        reason = f"{self.path}: {error}"
        if isinstance(error, DAMAGED):
            reason += "; it will be set aside at the next start"
        if self.failure == reason:
            return
        first = self.failure is None
        self.failure = reason
        self._crowd.unpark_all()
        log.error(
            "the store cannot be written: %s; nothing is acknowledged that has to be kept%s",
            reason,
            "" if first else " (still)",
        )
        if self._told is not None:
            self._told(reason)

    def _recovered(self) -> None:
        if self.failure is not None:
            self.failure = None
            log.warning("the store can be written again: nothing was lost")
            if self._told is not None:
                self._told(None)

    # -- reading

    async def queue(self, rows: Sequence[int]) -> list[Outgoing]:
        """What is not committed yet is here; the rest is on the disk."""
        found: dict[int, Outgoing] = {}
        for batch in (self._committing, self._batch):
            if batch is not None and batch.copies:
                found.update((row, batch.copies[row][1]) for row in rows if row in batch.copies)
        missing = [row for row in rows if row not in found]
        if missing:
            at = self._at
            if self._inline:
                await trio.lowlevel.checkpoint()
                copies = self._database.copies(missing, at)
            else:
                copies = await trio.to_thread.run_sync(self._database.copies, missing, at, limiter=self._reader)
            found.update((copy.row, copy) for copy in copies)
        else:
            await trio.lowlevel.checkpoint()
        return [found[row] for row in rows if row in found]

    # -- ends

    async def close(self) -> None:
        """The last commit; it is tried once, and for no longer than `LAST_WORDS`."""
        self._is_closing = True
        batches = [batch for batch in (self._committing, self._take()) if batch is not None]
        error: StoreError | None = StoreError(f"{self.path}: the broker ended before it was written")
        with trio.CancelScope(shield=True), trio.move_on_after(LAST_WORDS):
            error = await self._in_thread(self._last_words, batches, self.failure is not None)
            if self._lock is not None:
                # Not before nobody writes any more.
                self._lock.release()
                self._lock = None
        self._committing = None
        if error is not None:
            log.error("the store was not written at the end: %s; what was acknowledged is kept", error)
        for batch in batches:
            batch.ticket.resolve(error)

    def _last_words(self, batches: list[Batch], again: bool) -> StoreError | None:
        """Commit and close; the reason why that failed."""
        failed: StoreError | None = None
        try:
            for batch in batches:
                if again or not batch.is_empty:
                    self._attempt(batch, again)
            self._database.sync()
        except FAULTS as error:
            failed = StoreError(f"{self.path}: {error}")
        self._database.close(ended=failed is None and self._is_sound)
        self._writer.close()
        return failed
