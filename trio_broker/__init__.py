"""An MQTT 3.1, 3.1.1 and 5.0 broker on Trio.

    async with trio.open_nursery() as nursery:
        broker = Broker(Config(...))
        addresses = await nursery.start(broker.run)

Invariant: importing this loads no web framework, configures no logging and installs no signal handler. Names are loaded
when they are first used: every pytest run imports this package, for the plugin in `trio_broker.testing`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trio_broker.version import __version__

if TYPE_CHECKING:
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

_HOMES = {
    "ActorGone": "errors",
    "Addresses": "broker",
    "AskTimeout": "errors",
    "Broker": "broker",
    "Config": "config",
    "ConfigError": "errors",
    "ListenerError": "errors",
    "ProtocolError": "errors",
    "StoreError": "errors",
    "TrioBrokerError": "errors",
}

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
