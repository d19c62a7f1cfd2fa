"""`/authorization/sources/built_in_database/rules`: the rules of single users, of single clients, and of all.

Invariant: what is sent is taken as a whole or not at all; what is taken is in force for the clients that are connected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.access.rules import RuleError
from trio_broker.actors.authz.built_in import ALL, BuiltInRules, RuleItem, Whose, compiled
from trio_broker.api.context import Api
from trio_broker.api.failures import Failure, invalid
from trio_broker.api.paging import PageOf, Paging, cut, each, encoded, page_meta, select
from trio_broker.api.routes import Reply, Routes

routes = Routes("Authorization")

RULES: Final = "/authorization/sources/built_in_database/rules"

NOT_CONFIGURED: Final = Failure(404, "NOT_FOUND", "Not found: built_in_database")
NO_RULES: Final = Failure(404, "NOT_FOUND", "Not Found")
NO_SUCH_USER: Final = Failure(404, "NOT_FOUND", "Username Not Found")
NO_SUCH_CLIENT: Final = Failure(404, "NOT_FOUND", "ClientID Not Found")
ALREADY_EXISTS: Final = Failure(409, "ALREADY_EXISTS", "User '<username>' already exist")
TOO_MANY: Final = Failure(400, "BAD_REQUEST", "The rules length exceeds the maximum limit.")
NOT_DISABLED: Final = Failure(400, "BAD_REQUEST", "'built_in_database' type source must be disabled before purge.")

ROWS: Final = 8
"""Entries that are read and written as JSON before others have their turn; each may have a hundred rules."""

Name = Annotated[str, Meta(min_length=1, max_length=65535)]


class RuleShown(RuleItem, omit_defaults=False):
    """With `qos` and `retain`, whatever they are."""


class Rules(Struct, forbid_unknown_fields=True):
    rules: list[RuleItem]


class UserRules(Struct, forbid_unknown_fields=True):
    username: Name
    rules: list[RuleItem]


class ClientRules(Struct, forbid_unknown_fields=True):
    clientid: Name
    rules: list[RuleItem]


class RulesShown(Struct):
    rules: list[RuleShown]


class UserRulesShown(Struct):
    username: str
    rules: list[RuleShown]


class ClientRulesShown(Struct):
    clientid: str
    rules: list[RuleShown]


class UserRulesQuery(Paging, kw_only=True):
    like_username: Annotated[str, Meta(description="Part of the user name")] | UnsetType = UNSET


class ClientRulesQuery(Paging, kw_only=True):
    like_clientid: Annotated[str, Meta(description="Part of the client id")] | UnsetType = UNSET


# -- users --------------------------------------------------------------------------------------------------------


@routes.get(f"{RULES}/users", "Show the list of rules for users", failures=[NOT_CONFIGURED])
async def list_users(api: Api, query: UserRulesQuery) -> Reply | PageOf[UserRulesShown]:
    return await _page(_source(api), "username", query, query.like_username)


@routes.post(f"{RULES}/users", "Add new rule for 'username'", failures=[NOT_CONFIGURED, ALREADY_EXISTS, TOO_MANY])
async def add_users(api: Api, body: list[UserRules]) -> None:
    await _add(_source(api), "username", [(row.username, row.rules) for row in body])


@routes.get(f"{RULES}/users/:username", "Get rule for 'username'", failures=[NOT_CONFIGURED, NO_RULES])
async def get_user(api: Api, username: str) -> UserRulesShown:
    return UserRulesShown(username, _found(_source(api), "username", username))


@routes.put(f"{RULES}/users/:username", "Set rule for 'username'", failures=[NOT_CONFIGURED, TOO_MANY])
async def set_user(api: Api, username: str, body: UserRules) -> None:
    await _set(_source(api), "username", username, body.username, body.rules)


@routes.delete(f"{RULES}/users/:username", "Delete rule for 'username'", failures=[NOT_CONFIGURED, NO_SUCH_USER])
async def delete_user(api: Api, username: str) -> None:
    if not await _source(api).remove("username", username):
        raise NO_SUCH_USER.error()


# -- clients ------------------------------------------------------------------------------------------------------


@routes.get(f"{RULES}/clients", "Show the list of rules for clients", failures=[NOT_CONFIGURED])
async def list_clients(api: Api, query: ClientRulesQuery) -> Reply | PageOf[ClientRulesShown]:
    return await _page(_source(api), "clientid", query, query.like_clientid)


@routes.post(f"{RULES}/clients", "Add new rule for 'clientid'", failures=[NOT_CONFIGURED, ALREADY_EXISTS, TOO_MANY])
async def add_clients(api: Api, body: list[ClientRules]) -> None:
    await _add(_source(api), "clientid", [(row.clientid, row.rules) for row in body])


@routes.get(f"{RULES}/clients/:clientid", "Get rule for 'clientid'", failures=[NOT_CONFIGURED, NO_RULES])
async def get_client(api: Api, clientid: str) -> ClientRulesShown:
    return ClientRulesShown(clientid, _found(_source(api), "clientid", clientid))


@routes.put(f"{RULES}/clients/:clientid", "Set rule for 'clientid'", failures=[NOT_CONFIGURED, TOO_MANY])
async def set_client(api: Api, clientid: str, body: ClientRules) -> None:
    await _set(_source(api), "clientid", clientid, body.clientid, body.rules)


@routes.delete(f"{RULES}/clients/:clientid", "Delete rule for 'clientid'", failures=[NOT_CONFIGURED, NO_SUCH_CLIENT])
async def delete_client(api: Api, clientid: str) -> None:
    if not await _source(api).remove("clientid", clientid):
        raise NO_SUCH_CLIENT.error()


# -- all ----------------------------------------------------------------------------------------------------------


@routes.get(f"{RULES}/all", "Show the list of rules for 'all'", failures=[NOT_CONFIGURED])
async def get_all(api: Api) -> RulesShown:
    return RulesShown(_shown(_source(api).items(ALL)))


@routes.post(f"{RULES}/all", "Create/Update the list of rules for 'all'", failures=[NOT_CONFIGURED, TOO_MANY])
async def set_all(api: Api, body: Rules) -> None:
    source = _source(api)
    if len(body.rules) > source.config.max_rules:
        raise TOO_MANY.error("The length of rules exceeds the maximum limit.")
    _check(body.rules, "root.rules")
    await source.put(ALL, {ALL: body.rules})


@routes.delete(f"{RULES}/all", "Delete rules for 'all'", failures=[NOT_CONFIGURED])
async def delete_all(api: Api) -> None:
    await _source(api).remove(ALL)


@routes.delete(RULES, "Delete all rules for all 'users', 'clients' and 'all'", failures=[NOT_CONFIGURED, NOT_DISABLED])
async def purge(api: Api) -> None:
    source = _source(api)
    if source.config.enable:
        raise NOT_DISABLED.error()
    await source.clear()


# -- what they share ----------------------------------------------------------------------------------------------


def _source(api: Api) -> BuiltInRules:
    source = api.questions.authorization_sources.one("built_in_database")
    if source is None:
        raise NOT_CONFIGURED.error()
    assert isinstance(source, BuiltInRules)
    return source


async def _page(source: BuiltInRules, whose: Whose, paging: Paging, like: str | UnsetType) -> Reply:
    names: Sequence[str] = source.names(whose)
    if not isinstance(like, UnsetType):
        names = await select(names, lambda name: like in name)
    rows = await encoded(
        cut(names, paging), lambda name: {whose: name, "rules": _shown(source.items(whose, name))}, ROWS
    )
    return Reply(200, {"data": rows, "meta": page_meta(paging, len(names), show_count=like is UNSET)})


async def _add(source: BuiltInRules, whose: Whose, entries: Sequence[tuple[str, list[RuleItem]]]) -> None:
    called = "User" if whose == "username" else "Client"
    new: dict[str, list[RuleItem]] = {}
    for number, (name, items) in enumerate(entries, 1):
        if name in new:
            raise invalid(f"root.{number}.{whose}", "It is there twice", value=name[:200])
        if len(items) > source.config.max_rules:
            raise TOO_MANY.error(f"The rules length of {called} '{name}' exceeds the maximum limit.")
        new[name] = items

    def check(entry: tuple[int, list[RuleItem]]) -> None:
        _check(entry[1], f"root.{entry[0]}.rules")

    await each(enumerate(new.values(), 1), check, ROWS)
    for name in new:
        if source.has(whose, name):
            raise ALREADY_EXISTS.error(f"{called} '{name}' already exist")
    await source.put(whose, new)


async def _set(source: BuiltInRules, whose: Whose, name: str, said: str, items: list[RuleItem]) -> None:
    if said != name:
        raise invalid(f"root.{whose}", f"It must be the {whose} of the path", value=said[:200])
    if len(items) > source.config.max_rules:
        raise TOO_MANY.error()
    _check(items, "root.rules")
    await source.put(whose, {name: items})


def _check(items: Sequence[RuleItem], path: str) -> None:
    try:
        compiled(items)
    except RuleError as error:
        raise invalid(f"{path}.{error.number}.{error.field}", error.reason) from None


def _found(source: BuiltInRules, whose: Whose, name: str) -> list[RuleShown]:
    if not source.has(whose, name):
        raise NO_RULES.error()
    return _shown(source.items(whose, name))


def _shown(items: Iterable[RuleItem]) -> list[RuleShown]:
    return [RuleShown(**_fields(item)) for item in items]


def _fields(item: RuleItem) -> dict[str, Any]:
    return msgspec.structs.asdict(item)
