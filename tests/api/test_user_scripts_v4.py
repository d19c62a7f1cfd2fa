"""Scripts as users of EMQX 4 and EMQ 2 write them: an ordinary program, a synchronous HTTP client, real sockets.

Invariant: a script knows an address, an application or a user, and nothing of our code; it was written for EMQX.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from api.operations import shows
from sockets.paho_client import V311, PahoClient, Plain, opened

from trio_broker.testing import ThreadedBroker

APP_ID, APP_SECRET = "script", "a-long-secret"
PASSWORD = "public-but-long-1"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadedBroker]:
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "keys").write_text(f"{APP_ID}:{APP_SECRET}\n")
    anywhere = {"bind": "127.0.0.1:0"}
    with ThreadedBroker(
        node={"data_dir": str(folder / "data")},
        dashboard={"default_password": PASSWORD},
        api={"v4": {**anywhere, "cloud": True}, "v2": anywhere},
        api_key={"bootstrap_file": str(folder / "keys")},
    ) as broker:
        yield broker


class Emqx:
    """What one finds in many scripts: a session, and an exception where `code` is not 0."""

    def __init__(self, base: str, auth: tuple[str, str]) -> None:
        self.session = httpx.Client(base_url=base, auth=auth, timeout=30)

    def call(self, method: str, path: str, **more: Any) -> Any:
        answer = self.session.request(method, path, **more)
        answer.raise_for_status()
        body = answer.json()
        if body.get("code") != 0:
            raise RuntimeError(f"{body.get('code')}: {body.get('message')}")
        return body


@pytest.fixture
def emqx(broker: ThreadedBroker) -> Iterator[Emqx]:
    assert broker.running.api_v4 is not None
    host, port = broker.running.api_v4
    emqx = Emqx(f"http://{host}:{port}/api/v4", (APP_ID, APP_SECRET))
    with emqx.session:
        yield emqx
        for client in emqx.call("GET", "/clients")["data"]:
            emqx.call("DELETE", f"/clients/{quote(client['clientid'], safe='')}")
        for ban in emqx.call("GET", "/banned")["data"]:
            emqx.call("DELETE", f"/banned/{ban['as']}/{quote(ban['who'], safe='')}")


@pytest.fixture
def emq2(broker: ThreadedBroker, emqx: Emqx) -> Iterator[httpx.Client]:
    """`emqx` clears up behind it."""
    assert broker.running.api_v2 is not None
    host, port = broker.running.api_v2
    with httpx.Client(base_url=f"http://{host}:{port}/api/v2", auth=("admin", PASSWORD), timeout=30) as api:
        yield api


@pytest.fixture
def connect(broker: ThreadedBroker) -> Any:
    def connect(client_id: str, clean: bool = True, **more: Any) -> AbstractContextManager[PahoClient]:
        return opened(Plain(broker.host, broker.port), client_id, V311, clean=clean, **more)

    return connect


@shows("GET /api/v4/clients")
def test_list_all_clients_over_pages(emqx: Emqx, connect: Any) -> None:
    names = [f"device {number}/ä" for number in range(5)]
    for name in names:
        with connect(name, clean=False):
            pass
    with connect("here"):
        found, page = [], 1
        while True:
            listed = emqx.call("GET", "/clients", params={"_page": page, "_limit": 2})
            found += [row["clientid"] for row in listed["data"]]
            if not listed["meta"]["hasnext"]:
                break
            page += 1
        assert sorted(found) == sorted([*names, "here"])
        assert listed["meta"] == {"page": 3, "limit": 2, "count": 6, "hasnext": False}
        online = emqx.call("GET", "/clients", params={"conn_state": "connected"})
        assert [row["clientid"] for row in online["data"]] == ["here"]
        some = emqx.call("GET", "/clients", params={"_like_clientid": "device"})
        assert (len(some["data"]), some["meta"]["count"]) == (5, -1)
        (one,) = emqx.call("GET", f"/clients/{quote(names[0], safe='')}")["data"]
        assert (one["clientid"], one["connected"], one["clean_start"]) == (names[0], False, False)


@shows("DELETE /api/v4/clients/:clientid", "POST /api/v4/banned", "DELETE /api/v4/banned/:as/:who")
def test_kick_and_ban_a_client_that_misbehaves(emqx: Emqx, connect: Any) -> None:
    with connect("noisy") as noisy:
        until = int(time.time()) + 3600
        ban = {"who": "noisy", "as": "clientid", "reason": "noisy", "by": "script", "until": until}
        made = emqx.call("POST", "/banned", json=ban)["data"]
        assert {name: made[name] for name in ban} == ban
        emqx.call("DELETE", "/clients/noisy")
        assert noisy.disconnected().from_broker is False  # MQTT 3.1.1 is told nothing
    assert emqx.call("GET", "/clients/noisy")["data"] == []
    with pytest.raises(AssertionError), connect("noisy"):
        pass
    emqx.call("DELETE", "/banned/clientid/noisy")
    with connect("noisy"):
        (row,) = emqx.call("GET", "/clients/noisy")["data"]
        assert row["connected"] is True


@shows("POST /api/v4/mqtt/publish_batch", "POST /api/v4/mqtt/subscribe_batch", "POST /api/v4/mqtt/subscribe")
def test_subscribe_and_publish_many_at_once(emqx: Emqx, connect: Any) -> None:
    with connect("screen") as screen:
        wanted = [{"clientid": "screen", "topic": "house/#", "qos": 1}, {"clientid": "nobody", "topic": "x"}]
        assert [row["code"] for row in emqx.call("POST", "/mqtt/subscribe_batch", json=wanted)["data"]] == [0, 112]
        (row,) = emqx.call("GET", "/subscriptions/screen")["data"]
        assert (row["topic"], row["qos"]) == ("house/#", 1)
        messages: list[dict[str, Any]] = [
            {"topic": f"house/{number}", "payload": "on", "qos": 1} for number in range(3)
        ]
        sent = emqx.call("POST", "/mqtt/publish_batch", json=[*messages, {"topic": "house/+", "payload": "x"}])
        assert [row["code"] for row in sent["data"]] == [0, 0, 0, 115]
        assert sorted(screen.receive().topic for _ in range(3)) == [f"house/{number}" for number in range(3)]
        emqx.call("POST", "/mqtt/publish", json={"topics": "house/a,house/b", "payload": "QUJD", "encoding": "base64"})
        assert {(one.topic, bytes(one.payload)) for one in (screen.receive(), screen.receive())} == {
            ("house/a", b"ABC"),
            ("house/b", b"ABC"),
        }
        emqx.call("POST", "/mqtt/unsubscribe", json={"clientid": "screen", "topic": "house/#"})
        assert emqx.call("GET", "/subscriptions/screen")["data"] == []


@shows("POST /api/v4/mqtt/publish")
def test_parameters_in_the_query_as_curl_users_have_them(emqx: Emqx, connect: Any) -> None:
    with connect("screen") as screen:
        screen.subscribe("t/1", qos=1)
        emqx.call("POST", "/mqtt/publish?topic=t/1&payload=hello%20world&qos=1&clientid=shell")
        assert bytes(screen.receive().payload) == b"hello world"


@shows("GET /api/v4/metrics", "GET /api/v4/stats", "GET /api/v4/brokers", "GET /api/v4/emqx_prometheus")
def test_an_exporter(emqx: Emqx, connect: Any) -> None:
    """It asks for figures under the names of EMQX 4, and sums them up over the nodes."""
    with connect("c1") as client:
        client.publish("t", b"x", qos=1)
        nodes = [row["node"] for row in emqx.call("GET", "/brokers")["data"]]
        sums: dict[str, int] = {}
        for row in emqx.call("GET", "/metrics")["data"]:
            assert row["node"] in nodes
            for name, value in row["metrics"].items():
                sums[name] = sums.get(name, 0) + value
        assert sums["packets.publish.received"] >= 1
        assert sums["client.connected"] >= 1
        (stats,) = emqx.call("GET", "/stats")["data"]
        assert (stats["stats"]["connections.count"], stats["stats"]["live_connections.count"]) == (1, 1)
        scraped = httpx.get(f"{emqx.session.base_url}emqx_prometheus", params={"type": "prometheus"})
        assert "emqx_connections_count 1" in scraped.text


@shows("GET /api/v4/clients")
def test_a_script_for_the_cloud(broker: ThreadedBroker, emqx: Emqx, connect: Any) -> None:
    """The address of a deployment ends in `/api`, and what comes behind it is the same."""
    cloud = str(emqx.session.base_url).removesuffix("/v4/")
    with connect("c1"):
        rows = httpx.get(f"{cloud}/clients", auth=(APP_ID, APP_SECRET)).json()
        assert [row["clientid"] for row in rows["data"]] == ["c1"]
        done = httpx.post(f"{cloud}/mqtt/subscribe", auth=(APP_ID, APP_SECRET), json={"clientid": "c1", "topic": "a"})
        assert done.json() == {"code": 0}


def test_errors_that_scripts_for_emqx_4_see(emqx: Emqx) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        emqx.call("GET", "/clients", auth=("script", "wrong"))
    with pytest.raises(RuntimeError, match="112: channel_not_found"):
        emqx.call("POST", "/mqtt/subscribe", json={"clientid": "nobody", "topic": "a"})
    with pytest.raises(RuntimeError, match="115: bad_topic"):
        emqx.call("POST", "/mqtt/publish", json={"payload": "to whom?"})
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        emqx.call("POST", "/mqtt/publish", content=b'{"topic": "t",}')
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        emqx.call("GET", "/client")
    with pytest.raises(httpx.HTTPStatusError, match="404"):  # that is at the dashboard's port
        emqx.call("GET", "/apps")


@shows("GET /api/v2/clients/:client_id", "POST /api/v2/mqtt/publish", "DELETE /api/v2/clients/:client_id")
def test_a_script_of_emq_2(emq2: httpx.Client, connect: Any) -> None:
    with connect("old", clean=False) as old:
        node = emq2.get("/management/nodes").json()["result"][0]["name"]
        page = emq2.get(f"/nodes/{node}/clients", params={"curr_page": 1, "page_size": 50}).json()["result"]
        assert [row["client_id"] for row in page["objects"]] == ["old"]
        subscribed = emq2.post("/mqtt/subscribe", json={"client_id": "old", "topic": "t/1", "qos": 1})
        assert subscribed.json() == {"code": 0, "result": []}
        body = {"topic": "t/1", "payload": "hello", "qos": 1, "retain": False, "client_id": "C_1492145414740"}
        assert emq2.post("/mqtt/publish", json=body).json() == {"code": 0, "result": []}
        assert bytes(old.receive().payload) == b"hello"
        assert emq2.delete("/clients/old").json() == {"code": 0, "result": []}
        assert old.disconnected().from_broker is False
    assert emq2.get("/clients/old").json() == {"code": 0, "result": {"objects": []}}
    (session,) = emq2.get("/sessions/old").json()["result"]["objects"]
    assert (session["client_id"], session["subscriptions"]) == ("old", 1)
    assert emq2.delete("/clients/old").json() == {"code": 112}
