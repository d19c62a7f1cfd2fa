"""`/nodes/NODE/plugins`: what EMQ 2 has as plugins, as far as it is here.

Invariant: nothing is listed that does nothing here; what is started or stopped stays so after a restart.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from trio_broker.actors.features import AlreadyStarted, NoSuchFeature, NotPossible, NotStarted
from trio_broker.actors.settings import Overridden
from trio_broker.api.context import UNKNOWN_NODE, Api
from trio_broker.api.routes import Routes
from trio_broker.api.v2.envelope import (
    ALREADY_STARTED,
    MISSING_PARAMETER,
    NOT_JSON,
    NOT_STARTED,
    UNKNOWN_ERROR,
    WRONG_TYPE,
    Result,
)
from trio_broker.errors import ConfigError, ListenerError

routes = Routes("Plugins")

SWITCHES: Final = (NOT_JSON, MISSING_PARAMETER, WRONG_TYPE, ALREADY_STARTED, NOT_STARTED, UNKNOWN_ERROR)


class Plugin(Struct, kw_only=True):
    name: str
    version: str
    description: str
    active: bool


class State(Struct):
    active: bool


@routes.get("/nodes/:node_name/plugins", "List the plugins of a node", failures=[UNKNOWN_NODE])
async def list_plugins(api: Api, node_name: str) -> Result[list[Plugin]]:
    api.check_node(node_name)
    return Result(
        [
            Plugin(name=row.name, version=api.level, description=row.description, active=row.active)
            for row in api.questions.features.older_plugins.rows()
        ]
    )


@routes.put("/nodes/plugins/:name", "Start or stop a plugin", failures=SWITCHES)
async def switch_plugin(api: Api, name: str, body: State) -> Result[list[str]]:
    plugins = api.questions.features.older_plugins
    try:
        await (plugins.start(name) if body.active else plugins.stop(name))
    except AlreadyStarted:
        raise ALREADY_STARTED.error() from None
    except NotStarted:
        raise NOT_STARTED.error() from None
    except NoSuchFeature:
        raise (UNKNOWN_ERROR if body.active else NOT_STARTED).error() from None
    except (NotPossible, ConfigError, ListenerError, Overridden) as error:
        raise UNKNOWN_ERROR.error(str(error)) from None
    return Result([])


@routes.put("/nodes/:node_name/plugins/:name", "Start or stop a plugin of a node", failures=[*SWITCHES, UNKNOWN_NODE])
async def switch_node_plugin(api: Api, node_name: str, name: str, body: State) -> Result[list[str]]:
    api.check_node(node_name)
    return await switch_plugin(api, name, body)
