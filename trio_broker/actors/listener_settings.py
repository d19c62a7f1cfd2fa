"""Listeners made, changed, deleted, started and stopped at run time.

Invariant: what is done here is in the settings, and so it acts at once and is there after a restart of the broker; only
`restart` changes nothing that is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import trio

from trio_broker.actors.certificate_files import FIELDS, CertificateFiles
from trio_broker.actors.questions import ListenerInfo
from trio_broker.actors.settings import KIND
from trio_broker.config import Config, ListenerConfig
from trio_broker.config.bind import parse_bind
from trio_broker.config.load import DELETED
from trio_broker.config.setting import HIDDEN
from trio_broker.config.tree import overlay, plain
from trio_broker.errors import AskTimeout, TrioBrokerError

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

log = logging.getLogger("trio_broker.listeners")


class ListenerKeeper(Protocol):
    """Who owns the running listeners."""

    def infos(self) -> list[ListenerInfo]:
        """All that are configured, running or not."""

    async def start(self, identifier: str) -> None: ...
    async def restart(self, identifier: str) -> None: ...
    async def reload(self, identifier: str) -> None: ...


class NoSuchListener(TrioBrokerError):
    """There is no listener of this identifier."""


class ListenerExists(TrioBrokerError):
    """There is a listener of this identifier."""


class ListenerSettings:
    """`options` are as in a `[listeners.<kind>.<name>]` table; PEM text may stand where the path of a file does.

    Each raises ConfigError for what is wrong, ListenerError where a listener cannot be opened, Overridden where the
    environment says otherwise, and has then changed nothing.
    """

    def __init__(self, core: Core, keeper: ListenerKeeper) -> None:
        self._settings = core.settings
        self._documents = core.documents
        self._keeper = keeper
        self._files = CertificateFiles(core.settings.config.node.data_dir)
        self._lock = trio.Lock()

    async def create(self, kind: str, name: str, options: Mapping[str, Any]) -> None:
        """Make one. Raises ListenerExists."""
        async with self._lock:
            if self._find(kind, name) is not None:
                raise ListenerExists(f"{kind}:{name}")
            new = self._checked(kind, name, options, made=True)
            kept = await self._files.keep(kind, name, plain(new, secrets=True))
            # All of it, so that nothing shows through of a listener that the file has and that was deleted.
            for table, kinds in (("ssl_options", ("ssl", "wss")), ("websocket", ("ws", "wss"))):
                if kind not in kinds and getattr(new, table) == getattr(ListenerConfig(), table):
                    del kept[table]
            await self._change(kind, name, kept)

    async def update(self, kind: str, name: str, options: Mapping[str, Any]) -> None:
        """Change what is named in `options`, and read the files of its certificate again. Raises NoSuchListener."""
        async with self._lock:
            self._found(kind, name)
            options = self._as_sent_back(f"{kind}:{name}", options)
            self._checked(kind, name, options)
            await self._change(kind, name, await self._files.keep(kind, name, options))
            await self._keeper.reload(f"{kind}:{name}")

    async def delete(self, kind: str, name: str) -> None:
        """Close it with all its connections, and forget it. Raises NoSuchListener."""
        async with self._lock:
            self._found(kind, name)
            await self._change(kind, name, DELETED)

    async def start(self, kind: str, name: str) -> None:
        """Open it; nothing is done where it runs. Raises NoSuchListener."""
        async with self._lock:
            if not self._found(kind, name).enable:
                await self._change(kind, name, {"enable": True})
            await self._keeper.start(f"{kind}:{name}")

    async def stop(self, kind: str, name: str) -> None:
        """Close it with all its connections. Raises NoSuchListener."""
        async with self._lock:
            self._found(kind, name)
            # Also where it is stopped by something that lies above what is stored: that may go.
            await self._change(kind, name, {"enable": False})

    async def restart(self, kind: str, name: str) -> None:
        """The same and open it again, with what is in its files now; one that was stopped is started."""
        async with self._lock:
            if self._found(kind, name).enable:
                await self._keeper.restart(f"{kind}:{name}")
            else:
                await self._change(kind, name, {"enable": True})

    def _find(self, kind: str, name: str) -> ListenerConfig | None:
        return self._settings.config.listeners.get(kind, {}).get(name)

    def _found(self, kind: str, name: str) -> ListenerConfig:
        listener = self._find(kind, name)
        if listener is None:
            raise NoSuchListener(f"{kind}:{name}")
        return listener

    def _checked(self, kind: str, name: str, options: Mapping[str, Any], *, made: bool = False) -> ListenerConfig:
        """What comes of `options`; ConfigError before anything is kept."""
        before = {} if made else self._settings.config.listeners
        changed = overlay(Config(listeners=before), {"listeners": {kind: {name: options}}})
        return changed.listeners[kind][name]

    def _as_sent_back(self, identifier: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Without what is only sent back as it was shown: a hidden password, the free port that was found."""
        changed = dict(options)
        tls = changed.get("ssl_options")
        if isinstance(tls, Mapping) and tls.get("password") == HIDDEN:
            changed["ssl_options"] = {key: value for key, value in tls.items() if key != "password"}
        for info in self._keeper.infos():
            if info.identifier == identifier and info.running and _same_address(changed.get("bind"), info.bind):
                del changed["bind"]
        return changed

    async def _change(self, kind: str, name: str, value: Any) -> None:
        try:
            await self._settings.change({"listeners": {kind: {name: value}}})
        except AskTimeout:
            raise  # which of two states a restart would find is not known: no file is removed
        except TrioBrokerError:
            await self._clean(kind, name)
            raise
        await self._clean(kind, name)

    def _stored_files(self, kind: str, name: str) -> set[str]:
        """What is not in force, since the environment says otherwise or what is stored is ignored, may be so again."""
        tls = _below(_below(_below(self._documents.of(KIND).get("listeners"), kind), name), "ssl_options")
        return {path for field in FIELDS if isinstance(path := tls.get(field), str) and path}

    async def _clean(self, kind: str, name: str) -> None:
        listener = self._find(kind, name)
        needed = {getattr(listener.ssl_options, field) for field in FIELDS} - {""} if listener is not None else set()
        needed |= self._stored_files(kind, name)
        try:
            await self._files.clean(kind, name, needed)
        except OSError as error:
            log.warning("certificates of listener %s:%s that are not needed any more are left: %s", kind, name, error)


def _below(table: object, name: str) -> Mapping[str, Any]:
    found = table.get(name) if isinstance(table, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _same_address(said: object, shown: str) -> bool:
    try:
        return said is not None and str(parse_bind(said)) == shown
    except ValueError:
        return False
