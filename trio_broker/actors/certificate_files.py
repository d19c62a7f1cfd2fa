"""Certificates and keys that came as PEM text over REST, kept as files: what a listener is told is a path.

Invariant: a file's name says what is in it, so none is ever changed; nobody but the owner of the process may read one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import trio

from trio_broker.errors import ConfigError

FIELDS: Final = ("certfile", "keyfile", "cacertfile")


class CertificateFiles:
    """Below `certs/listeners/` of the data directory, a directory for each listener."""

    def __init__(self, data_dir: str) -> None:
        self._data_dir = data_dir

    async def keep(self, kind: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """`options` of a listener with a path in place of each PEM text. Raises ConfigError."""
        tls = options.get("ssl_options")
        if not isinstance(tls, Mapping):
            return dict(options)
        changed = dict(tls)
        for field in FIELDS:
            text = tls.get(field)
            if not isinstance(text, str) or "-----BEGIN " not in text:
                continue
            key = f"listeners.{kind}.{name}.ssl_options.{field}"
            if not self._data_dir:
                raise ConfigError(key, "holds PEM text, and without node.data_dir there is nowhere to keep it")
            path = self._folder(kind, name) / f"{field}-{sha256(text.encode()).hexdigest()[:32]}.pem"
            try:
                await trio.to_thread.run_sync(_write, path, text.encode())
            except OSError as error:
                raise ConfigError(key, f"cannot be kept in {path}: {os.strerror(error.errno or 0)}") from error
            changed[field] = str(path)
        return {**options, "ssl_options": changed}

    async def clean(self, kind: str, name: str, needed: Collection[str]) -> None:
        """Remove what was kept for this listener, but for the paths that are `needed`."""
        if self._data_dir:
            await trio.to_thread.run_sync(_clean, self._folder(kind, name), needed)

    def _folder(self, kind: str, name: str) -> Path:
        return Path(self._data_dir, "certs", "listeners", kind, name)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, and on the disk when it returns."""
    if path.exists():
        return
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    part = path.with_suffix(".part")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    for folder in {path.parent, *(folder.parent for folder in missing)}:
        _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clean(folder: Path, needed: Collection[str]) -> None:
    try:
        paths = list(folder.iterdir())
    except FileNotFoundError:
        return
    for path in paths:
        if str(path) not in needed:
            path.unlink(missing_ok=True)
    if not needed:
        with contextlib.suppress(OSError):  # somebody has put something of their own there
            folder.rmdir()
