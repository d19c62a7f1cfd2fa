"""`/acl`: the rules of single clients, of single users and of all, kept in the built-in database.

Invariant: a new rule stands in front of the others of the same client or user, and what is answered with success is in
force for the clients that are connected. Of a batch each rule stands for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import trio
from attrs import define, field
from msgspec import UNSET, UnsetType

from trio_broker.actors.authz.built_in import ALL, BuiltInRules, Change, RuleItem, Whose
from trio_broker.api.context import Api
from trio_broker.api.failures import Failure
from trio_broker.api.paging import each, select
from trio_broker.api.routes import Reply, Routes
from trio_broker.api.v4.acl_rules import (
    BadRule,
    NewRule,
    RuleRow,
    answer_of,
    read_rule,
    rows_of,
    with_rule,
    without_topic,
)
from trio_broker.api.v4.envelope import (
    BAD_PARAMETER,
    EMPTY_NAME_OR_PASSWORD,
    UNKNOWN_ERROR,
    Data,
    Done,
    Listed,
)
from trio_broker.api.v4.paging import ALL as ANY_NUMBER
from trio_broker.api.v4.paging import Paging, listing, page_meta
from trio_broker.api.v4.parameters import Parameters
from trio_broker.api.v4.taken import AccessRule

routes = Routes("Access rules")

NOT_RUNNING: Final = Failure(404, "NOT_FOUND", "Not found.")
BAD_NAME: Final = Failure(200, EMPTY_NAME_OR_PASSWORD.code, "{add,#{result => {error,login}}}")
BAD_RULE: Final = Failure(200, UNKNOWN_ERROR.code, "{add,#{result => {error,topic}}} and the like")
TOO_MANY: Final = "max_rules"
"""What is wrong with a rule where there may be no more of them."""

ROWS: Final = 8
"""Entries that are read before others have their turn; each may have a hundred rules."""
TOGETHER: Final = 128
"""Rules of a batch that are put in force together."""


class RulesQuery(Paging, kw_only=True):
    limit: Annotated[int, msgspec.Meta(ge=0, le=ANY_NUMBER, description="Rows in a page")] = msgspec.field(
        name="_limit", default=50
    )
    topic: str | UnsetType = UNSET
    action: Literal["pub", "sub", "pubsub"] | UnsetType = UNSET
    access: Literal["allow", "deny"] | UnsetType = UNSET


class ClientRulesQuery(RulesQuery, kw_only=True):
    clientid: str | UnsetType = UNSET
    like_clientid: str | UnsetType = msgspec.field(name="_like_clientid", default=UNSET)


class UserRulesQuery(RulesQuery, kw_only=True):
    username: str | UnsetType = UNSET
    like_username: str | UnsetType = msgspec.field(name="_like_username", default=UNSET)


@routes.post(
    "/acl",
    "Add an access rule, or an array of them",
    failures=[NOT_RUNNING, BAD_PARAMETER, BAD_NAME, BAD_RULE],
    takes=AccessRule | list[AccessRule],
)
async def add_rules(api: Api, params: Parameters) -> Reply | Data[RuleRow] | Data[list[RuleRow]]:
    source = _source(api)
    if params.batch is not None:
        rows: list[RuleRow] = []
        for start in range(0, len(params.batch), TOGETHER):
            some = params.batch[start : start + TOGETHER]
            rows += map(answer_of, map(_object, some), await _add(source, some))
        return await listing(rows[::-1], lambda row: row)
    if not params or ("clientid" in params and "username" in params):
        raise BAD_PARAMETER.error()
    (result,) = await _add(source, [params])
    if result == "ok":
        return Data(answer_of(params, result))
    failure = BAD_NAME if result == "{error,login}" else BAD_RULE
    raise failure.error(f"{{add,#{{result => {result}}}}}")


@routes.get("/acl/clientid", "List the rules of all clients", failures=[NOT_RUNNING])
async def list_clients(api: Api, query: ClientRulesQuery) -> Reply | Listed[RuleRow]:
    return await _listed(_source(api), "clientid", query, query.clientid, query.like_clientid)


@routes.get("/acl/username", "List the rules of all users", failures=[NOT_RUNNING])
async def list_users(api: Api, query: UserRulesQuery) -> Reply | Listed[RuleRow]:
    return await _listed(_source(api), "username", query, query.username, query.like_username)


@routes.get("/acl/$all", "List the rules that are for everybody", failures=[NOT_RUNNING])
async def list_all(api: Api, query: RulesQuery) -> Reply | Listed[RuleRow]:
    return await _listed(_source(api), ALL, query, UNSET, UNSET)


@routes.get("/acl/clientid/:clientid", "Get the rules of a client", failures=[NOT_RUNNING])
async def rules_of_client(api: Api, clientid: str) -> Data[list[RuleRow]]:
    return Data(list(rows_of("clientid", clientid, _source(api).items("clientid", clientid))))


@routes.get("/acl/username/:username", "Get the rules of a user", failures=[NOT_RUNNING])
async def rules_of_user(api: Api, username: str) -> Data[list[RuleRow]]:
    return Data(list(rows_of("username", username, _source(api).items("username", username))))


@routes.delete(
    "/acl/clientid/:clientid/topic/:topic", "Delete the rules of a client on a topic", failures=[NOT_RUNNING]
)
async def delete_of_client(api: Api, clientid: str, topic: str) -> Done:
    return await _delete(_source(api), "clientid", clientid, topic)


@routes.delete("/acl/username/:username/topic/:topic", "Delete the rules of a user on a topic", failures=[NOT_RUNNING])
async def delete_of_user(api: Api, username: str, topic: str) -> Done:
    return await _delete(_source(api), "username", username, topic)


@routes.delete("/acl/$all/topic/:topic", "Delete the rules for everybody on a topic", failures=[NOT_RUNNING])
async def delete_of_all(api: Api, topic: str) -> Done:
    return await _delete(_source(api), ALL, ALL, topic)


@routes.delete("/acl/all/$all/topic/:topic", "The same, as EMQX Cloud writes it", failures=[NOT_RUNNING])
async def delete_of_all_in_cloud(api: Api, topic: str) -> Done:
    return await _delete(_source(api), ALL, ALL, topic)


def _source(api: Api) -> BuiltInRules:
    """404 where there is none: then it is as if the plugin were not running."""
    source = api.questions.authorization_sources.one("built_in_database")
    if not isinstance(source, BuiltInRules) or not source.config.enable:
        raise NOT_RUNNING.error()
    return source


def _object(said: Any) -> Mapping[str, Any]:
    return said if isinstance(said, dict) else {}


@define(eq=False)
class _Additions:
    """New rules of one client or user, in their order; `results` has the place of each."""

    most: int
    results: list[str]
    new: list[tuple[int, list[RuleItem]]] = field(factory=list)

    def __call__(self, items: list[RuleItem]) -> Sequence[RuleItem]:
        for place, rules in self.new:
            wanted = with_rule(items, rules)
            if len(wanted) > max(self.most, len(items)):
                self.results[place] = f"{{error,{TOO_MANY}}}"
            else:
                self.results[place], items = "ok", wanted
        return items


async def _add(source: BuiltInRules, wanted: Sequence[Any]) -> list[str]:
    """What became of each: `ok`, or `{error,WHAT}`."""
    read = await each(wanted, _read, ROWS)
    results = ["" if isinstance(one, NewRule) else str(one) for one in read]
    changes: dict[Whose, dict[str, Change]] = {"clientid": {}, "username": {}, "all": {}}
    for place, one in enumerate(read):
        if isinstance(one, NewRule):
            additions = changes[one.whose].setdefault(one.name, _Additions(source.config.max_rules, results))
            assert isinstance(additions, _Additions)
            additions.new.append((place, one.items))
    for whose, of_each in changes.items():
        if of_each:
            await source.change(whose, of_each)
    return results


def _read(said: Any) -> NewRule | BadRule:
    try:
        return read_rule(_object(said))
    except BadRule as error:
        return error


async def _delete(source: BuiltInRules, whose: Whose, name: str, topic: str) -> Done:
    if len(without_topic(items := source.items(whose, name), topic)) < len(items):
        await source.change(whose, {name: lambda there: without_topic(there, topic)})
    return Done()


async def _listed(
    source: BuiltInRules, whose: Whose, query: RulesQuery, name: str | UnsetType, like: str | UnsetType
) -> Reply:
    """Who had rules last comes first."""
    wanted = _wanted(query)
    names: Sequence[str] = source.names(whose)[::-1]
    if not isinstance(name, UnsetType):
        names = [name] if source.has(whose, name) else []
    elif not isinstance(like, UnsetType):
        names = await select(names, lambda one: like in one)
    page: list[RuleRow] = []
    count = 0
    for number, one in enumerate(names, 1):
        for row in rows_of(whose, one, source.items(whose, one)):
            if wanted(row):
                if query.offset <= count < query.offset + query.limit:
                    page.append(row)
                count += 1
        if number % ROWS == 0:
            await trio.lowlevel.checkpoint()
    return await listing(page, lambda row: row, page_meta(query, count, hasnext=False))


def _wanted(query: RulesQuery) -> Callable[[RuleRow], bool]:
    asked = {name: value for name in ("topic", "action", "access") if (value := getattr(query, name)) is not UNSET}
    return lambda row: all(getattr(row, name) == value for name, value in asked.items())
