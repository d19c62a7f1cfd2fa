"""A broker for tests, in the Trio program that calls.

Invariant: when the block of `open_broker` ends, the broker has ended; its failures and the block's come out as they
are, not in an exception group, unless there are several.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import trio
from attrs import define

from trio_broker.broker import Broker
from trio_broker.config import Config, check
from trio_broker.config.tree import UnknownKey, keys, overlay
from trio_broker.protocol.packets import Will
from trio_broker.testing.client import Client, open_client

# One TCP listener on a free port; no REST, nothing on disk.
DEFAULTS: Mapping[str, object] = {"listeners": {"tcp": {"default": {"bind": "127.0.0.1:0"}}}}


def make_config(config: Config | None = None, overrides: Mapping[str, object] | None = None) -> Config:
    """`config` (default: one TCP listener on a free port of 127.0.0.1) with tables such as `{"mqtt": {...}}` over it.

    Raises:
        ConfigError: an unknown key or a wrong value.
    """
    if config is None:
        config = overlay(Config(), DEFAULTS)
    try:
        config = overlay(config, overrides or {})
    except UnknownKey as unknown:
        raise unknown.with_nearest(keys(Config)) from None
    check(config)
    return config


def only_one(error: BaseException) -> BaseException:
    """What stands alone in a group, however deep; the error itself where there is no group, or more than one in it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@define(eq=False)
class RunningBroker:
    """A broker that is ready; `broker` is the whole of it, the rest says where it is.

    `listeners` is listener identifier -> (host, port); `api_v4` and `api_v2` are the older generations of the REST API.
    """

    broker: Broker
    listeners: dict[str, tuple[Any, ...]]
    api: tuple[Any, ...] | None = None
    api_v4: tuple[Any, ...] | None = None
    api_v2: tuple[Any, ...] | None = None

    @property
    def host(self) -> str:
        return str(self._tcp()[0])

    @property
    def port(self) -> int:
        """Of the first TCP listener."""
        return int(self._tcp()[1])

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt://{host}:{self.port}"

    def client(
        self, client_id: str = "", *, will: Will | None = None, **options: Any
    ) -> AbstractAsyncContextManager[Client]:
        """`open_client` to this broker, in memory: no socket, so it works on a mock clock."""
        return open_client(self.broker, client_id=client_id, will=will, **options)

    def _tcp(self) -> tuple[Any, ...]:
        for identifier, address in self.listeners.items():
            if identifier.startswith("tcp:"):
                return address
        raise LookupError(f"this broker has no TCP listener, only {', '.join(self.listeners) or 'none'}")


@asynccontextmanager
async def open_broker(config: Config | None = None, **overrides: object) -> AsyncIterator[RunningBroker]:
    """Run a broker while the block runs; it listens when the block begins.

    Without `config` it has one TCP listener on a free port and keeps nothing on disk. `overrides` are tables as in the
    configuration file: `open_broker(mqtt={"max_inflight": 4})`.

    Raises:
        ConfigError: an unknown key or a wrong value.
        ListenerError: a port is taken.
    """
    broker = Broker(make_config(config, overrides))
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            bound = await nursery.start(broker.run)
            try:
                yield RunningBroker(broker, dict(bound.listeners), bound.api, bound.api_v4, bound.api_v2)
            except trio.Cancelled:
                raise
            except BaseException as exc:  # noqa: BLE001 - raised below, when the broker has ended
                error = exc
            finally:
                broker.close()
    except BaseExceptionGroup as group:
        raise only_one(group) from None
    if error is not None:
        raise error
