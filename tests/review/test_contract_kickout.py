"""The REST contract, read afresh: throwing clients out, another keep alive, clients that are not there."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from api.live import running
from api.operations import shows
from review.contract import CLIENT_KEYS, KEPT, away, done, failed, got, listed
from trio.testing import MockClock

from trio_broker.protocol.packets import Disconnect, Will
from trio_broker.testing import ConnectionEnded


@shows("DELETE /clients/:clientid", "GET /clients/:clientid")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_throwing_out(level: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe("will/#", 1)
        properties = {"will_delay_interval": 1000} if level == 5 else {}
        will = Will("will/c1", b"bye", 1, properties=properties)  # type: ignore[arg-type]
        options: dict[str, Any] = KEPT if level == 5 else {"clean_start": False}
        client = await live.connect("c1", level=level, will=will, **options)
        await client.subscribe("t/#", 1)
        done(await live.api.delete("/clients/c1"))
        failed(await live.api.get("/clients/c1"), 404, "CLIENTID_NOT_FOUND", "Client ID not found")
        failed(await live.api.delete("/clients/c1"), 404, "CLIENTID_NOT_FOUND", "Client ID not found")
        assert (await got(live, "/subscriptions?clientid=c1"))["data"] == []
        with trio.fail_after(5):
            assert (await watcher.receive()).payload == b"bye"
            if level == 5:
                assert (await client.expect(Disconnect)).reason_code == 0x98
            else:
                with pytest.raises(ConnectionEnded):
                    await client.receive()
        again = await live.connect("c1", level=level, **(options | {"clean_start": False}))
        assert not again.session_present


@shows("DELETE /clients/:clientid", "GET /clients/:clientid/mqueue_messages")
async def test_throwing_out_who_is_away(autojump_clock: MockClock) -> None:
    async with running() as live:
        await away(live, "c1", "t/#")
        done(await live.api.delete("/clients/c1"))
        failed(await live.api.get("/clients/c1/mqueue_messages"), 404, "CLIENTID_NOT_FOUND", "Client ID not found")
        assert (await live.api.post("/publish", json={"topic": "t/1", "payload": "x"})).status_code == 202


@shows("POST /clients/kickout/bulk")
async def test_throwing_out_many(autojump_clock: MockClock) -> None:
    async with running() as live:
        clients = [await live.connect(f"c{index}") for index in range(3)]
        await away(live, "gone", "t/#")
        done(await live.api.post("/clients/kickout/bulk", json=[]))
        assert (await got(live, "/clients"))["meta"]["count"] == 4
        done(await live.api.post("/clients/kickout/bulk", json=["c0", "nobody", "c1", "gone", "c0"]))
        assert await listed(live, "/clients") == {"c2"}
        for client in clients[:2]:
            assert (await client.expect(Disconnect)).reason_code == 0x98
        await clients[2].ping()
        for body in ({"clientids": ["c2"]}, "c2", [["c2"]], [2]):
            failed(await live.api.post("/clients/kickout/bulk", json=body), 400, "BAD_REQUEST")
        assert await listed(live, "/clients") == {"c2"}


@shows("PUT /clients/:clientid/keepalive")
async def test_keep_alive(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        for interval in (0, 65535, 10, "20"):
            answer = await live.api.put("/clients/c1/keepalive", json={"interval": interval})
            assert answer.status_code == 200, answer.text
            assert answer.json().keys() == CLIENT_KEYS
            assert answer.json()["keepalive"] == int(interval)
        message = failed(await live.api.put("/clients/c1/keepalive", json={}), 400, "BAD_REQUEST")
        assert "Interval Not Found" in message or "interval" in message
        for interval in (-1, 65536, "x"):
            answer = await live.api.put("/clients/c1/keepalive", json={"interval": interval})
            assert answer.status_code == 400
            assert answer.json()["code"] in ("PARAM_ERROR", "BAD_REQUEST")
        answer = await live.api.put("/clients/nobody/keepalive", json={"interval": 1})
        failed(answer, 404, "CLIENTID_NOT_FOUND", "Client ID not found")
        await trio.sleep(25)
        await client.ping()
        await trio.sleep(60)
        failed(await live.api.get("/clients/c1"), 404, "CLIENTID_NOT_FOUND")


@shows("GET /clients/:clientid/subscriptions", "GET /clients/:clientid/inflight_messages")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("GET", "/subscriptions", None),
        ("GET", "/mqueue_messages", None),
        ("GET", "/inflight_messages", None),
        ("POST", "/subscribe", {"topic": "a"}),
        ("POST", "/subscribe/bulk", [{"topic": "a"}]),
        ("POST", "/unsubscribe", {"topic": "a"}),
        ("POST", "/unsubscribe/bulk", [{"topic": "a"}]),
        ("PUT", "/keepalive", {"interval": 1}),
    ],
)
async def test_an_unknown_client(method: str, path: str, body: Any, autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await live.api.request(method, f"/clients/nobody{path}", json=body)
        failed(answer, 404, "CLIENTID_NOT_FOUND", "Client ID not found")
