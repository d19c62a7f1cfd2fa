"""Files that an administrator names: rules, users, keys, certificates.

Invariant: nothing but a plain file is opened, so nobody can make the broker wait for a pipe or a device.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

__all__ = ["check_plain_file", "open_plain_file", "read_plain_file"]


def open_plain_file(path: str | os.PathLike[str]) -> BinaryIO:
    """To be read. Raises OSError, and ValueError for what can be no path at all."""
    _must_be_plain(os.stat(path).st_mode, path)  # first: even to open a device may do something
    # It may be another one by now, and to open a pipe would wait for somebody who writes.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _must_be_plain(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_plain_file(path: str | os.PathLike[str], most: int = -1) -> bytes:
    """At most `most` bytes from its beginning, -1 = all; raises what `open_plain_file` raises."""
    with open_plain_file(path) as file:
        return file.read(most)


def check_plain_file(path: str | os.PathLike[str]) -> None:
    """Raises what `open_plain_file` raises."""
    open_plain_file(path).close()


def _must_be_plain(mode: int, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no plain file", os.fspath(path))
