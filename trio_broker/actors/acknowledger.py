"""The acknowledger: tells publishers that their messages have been routed, and stored where they must be.

Invariant: a PUBACK or PUBREC leaves when the promise it stands for is true, in the order of what it answers
[MQTT-4.6.0-2, 4.6.0-3]; one turn of the router, and one commit of the store, costs one wake-up, however many
publishers it was for.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import trio

from trio_broker.actors.resident import ResidentActor
from trio_broker.protocol.message import Run
from trio_broker.session.changes import Answer

if TYPE_CHECKING:
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.core import Core

log = logging.getLogger("trio_broker.acknowledger")

MAILBOX = 256


class Acknowledger(ResidentActor):
    """Takes lists of routed runs."""

    def __init__(self, core: Core) -> None:
        super().__init__("acknowledger", MAILBOX)
        self.core = core

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            while True:
                self.settle(await self.receive())
        finally:
            self.end()

    def take(self, settled: list[Run | Answer]) -> None:
        """In the turn of the router, if nothing else waits here."""
        if self.core.store.keeps:
            settled = self._wait_for_store(settled)
            if not settled:
                return
        if self.parked:
            self.settle(settled)
        else:
            self.tell_always(settled)

    def _wait_for_store(self, settled: list[Run | Answer]) -> list[Run | Answer]:
        """Put by what is not durable yet, and what would overtake that; returns the rest."""
        ticket = self.core.store.ticket
        if ticket.done:
            return settled
        at_once: list[Run | Answer] = []
        waiting: list[Run | Answer] = []
        for run in settled:
            connection = cast("Connection", run.publisher)
            if run.stored:
                connection.acknowledged = ticket
                waiting.append(run)
            elif connection.acknowledged.done:
                at_once.append(run)
            elif connection.acknowledged is ticket:
                waiting.append(run)
            else:
                connection.acknowledged.then(partial(self.settle, [run]))
        if waiting:
            ticket.then(partial(self.settle, waiting))
        return at_once

    def settle(self, settled: list[Run | Answer]) -> None:
        """Tell all publishers of these. A publisher in whose handling a fault shows ends alone."""
        by_publisher: dict[Any, list[Run | Answer]] = {}
        last: object = None
        runs: list[Run | Answer] = []
        for run in settled:
            publisher = run.publisher
            if publisher is last:  # what one connection sent mostly comes together
                runs.append(run)
                continue
            last = publisher
            known = by_publisher.get(publisher)
            if known is None:
                runs = by_publisher[publisher] = [run]
            else:
                runs = known
                runs.append(run)
        connection: Connection
        for connection, runs in by_publisher.items():
            try:
                connection.acknowledge(runs)
            except Exception as error:  # noqa: BLE001 - it ends this connection, is logged, and stops nobody else
                connection.crash(error)
