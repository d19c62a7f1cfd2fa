"""The limits of a listener over REST: in force at once, for who comes and for who is there, and after a restart."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from api.doors import address_of, client_at, put, shown, with_listener
from api.live import Live
from api.operations import shows
from listeners.fake_gate import until

from trio_broker.actors.connection import Connection
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import ConnectionEnded, open_client


def connections(live: Live) -> dict[str, Connection]:
    assert live.broker._door is not None
    return {connection.client_id: connection for connection in live.broker._door.connections()}


async def refused(where: tuple[str, int], **options: Any) -> bool:
    try:
        async with open_client(where, **options):
            return False
    except (ConnectionEnded, trio.BrokenResourceError):
        return True


@shows("PUT /listeners/:id", "GET /listeners/:id")
@pytest.mark.parametrize(
    ("limits", "rates"),
    [
        ({"messages_rate": "10/s"}, (10.0, math.inf)),
        ({"bytes_rate": "10KB/s"}, (math.inf, 10240.0)),
        ({"messages_rate": "1/s", "bytes_rate": "1MB/s"}, (1.0, 1048576.0)),
    ],
)
async def test_rates_count_for_who_is_connected_and_for_who_comes(
    limits: dict[str, str], rates: tuple[float, float]
) -> None:
    async with with_listener() as live, await client_at(live, client_id="c1") as c1:
        before = connections(live)["c1"]
        assert before.limit is None
        answer = await put(live, "tcp:default", **limits)
        assert answer.status_code == 200
        assert (await shown(live, "tcp:default")).items() >= limits.items()
        async with await client_at(live, client_id="c2"):
            for connection in connections(live).values():
                assert (connection.info.messages_rate, connection.info.bytes_rate) == rates
                assert connection.limit is not None
        await c1.ping()
        await put(live, "tcp:default", messages_rate="infinity", bytes_rate="infinity")
        assert before.limit is None
        await c1.ping()


async def test_who_has_to_wait_goes_on_when_the_rate_is_lifted() -> None:
    """And all of it arrives: nothing is lost by the limit, nor by its end."""
    async with with_listener() as live, await client_at(live, client_id="s") as subscriber:
        await subscriber.subscribe("t")
        async with await client_at(live, client_id="c1") as c1:
            await put(live, "tcp:default", messages_rate="1/1h")
            for number in range(50):
                await c1.publish("t", b"%d" % number)
                await trio.testing.wait_all_tasks_blocked()
            await until(lambda: _is_pausing(live))
            await put(live, "tcp:default", messages_rate="infinity")
            with trio.fail_after(10):
                payloads = [(await subscriber.receive()).payload for _ in range(50)]
            assert payloads == [b"%d" % number for number in range(50)]


def _is_pausing(live: Live) -> bool:
    limit = connections(live)["c1"].limit
    return limit is not None and limit.is_pausing


async def test_other_options_leave_who_waits_waiting() -> None:
    async with with_listener() as live, await client_at(live, client_id="c1"):
        await put(live, "tcp:default", messages_rate="7/s")
        limit = connections(live)["c1"].limit
        await put(live, "tcp:default", max_connections=10)
        assert connections(live)["c1"].limit is limit


async def test_rates_of_one_listener_are_not_those_of_another() -> None:
    async with with_listener() as live:
        body = {"type": "tcp", "name": "b", "bind": "127.0.0.1:0"}
        assert (await live.api.post("/listeners", json=body)).status_code == 200
        async with await client_at(live, "tcp:b", client_id="b"), await client_at(live, client_id="a"):
            await put(live, "tcp:b", messages_rate="5/s")
            assert connections(live)["a"].limit is None
            assert connections(live)["b"].limit is not None


async def test_rates_change_with_the_sockets_too() -> None:
    """A change that opens the door anew keeps who is connected, and they go by it."""
    async with with_listener() as live, await client_at(live, client_id="c1") as c1:
        await put(live, "tcp:default", messages_rate="5/s", tcp_options={"backlog": 16})
        limit = connections(live)["c1"].limit
        assert limit is not None
        await c1.ping()


@shows("PUT /listeners/:id")
async def test_max_connections_counts_at_once() -> None:
    async with with_listener() as live:
        where = await address_of(live)
        async with open_client(where, client_id="c1") as c1, open_client(where, client_id="c2") as c2:
            await put(live, "tcp:default", max_connections=1)
            assert await refused(where, client_id="c3")
            await put(live, "tcp:default", max_connections=3)
            assert not await refused(where, client_id="c3")
            await c1.ping()  # who was there before is not thrown out
            await c2.ping()


async def test_all_of_them_are_there_after_a_restart() -> None:
    store = MemoryStore()
    limits = {"max_connections": 7, "max_conn_rate": "100/s", "messages_rate": "50/s", "bytes_rate": "1MB/s"}
    async with with_listener(store) as live:
        assert (await put(live, "tcp:default", **limits)).status_code == 200
    async with with_listener(store) as live, await client_at(live, client_id="c1"):
        assert (await shown(live, "tcp:default")).items() >= limits.items()
        assert connections(live)["c1"].info.messages_rate == 50


@shows("PUT /listeners/:id")
@pytest.mark.parametrize(
    ("key", "value"),
    [("messages_rate", "fast"), ("bytes_rate", -1), ("max_conn_rate", "0/s"), ("max_connections", 0)],
)
async def test_a_limit_that_is_none_changes_nothing(key: str, value: object) -> None:
    async with with_listener() as live:
        before = await shown(live, "tcp:default")
        answer = await put(live, "tcp:default", **{key: value})
        assert answer.status_code == 400
        assert key in answer.text
        assert await shown(live, "tcp:default") == before
