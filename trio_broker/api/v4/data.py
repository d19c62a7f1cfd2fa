"""`/data`: settings and tables into a file, and back; the files.

Invariant: an import that is refused has changed nothing. Files are archives of this broker, in base64 where they
travel as JSON; what EMQX 4 itself exports is another format, and is refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.data_backup import BackupError, BackupFile
from trio_broker.actors.settings import Overridden
from trio_broker.api.context import Api
from trio_broker.api.failures import Failure
from trio_broker.api.routes import ADMINISTRATORS, Documented, Reply, Routes
from trio_broker.api.v4.envelope import BAD_PARAMETER, MISSING_PARAMETER, UNKNOWN_ERROR, Data, Done
from trio_broker.api.v4.parameters import Parameters
from trio_broker.errors import ConfigError, ListenerError

routes = Routes("Data")

NO_SUCH_NODE: Final = Failure(200, 102, "no_existent_node")
NOT_POSSIBLE: Final = Failure(200, 102, "It cannot be done; the message says why")
NOT_OURS: Final = Failure(
    200, 102, "Exports of EMQX cannot be imported: only files that a broker of this kind has exported, in base64"
)

Content = Annotated[str, Meta(description="A tar.gz, in base64")]


class Import(Struct, kw_only=True):
    filename: Annotated[str, Meta(description="Of a file that is there")] | UnsetType = UNSET
    node: str | UnsetType = UNSET


class Upload(Struct, kw_only=True):
    filename: Annotated[str, Meta(description="Such as `export-1.tar.gz`")]
    file: Content


class File(Struct, kw_only=True):
    filename: str
    size: Annotated[int, Meta(description="Bytes")]
    created_at: Annotated[str, Meta(description="Such as `2020-9-4 10:24:16`, in the time zone of the broker")]
    node: str


class Uploaded(Struct):
    node: str


class Downloaded(Struct):
    filename: str
    file: Content


@routes.post("/data/export", "Export settings and tables to a file", failures=[NOT_POSSIBLE])
async def export_data(api: Api) -> Data[File]:
    with _told():
        return Data(_shown(api, await api.questions.data_backup.export()))


@routes.get("/data/export", "List the files", failures=[NOT_POSSIBLE])
async def list_exports(api: Api) -> Data[list[File]]:
    with _told():
        return Data([_shown(api, file) for file in await api.questions.data_backup.files()])


@routes.post(
    "/data/import",
    "Import a file, all of it or nothing",
    failures=[NOT_POSSIBLE, NO_SUCH_NODE, NOT_OURS, MISSING_PARAMETER],
)
async def import_data(api: Api, query: Import, params: Parameters) -> Done:
    if query.filename is UNSET:
        if params:  # an export as it is, instead of the name of one
            raise NOT_OURS.error()
        raise MISSING_PARAMETER.error("missing mandatory params: ['filename']")
    if query.node is not UNSET and query.node != api.node_name:
        raise NO_SUCH_NODE.error()
    with _told():
        await api.questions.data_backup.import_file(query.filename)
    return Done()


@routes.post("/data/file", "Upload a file", failures=[NOT_POSSIBLE, NOT_OURS, MISSING_PARAMETER, BAD_PARAMETER])
async def upload_data_file(api: Api, query: Upload) -> Data[Uploaded]:
    try:
        content = base64.b64decode("".join(query.file.split()), validate=True)
    except (binascii.Error, ValueError):
        raise NOT_OURS.error() from None
    with _told():
        await api.questions.data_backup.add(query.filename, content)
    return Data(Uploaded(api.node_name))


@routes.get(
    "/data/file/:filename",
    "Download a file",
    access=ADMINISTRATORS,  # secrets are in it
    failures=[NOT_POSSIBLE],
    answers=[Documented(200, "The file", body=Downloaded)],
)
async def download_data_file(api: Api, filename: str) -> Reply:
    with _told():
        content = await api.questions.data_backup.read(filename)
    return Reply(200, Downloaded(filename, base64.b64encode(content).decode()))


@routes.delete("/data/file/:filename", "Delete a file", failures=[NOT_POSSIBLE])
async def delete_data_file(api: Api, filename: str) -> Done:
    with _told():
        await api.questions.data_backup.delete(filename)
    return Done()


@contextmanager
def _told() -> Iterator[None]:
    """Why it cannot be done, as an answer."""
    try:
        yield
    except (BackupError, ConfigError, ListenerError, Overridden) as error:
        raise UNKNOWN_ERROR.error(str(error)) from None
    except OSError as error:
        why = f"{error.strerror or error}: {error.filename or 'node.data_dir'}"
        raise UNKNOWN_ERROR.error(why) from None


def _shown(api: Api, file: BackupFile) -> File:
    moment = datetime.fromtimestamp(file.created_at, UTC).astimezone()
    return File(
        filename=file.name,
        size=file.size,
        created_at=f"{moment.year}-{moment.month}-{moment.day} {moment.hour}:{moment.minute}:{moment.second}",
        node=api.node_name,
    )
