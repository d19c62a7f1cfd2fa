"""The metrics collector: answers with the counters and gauges of the broker.

Invariant: it alone reads the meter; everyone else only adds to it (see `trio_broker.session.meter`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_broker.actors.messages import AskMetrics, AskStats
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
                        item.answer(self.core.meter.as_dict())
                    case AskStats():
                        item.answer(self.core.meter.gauges_as_dict())
                    case _:
                        raise TypeError(f"the metrics collector does not know {item!r}")
        finally:
            self.end()
