"""The in-memory listener and its streams."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing
from listeners.fake_gate import EchoGate, echoed, listener_config, running, until

from trio_broker.errors import ListenerError
from trio_broker.listeners.memory import CHUNKS, MemoryListener, MemoryStream, memory_pair


async def make_pair() -> tuple[MemoryStream, MemoryStream]:
    return memory_pair()


async def make_clogged_pair() -> tuple[MemoryStream, MemoryStream]:
    left, right = memory_pair()
    for stream in (left, right):
        for _ in range(CHUNKS):
            await stream.send_all(b"x")
    return left, right


async def test_a_pair_behaves_as_trio_demands_of_streams() -> None:
    await trio.testing.check_half_closeable_stream(make_pair, None)


async def test_a_full_pair_makes_the_sender_wait() -> None:
    left, right = await make_clogged_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.send_all, b"last")
        await trio.testing.wait_all_tasks_blocked()
        received = b""
        while not received.endswith(b"last"):
            received += await right.receive_some()
    assert received == b"x" * CHUNKS + b"last"


async def test_a_connection_is_served() -> None:
    async with running(listener_config("memory")) as memory:
        assert isinstance(memory.listener, MemoryListener)
        assert str(memory.bound) == "memory:default"
        async with memory.listener.connect() as client:
            assert await echoed(client, b"a" * 200_000) == b"a" * 200_000
            assert memory.gate.infos[0].peer_host == "127.0.0.1"
            assert memory.listener.current_connections == 1
        await until(lambda: memory.listener.current_connections == 0)


async def test_the_limit_closes_the_other_end() -> None:
    async with running(listener_config("memory", max_connections=1)) as memory:
        assert isinstance(memory.listener, MemoryListener)
        async with memory.listener.connect() as first, memory.listener.connect() as above:
            assert await above.receive_some() == b""
            assert await echoed(first) == b"hello"


async def test_nobody_connects_to_a_listener_that_is_not_running(nursery: trio.Nursery) -> None:
    listener = MemoryListener(listener_config("memory"))
    with pytest.raises(ListenerError, match="memory:default: is not running"):
        listener.connect()
    await nursery.start(listener.run, EchoGate(nursery))
    async with listener.connect() as client:
        listener.close()
        with pytest.raises(ListenerError, match="not running"):
            listener.connect()
        assert await echoed(client) == b"hello"  # what is there goes on


async def test_run_ends_after_close_when_the_last_connection_is_over(nursery: trio.Nursery) -> None:
    listener = MemoryListener(listener_config("memory"))
    async with trio.open_nursery() as own:
        await own.start(listener.run, EchoGate(nursery))
        client = listener.connect()
        await echoed(client)
        listener.close()
        assert listener.current_connections == 1
        await client.aclose()
    assert listener.current_connections == 0


async def test_a_fault_in_serving_one_ends_that_one(caplog: pytest.LogCaptureFixture) -> None:
    async with running(listener_config("memory")) as memory:
        assert isinstance(memory.listener, MemoryListener)
        memory.gate.fault = RuntimeError("broken session")
        async with memory.listener.connect() as client:
            assert await client.receive_some() == b""
        memory.gate.fault = None
        async with memory.listener.connect() as client:
            assert await echoed(client) == b"hello"
            assert memory.listener.current_connections == 1  # the broken one was counted out
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert "memory:default" in record.getMessage()
