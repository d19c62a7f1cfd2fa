"""`/telemetry`: nothing is ever reported to anybody, and nothing can switch that on."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from trio_broker.api.context import Api
from trio_broker.api.routes import Routes
from trio_broker.api.v4.envelope import UNKNOWN_ERROR, Data, Done

routes = Routes("Telemetry")

WHY_NOT: Final = "This broker reports nothing to anybody: there is no telemetry to be switched on"


class Status(Struct, kw_only=True):
    enabled: bool


class Report(Struct):
    """Nothing is in it."""


@routes.get("/telemetry/status", "Is anything reported?")
async def telemetry_status(api: Api) -> Data[Status]:
    return Data(Status(enabled=False))


@routes.put("/telemetry/status", "Switch telemetry off, as it always is", failures=[UNKNOWN_ERROR])
async def change_telemetry_status(api: Api, query: Status) -> Done:
    if query.enabled:
        raise UNKNOWN_ERROR.error(WHY_NOT)
    return Done()


@routes.get("/telemetry/data", "What would be reported")
async def telemetry_data(api: Api) -> Data[Report]:
    return Data(Report())
