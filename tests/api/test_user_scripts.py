"""Scripts as users write them: an ordinary program, a synchronous HTTP client, MQTT clients of others, real sockets.

Invariant: a script knows the broker's address and an API key, and nothing of our code.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from api.operations import shows
from sockets.paho_client import PahoClient, Plain, opened

from trio_broker.testing import ThreadedBroker

KEY, SECRET = "script", "a-long-secret"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadedBroker]:
    keys = tmp_path_factory.mktemp("scripts") / "keys"
    keys.write_text(f"{KEY}:{SECRET}\n")
    http = {"bind": "127.0.0.1:0"}
    with ThreadedBroker(dashboard={"listeners": {"http": http}}, api_key={"bootstrap_file": str(keys)}) as broker:
        yield broker


@pytest.fixture
def api(broker: ThreadedBroker) -> Iterator[httpx.Client]:
    assert broker.running.api is not None
    host, port = broker.running.api
    with httpx.Client(base_url=f"http://{host}:{port}/api/v5", auth=(KEY, SECRET), timeout=30) as api:
        yield api
        for client_id in all_clients(api):
            api.delete(f"/clients/{quote(client_id, safe='')}").raise_for_status()
        api.delete("/mqtt/retainer/messages").raise_for_status()


@pytest.fixture
def connect(broker: ThreadedBroker) -> Any:
    def connect(client_id: str, **properties: Any) -> AbstractContextManager[PahoClient]:
        return opened(
            Plain(broker.host, broker.port), client_id, clean="SessionExpiryInterval" not in properties, **properties
        )

    return connect


def rows(api: httpx.Client, path: str, **query: Any) -> Iterator[Any]:
    """All rows of a list, page by page."""
    page, more = 1, True
    while more:
        answer = api.get(path, params={**query, "page": page})
        answer.raise_for_status()
        listed = answer.json()
        yield from listed["data"]
        page, more = page + 1, listed["meta"]["hasnext"]


def all_clients(api: httpx.Client) -> list[str]:
    return [row["clientid"] for row in rows(api, "/clients", limit=2, fields="clientid")]


@shows("GET /status")
def test_is_it_up(api: httpx.Client) -> None:
    root = str(api.base_url).removesuffix("/api/v5/")
    answer = httpx.get(f"{root}/status", params={"format": "json"})
    assert (answer.status_code, answer.json()["app_status"]) == (200, "running")


@shows("GET /clients")
def test_list_all_clients_over_pages(api: httpx.Client, connect: Any) -> None:
    names = [f"device {number}/ä" for number in range(5)]
    for name in names:
        with connect(name, SessionExpiryInterval=3600):
            pass
    with connect("here"):
        assert sorted(all_clients(api)) == sorted([*names, "here"])
        counted = api.get("/clients", params={"conn_state": "connected", "limit": 1}).json()["meta"]["count"]
        assert counted == 1
        found = [row["clientid"] for row in rows(api, "/clients", like_clientid="device", limit=3)]
        assert sorted(found) == names


@shows("POST /publish", "GET /mqtt/retainer/message/:topic", "GET /topics/:topic")
def test_publish_and_read_back(api: httpx.Client, connect: Any) -> None:
    with connect("screen") as screen:
        screen.subscribe("house/#", qos=1)
        assert api.get(f"/topics/{quote('house/#', safe='')}").json()[0]["topic"] == "house/#"
        picture = bytes(range(256))
        body = {
            "topic": "house/camera",
            "payload": base64.b64encode(picture).decode(),
            "payload_encoding": "base64",
            "qos": 1,
            "retain": True,
            "properties": {"content_type": "image/raw", "user_properties": {"room": "hall"}},
        }
        answer = api.post("/publish", json=body)
        answer.raise_for_status()
        message = screen.receive()
        assert (message.topic, bytes(message.payload), message.qos) == ("house/camera", picture, 1)
        assert message.properties is not None
        assert message.properties.UserProperty == [("room", "hall")]
    stored = api.get(f"/mqtt/retainer/message/{quote('house/camera', safe='')}").json()
    assert (stored["msgid"], base64.b64decode(stored["payload"])) == (answer.json()["id"], picture)
    answer = api.post("/publish", json={"topic": "nobody/there", "payload": json.dumps({"a": 1})})
    assert (answer.status_code, answer.json()["reason_code"]) == (202, 16)


@shows("DELETE /clients/:clientid", "POST /clients/kickout/bulk", "GET /clients/:clientid")
def test_kick_clients(api: httpx.Client, connect: Any) -> None:
    with connect("a/b") as first, connect("second", SessionExpiryInterval=3600) as second, connect("third") as third:
        assert api.get(f"/clients/{quote('a/b', safe='')}").json()["connected"] is True
        assert api.delete(f"/clients/{quote('a/b', safe='')}").status_code == 204
        ended = first.disconnected()
        assert (ended.from_broker, ended.value) == (True, 0x98)
        answer = api.get(f"/clients/{quote('a/b', safe='')}")
        assert (answer.status_code, answer.json()["code"]) == (404, "CLIENTID_NOT_FOUND")
        assert api.post("/clients/kickout/bulk", json=["second", "nobody"]).status_code == 204
        assert second.disconnected().value == 0x98
        assert all_clients(api) == ["third"]
        third.publish("still", b"here")


@shows("GET /mqtt/retainer/messages", "DELETE /mqtt/retainer/message/:topic", "POST /publish/bulk")
def test_clean_up_retained_messages(api: httpx.Client) -> None:
    """Those of devices that are no more; a device is known by its topic."""
    messages = [{"topic": f"devices/{number}/state", "payload": "on", "retain": True} for number in range(9)]
    answer = api.post("/publish/bulk", json=messages)
    assert (answer.status_code, len(answer.json())) == (202, 9)
    for row in list(rows(api, "/mqtt/retainer/messages", topic="devices/+/state", limit=4)):
        if int(row["topic"].split("/")[1]) >= 3:
            api.delete(f"/mqtt/retainer/message/{quote(row['topic'], safe='')}").raise_for_status()
    assert [row["topic"] for row in rows(api, "/mqtt/retainer/messages")] == [f"devices/{n}/state" for n in range(3)]
    assert api.delete(f"/mqtt/retainer/message/{quote('devices/#', safe='')}").status_code == 204
    assert list(rows(api, "/mqtt/retainer/messages")) == []


@shows("GET /clients/:clientid/mqueue_messages", "POST /clients/:clientid/subscribe")
def test_look_at_what_waits_for_a_client(api: httpx.Client, connect: Any) -> None:
    """Subscribed on its behalf while it is away, and page by page by position."""
    with connect("kitchen", SessionExpiryInterval=3600):
        pass
    answer = api.post("/clients/kitchen/subscribe", json={"topic": "orders/#", "qos": 1})
    assert (answer.status_code, answer.json()["topic"]) == (200, "orders/#")
    for number in range(7):
        assert api.post("/publish", json={"topic": f"orders/{number}", "payload": "x", "qos": 1}).status_code == 200
    seen: list[str] = []
    position = "none"
    while page := api.get("/clients/kitchen/mqueue_messages", params={"position": position, "limit": 3}).json():
        if not page["data"]:
            break
        seen += [row["topic"] for row in page["data"]]
        position = page["meta"]["position"]
    assert seen == [f"orders/{number}" for number in range(7)]
    with connect("kitchen", SessionExpiryInterval=3600) as kitchen:
        assert [kitchen.receive().topic for _ in range(7)] == seen


def test_errors_that_scripts_see(api: httpx.Client) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        api.get("/clients", auth=("script", "wrong")).raise_for_status()
    answer = api.post("/publish", content='{"topic": "t", "payload": "p"}')
    assert (answer.status_code, answer.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    answer = api.post("/publish", json={"topic": "t", "payload": {"not": "text"}})
    assert (answer.status_code, json.loads(answer.json()["message"])["path"]) == (400, "root.payload")
    answer = api.get("/client")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html")
    answer = api.get("/client", headers={"Accept": "application/json"})
    assert answer.json() == {"code": "NOT_FOUND", "message": "Request Path Not Found"}
