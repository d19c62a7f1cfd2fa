"""Brokers and clients for tests: in your own Trio program, in a thread, or as pytest fixtures.

    async with open_broker() as running:                     # in this Trio program, on a free port
        async with open_client(running.broker, client_id="c") as client: ...

    with ThreadedBroker() as broker: ...                     # for sync and asyncio programs: broker.host, broker.port

Invariant: importing this loads nothing but itself (every pytest run where the package is installed does it); each name
is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trio_broker.testing.client import Client, ConnectionEnded, Ended, open_client
    from trio_broker.testing.running import RunningBroker, open_broker
    from trio_broker.testing.threaded import BrokerStopped, Inbox, ThreadedBroker

_HOMES = {
    "Client": "client",
    "ConnectionEnded": "client",
    "Ended": "client",
    "open_client": "client",
    "RunningBroker": "running",
    "open_broker": "running",
    "BrokerStopped": "threaded",
    "Inbox": "threaded",
    "ThreadedBroker": "threaded",
}

__all__ = [
    "BrokerStopped",
    "Client",
    "ConnectionEnded",
    "Ended",
    "Inbox",
    "RunningBroker",
    "ThreadedBroker",
    "open_broker",
    "open_client",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
