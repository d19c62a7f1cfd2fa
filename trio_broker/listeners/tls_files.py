"""TLS contexts that follow their files: a renewed certificate counts for the next handshake.

Invariant: a context that works stays in force until another one works; who is connected is never touched.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterable
from typing import Final

import trio
from attrs import define, field

from trio_broker.actors.alarms import Alarms
from trio_broker.config.listeners import SslOptions
from trio_broker.errors import ListenerError
from trio_broker.listeners.tls_context import build_context

logger = logging.getLogger(__name__)

CHECK_INTERVAL: Final = 30.0
"""Seconds from one look at the files to the next; nobody looks where there is no TLS."""

ALARM: Final = "certificate_reload_failed"

_Stamp = tuple[int, int, int, int] | None


@define(eq=False)
class TlsFiles:
    """The context of one door, and where it comes from.

    `door` begins what is said of it ("listener ssl:default"); `alarm` is what its alarm is called.
    """

    door: str
    options: SslOptions
    alpn: str
    context: ssl.SSLContext = field(init=False, repr=False)
    failure: str | None = field(default=None, init=False)
    """Why the files that are there now are not in force."""
    _seen: tuple[_Stamp, ...] = field(default=(), init=False, repr=False)

    @property
    def alarm(self) -> str:
        return f"{ALARM}/{self.door.rpartition(' ')[2]}"

    def load(self) -> None:
        """Read the files. Raises ListenerError, and the context that was in force is so still."""
        seen = self._stamps()  # first, so that what changes while they are read is read again
        try:
            self.context = build_context(self.door, self.options, alpn=self.alpn)
        except OSError as error:  # a file that goes, or is written, between two looks at it
            raise ListenerError(f"{self.door}: its certificate cannot be read: {error.strerror or error}") from error
        self._seen, self.failure = seen, None

    @property
    def changed(self) -> bool:
        """Are the files others than those in force? Links are followed."""
        return self._stamps() != self._seen

    def _stamps(self) -> tuple[_Stamp, ...]:
        # Not `tuple(... for ...)`: while a file is looked at other threads run, and where one of them calls
        # `gc.get_objects()` CPython cannot finish a tuple that has been begun (SystemError).
        options = self.options
        return _stamp(options.certfile), _stamp(options.keyfile), _stamp(options.cacertfile)


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@define(eq=False)
class TlsWatch:
    """Looks at the files of all doors that are in use; `run` it."""

    _alarms: Alarms | None = None
    _watched: dict[str, list[TlsFiles]] = field(factory=dict, init=False)
    _some: trio.Event = field(factory=trio.Event, init=False)

    def use(self, whose: str, all_of_them: Iterable[TlsFiles]) -> None:
        """From now on these are the files of `whose` doors (of the listeners, of the REST API)."""
        before, after = self._watched.get(whose, []), list(all_of_them)
        self._watched[whose] = after
        known = {files.alarm for files in after if files.failure is not None}
        for files in before:
            if files.failure is not None and files.alarm not in known:
                self._over(files)
        if after:
            self._some.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not any(self._watched.values()):
                self._some = trio.Event()
                await self._some.wait()
            await trio.sleep(CHECK_INTERVAL)
            self.look()

    def look(self) -> None:
        """Take what has changed. What is wrong is told once, and tried again at each look: it may be half written."""
        for whole in self._watched.values():
            for files in whole:
                if files.changed:
                    self._reload(files)

    def reload(self, files: TlsFiles) -> None:
        """Read them again now, changed or not. Raises ListenerError: what was in force stays so."""
        try:
            files.load()
        except ListenerError as error:
            self._failed(files, str(error))
            raise
        self._over(files)

    def _reload(self, files: TlsFiles) -> None:
        try:
            files.load()
        except ListenerError as error:
            self._failed(files, str(error))
        else:
            logger.info("%s: its certificate was changed; it is used from now on", files.door)
            self._over(files)

    def _failed(self, files: TlsFiles, reason: str) -> None:
        if files.failure == reason:
            return
        files.failure = reason
        logger.error("%s; the certificate that was in force stays so", reason)
        if self._alarms is not None:
            message = f"{files.door}: the files of its certificate were changed, and cannot be used"
            self._alarms.activate(files.alarm, message, {"reason": reason})

    def _over(self, files: TlsFiles) -> None:
        if self._alarms is not None:
            self._alarms.deactivate(files.alarm)
