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

from trio_broker.config import tree
from trio_broker.config.check import check
from trio_broker.config.model import Config
from trio_broker.errors import ConfigError

PREFIX = "TRIO_BROKER_"
"""`TRIO_BROKER_MQTT__MAX_INFLIGHT=64` sets `mqtt.max_inflight`."""

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
    config = Config.service() if base is None else base
    if path is not None:
        config = _lay(config, _read(path), os.fspath(path))
    if stored is not None:
        config = _lay(config, stored, "stored settings")
    for name, value in _variables(environ or {}):
        parts = name.removeprefix(PREFIX).lower().split("__")
        config = _lay(config, _nested(parts, value), name, text=True)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise SourceError("--set", key, "must be KEY=VALUE")
        config = _lay(config, _nested(key.strip().split("."), value), "--set", text=True)
    try:
        check(config)
    except ConfigError as error:
        # What is wrong here is wrong between layers; the file is where one would look first.
        raise SourceError(os.fspath(path) if path is not None else "configuration", *_parts(error)) from error
    return config


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
