"""`POST /configs_reset/:rootname`: forget what was set over REST.

Invariant: a root or a key is afterwards as the configuration file has it, or as it is by default.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.api.context import Api
from trio_broker.api.failures import Failure
from trio_broker.api.routes import Documented, Reply, Routes
from trio_broker.api.updates import as_text, refusals

routes = Routes("Configs")

NO_DEFAULT_VALUE: Final = Failure(400, "NO_DEFAULT_VALUE", "There is no such key")
REST_FAILED: Final = Failure(400, "REST_FAILED", "It cannot be changed while the broker runs")
OVERRIDDEN: Final = Failure(403, "REST_FAILED", "It is set by the environment or the command line")


class ResetQuery(Struct, kw_only=True):
    conf_path: Annotated[
        str, Meta(description="One key below the root, such as `sys_event_messages.client_connected`")
    ] | (UnsetType) = UNSET


@routes.post(
    "/configs_reset/:rootname",
    "Reset a root, or one key of it",
    failures=[NO_DEFAULT_VALUE, REST_FAILED, OVERRIDDEN],
    answers=[Documented(200, "It is as it was before anything was set over REST")],
)
async def reset_configs(api: Api, rootname: str, query: ResetQuery) -> Reply:
    path = [] if query.conf_path is UNSET or not query.conf_path else query.conf_path.split(".")
    try:
        with refusals(as_text(REST_FAILED), OVERRIDDEN):
            await api.questions.settings.reset(rootname, path)
    except LookupError as error:
        raise NO_DEFAULT_VALUE.error(f"There is no key {str(error.args[0])[:200]}") from None
    return Reply(200)
