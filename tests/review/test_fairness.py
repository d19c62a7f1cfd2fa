"""Nobody keeps the others waiting: what is long is done in pieces."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel

from trio_broker.actors import poller
from trio_broker.protocol.packets import PingReq
from trio_broker.testing import Client, open_broker, open_client


@pytest.mark.parametrize("longest", [-1.0, 0.01])
async def test_sockets_that_have_to_wait_for_the_next_turn(longest: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that ends after any socket (or after none) leaves nothing unread and keeps each one's order."""
    monkeypatch.setattr(poller, "LONGEST_TURN", longest)
    heard: dict[str, list[bytes]] = {}
    async with open_broker() as running, running.client("listener") as listener:
        await listener.subscribe("#", 1)

        async def publish(name: str) -> None:
            async with open_client((running.host, running.port), client_id=name) as client:
                for number in range(20):
                    await client.publish(name, b"%d" % number, number % 2)

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(publish, f"c{number}")
            for _ in range(400):
                message = await listener.receive()
                heard.setdefault(message.topic_name, []).append(message.payload)
    assert len(heard) == 20
    for payloads in heard.values():
        for parity in (0, 1):
            assert [each for each in payloads if int(each) % 2 == parity] == [b"%d" % n for n in range(parity, 20, 2)]


async def test_a_flood_of_tiny_packets_over_sockets() -> None:
    """All of them are answered, and a client beside them gets its own answers."""
    count = 20_000
    async with open_broker() as running:

        async def flood() -> None:
            async with open_client((running.host, running.port)) as client:
                await client.send_bytes(b"\xc0\x00" * count)
                await pings(client, count)

        async def pings(client: Client, expected: int) -> None:
            while len(client.inbox) < expected:
                await trio.lowlevel.checkpoint()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(flood)
                async with open_client((running.host, running.port)) as client:
                    for _ in range(10):
                        await client.send(PingReq())
                    await pings(client, 10)
                assert (await running.broker.questions.metrics())["packets.pingresp.sent"] >= 10
