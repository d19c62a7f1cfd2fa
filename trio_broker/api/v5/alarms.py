"""`/alarms`: what is wrong now, and what was.

Invariant: deleting touches the history only; what is wrong stays on the list until it is over, or somebody says so.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.questions import AlarmRow
from trio_broker.api.context import Api
from trio_broker.api.failures import Failure
from trio_broker.api.formats import rfc3339_ms
from trio_broker.api.paging import PageOf, Paging, page_meta
from trio_broker.api.routes import Routes

routes = Routes("Alarms")

NO_NAME: Final = Failure(400, "INVALID_PARAMETER", "name is required")
NOT_ACTIVE: Final = Failure(400, "NOT_FOUND", "There is no such active alarm")


class AlarmsQuery(Paging, kw_only=True):
    activated: Annotated[bool, Meta(description="Those of now, or those that are over")] = True


class Alarm(Struct, kw_only=True):
    node: str
    name: str
    message: str
    details: dict[str, Any]
    duration: Annotated[int, Meta(description="Milliseconds until it was over, or until now")]
    activate_at: str
    deactivate_at: str | UnsetType = UNSET


@routes.get("/alarms", "List alarms")
async def list_alarms(api: Api, query: AlarmsQuery) -> PageOf[Alarm]:
    rows, now_ms = await api.questions.alarms(query.activated)
    first = (query.page - 1) * query.limit
    shown = [_shown(api.node_name, row, now_ms) for row in rows[first : first + query.limit]]
    return PageOf(shown, page_meta(query, len(rows)))


@routes.delete("/alarms", "Forget the alarms that are over")
async def forget_alarms(api: Api) -> None:
    await api.questions.forget_alarms()


class Deactivation(Struct, kw_only=True, forbid_unknown_fields=True):
    name: str | UnsetType = UNSET


@routes.post("/alarms/force_deactivate", "Take an alarm for over", failures=[NO_NAME, NOT_ACTIVE])
async def force_deactivate(api: Api, body: Deactivation) -> None:
    if body.name is UNSET or not body.name:
        raise NO_NAME.error()
    if not await api.questions.deactivate_alarm(body.name):
        raise NOT_ACTIVE.error(f"There is no active alarm {body.name[:200]}")


def _shown(node: str, row: AlarmRow, now_ms: int) -> Alarm:
    end = now_ms if row.deactivate_at is None else row.deactivate_at
    return Alarm(
        node=node,
        name=row.name,
        message=row.message,
        details=row.details,
        duration=max(0, end - row.activate_at),
        activate_at=rfc3339_ms(row.activate_at),
        deactivate_at=UNSET if row.deactivate_at is None else rfc3339_ms(row.deactivate_at),
    )
