"""`/mqtt/topic_rewrite`: rules by which topics are put in the place of others.

Invariant: the list is replaced as a whole; what is answered is what is in force.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct, to_builtins

from trio_broker.api.context import Api
from trio_broker.api.failures import Failure
from trio_broker.api.routes import Routes
from trio_broker.api.updates import OVERRIDDEN, change

routes = Routes("MQTT")

LIMIT: Final = 20
"""As EMQX has it, there are fewer than these."""
TOO_MANY: Final = Failure(413, "EXCEED_LIMIT", f"Max rewrite rules count is {LIMIT}")


class RewriteRule(Struct, kw_only=True, forbid_unknown_fields=True):
    action: Literal["subscribe", "publish", "all"]
    source_topic: str
    re: str
    dest_topic: str


@routes.get("/mqtt/topic_rewrite", "List all rewrite rules")
async def list_rules(api: Api) -> list[RewriteRule]:
    return [
        RewriteRule(
            action=rule.action,  # type: ignore[arg-type]  # the configuration has no others
            source_topic=rule.source_topic,
            re=rule.re,
            dest_topic=rule.dest_topic,
        )
        for rule in api.questions.settings.config.rewrite
    ]


@routes.put("/mqtt/topic_rewrite", "Replace the rewrite rules", failures=[TOO_MANY, OVERRIDDEN])
async def replace_rules(api: Api, body: list[RewriteRule]) -> list[RewriteRule]:
    if len(body) >= LIMIT:
        raise TOO_MANY.error()
    await change(api, {"rewrite": to_builtins(body)}, "rewrite")
    return await list_rules(api)
