"""`PUT /clients/:clientid/keepalive`: another keep alive for the connection there is.

Invariant: the client is not told, as MQTT has no way to; its next connection brings a keep alive of its own.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.api.context import Api
from trio_broker.api.failures import BAD_REQUEST, CLIENT_NOT_FOUND, Failure
from trio_broker.api.routes import Routes
from trio_broker.api.v5.client_object import Client, client_object

routes = Routes("Clients")

NO_INTERVAL: Final = "Interval Not Found"
NOT_CONNECTED: Final = Failure(400, "PARAM_ERROR", "The client is not connected")


class KeepAliveBody(Struct, kw_only=True, forbid_unknown_fields=True):
    interval: (
        Annotated[
            int, Meta(ge=0, le=65_535, description="Seconds; the connection ends after 1.5 times as long. 0: never")
        ]
        | UnsetType
    ) = UNSET


@routes.put(
    "/clients/:clientid/keepalive", "Set the keep alive of a client", failures=[NOT_CONNECTED, CLIENT_NOT_FOUND]
)
async def set_keepalive(api: Api, clientid: str, body: KeepAliveBody) -> Client:
    if body.interval is UNSET:
        raise BAD_REQUEST.error(NO_INTERVAL)
    info = await api.questions.set_keep_alive(clientid, body.interval)
    if info is None:
        raise CLIENT_NOT_FOUND.error()
    if not info.connected:
        raise NOT_CONNECTED.error()
    return client_object(api, info)
