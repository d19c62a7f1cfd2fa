"""What a store kept comes back before the first listener opens: retained messages, sessions and their subscriptions.

Invariant: what expired while the broker was away does not come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from trio_broker.actors.messages import Online
from trio_broker.actors.session_actor import SessionActor
from trio_broker.session.changes import SubscribeChange
from trio_broker.store.operations import DeleteRetained, DeleteSession, PutRetained, PutSession, PutSubscription

if TYPE_CHECKING:
    from trio_broker.actors.core import Core


async def restore(core: Core) -> None:
    """Read the store once."""
    store = core.store
    if not store.keeps:
        return
    now = core.clock.now()
    wall_ms = core.clock.wall_ms(now)
    actors: dict[str, SessionActor] = {}
    async for operation in store.load():
        match operation:
            case PutSession():
                if operation.expires_at is not None and operation.expires_at <= wall_ms:
                    store.write(DeleteSession(operation.client_id))
                    continue
                actor = SessionActor(core, operation.client_id)
                actor.restore(operation, now)
                actors[operation.client_id] = actor
                core.manager.restore(actor)
                core.router.take([Online(actor, False)])
            case PutSubscription():
                owner = actors.get(operation.client_id)
                if owner is None or owner.session is None:
                    continue
                subscription = operation.subscription
                owner.session.subscriptions[subscription.topic_filter] = subscription
                change = SubscribeChange(owner, 0, [subscription], [True], [subscription.qos], restored=True)
                core.router.take([change])
            case PutRetained():
                message = operation.message
                core.next_message_id = max(core.next_message_id, message.message_id + 1)
                if operation.expires_at is None:
                    core.retainer.restore(message)
                elif operation.expires_at > wall_ms:
                    expires_at = core.clock.trio_time(operation.expires_at)
                    core.retainer.restore(replace(message, expires_at=expires_at))
                else:
                    store.write(DeleteRetained(message.topic_name))
