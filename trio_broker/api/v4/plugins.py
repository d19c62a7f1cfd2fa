"""`/plugins`: what EMQX 4 has as plugins, as far as it is here.

Invariant: nothing is listed that does nothing here; what is started or stopped stays so after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Final

from msgspec import Meta, Struct

from trio_broker.actors.features import AlreadyStarted, NoSuchFeature, NotPossible, NotStarted
from trio_broker.actors.settings import Overridden
from trio_broker.api.context import UNKNOWN_NODE, Api
from trio_broker.api.failures import Failure
from trio_broker.api.routes import Routes
from trio_broker.api.v4.envelope import ALREADY_STARTED, NOT_STARTED, UNKNOWN_ERROR, Data, Done
from trio_broker.errors import ConfigError, ListenerError

routes = Routes("Plugins")

NO_SUCH_NAME: Final = Failure(200, 102, "not_found")
LOADS: Final = (ALREADY_STARTED, NO_SUCH_NAME, UNKNOWN_ERROR)
UNLOADS: Final = (NOT_STARTED, NO_SUCH_NAME, UNKNOWN_ERROR)
RELOADS: Final = (NO_SUCH_NAME, UNKNOWN_ERROR)


class Plugin(Struct, kw_only=True):
    name: str
    description: str
    active: bool
    type: Annotated[str, Meta(description="auth, bridge, feature or protocol")]


class NodePlugins(Struct):
    node: str
    plugins: list[Plugin]


@routes.get("/plugins", "List the plugins of all nodes")
async def list_plugins(api: Api) -> Data[list[NodePlugins]]:
    return Data([NodePlugins(api.node_name, _plugins(api))])


@routes.get("/nodes/:node/plugins", "List the plugins of a node", failures=[UNKNOWN_NODE])
async def list_node_plugins(api: Api, node: str) -> Data[list[Plugin]]:
    api.check_node(node)
    return Data(_plugins(api))


@routes.put("/nodes/:node/plugins/:plugin/load", "Start a plugin on a node", failures=[*LOADS, UNKNOWN_NODE])
async def load_node_plugin(api: Api, node: str, plugin: str) -> Done:
    api.check_node(node)
    with switching():
        await api.questions.features.plugins.start(plugin)
    return Done()


@routes.put("/nodes/:node/plugins/:plugin/unload", "Stop a plugin on a node", failures=[*UNLOADS, UNKNOWN_NODE])
async def unload_node_plugin(api: Api, node: str, plugin: str) -> Done:
    api.check_node(node)
    return await unload_plugin(api, plugin)


@routes.put(
    "/nodes/:node/plugins/:plugin/reload",
    "Start a plugin on a node, if it does not run",
    failures=[*RELOADS, UNKNOWN_NODE],
)
async def reload_node_plugin(api: Api, node: str, plugin: str) -> Done:
    api.check_node(node)
    return await reload_plugin(api, plugin)


@routes.put("/plugins/:plugin/unload", "Stop a plugin on all nodes", failures=UNLOADS)
async def unload_plugin(api: Api, plugin: str) -> Done:
    with switching():
        await api.questions.features.plugins.stop(plugin)
    return Done()


@routes.put("/plugins/:plugin/reload", "Start a plugin on all nodes, where it does not run", failures=RELOADS)
async def reload_plugin(api: Api, plugin: str) -> Done:
    with switching(), suppress(AlreadyStarted):
        await api.questions.features.plugins.start(plugin)
    return Done()


@contextmanager
def switching() -> Iterator[None]:
    """Why something cannot be started or stopped, as an answer."""
    try:
        yield
    except AlreadyStarted:
        raise ALREADY_STARTED.error() from None
    except NotStarted:
        raise NOT_STARTED.error() from None
    except NoSuchFeature:
        raise NO_SUCH_NAME.error() from None
    except (NotPossible, ConfigError, ListenerError, Overridden) as error:
        raise UNKNOWN_ERROR.error(str(error)) from None


def _plugins(api: Api) -> list[Plugin]:
    return [
        Plugin(name=row.name, description=row.description, active=row.active, type=row.kind)
        for row in api.questions.features.plugins.rows()
    ]
