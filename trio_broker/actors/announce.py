"""Tells the log, the counters and the embedding program that a client is there, or no longer.

Invariant: called once for each time a client is let in, and once for each time it is gone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trio_broker.actors.hooks import ClientConnected, ClientDisconnected

if TYPE_CHECKING:
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.session_actor import SessionActor
    from trio_broker.session.connect import Terms

log = logging.getLogger("trio_broker.session")


def announce_connected(actor: SessionActor, connection: Connection, agreed: Terms, present: bool) -> None:
    """CONNACK has been sent; `present` says that there was a session."""
    core = actor.core
    meter = core.meter
    meter.packets_connack_sent += 1
    meter.client_connack += 1
    meter.client_connected += 1
    meter.move_gauge("live_connections", 1)
    if log.isEnabledFor(logging.INFO):
        log.info(
            "client connected: %s (level %d, clean start %s, keep alive %d s, session expiry %d s)",
            connection.name,
            agreed.level,
            agreed.clean_start,
            agreed.keep_alive,
            agreed.session_expiry_interval,
        )
    if core.sys_topics is not None:
        core.sys_topics.connected(actor, connection, agreed)
    if core.hooks.connected:
        info = connection.info
        core.hooks.call_connected(
            ClientConnected(
                actor.client_id, actor.username, info.peer_host, info.peer_port, info.listener, agreed.level, present
            )
        )


def announce_disconnected(actor: SessionActor, reason_code: int, reason: str) -> None:
    """The connection is over; its own log line says why."""
    core = actor.core
    core.meter.client_disconnected += 1
    core.meter.count_disconnected("" if actor.peer is None else actor.peer.listener, reason_code)
    core.meter.move_gauge("live_connections", -1)
    if core.flapping.enabled and actor.peer is not None:
        core.flapping.disconnected(actor.client_id, actor.peer.peer_host)
    if core.sys_topics is not None:
        core.sys_topics.disconnected(actor, reason)
    if core.hooks.disconnected:
        core.hooks.call_disconnected(ClientDisconnected(actor.client_id, actor.username, reason_code, reason))
