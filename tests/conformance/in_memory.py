"""The broker under test in memory: for flows in which time passes (on Trio's mock clock), and for access control.

Invariant: the peers are those of the tests on sockets, so bytes are sent and expected in the same way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import trio
from conformance.peer import Peer, Server, closing

from trio_broker.access.authorization import Action
from trio_broker.broker import Broker
from trio_broker.protocol.message import Origin
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import RunningBroker
from trio_broker.testing.running import make_config

__all__ = ["MemoryServer", "NothingSecret", "in_memory"]


class NothingSecret:
    """Topics and filters with `secret` in them are for nobody."""

    def authorize(self, client: Origin, action: Action, topic: str) -> bool:
        return "secret" not in topic


class MemoryServer(Server):
    """A `Server` whose peers are in memory."""

    async def peer(self) -> Peer:
        # A memory stream does all that a peer asks of its socket.
        stream = cast(trio.SocketStream, await self.running.broker.connect_stream())
        peer = Peer(stream, self.transport)
        self.peers.append(peer)
        return peer


@asynccontextmanager
async def in_memory(
    *, authorizer: NothingSecret | None = None, store: MemoryStore | None = None, **overrides: object
) -> AsyncIterator[Server]:
    """A fresh broker without listeners; `overrides` are tables as in the configuration file."""
    no_listener = {"listeners": {"tcp": {"default": {"enable": False}}}}
    broker = Broker(make_config(None, {**no_listener, **overrides}), authorizer=authorizer, store=store)
    error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(broker.run)
        try:
            async with closing(MemoryServer(RunningBroker(broker, dict(bound.listeners), bound.api), "tcp")) as server:
                yield server
        except trio.Cancelled:
            raise
        except BaseException as exc:  # noqa: BLE001 - raised below, when the broker has ended
            error = exc
        finally:
            broker.close()
    if error is not None:
        raise error
