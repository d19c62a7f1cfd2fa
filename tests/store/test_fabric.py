"""Claims on client identifiers, and what the store has of them."""

from __future__ import annotations

import trio
from actors.flows import settle
from trio.testing import MockClock

from trio_broker.broker import Broker
from trio_broker.protocol.packets import Properties
from trio_broker.store.fabric import LocalFabric, NodeId
from trio_broker.store.memory import MemoryStore
from trio_broker.store.operations import PutSession
from trio_broker.testing import open_client

LONG: Properties = {"session_expiry_interval": 1000}


def test_the_last_claim_is_good() -> None:
    """Releasing an older one changes nothing."""
    fabric = LocalFabric(NodeId("n@h"))
    first, second = fabric.claim("c"), fabric.claim("c")
    assert first.token != second.token
    assert fabric.owner("c") == second
    fabric.release(first)
    assert fabric.owner("c") == second
    fabric.release(second)
    assert fabric.owner("c") is None


def test_a_node_that_was_started_again_claims_anew() -> None:
    """Its tokens are none of those it gave before."""
    before, after = LocalFabric(NodeId("n@h")), LocalFabric(NodeId("n@h"))
    assert before.claim("c").token != after.claim("c").token
    assert before.node.name == after.node.name


async def test_what_is_stored_of_a_session_says_whose_it_is(autojump_clock: MockClock) -> None:
    """One owner as long as the broker lives, another one after a restart."""
    store = MemoryStore()
    owners = []
    for _ in range(2):
        broker = Broker(store=store)
        async with trio.open_nursery() as nursery:
            await nursery.start(broker.run)
            for _ in range(2):
                async with open_client(broker, client_id="c", clean_start=False, properties=LONG):
                    await settle()
                (kept,) = [kept async for kept in store.load() if isinstance(kept, PutSession)]
                owners.append(kept.owner)
            broker.close()
    assert owners[0] == owners[1] != owners[2] == owners[3]
    assert all(owner.startswith("trio_broker@127.0.0.1/") for owner in owners)
