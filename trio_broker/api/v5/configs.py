"""`/configs`: the configuration as a whole, as HOCON or JSON; `/configs/<root>`, `/configs/global_zone`: parts of it.

Invariant: secrets are never shown, and stay as they are when they are sent back hidden; what is answered with success
is in force and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
import trio
from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.api import hocon
from trio_broker.api.bodies import TextBody
from trio_broker.api.config_types import struct_of
from trio_broker.api.context import Api
from trio_broker.api.failures import Failure
from trio_broker.api.routes import Documented, Reply, Routes
from trio_broker.api.updates import UPDATE_FAILED, UPDATES, update, update_root, warning
from trio_broker.config import Config, to_dict
from trio_broker.config.setting import entries

routes = Routes("Configs")

INVALID_ACCEPT: Final = Failure(400, "INVALID_ACCEPT", "text/plain or application/json can be had")
NO_SUCH_KEY: Final = Failure(404, "NOT_FOUND", "There is no such root")
BAD_NODE: Final = Failure(500, "BAD_NODE", "There is no such node")

ELSEWHERE: Final = ("cluster", "rpc")
"""Roots of EMQX that cannot be changed while it runs, and that there are none of here."""
ZONE: Final = ("mqtt", "flapping_detect", "force_shutdown", "force_gc", "durable_sessions")
ROOTS: Final = ("alarm", "dashboard", "log", "sysmon", "sys_topics")

READERS: Final = trio.CapacityLimiter(1)
"""Reading HOCON is slow, and the library is not made for several threads."""


class ConfigsQuery(Struct, kw_only=True):
    key: Annotated[str, Meta(description="One root, such as `mqtt`; in HOCON only")] | UnsetType = UNSET
    node: str | UnsetType = UNSET


class UpdateQuery(Struct, kw_only=True):
    mode: Annotated[
        Literal["merge", "replace"],
        Meta(description="`replace` forgets what was set before of the roots that are named"),
    ] = "merge"
    ignore_readonly: Annotated[bool, Meta(description="Leave out what cannot be changed while the broker runs")] = False


@routes.get(
    "/configs",
    "Show the configuration",
    failures=[INVALID_ACCEPT, NO_SUCH_KEY, BAD_NODE],
    answers=[Documented(200, "HOCON", content_type="text/plain"), Documented(200, "JSON", dict[str, Any])],
)
async def show_configs(api: Api, query: ConfigsQuery, accept: str) -> Reply:
    if query.node is not UNSET and query.node != api.node_name:
        raise BAD_NODE.error(f"There is no node {query.node[:200]}")
    tables = to_dict(api.questions.settings.config)
    if _wanted(accept) == "json":
        return Reply(200, tables)
    if query.key is not UNSET:
        if query.key not in tables:
            raise NO_SUCH_KEY.error(f"There is no root {query.key[:200]}")
        tables = {query.key: tables[query.key]}
    return Reply(200, text=hocon.write(tables), content_type="text/plain")


def _wanted(accept: str) -> str:
    """The first that we have, of what is asked for."""
    for part in accept.split(",") if accept.strip() else ("*/*",):
        media_type = part.partition(";")[0].strip().lower()
        if media_type in ("text/plain", "text/*", "*/*"):
            return "hocon"
        if media_type in ("application/json", "application/*"):
            return "json"
    raise INVALID_ACCEPT.error()


@routes.put("/configs", "Change the configuration", failures=UPDATES, answers=[Documented(200, "It is in force")])
async def change_configs(api: Api, body: TextBody, query: UpdateQuery) -> Reply:
    layer = await read(body)
    if query.ignore_readonly:
        layer = {root: value for root, value in layer.items() if root not in ELSEWHERE}
    config = await update(api, layer, replace=query.mode == "replace", ignore_fixed=query.ignore_readonly)
    return Reply(200, headers=warning(config, list(layer)))


async def read(text: str) -> dict[str, Any]:
    """HOCON in a thread of its own, so that messages go on; how long that may take is bounded by `hocon.LARGEST`."""
    try:
        return await trio.to_thread.run_sync(hocon.read, text, limiter=READERS, abandon_on_cancel=True)
    except hocon.HoconError as error:
        raise UPDATE_FAILED.error(str(error)) from None


# -- one root


def _table_of(root: str) -> Any:
    """The class that declares the keys of a root."""
    entry: Any = entries(Config)[root]
    return entry.cls


def _declare(root: str) -> None:
    """`GET` and `PUT /configs/<root>`; both have the root's keys as the configuration declares them."""
    cls = _table_of(root)
    shown: Any = struct_of(cls, f"{root.title().replace('_', '')}Settings")

    async def show(api: Api) -> Any:
        return to_dict(api.questions.settings.config)[root]

    async def change(api: Api, body: Any) -> Any:
        return await update_root(api, root, body)

    show.__name__, change.__name__ = f"show_{root}_settings", f"change_{root}_settings"
    show.__annotations__ = {"api": Api, "return": shown}
    change.__annotations__ = {"api": Api, "body": shown, "return": shown | Reply}
    routes.get(f"/configs/{root}", f"Settings of `{root}`")(show)
    routes.put(f"/configs/{root}", f"Change the settings of `{root}`", failures=UPDATES)(change)


for _root in ROOTS:
    _declare(_root)


class FileTransfer(Struct, forbid_unknown_fields=True):
    enable: bool = False


@routes.get("/configs/file_transfer", "Settings of file transfer, which there is none of")
async def show_file_transfer(api: Api) -> FileTransfer:
    return FileTransfer()


@routes.put("/configs/file_transfer", "It can stay off", failures=[UPDATE_FAILED])
async def change_file_transfer(api: Api, body: FileTransfer) -> FileTransfer:
    if body.enable:
        raise UPDATE_FAILED.error("file_transfer.enable: there is no file transfer in this version")
    return body


# -- the zone

GlobalZone: Any = msgspec.defstruct(
    "GlobalZone",
    [
        (
            root,
            struct_of(_table_of(root), f"{root.title().replace('_', '')}Zone") | UnsetType,
            UNSET,
        )
        for root in ZONE
    ],
    kw_only=True,
    forbid_unknown_fields=True,
)


def _zone(config: Config) -> Mapping[str, Any]:
    tables = to_dict(config)
    return {root: tables[root] for root in ZONE}


async def show_global_zone(api: Api) -> Any:
    return _zone(api.questions.settings.config)


async def change_global_zone(api: Api, body: Any) -> Any:
    """What is left out stays as it is."""
    layer = msgspec.to_builtins(body)
    config = await update(api, layer, replace=False)
    return Reply(200, _zone(config), headers=warning(config, list(layer)))


show_global_zone.__annotations__["return"] = GlobalZone
change_global_zone.__annotations__.update({"body": GlobalZone, "return": GlobalZone | Reply})
routes.get("/configs/global_zone", "Settings of MQTT")(show_global_zone)
routes.put("/configs/global_zone", "Change the settings of MQTT", failures=UPDATES)(change_global_zone)
