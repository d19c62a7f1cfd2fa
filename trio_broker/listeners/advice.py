"""What to do about something that was set over REST and keeps the broker from starting.

Invariant: nothing is added to an error about anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trio_broker.config.load import DELETED
from trio_broker.errors import ConfigError, ListenerError, TrioBrokerError

IGNORE = "--ignore-stored starts without all that was set over REST"


def with_advice(error: TrioBrokerError, stored: Mapping[str, Any], *, blamed: bool = False) -> TrioBrokerError:
    """The same error, which keeps the broker from starting; what was set over REST, and so is in no file, is named.

    `blamed`: without what is stored it would not have come, whatever it names.
    """
    text = str(error)
    tables = stored.get("listeners")
    for kind, listeners in tables.items() if isinstance(tables, Mapping) else ():
        for name, listener in listeners.items() if isinstance(listeners, Mapping) else ():
            identifier, key = f"{kind}:{name}", f"listeners.{kind}.{name}"
            named = f"listener {identifier}: " in text or f"{key}." in text or f"{key}:" in text
            if listener == DELETED or not named:
                continue
            advice = (
                f"{text}. This was set over REST: start once with --set {key}.enable=false, then change it "
                f"(PUT /api/v5/listeners/{identifier}) or stop it (POST /api/v5/listeners/{identifier}/stop); {IGNORE}"
            )
            return ConfigError("", advice) if isinstance(error, ConfigError) else ListenerError(advice)
    return ConfigError("", f"{text}. {IGNORE}") if blamed else error
