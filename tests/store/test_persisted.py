"""`messages.persisted`: how many messages were committed to the disk."""

from __future__ import annotations

from pathlib import Path

from actors.flows import settle
from api.live import running

from trio_broker.store.sqlite import SqliteStore

KEPT = {"session_expiry_interval": 3600}


async def test_a_message_in_several_queues_counts_once_and_retained_ones_count(tmp_path: Path) -> None:
    async with running(store=SqliteStore(tmp_path)) as live:
        for name in ("a", "b"):
            client = await live.connect(name, properties=KEPT)
            await client.subscribe("q/#", qos=1)
            await client.disconnect()
        publisher = await live.connect("p")
        await publisher.publish("q/1", b"1", qos=1)
        await publisher.publish("q/2", b"2", qos=1)
        await publisher.publish("q/3", b"3", qos=0)
        await publisher.publish("r", b"4", qos=1, retain=True)
        await publisher.publish("nobody", b"5", qos=1)
        await settle()
        metrics = (await live.api.get("/metrics", params={"aggregate": "true"})).json()
        assert metrics["messages.persisted"] == 3
