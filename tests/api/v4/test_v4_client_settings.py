"""Keep alive, rate limits and quota of one connection, as EMQX 4 sets them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.actors.connection import Connection
from trio_broker.testing import Client

KEPT: dict[str, Any] = {"properties": {"session_expiry_interval": 3600}}
NOT_FOUND = {"code": 112, "message": "not_found"}
OUT_OF_RANGE = {"code": 102, "message": "mqtt3.1.1 specification: keepalive must between 0~65535"}
DONE = {"code": 0}


def connection_of(live: Live, client_id: str) -> Connection:
    door = live.broker._door
    assert door is not None
    [found] = [connection for connection in door.connections() if connection.client_id == client_id]
    return found


async def seconds_for(client: Client, count: int, payload: bytes = b"") -> float:
    """How long so many messages take."""
    began = trio.current_time()
    for _ in range(count):
        await client.publish("t", payload, qos=1)
    return trio.current_time() - began


# -- keep alive


@shows("PUT /api/v4/clients/:clientid/keepalive")
@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize(
    "sent",
    [
        ("?interval=20", None),
        ("", {"interval": 20}),
        ("", {"interval": "20"}),
        ("?interval=20", {"interval": 500}),
    ],
)
async def test_another_keep_alive(autojump_clock: MockClock, level: int, sent: tuple[str, Any]) -> None:
    async with running() as live, older(live, "v4") as v4:
        client = await live.connect("c1", level=level, keep_alive=1000)
        query, body = sent
        answer = await v4.put(f"/clients/c1/keepalive{query}", json=body)
        assert (answer.status_code, answer.json()) == (200, DONE)
        assert (await v4.get("/clients/c1")).json()["data"][0]["keepalive"] == 20
        began = trio.current_time()
        ended = await client.wait_ended()
        assert 30 <= trio.current_time() - began < 60
        assert ended.reason_code == (0x8D if level == 5 else None)


@shows("PUT /api/v4/clients/:clientid/keepalive")
async def test_keep_alives_that_are_refused(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await live.connect("c1", keep_alive=7)
        await (await live.connect("c2", keep_alive=7, **KEPT)).disconnect()

        async def answer(client_id: str, body: Any = None, query: str = "") -> Any:
            answer = await v4.put(f"/clients/{client_id}/keepalive{query}", json=body)
            assert answer.status_code == 200
            return answer.json()

        for nothing in (None, {}, {"interval": None}, {"keepalive": 5}):
            assert await answer("c1", nothing) == {"code": 107, "message": "params_not_found"}
        for bad in (-1, 65_536, "65536"):
            assert await answer("c1", {"interval": bad}) == OUT_OF_RANGE
        assert await answer("c1", query="?interval=100000") == OUT_OF_RANGE
        assert await answer("nobody", {"interval": 70_000}) == OUT_OF_RANGE
        wrong: Any
        for wrong in ("x", "", 1.5, True, []):
            assert (await answer("c1", {"interval": wrong}))["code"] == 108
        assert await answer("nobody", {"interval": 5}) == NOT_FOUND
        # It has a session and no connection.
        assert await answer("c2", {"interval": 5}) == NOT_FOUND
        assert [row["keepalive"] for row in (await v4.get("/clients")).json()["data"]] == [7, 7]
        for good in (0, "65535"):
            assert await answer("c1", {"interval": good}) == DONE


# -- rate limits


@shows("POST /api/v4/clients/:clientid/ratelimit", "DELETE /api/v4/clients/:clientid/ratelimit")
async def test_messages_in(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        c1, c2 = await live.connect("c1"), await live.connect("c2")
        assert await seconds_for(c1, 20) == 0
        answer = await v4.post("/clients/c1/ratelimit", json={"conn_messages_in": "10, 10s"})
        assert (answer.status_code, answer.json()) == (200, DONE)
        assert await seconds_for(c1, 12) == pytest.approx(10, abs=1.5)
        assert await seconds_for(c2, 20) == 0
        answer = await v4.delete("/clients/c1/ratelimit")
        assert (answer.status_code, answer.json()) == (200, DONE)
        assert await seconds_for(c1, 20) == 0
        assert connection_of(live, "c1").limit is None


@shows("POST /api/v4/clients/:clientid/ratelimit", "DELETE /api/v4/clients/:clientid/ratelimit")
async def test_bytes_in(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        c1 = await live.connect("c1")
        assert (await v4.post("/clients/c1/ratelimit?conn_bytes_in=100KB,%2010s")).json() == DONE
        # 10 KB a second: 1000 bytes and a few take a tenth of one.
        assert await seconds_for(c1, 110, b"x" * 1000) == pytest.approx(10, abs=1)
        # Who waits goes on as soon as nothing limits it.
        assert (await v4.post("/clients/c1/ratelimit", json={"conn_bytes_in": "1B, 1h"})).json() == DONE
        await c1.publish("t", b"x" * 1000, qos=1)
        limit = connection_of(live, "c1").limit
        assert limit is not None
        assert limit.is_pausing
        assert (await v4.delete("/clients/c1/ratelimit")).json() == DONE
        assert await seconds_for(c1, 20, b"x" * 1000) == 0


@shows("POST /api/v4/clients/:clientid/ratelimit", "DELETE /api/v4/clients/:clientid/ratelimit")
async def test_the_rates_of_the_listener_come_back(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        c1 = await live.connect("c1")
        connection = connection_of(live, "c1")
        door = live.broker._door
        assert door is not None
        await door.use_rates(connection.info.listener, 5.0, 1e9)
        assert await seconds_for(c1, 16) == pytest.approx(2, abs=0.5)
        await v4.post("/clients/c1/ratelimit", json={"conn_messages_in": "1, 1s"})
        assert await seconds_for(c1, 6) == pytest.approx(4, abs=1)
        # Other rates of the listener change nothing of what is set for this client alone.
        await door.use_rates(connection.info.listener, 100.0, 1e9)
        assert await seconds_for(c1, 6) == pytest.approx(4, abs=1.1)
        # What is not given is as the listener has it.
        await v4.post("/clients/c1/ratelimit", json={"conn_bytes_in": "1GB, 1s"})
        await trio.sleep(10)
        assert await seconds_for(c1, 90) == 0
        await v4.delete("/clients/c1/ratelimit")
        assert connection.limit is not None
        assert (connection.info.messages_rate, connection.info.bytes_rate) == (100.0, 1e9)
        await trio.sleep(10)
        assert await seconds_for(c1, 301) == pytest.approx(2, abs=0.1)


@shows("POST /api/v4/clients/:clientid/ratelimit")
async def test_the_next_connection_has_no_limit_of_the_last(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        c1 = await live.connect("c1", **KEPT)
        await v4.post("/clients/c1/ratelimit", json={"conn_messages_in": "1, 1h"})
        await c1.disconnect()
        again = await live.connect("c1", clean_start=False, **KEPT)
        assert await seconds_for(again, 10) == 0


# -- quota


@shows("POST /api/v4/clients/:clientid/quota", "DELETE /api/v4/clients/:clientid/quota")
async def test_quota(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        c1 = await live.connect("c1")
        answer = await v4.post("/clients/c1/quota", json={"conn_messages_routing": "60, 1m"})
        assert (answer.status_code, answer.json()) == (200, DONE)
        assert await seconds_for(c1, 12) == pytest.approx(10, abs=1.1)
        # The lower one of both holds.
        await v4.post("/clients/c1/ratelimit", json={"conn_messages_in": "100, 1s"})
        assert await seconds_for(c1, 12) == pytest.approx(10, abs=1.1)
        await v4.delete("/clients/c1/ratelimit")
        assert await seconds_for(c1, 12) == pytest.approx(10, abs=1.1)
        assert (await v4.delete("/clients/c1/quota")).json() == DONE
        assert await seconds_for(c1, 100) == 0


# -- refusals


@shows("POST /api/v4/clients/:clientid/ratelimit", "POST /api/v4/clients/:clientid/quota")
@pytest.mark.parametrize(
    ("path", "name", "sized"),
    [
        ("ratelimit", "conn_bytes_in", True),
        ("ratelimit", "conn_messages_in", False),
        ("quota", "conn_messages_routing", False),
    ],
)
async def test_limits_that_are_none(autojump_clock: MockClock, path: str, name: str, sized: bool) -> None:
    async with running() as live, older(live, "v4") as v4:
        await live.connect("c1")
        bad: list[Any] = ["", "100", "100,", ",10s", "x, 10s", "100, x", "0, 10s", "100, 0s", "-1, 10s", "1, 2, 3"]
        bad += [100, [], "٣, 1s", "1.5, 1s"] + ([] if sized else ["100KB, 1s"])
        bad += ["1, 25h", "1, 1d1ms", "1," + " " * 62 + "1s", f"1, {'9' * 50}d"]
        for text in bad:
            answer = await v4.post(f"/clients/c1/{path}", json={name: text})
            assert (answer.status_code, answer.json()["code"], text) == (200, 108, text)
            assert answer.json()["message"]
        assert connection_of(live, "c1").limit is None
        good = ["100, 1m", "1,10s", " 5 , 1h30m ", "7, 100ms"] + (["100KB, 10s", "1mb,1s"] if sized else [])
        for text in good:
            assert (await v4.post(f"/clients/c1/{path}", json={name: text})).json() == DONE
            assert connection_of(live, "c1").limit is not None


@shows(
    "POST /api/v4/clients/:clientid/ratelimit",
    "DELETE /api/v4/clients/:clientid/ratelimit",
    "POST /api/v4/clients/:clientid/quota",
    "DELETE /api/v4/clients/:clientid/quota",
)
async def test_who_is_not_there(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await (await live.connect("away", **KEPT)).disconnect()
        limits = {"conn_messages_in": "1, 1s", "conn_messages_routing": "1, 1s"}
        for client_id in ("nobody", "away"):
            for path in ("ratelimit", "quota"):
                answer = await v4.post(f"/clients/{client_id}/{path}", json=limits)
                assert (answer.status_code, answer.json()) == (200, NOT_FOUND)
                answer = await v4.delete(f"/clients/{client_id}/{path}")
                assert (answer.status_code, answer.json()) == (200, NOT_FOUND)
                # Nothing was asked for, and nothing happens.
                for body in ({}, {"conn_unknown": "1, 1s"}):
                    assert (await v4.post(f"/clients/{client_id}/{path}", json=body)).json() == DONE
