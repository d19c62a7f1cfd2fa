"""EMQ 2's clients: who is connected, how to disconnect them, and what is kept of their permissions."""

from __future__ import annotations

from typing import Any

import pytest
from actors.fake_access import Script, fakes
from actors.flows import SESSION, end_of, one, settle
from api.live import Live, running
from api.older import WATCHER, older
from api.operations import shows
from api.v2.results import result
from trio.testing import MockClock

from trio_broker.access.asking import Request
from trio_broker.api.v2.formats import local_time
from trio_broker.config import Config
from trio_broker.config.authorization import AuthorizationConfig, FileSourceConfig
from trio_broker.protocol.packets import PubAck, Will
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import Client

SAMPLE = "C_1492145414740"
OFFLINE = {"code": 112}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    return fakes(monkeypatch)


async def row(live: Live, client_id: str, **more: Any) -> dict[str, Any]:
    info = await live.broker.questions.client(client_id)
    assert info is not None
    shown = {
        "client_id": client_id,
        "username": "undefined",
        "ipaddress": "127.0.0.1",
        "port": info.peer_port,
        "clean_sess": True,
        "proto_ver": 4,
        "keepalive": 60,
        "connected_at": local_time(info.connected_at),
    }
    return shown | more


@shows(
    "GET /api/v2/nodes/:node/clients", "GET /api/v2/nodes/:node/clients/:client_id", "GET /api/v2/clients/:client_id"
)
async def test_the_samples(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        await live.connect(SAMPLE, level=4, keep_alive=60)
        node = live.broker.config.node.name
        expected = await row(live, SAMPLE)
        shown = await result(v2, f"/nodes/{node}/clients")
        assert shown == {"current_page": 1, "page_size": 20, "total_num": 1, "total_page": 1, "objects": [expected]}
        assert list(shown) == ["current_page", "page_size", "total_num", "total_page", "objects"]
        types = [type(value) for value in shown["objects"][0].values()]
        assert types == [str, str, str, int, bool, int, int, str]
        for path in (f"/nodes/{node}/clients/{SAMPLE}", f"/clients/{SAMPLE}", f"/clients/{SAMPLE}/"):
            assert await result(v2, path) == {"objects": [expected]}


@shows("GET /api/v2/nodes/:node/clients", "GET /api/v2/clients/:client_id")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_who_it_is(autojump_clock: MockClock, level: int) -> None:
    async with running() as live, older(live, "v2") as v2:
        await live.connect("c1", level=level, username="u1", clean_start=False, keep_alive=0)
        expected = await row(live, "c1", username="u1", proto_ver=level, clean_sess=False, keepalive=0)
        assert await result(v2, "/clients/c1") == {"objects": [expected]}


@shows(
    "GET /api/v2/nodes/:node/clients", "GET /api/v2/nodes/:node/clients/:client_id", "GET /api/v2/clients/:client_id"
)
async def test_only_who_is_connected_is_a_client(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        node = live.broker.config.node.name
        for client_id in ("c1", "c2", "c3", "c4"):
            client = await live.connect(client_id, level=4, clean_start=False)
            if client_id in ("c2", "c4"):
                await client.disconnect()
        await settle()
        shown = await result(v2, f"/nodes/{node}/clients")
        assert [client["client_id"] for client in shown["objects"]] == ["c1", "c3"]
        assert (shown["total_num"], shown["total_page"]) == (2, 1)
        shown = await result(v2, f"/nodes/{node}/clients?page_size=1&curr_page=2")
        assert [client["client_id"] for client in shown["objects"]] == ["c3"]
        for client_id in ("c2", "nobody"):
            assert await result(v2, f"/clients/{client_id}") == {"objects": []}
            assert await result(v2, f"/nodes/{node}/clients/{client_id}") == {"objects": []}


@shows("GET /api/v2/nodes/:node/clients", "GET /api/v2/nodes/:node/clients/:client_id")
@pytest.mark.parametrize("path", ["/nodes/x/clients", "/nodes/x/clients/c1"])
async def test_a_node_there_is_not(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, older(live, "v2") as v2:
        await live.connect("c1")
        answer = await v2.get(path)
        assert (answer.status_code, answer.json()) == (200, {"code": 101, "message": "badrpc"})
        assert answer.headers["content-type"] == "application/json"


@shows("GET /api/v2/clients/:client_id", "DELETE /api/v2/clients/:client_id")
@pytest.mark.parametrize("path", ["a/b%20c", "a%2Fb%20c", "a%2fb c"])
async def test_any_client_id(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, older(live, "v2") as v2:
        client = await live.connect("a/b c")
        node = live.broker.config.node.name
        for prefix in ("/clients", f"/nodes/{node}/clients"):
            shown = await result(v2, f"{prefix}/{path}")
            assert [found["client_id"] for found in shown["objects"]] == ["a/b c"]
        assert (await v2.delete(f"/clients/{path}")).json() == {"code": 0, "result": []}
        await end_of(client)


# -- disconnect


@shows("DELETE /api/v2/clients/:client_id")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_the_session_stays(autojump_clock: MockClock, level: int) -> None:
    """The connection ends as if it had broken: the will goes out, and what is sent meanwhile waits."""
    store = MemoryStore()
    options: dict[str, Any] = {"level": level, "clean_start": False}
    if level == 5:
        options["properties"] = SESSION
    async with running(store=store) as live, older(live, "v2") as v2:
        watcher = await live.connect("watcher")
        await watcher.subscribe("will")
        client = await live.connect(SAMPLE, will=Will("will", b"gone"), **options)
        await client.subscribe("t", 1)
        answer = await v2.delete(f"/clients/{SAMPLE}")
        assert (answer.status_code, answer.json()) == (200, {"code": 0, "result": []})
        ended = await end_of(client)
        assert ended.reason_code == (0x98 if level == 5 else None)
        assert (await one(watcher)).payload == b"gone"
        await live.broker.publish("t", b"x", qos=1)
        info = await live.broker.questions.client(SAMPLE)
        assert info is not None
        assert (info.connected, info.mqueue_len) == (False, 1)
        assert (await v2.delete(f"/clients/{SAMPLE}")).json() == OFFLINE
    async with running(store=store) as live:
        client = await live.connect(SAMPLE, **options)
        assert client.session_present is (level != 3)
        assert (await one(client)).payload == b"x"


@shows("DELETE /api/v2/clients/:client_id")
@pytest.mark.parametrize("level", [4, 5])
async def test_a_clean_session_ends_with_its_connection(autojump_clock: MockClock, level: int) -> None:
    async with running() as live, older(live, "v2") as v2:
        watcher = await live.connect("watcher")
        await watcher.subscribe("will")
        client = await live.connect("c1", level=level, will=Will("will", b"gone"))
        assert (await v2.delete("/clients/c1")).json() == {"code": 0, "result": []}
        await end_of(client)
        assert (await one(watcher)).payload == b"gone"
        assert await live.broker.questions.client("c1") is None
        assert (await v2.delete("/clients/c1")).json() == OFFLINE
        metrics = await live.broker.questions.metrics()
        assert metrics["session.terminated"] == 1


@shows("DELETE /api/v2/clients/:client_id")
async def test_who_is_not_connected(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        await (await live.connect("away", level=4, clean_start=False)).disconnect()
        await settle()
        for client_id in ("away", "nobody"):
            answer = await v2.delete(f"/clients/{client_id}")
            assert (answer.status_code, answer.json()) == (200, OFFLINE)
        assert await live.broker.questions.client("away") is not None


@shows("DELETE /api/v2/clients/:client_id", "PUT /api/v2/clients/:client_id/clean_acl_cache")
async def test_who_may(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        client = await live.connect("c1")
        node = live.broker.config.node.name
        for method, path in (
            ("GET", f"/nodes/{node}/clients"),
            ("GET", f"/nodes/{node}/clients/c1"),
            ("GET", "/clients/c1"),
            ("DELETE", "/clients/c1"),
            ("PUT", "/clients/c1/clean_acl_cache"),
        ):
            answer = await v2.request(method, path, auth=None)
            assert (answer.status_code, answer.content) == (401, b"")
            answer = await v2.request(method, path, auth=WATCHER)
            assert answer.status_code == (200 if method == "GET" else 403)
        assert client.disconnected is None


# -- what is kept of authorization


async def published(client: Client, topic: str, qos: int = 1, retain: bool = False) -> None:
    answer = await client.publish(topic, b"x", qos, retain)
    assert isinstance(answer, PubAck)


async def kept(live: Live, client_id: str) -> list[Request]:
    rows = await live.broker.questions.client_decisions(client_id)
    assert rows is not None
    return [asked for asked, _, _ in rows]


@shows("PUT /api/v2/clients/:client_id/clean_acl_cache")
async def test_what_is_kept_of_one_topic_is_cleared(script: Script) -> None:
    config = Config(authorization=AuthorizationConfig(sources=(FileSourceConfig(),)))
    async with running(config) as live, older(live, "v2") as v2:
        clients = [await live.connect(client_id, level=4) for client_id in (SAMPLE, "c2")]
        for client in clients:
            await published(client, "test")
            await published(client, "test", retain=True)
            await published(client, "test/1")
            await client.subscribe("test", 1)
        answer = await v2.put(f"/clients/{SAMPLE}/clean_acl_cache", json={"topic": "test"})
        assert (answer.status_code, answer.json()) == (200, {"code": 0, "result": []})
        assert await kept(live, SAMPLE) == [Request("publish", "test/1", 1), Request("subscribe", "test", 1)]
        assert len(await kept(live, "c2")) == 4
        script.asked.clear()
        await published(clients[0], "test")
        await published(clients[0], "test/1")
        assert [request.topic for _, request in script.asked] == ["test"]


@shows("PUT /api/v2/clients/:client_id/clean_acl_cache")
async def test_there_is_nothing_to_be_cleared(script: Script) -> None:
    """Neither of this topic, nor where the client may do everything."""
    async with running() as live, older(live, "v2") as v2:
        await live.connect("c1")
        answer = await v2.put("/clients/c1/clean_acl_cache", json={"topic": "test"})
        assert answer.json() == {"code": 0, "result": []}


@shows("PUT /api/v2/clients/:client_id/clean_acl_cache")
async def test_clearing_that_is_refused(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        await live.connect("c1")
        await (await live.connect("away", level=4, clean_start=False)).disconnect()
        await settle()
        for client_id in ("away", "nobody"):
            answer = await v2.put(f"/clients/{client_id}/clean_acl_cache", json={"topic": "test"})
            assert (answer.status_code, answer.json()) == (200, OFFLINE)
        bodies: list[tuple[bytes, int, str]] = [
            (b"", 107, "params error"),
            (b"{}", 107, "params error"),
            (b"[]", 107, "params error"),
            (b'{"topic": 1}', 108, "params type error"),
            (b'{"topic": null}', 108, "params type error"),
            (b'{"topic": "t"', 109, "Body not json"),
        ]
        for body, code, message in bodies:
            answer = await v2.put("/clients/c1/clean_acl_cache", content=body)
            assert (answer.status_code, answer.json()) == (200, {"code": code, "message": message})
