"""`/mqtt/retainer`: which retained messages are kept, for how long, and how fast they go in and out.

Invariant: what is answered with success holds for the next message.
"""

from __future__ import annotations

from typing import Any

from trio_broker.api.config_types import struct_of
from trio_broker.api.context import Api
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.updates import UPDATES, update_root
from trio_broker.config import RetainerConfig, to_dict

routes = Routes("Retainer")

Shown: Any = struct_of(RetainerConfig, "RetainerSettings")


async def retainer_settings(api: Api) -> Any:
    return to_dict(api.questions.settings.config)["retainer"]


async def change_retainer_settings(api: Api, body: Any) -> Any:
    return await update_root(api, "retainer", body)


retainer_settings.__annotations__["return"] = Shown
change_retainer_settings.__annotations__.update({"body": Shown, "return": Shown | Reply})
routes.get("/mqtt/retainer", "Settings of the retainer")(retainer_settings)
routes.put("/mqtt/retainer", "Change the settings of the retainer", failures=UPDATES)(change_retainer_settings)
