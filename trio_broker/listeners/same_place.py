"""Which listeners would stand in each other's way: what decides how one is put in the place of another.

Invariant: nothing here changes anything.
"""

from __future__ import annotations

from attrs import evolve

from trio_broker.config import ListenerConfig
from trio_broker.listeners.listener import BoundAddress, Listener


def door_of(config: ListenerConfig) -> object:
    """What of a configuration lies in the listening sockets; the rest can change while they are open."""
    plain = type(config.tcp_options)()
    sockets = {name: getattr(plain, name) for name in ("high_watermark", "buffer", "send_timeout")}
    return config.bind, evolve(config.tcp_options, **sockets, active_n=1, send_timeout_close=True)


def in_the_way_of(old: Listener, new: Listener) -> bool:
    """Can the new one perhaps not be opened while the old one is?"""
    address = new.config.address
    if old.bound is None or new.kind == "memory":
        return False
    if old.bound.port is None:
        return old.bound.host == address.path
    return old.bound.port == address.port or same_bind(old, new)


def same_bind(old: Listener, new: Listener) -> bool:
    """Has the new one to be where the old one is?"""
    return (
        old.config.bind == new.config.bind
        and old.kind != "memory"
        and (old.identifier == new.identifier or new.config.address.port != 0)
    )


def place_of(new: Listener, leaving: list[Listener]) -> BoundAddress | None:
    """Where the new one was until now, if it stays there."""
    for old in leaving:
        if old.identifier == new.identifier and same_bind(old, new):
            return old.bound
    return None
