"""The ACL cache of EMQX 4: what is kept of the decisions about who may publish and subscribe to what.

Invariant: only what still counts is shown. What was decided for one QoS holds for no other, so one topic may stand
here more than once.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from trio_broker.api.context import Api
from trio_broker.api.routes import Routes
from trio_broker.api.v4.envelope import NOT_FOUND, Data, Done

routes = Routes("ACL cache")


class Decision(Struct, kw_only=True):
    """`updated_time` is in milliseconds since the epoch."""

    access: Literal["publish", "subscribe"]
    topic: str
    result: Literal["allow", "deny"]
    updated_time: int


@routes.get("/clients/:clientid/acl_cache", "List the ACL cache of a specified client", failures=[NOT_FOUND])
async def list_acl_cache(api: Api, clientid: str) -> Data[list[Decision]]:
    rows = await api.questions.client_decisions(clientid)
    if rows is None:
        raise NOT_FOUND.error()
    return Data(
        [
            Decision(
                access=asked.action,
                topic=asked.topic,
                result="allow" if allowed else "deny",
                updated_time=decided_at,
            )
            for asked, allowed, decided_at in rows
        ]
    )


@routes.delete("/clients/:clientid/acl_cache", "Clean the ACL cache of a specified client", failures=[NOT_FOUND])
async def clean_acl_cache(api: Api, clientid: str) -> Done:
    if not await api.questions.forget_client_decisions(clientid):
        raise NOT_FOUND.error()
    return Done()


@routes.delete("/acl-cache", "Clean the ACL cache of all clients in the cluster")
async def clean_acl_cache_all(api: Api) -> Done:
    await api.questions.authorization_sources.forget_decisions()
    return Done()


@routes.delete("/nodes/:node/acl-cache", "Clean the ACL cache of all clients on the node")
async def clean_acl_cache_node(api: Api, node: str) -> Done:
    api.check_node(node)
    return await clean_acl_cache_all(api)


@routes.delete("/node/:node/acl-cache", "The same, as the document of EMQX 4 spells it")
async def clean_acl_cache_of_node(api: Api, node: str) -> Done:
    return await clean_acl_cache_node(api, node)
