"""Another keep alive for a connection that is there, by an administrator.

Invariant: called by the session's actor, within its step. The client is not told: MQTT has no way to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio_broker.actors.session_actor import SessionActor


def set_keep_alive(actor: SessionActor, interval: int) -> None:
    """The connection goes by it from now on, as if the last packet had just come; 0 = it may be silent for ever."""
    connection, terms = actor.connection, actor.terms
    if connection is not None and terms is not None:
        terms.keep_alive = interval
        connection.keep_alive_changed()
