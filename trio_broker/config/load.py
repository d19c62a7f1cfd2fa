"""Where the configuration comes from: defaults < file < stored over REST < environment < command line.

Invariant: a wrong key or value of any layer is one ConfigError, `<where it stands>: <key>: <what is wrong>`, also where
a later layer would have covered it.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs
from attrs import frozen

from trio_broker.config import tree
from trio_broker.config.check import check
from trio_broker.config.model import Config
from trio_broker.errors import ConfigError

PREFIX = "TRIO_BROKER_"
"""`TRIO_BROKER_MQTT__MAX_INFLIGHT=64` sets `mqtt.max_inflight`."""

STORED: Final = "stored settings"
DELETED: Final = "marked_for_deletion"
"""Stands for a listener that was deleted over REST, so that what the file says of it does not come back."""

# What Kubernetes puts into the environment of each pod beside a service called `trio-broker`.
_SERVICE_LINK = re.compile(r"TRIO_BROKER_(SERVICE_(HOST|PORT).*|PORT|PORT_.*)", re.ASCII)


class SourceError(ConfigError):
    """A ConfigError that says where the wrong thing stands: a file, a variable, or the command line."""

    def __init__(self, source: str, key: str, message: str) -> None:
        super().__init__(key, message)
        self.source = source

    def __str__(self) -> str:
        return f"{self.source}: {super().__str__()}"


def load(
    path: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Iterable[str] = (),
    *,
    stored: Mapping[str, object] | None = None,
    base: Config | None = None,
) -> Config:
    """The configuration of the command; `overrides` are `KEY=VALUE`, `base` is `Config.service()` unless given.

    `environ` None = no environment (the command gives `os.environ`). Raises ConfigError, and opens nothing but `path`.
    """
    return Layers.gather(path, environ, overrides, base=base).config(stored)


@frozen
class Layers:
    """What lies below and above the settings that are stored, so that these can change at run time.

    `below` is the defaults and the file; `above` the environment and the command line: (where it stands, nested texts).
    """

    below: Config
    above: tuple[tuple[str, Mapping[str, object]], ...] = ()
    source: str = "configuration"

    @classmethod
    def gather(
        cls,
        path: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Iterable[str] = (),
        *,
        base: Config | None = None,
    ) -> Layers:
        """As `load` has it, without what is stored. Raises ConfigError for what is wrong in the file."""
        config = Config.service() if base is None else base
        if path is not None:
            config = _lay(config, _read(path), os.fspath(path))
        above = [
            (name, _nested(name.removeprefix(PREFIX).lower().split("__"), value))
            for name, value in _variables(environ or {})
        ]
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals:
                raise SourceError("--set", key, "must be KEY=VALUE")
            above.append(("--set", _nested(key.strip().split("."), value)))
        return cls(config, tuple(above), "configuration" if path is None else os.fspath(path))

    def config(self, stored: Mapping[str, object] | None = None) -> Config:
        """All layers over each other. Raises ConfigError."""
        config = self.below
        if stored is not None:
            layer, deleted = without_deleted(stored)
            config = _without_listeners(_lay(config, layer, STORED), deleted)
        for source, said in self.above:
            config = _lay(config, said, source, text=True)
        try:
            check(config)
        except ConfigError as error:
            # What is wrong here is wrong between layers; the file is where one would look first.
            raise SourceError(self.source, *_parts(error)) from error
        return config


def without_deleted(stored: Mapping[str, object]) -> tuple[dict[str, object], list[tuple[str, str]]]:
    """What is stored less the listeners that were deleted, and these: (kind, name)."""
    layer = dict(stored)
    deleted: list[tuple[str, str]] = []
    tables = layer.get("listeners")
    if isinstance(tables, Mapping):
        left: dict[str, object] = {}
        for kind, listeners in tables.items():
            if not isinstance(listeners, Mapping):
                left[kind] = listeners
                continue
            deleted += [(kind, name) for name, listener in listeners.items() if listener == DELETED]
            left[kind] = {name: listener for name, listener in listeners.items() if listener != DELETED}
        layer["listeners"] = left
    return layer, deleted


def _without_listeners(config: Config, deleted: Iterable[tuple[str, str]]) -> Config:
    tables = {kind: dict(listeners) for kind, listeners in config.listeners.items()}
    for kind, name in deleted:
        tables.get(kind, {}).pop(name, None)
    return attrs.evolve(config, listeners=tables)


def _lay(config: Config, layer: Mapping[str, object], source: str, *, text: bool = False) -> Config:
    try:
        return tree.overlay(config, layer, text=text)
    except tree.UnknownKey as unknown:
        raise SourceError(source, *_parts(unknown.with_nearest(tree.keys(Config)))) from unknown
    except ConfigError as error:
        raise SourceError(source, *_parts(error)) from error


def _parts(error: ConfigError) -> tuple[str, str]:
    return error.key, str(error).removeprefix(f"{error.key}: ")


def _read(path: str | os.PathLike[str]) -> Mapping[str, object]:
    source = os.fspath(path)
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(source, "", f"cannot be read: {os.strerror(error.errno or 0)}") from error
    except UnicodeDecodeError as error:
        raise SourceError(source, "", f"is not UTF-8 at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise SourceError(source, "", f"is not TOML: {' '.join(str(error).split())}") from error


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in sorted(environ):
        if name.startswith(PREFIX) and not _SERVICE_LINK.fullmatch(name):
            yield name, environ[name]


def _nested(parts: list[str], value: object) -> dict[str, object]:
    for part in reversed(parts):
        value = {part: value}
    assert isinstance(value, dict)
    return value
