"""`/nodes/{node}/alarms`: what is wrong now. EMQ 2 serves it, its document does not name it."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from trio_broker.actors.alarms import STORE_DAMAGED, STORE_FAILURE
from trio_broker.actors.questions import AlarmRow
from trio_broker.api.context import Api
from trio_broker.api.routes import Routes
from trio_broker.api.v2.envelope import Result
from trio_broker.api.v2.formats import local_time

routes = Routes("Alarms")

Severity = Literal["warning", "error", "critical"]

SEVERITIES: Final[dict[str, Severity]] = {STORE_FAILURE: "critical", STORE_DAMAGED: "error"}
"""Of those that are more than a warning: what is kept is at stake, or was lost."""


class Alarm(Struct, kw_only=True):
    id: str
    severity: Severity
    title: str
    summary: str
    occurred_at: str


@routes.get("/nodes/:node/alarms", "List the alarms of a node")
async def node_alarms(api: Api, node: str) -> Result[list[Alarm]]:
    api.check_node(node)
    rows, _ = await api.questions.alarms(True)
    return Result([_alarm(row) for row in rows])


def _alarm(row: AlarmRow) -> Alarm:
    return Alarm(
        id=row.name,
        severity=SEVERITIES.get(row.name, "warning"),
        title=row.name.replace("_", " "),
        summary=row.message,
        occurred_at=local_time(row.activate_at),
    )
