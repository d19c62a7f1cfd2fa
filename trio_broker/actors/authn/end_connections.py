"""Ends the connections of a user who is there no more.

Invariant: sessions stay, and clients that somebody else let in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from trio_broker.actors.messages import AskActorsAfter, AskNewestActor
from trio_broker.actors.search import of_manager
from trio_broker.errors import ProtocolError
from trio_broker.protocol.reason_codes import ReasonCode

if TYPE_CHECKING:
    from trio_broker.actors.core import Core
    from trio_broker.actors.session_actor import SessionActor

__all__ = ["end_connections"]

STRIDE: Final = 500
"""Clients that are looked at before others have their turn."""
WHY: Final = "its user was deleted"


async def end_connections(core: Core, authenticator_id: str, user_id: str) -> None:
    """Of those whom this authenticator let in as this user: DISCONNECT 0x87 in MQTT 5.0."""
    actors: list[SessionActor]
    number, newest = -1, await of_manager(core, AskNewestActor())
    while number < newest:  # whoever comes later is asked about without this user
        actors, number = await of_manager(core, AskActorsAfter(number, STRIDE))
        if not actors:
            return
        for actor in actors:
            _end(actor, authenticator_id, user_id)
        await trio.lowlevel.checkpoint()


def _end(actor: SessionActor, authenticator_id: str, user_id: str) -> None:
    connection, verdict = actor.connection, actor.verdict
    if connection is None or verdict is None or verdict.authenticator != authenticator_id:
        return
    # As it was let in: what users are looked up by may have changed since.
    if (actor.client_id if verdict.by_client_id else actor.username) != user_id:
        return
    if connection.channel is None:
        # It was let in, and waits for the store before it is told so.
        connection.refuse(ProtocolError(ReasonCode.NOT_AUTHORIZED, WHY))
    else:
        connection.fail(ReasonCode.NOT_AUTHORIZED, WHY)
