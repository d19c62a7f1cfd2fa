"""Unix sockets: for clients on the same machine, guarded by file permissions.

Invariant: only a socket file nobody listens on, or our own, is ever removed.
"""

from __future__ import annotations

import errno
import os
import socket
import stat

from attrs import define, field

from trio_broker.actors.gate import ConnectionInfo
from trio_broker.errors import ListenerError
from trio_broker.listeners.accepting import SocketListener
from trio_broker.listeners.addresses import reason_of
from trio_broker.listeners.listener import BoundAddress

DEFAULT_MODE = 0o660


@define(eq=False)
class UnixListener(SocketListener):
    """`unix:<name>`; `bind` is the path (at most 107 bytes), `mode` the permissions of the socket file."""

    mode: int = DEFAULT_MODE
    _own: tuple[str, int, int] | None = field(default=None, init=False)

    async def _open(self, again: BoundAddress | None) -> BoundAddress:
        path = self.config.address.path
        if not path:
            raise ListenerError(
                f"listener {self.identifier}: bind must be a path with a slash, not {self.config.bind!r}"
            )
        try:
            remove_stale(path)
            self._sockets = [self._listen(path)]
        except OSError as error:
            raise ListenerError(f"listener {self.identifier}: cannot listen on {path}: {_reason(error)}") from None
        return BoundAddress(path)

    def _listen(self, path: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.bind(path)
            file = os.stat(path)
            self._own = (path, file.st_dev, file.st_ino)
            # Before listen(): until then nobody can connect, whatever the umask left open.
            os.chmod(path, self.mode)
            sock.listen(self.config.tcp_options.backlog)
        except BaseException:
            sock.close()
            self._remove_own()
            raise
        return sock

    def _close(self) -> None:
        super()._close()
        self._remove_own()

    def _remove_own(self) -> None:
        """Remove the socket file, unless somebody has put another one in its place."""
        if self._own is None:
            return
        (path, device, inode), self._own = self._own, None
        try:
            file = os.stat(path)
            if (file.st_dev, file.st_ino) == (device, inode):
                os.unlink(path)
        except FileNotFoundError:
            return

    def _take(self, sock: socket.socket, info: ConnectionInfo) -> None:
        assert self._gate is not None
        self._gate.socket_accepted(sock, info)


def remove_stale(path: str) -> None:
    """Remove a socket file left behind by a process that is gone.

    Raises OSError: EADDRINUSE when somebody listens there, EEXIST when it is not a socket at all.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file of that name that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # its backlog is full, so somebody is there
    raise OSError(errno.EADDRINUSE, "taken")


def _reason(error: OSError) -> str:
    if error.errno == errno.EEXIST:
        return str(error.strerror)
    if error.errno in (errno.EACCES, errno.EPERM):
        return "not permitted"
    return reason_of(error) if error.errno else str(error)
