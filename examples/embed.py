"""A broker inside a Trio program: one nursery, a door that publishes, a log that subscribes.

Run it:

    python examples/embed.py
"""

from __future__ import annotations

import trio

from trio_broker.broker import Broker
from trio_broker.config import Config, ListenerConfig
from trio_broker.testing import open_client


async def write_log(broker: Broker, *, task_status: trio.TaskStatus[None]) -> None:
    """The host program subscribes without a connection of its own."""
    async with broker.subscribe("house/#", qos=1) as messages:
        task_status.started()
        async for message in messages:
            print(f"{message.topic_name}: {message.payload.decode()}")
            if message.payload == b"goodbye":
                break


async def main() -> None:
    # Port 0: any free port. Without listeners, `Config()` is a broker that only this program can reach.
    broker = Broker(Config(listeners={"tcp": {"default": ListenerConfig(bind="127.0.0.1:0")}}))

    async with trio.open_nursery() as nursery:
        bound = await nursery.start(broker.run)
        host, port = bound.listeners["tcp:default"]
        print(f"listening on {host}")

        async with trio.open_nursery() as program:
            await program.start(write_log, broker)
            # The program publishes ...
            await broker.publish("house/door", b"open", qos=1)
            # ... and so does any MQTT client, here over TCP.
            async with open_client((host, port), client_id="window-sensor") as sensor:
                await sensor.publish("house/window", b"closed", qos=1)
                await sensor.publish("house/window", b"goodbye", qos=1)

        broker.close()  # clients are told, the nursery ends
    print("ended")


if __name__ == "__main__":
    trio.run(main)
