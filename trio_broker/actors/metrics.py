"""The metrics collector: answers with the counters and gauges of the broker.

Invariant: it alone reads the meter; everyone else only adds to it (see `trio_broker.session.meter`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_broker.actors.messages import AskMetrics, AskRuntime, AskStats
from trio_broker.actors.questions import Runtime
from trio_broker.actors.resident import ResidentActor

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

MAILBOX = 256


class MetricsCollector(ResidentActor):
    def __init__(self, core: Core) -> None:
        super().__init__("metrics collector", MAILBOX)
        self.core = core

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            while True:
                item = await self.receive()
                match item:
                    case AskMetrics():
                        meter = self.core.meter
                        meter.messages_persisted += self.core.store.persisted - meter.messages_persisted
                        item.answer(meter.as_dict())
                    case AskStats():
                        item.answer(self.core.meter.gauges_as_dict())
                    case AskRuntime():
                        item.answer(self._runtime())
                    case _:
                        raise TypeError(f"the metrics collector does not know {item!r}")
        finally:
            self.end()

    def _runtime(self) -> Runtime:
        core = self.core
        actors = (core.router, core.retainer, core.manager, core.acknowledger, self)
        return Runtime(
            mailboxes=sum(actor.mailbox_len() for actor in actors),
            router=core.router.mailbox_len(),
            disconnected={listener: dict(counts) for listener, counts in core.meter.disconnected.items()},
        )
