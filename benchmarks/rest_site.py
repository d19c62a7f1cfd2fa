"""A broker with very many sessions that are away, made in a moment, and its REST API.

    python -m benchmarks.rest_site CONFIG SESSIONS SUBSCRIPTIONS

Invariant: the broker is the real one, sessions and subscriptions are as clients would have made them; only the clients
are missing. Each answer says in `x-handled-us` how long the server took for it, in microseconds: from the request that
is read to the answer that is ready to be sent, with the turns that others had meanwhile.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Final

import trio

from benchmarks.routing import match_filter
from trio_broker.actors.core import Core
from trio_broker.actors.gate import ConnectionInfo
from trio_broker.actors.session_actor import SessionActor
from trio_broker.api.app import WebApp
from trio_broker.broker import Broker
from trio_broker.config import load
from trio_broker.garbage import short_pauses
from trio_broker.protocol.packets import MQTT5
from trio_broker.routing.subscription import Subscription
from trio_broker.session.changes import SubscribeChange
from trio_broker.session.connect import Terms
from trio_broker.session.session import Session

__all__ = ["FIRST_AT", "client_id", "fill", "host", "username"]

FIRST_AT: Final = 1_700_000_000_000
"""When the first session was made (milliseconds); the others follow, a millisecond apart."""
HANDLED: Final = "x-handled-us"


def client_id(number: int) -> str:
    return f"device-{number:06}"


def username(number: int) -> str:
    """A hundred devices a user."""
    return f"user-{number // 100:04}"


def host(number: int) -> str:
    return f"10.0.{number >> 8 & 255}.{number & 255}"


async def fill(core: Core, sessions: int, subscriptions: int) -> None:
    """So many sessions, which share so many subscriptions evenly."""
    each = max(1, subscriptions // sessions)
    for number in range(sessions):
        actor = _session(core, number)
        held = [
            Subscription(text, text, qos=at % 3) for at in range(each) if (text := match_filter(number * each + at))
        ]
        assert actor.session is not None
        actor.session.subscriptions.update({it.topic_filter: it for it in held})
        change = SubscribeChange(actor, 0, list(held), [True] * each, [0] * each, restored=True)
        core.router.take([change])
        if number % 100 == 0:
            await trio.lowlevel.checkpoint()


def _session(core: Core, number: int) -> SessionActor:
    name, at = client_id(number), FIRST_AT + number
    actor = SessionActor(core, name)
    core.manager.restore(actor)
    actor.username = username(number)
    actor.session = Session(name, core.limits, core.meter, at)
    actor.session.expiry_interval = 86_400
    actor.peer = ConnectionInfo("tcp:default", host(number), 40_000 + number % 20_000)
    actor.terms = Terms(MQTT5, name, False, number % 2 == 0, 60, 86_400, 65_535, 268_435_460, True)
    actor.connected_at, actor.disconnected_at = at, at + 1000
    actor.told_offline = True
    core.meter.move_gauge("sessions", 1)
    return actor


class _Timed(WebApp):
    async def dispatch_request(self, request_context: Any = None) -> Any:
        began = time.perf_counter()
        response = await super().dispatch_request(request_context)
        response.headers[HANDLED] = str(round((time.perf_counter() - began) * 1e6))
        return response


async def _main(path: str, sessions: int, subscriptions: int) -> None:
    import trio_broker.api.app

    trio_broker.api.app.WebApp = _Timed  # type: ignore[misc]
    broker = Broker(load(path))
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        core = broker._core
        assert core is not None
        await fill(core, sessions, subscriptions)
        with short_pauses(trio.lowlevel.current_trio_token().run_sync_soon):
            print("ready", flush=True)
            await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_main, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
