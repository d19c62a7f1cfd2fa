"""Changes of the configuration that come over REST: what is answered when they are refused, or have no effect.

Invariant: whoever is refused is told why, and nothing has changed; whoever sets what has no effect is told so, in the
`warning` header and in the log of the broker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import msgspec

from trio_broker.actors.settings import Overridden
from trio_broker.api.context import Api
from trio_broker.api.failures import BAD_REQUEST, ApiError, Failure, invalid
from trio_broker.api.routes import Reply
from trio_broker.config import Config, to_dict
from trio_broker.config.without_effect import without_effect
from trio_broker.errors import ConfigError, ListenerError

UPDATE_FAILED: Final = Failure(400, "UPDATE_FAILED", "A key or a value is not as it must be, or cannot be changed")
OVERRIDDEN: Final = Failure(403, "UPDATE_FAILED", "It is set by the environment or the command line")
UPDATES: Final = (UPDATE_FAILED, OVERRIDDEN)

Refused: TypeAlias = Callable[[ConfigError | ListenerError], ApiError]
"""What is answered to a change that does not fit."""


@contextmanager
def refusals(refused: Refused, overridden: Failure = OVERRIDDEN) -> Iterator[None]:
    """What a change in here may be refused for, as answers."""
    try:
        yield
    except (ConfigError, ListenerError) as error:
        raise refused(error) from None
    except Overridden as error:
        raise overridden.error(str(error)) from None


def as_text(failure: Failure) -> Refused:
    """The whole reason as the message."""
    return lambda error: failure.error(str(error))


def in_body(key: str) -> Refused:
    """400 with the place in the body, which stands for what the configuration has at `key`."""

    def refused(error: ConfigError | ListenerError) -> ApiError:
        if isinstance(error, ListenerError):
            return BAD_REQUEST.error(str(error))
        path = f"root{error.key.removeprefix(key)}" if key and error.key.startswith(key) else error.key
        return invalid(path, str(error).rpartition(f"{error.key}: ")[2])

    return refused


async def change(api: Api, layer: Mapping[str, Any], key: str, *, replace: bool = False) -> Config:
    """Put `layer` (by root), of which the body says what is at `key`, in force; returns when it is durable, too."""
    with refusals(in_body(key)):
        settings = api.questions.settings
        return await (settings.replace(layer) if replace else settings.change(layer))


async def update(api: Api, layer: Mapping[str, Any], *, replace: bool, ignore_fixed: bool = False) -> Config:
    """Put `layer` (by root) in force; returns when it is in force and durable. 400 and 403 otherwise."""
    with refusals(as_text(UPDATE_FAILED)):
        settings = api.questions.settings
        if replace:
            return await settings.replace(layer, ignore_fixed=ignore_fixed)
        return await settings.change(layer, ignore_fixed=ignore_fixed)


async def update_root(api: Api, root: str, body: msgspec.Struct) -> Reply:
    """Replace what was set of one root; answers with all of it as it is now."""
    config = await update(api, {root: msgspec.to_builtins(body)}, replace=True)
    return Reply(200, to_dict(config)[root], headers=warning(config, [root]))


def warning(config: Config, roots: list[str]) -> dict[str, str]:
    """A header that names the keys of these roots which are set to something, and have no effect."""
    keys = [key for key in without_effect(config) if key.partition(".")[0] in roots]
    if not keys:
        return {}
    text = f"{', '.join(keys)}: no effect in this version"
    return {"warning": f'299 - "{text}"'.encode("ascii", "replace").decode()}
