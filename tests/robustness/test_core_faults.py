"""A fault in a core actor ends the broker, loudly: `run` raises it, clients are cut, ports are free, nobody waits."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from robustness.faults import Fault, fail_when, leaves
from robustness.scene import PATIENCE, WILL
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.actors.acknowledger import Acknowledger
from trio_broker.actors.metrics import MetricsCollector
from trio_broker.actors.poller import Poller
from trio_broker.actors.retainer import Retainer
from trio_broker.actors.router import Router
from trio_broker.actors.session_manager import SessionManager
from trio_broker.actors.timers import Timers
from trio_broker.broker import Broker
from trio_broker.routing.retained_trie import RetainedTrie
from trio_broker.routing.routing_table import RoutingTable
from trio_broker.testing import open_broker, open_client
from trio_broker.testing.running import make_config

CORE = [Router, Retainer, SessionManager, MetricsCollector, Acknowledger, Timers, Poller]


@pytest.mark.parametrize("core", CORE, ids=lambda core: core.__name__)
async def test_a_fault_in_a_core_actor_ends_the_broker(core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if core is Poller and not Poller.is_available():
        return  # there is none on this system, and so nothing that could fail
    now = trio.Event()
    run = core.run

    async def run_and_fail(self: Any, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda *, task_status: run(self, task_status=task_status))
            task_status.started()
            await now.wait()
            raise Fault(core.__name__)

    monkeypatch.setattr(core, "run", run_and_fail)
    tasks = trio.lowlevel.current_statistics().tasks_living
    broker = Broker(make_config(None, {}))
    caught: list[BaseException] = []
    port = 0

    async def run_broker(*, task_status: trio.TaskStatus[int]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                addresses = await nursery.start(broker.run)
                task_status.started(addresses.listeners["tcp:default"][1])
        except BaseExceptionGroup as group:
            faults, others = group.split(Fault)
            assert others is None
            assert faults is not None
            caught.append(faults)

    async with trio.open_nursery() as nursery:
        port = await nursery.start(run_broker)
        async with (
            open_client(("127.0.0.1", port), client_id="c", will=WILL) as client,
            open_client(broker, client_id="m") as near,
        ):
            await client.ping()
            now.set()
            with trio.fail_after(PATIENCE):
                await client.wait_ended()
                await near.wait_ended()
    assert [str(leaf) for leaf in leaves(caught[0])] == [core.__name__]
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == tasks


@pytest.mark.parametrize(
    ("owner", "name", "retain"),
    [(RoutingTable, "match", False), (RetainedTrie, "set", True), (RoutingTable, "subscribe", False)],
)
async def test_a_fault_in_what_a_core_actor_does_comes_out_of_open_broker(
    owner: type, name: str, retain: bool, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def live() -> None:
        async with open_broker() as running, open_client(running.broker, client_id="c") as client:
            fail_when(monkeypatch, owner, name)
            with trio.fail_after(PATIENCE):
                if name == "subscribe":
                    await client.subscribe("a")
                else:
                    await client.publish("a", b"x", 1, retain)
                await client.wait_ended()
                raise AssertionError("the broker lives on without its core")

    with pytest.raises((Fault, BaseExceptionGroup)) as raised:
        await live()
    assert any(isinstance(leaf, Fault) for leaf in leaves(raised.value))


async def test_who_asks_a_broker_whose_core_has_failed_is_not_left_waiting(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """The embedding program's own publish, on its way when the router fails, ends with an error."""

    async def live() -> None:
        async with open_broker() as running:
            fail_when(monkeypatch, RoutingTable, "match")
            with trio.fail_after(PATIENCE):
                await running.broker.publish("a", b"x", qos=1)

    with pytest.raises((Fault, BaseExceptionGroup)) as raised:
        await live()
    assert any(isinstance(leaf, Fault) for leaf in leaves(raised.value))
