"""`/modules`: what EMQX 4 has as modules.

Invariant: what is started or stopped is so at once for all clients, and stays so after a restart.
"""

from __future__ import annotations

from msgspec import Struct

from trio_broker.api.context import UNKNOWN_NODE, Api
from trio_broker.api.routes import Routes
from trio_broker.api.v4.envelope import NOT_STARTED, Data, Done
from trio_broker.api.v4.plugins import LOADS, RELOADS, UNLOADS, switching

routes = Routes("Modules")


class Module(Struct, kw_only=True):
    name: str
    description: str
    active: bool


class NodeModules(Struct):
    node: str
    modules: list[Module]


@routes.get("/modules", "List the modules of all nodes")
async def list_modules(api: Api) -> Data[list[NodeModules]]:
    return Data([NodeModules(api.node_name, _modules(api))])


@routes.get("/nodes/:node/modules", "List the modules of a node", failures=[UNKNOWN_NODE])
async def list_node_modules(api: Api, node: str) -> Data[list[Module]]:
    api.check_node(node)
    return Data(_modules(api))


@routes.put("/modules/:module/load", "Start a module on all nodes", failures=LOADS)
async def load_module(api: Api, module: str) -> Done:
    with switching():
        await api.questions.features.modules.start(module)
    return Done()


@routes.put("/modules/:module/unload", "Stop a module on all nodes", failures=UNLOADS)
async def unload_module(api: Api, module: str) -> Done:
    with switching():
        await api.questions.features.modules.stop(module)
    return Done()


@routes.put("/modules/:module/reload", "Read the file of access rules again", failures=[NOT_STARTED, *RELOADS])
async def reload_module(api: Api, module: str) -> Done:
    """Of other modules there is nothing to be read."""
    with switching():
        await api.questions.features.modules.reload(module)
    return Done()


@routes.put("/nodes/:node/modules/:module/load", "Start a module on a node", failures=[*LOADS, UNKNOWN_NODE])
async def load_node_module(api: Api, node: str, module: str) -> Done:
    api.check_node(node)
    return await load_module(api, module)


@routes.put("/nodes/:node/modules/:module/unload", "Stop a module on a node", failures=[*UNLOADS, UNKNOWN_NODE])
async def unload_node_module(api: Api, node: str, module: str) -> Done:
    api.check_node(node)
    return await unload_module(api, module)


@routes.put(
    "/nodes/:node/modules/:module/reload",
    "Read the file of access rules of a node again",
    failures=[NOT_STARTED, *RELOADS, UNKNOWN_NODE],
)
async def reload_node_module(api: Api, node: str, module: str) -> Done:
    api.check_node(node)
    return await reload_module(api, module)


def _modules(api: Api) -> list[Module]:
    return [
        Module(name=row.name, description=row.description, active=row.active)
        for row in api.questions.features.modules.rows()
    ]
