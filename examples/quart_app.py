"""A Quart-Trio web application and the broker in one nursery: HTTP in, MQTT out, and the other way round.

Run it, and ask it:

    python examples/quart_app.py
    curl -X POST -d on http://127.0.0.1:8000/lamps/kitchen
    curl http://127.0.0.1:8000/lamps
"""

from __future__ import annotations

from functools import partial

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve
from quart import request
from quart_trio import QuartTrio

from trio_broker.broker import Broker
from trio_broker.config import Config, ListenerConfig


def create_app(broker: Broker, lamps: dict[str, str]) -> QuartTrio:
    app = QuartTrio(__name__)

    @app.post("/lamps/<name>")
    async def switch(name: str) -> tuple[str, int]:
        payload = await request.get_data(cache=False, as_text=False, parse_form_data=False)
        await broker.publish(f"lamps/{name}", payload, qos=1, retain=True)
        return "", 202

    @app.get("/lamps")
    async def state() -> dict[str, str]:
        return lamps

    return app


async def follow(broker: Broker, lamps: dict[str, str], *, task_status: trio.TaskStatus[None]) -> None:
    """Keep `lamps` as the messages say, whoever publishes them."""
    async with broker.subscribe("lamps/+", qos=1) as messages:
        task_status.started()
        async for message in messages:
            lamps[message.topic_name.removeprefix("lamps/")] = message.payload.decode()


async def main(
    http: str = "127.0.0.1:8000",
    mqtt: str = "127.0.0.1:1883",
    *,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. Started with the URL of the application and the port of the broker."""
    broker = Broker(Config(listeners={"tcp": {"default": ListenerConfig(bind=mqtt)}}))
    lamps: dict[str, str] = {}
    settings = HypercornConfig()
    settings.bind = [http]
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(broker.run)
        await nursery.start(partial(follow, broker, lamps))
        urls = await nursery.start(partial(serve, create_app(broker, lamps), settings))
        task_status.started((urls[0], bound.listeners["tcp:default"][1]))


if __name__ == "__main__":
    trio.run(main)
