"""`/data`: settings and tables into a file, and back; the files.

Invariant: an import that is refused (400) has changed nothing, and one that is answered with success is in force and
kept; where the store fails over it (503) a part may be, and the same import may be asked for again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.data_backup import BackupError, BackupFile, NoSuchFile
from trio_broker.actors.settings import Overridden
from trio_broker.api.bodies import Upload
from trio_broker.api.context import Api
from trio_broker.api.failures import BAD_REQUEST, Failure
from trio_broker.api.paging import PageOf, Paging, cut, page_meta
from trio_broker.api.routes import ADMINISTRATORS, Documented, Reply, Routes
from trio_broker.errors import ConfigError, ListenerError

routes = Routes("Data Backup")

NOT_POSSIBLE: Final = Failure(400, "BAD_REQUEST", "It cannot be done; the message says why")
NO_SUCH_FILE: Final = Failure(404, "NOT_FOUND", "File not found")
DISK_FAILED: Final = Failure(503, "SERVICE_UNAVAILABLE", "The disk refuses; the message says why")

TAR_GZ: Final = "application/octet-stream"


class Export(Struct, forbid_unknown_fields=True, kw_only=True):
    root_keys: Annotated[list[str], Meta(description="Roots of the configuration; absent = all")] | UnsetType = UNSET
    table_sets: Annotated[list[str], Meta(description="Such as `banned`; absent = all")] | UnsetType = UNSET


class Import(Struct, forbid_unknown_fields=True, kw_only=True):
    filename: str
    node: str | UnsetType = UNSET


class NodeQuery(Struct, kw_only=True):
    node: str | UnsetType = UNSET


class File(Struct, kw_only=True):
    filename: str
    node: str
    created_at: str
    created_at_sec: int
    size: Annotated[int, Meta(description="Bytes")]


@routes.post("/data/export", "Export settings and tables to a file", failures=[NOT_POSSIBLE, DISK_FAILED])
async def export_data(api: Api, body: Export) -> File:
    root_keys = None if body.root_keys is UNSET else body.root_keys
    table_sets = None if body.table_sets is UNSET else body.table_sets
    async with _told():
        return _shown(api, await api.questions.data_backup.export(root_keys, table_sets))


@routes.post("/data/import", "Import a file, all of it or nothing", failures=[NOT_POSSIBLE, DISK_FAILED])
async def import_data(api: Api, body: Import) -> None:
    _check_node(api, body.node)
    async with _told(missing=NOT_POSSIBLE):
        await api.questions.data_backup.import_file(body.filename)


@routes.get("/data/files", "List the files")
async def list_data_files(api: Api, query: Paging) -> PageOf[File]:
    async with _told():
        files = await api.questions.data_backup.files()
    return PageOf([_shown(api, file) for file in cut(files, query)], page_meta(query, len(files)))


@routes.post("/data/files", "Upload a file", failures=[NOT_POSSIBLE, DISK_FAILED])
async def upload_data_file(api: Api, body: Upload) -> None:
    async with _told():
        await api.questions.data_backup.add(body.name, body.content)


@routes.get(
    "/data/files/:filename",
    "Download a file",
    access=ADMINISTRATORS,  # secrets are in it
    failures=[NOT_POSSIBLE, NO_SUCH_FILE, DISK_FAILED],
    answers=[Documented(200, "A tar.gz", content_type=TAR_GZ)],
)
async def download_data_file(api: Api, filename: str, query: NodeQuery) -> Reply:
    _check_node(api, query.node)
    async with _told():
        data = await api.questions.data_backup.read(filename)
    # The name is one that the broker lets files have: it needs no quoting.
    return Reply(
        200, text=data, content_type=TAR_GZ, headers={"content-disposition": f'attachment; filename="{filename}"'}
    )


@routes.delete("/data/files/:filename", "Delete a file", failures=[NOT_POSSIBLE, NO_SUCH_FILE, DISK_FAILED])
async def delete_data_file(api: Api, filename: str, query: NodeQuery) -> None:
    _check_node(api, query.node)
    async with _told():
        await api.questions.data_backup.delete(filename)


@asynccontextmanager
async def _told(missing: Failure = NO_SUCH_FILE) -> AsyncIterator[None]:
    """Why it cannot be done, as an answer; `missing`: how to say that there is no such file."""
    try:
        yield
    except NoSuchFile as error:
        raise missing.error(str(error)) from None
    except (BackupError, ConfigError, ListenerError, Overridden) as error:
        raise NOT_POSSIBLE.error(str(error)) from None
    except OSError as error:
        raise DISK_FAILED.error(f"{error.strerror or error}: {error.filename or 'node.data_dir'}") from None


def _check_node(api: Api, node: str | UnsetType) -> None:
    if node is not UNSET and node != api.node_name:
        raise BAD_REQUEST.error(f"There is no node {node[:200]}")


def _shown(api: Api, file: BackupFile) -> File:
    moment = datetime.fromtimestamp(file.created_at).astimezone()
    return File(
        filename=file.name,
        node=api.node_name,
        created_at=moment.isoformat(timespec="seconds"),
        created_at_sec=file.created_at,
        size=file.size,
    )
