"""An MQTT 3.1, 3.1.1 and 5.0 broker on Trio.

    async with trio.open_nursery() as nursery:
        broker = Broker(Config(...))
        addresses = await nursery.start(broker.run)

Invariant: importing this loads no web framework, configures no logging and installs no signal handler.
"""

from __future__ import annotations

from trio_broker.broker import Addresses, Broker
from trio_broker.config import Config
from trio_broker.errors import (
    ActorGone,
    AskTimeout,
    ConfigError,
    ListenerError,
    ProtocolError,
    StoreError,
    TrioBrokerError,
)
from trio_broker.version import __version__

__all__ = [
    "ActorGone",
    "Addresses",
    "AskTimeout",
    "Broker",
    "Config",
    "ConfigError",
    "ListenerError",
    "ProtocolError",
    "StoreError",
    "TrioBrokerError",
    "__version__",
]
