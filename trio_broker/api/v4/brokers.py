"""`/brokers`: the one broker there is, as EMQX 4 shows it."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from trio_broker.api.context import UNKNOWN_NODE, Api
from trio_broker.api.routes import Routes
from trio_broker.api.v4.envelope import Data
from trio_broker.api.v4.formats import local_time, uptime

routes = Routes("Brokers and nodes")

SYSDESCR: Final = "EMQX Broker"


class Broker(Struct, kw_only=True):
    node: str
    node_status: str = "Running"
    version: str
    sysdescr: str = SYSDESCR
    uptime: str
    datetime: str
    otp_release: str


@routes.get("/brokers", "List the brokers of the cluster")
async def list_brokers(api: Api) -> Data[list[Broker]]:
    return Data([await _broker(api)])


@routes.get("/brokers/:node", "Get the broker of a node", failures=[UNKNOWN_NODE])
async def broker_of_node(api: Api, node: str) -> Data[Broker]:
    api.check_node(node)
    return Data(await _broker(api))


async def _broker(api: Api) -> Broker:
    info = await api.questions.node()
    return Broker(
        node=info.name,
        version=api.level,
        uptime=uptime(info.uptime_ms),
        datetime=local_time(info.started_at + info.uptime_ms),
        otp_release=info.runtime,
    )
