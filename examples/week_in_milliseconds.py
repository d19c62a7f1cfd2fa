"""Live through a week of session expiry on Trio's mock clock: the broker takes its time from Trio alone.

Run it:

    python examples/week_in_milliseconds.py
"""

from __future__ import annotations

import time

import trio
from trio.testing import MockClock

from trio_broker.testing import RunningBroker, open_broker

DAY = 24 * 60 * 60
WEEK = 7 * DAY


async def visit(running: RunningBroker) -> bool:
    """Connect, subscribe, go away without ending the session. Returns whether the session was still there."""
    properties = {"session_expiry_interval": WEEK}
    async with running.client("traveller", clean_start=False, properties=properties) as client:
        if client.session_present:
            message = await client.receive()
            print(f"kept for the traveller: {message.payload.decode()}")
        await client.subscribe("letters", qos=1)
        return client.session_present


async def main() -> None:
    # The clients come in memory: the mock clock jumps whenever all tasks wait, also for bytes on their way in a socket.
    async with open_broker() as running:
        print(f"day 0: session present {await visit(running)}")
        await running.broker.publish("letters", b"a letter", qos=1)
        await trio.sleep(6 * DAY)
        print(f"day 6: session present {await visit(running)}")
        await trio.sleep(8 * DAY)
        print(f"day 14: session present {await visit(running)}")


if __name__ == "__main__":
    began = time.perf_counter()
    trio.run(main, clock=MockClock(autojump_threshold=0))
    print(f"two weeks took {(time.perf_counter() - began) * 1000:.0f} ms")
