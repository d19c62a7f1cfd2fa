"""`/clients`: the object, the filters, paging, kicking."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from api.fake_questions import NODE, NOW_MS, FakeQuestions
from api.operations import shows

from trio_broker.actors.questions import ClientFilter

COUNTERS = {
    "recv_oct": 1,
    "send_oct": 2,
    "recv_cnt": 3,
    "send_cnt": 4,
    "recv_pkt": 5,
    "send_pkt": 6,
    "recv_msg": 7,
    "send_msg": 8,
    "recv_msg.qos0": 9,
    "recv_msg.qos1": 10,
    "recv_msg.qos2": 11,
    "send_msg.qos0": 12,
    "send_msg.qos1": 13,
    "send_msg.qos2": 14,
    "recv_msg.dropped": 15,
    "recv_msg.dropped.await_pubrel_timeout": 16,
    "send_msg.dropped": 17,
    "send_msg.dropped.expired": 18,
    "send_msg.dropped.queue_full": 19,
    "send_msg.dropped.too_large": 20,
}
ODD_IDS = ["a/b", "a b", "#", "+/#", "ü€", "a%2Fb", "a+b", "a:b", "a?b=c", "kickout", "."]


@shows("GET /clients/:clientid")
async def test_the_client_object(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    questions.add("c1")
    shown = (await api.get("/clients/c1")).json()
    connected_at, created_at = shown.pop("connected_at"), shown.pop("created_at")
    assert shown == {
        "clientid": "c1",
        "username": "u1",
        "node": NODE,
        "connected": True,
        "ip_address": "127.0.0.1",
        "port": 50001,
        "listener": "tcp:default",
        "proto_name": "MQTT",
        "proto_ver": 5,
        "keepalive": 60,
        "clean_start": True,
        "expiry_interval": 0,
        "is_bridge": False,
        "is_persistent": False,
        "is_expired": False,
        "durable": False,
        "enable_authn": True,
        "mountpoint": None,
        "subscriptions_cnt": 1,
        "subscriptions_max": "infinity",
        "inflight_cnt": 2,
        "inflight_max": 32,
        "mqueue_len": 3,
        "mqueue_max": 1000,
        "mqueue_dropped": 4,
        "awaiting_rel_cnt": 5,
        "awaiting_rel_max": 100,
        "mailbox_len": 6,
        "heap_size": 0,
        "reductions": 0,
        **COUNTERS,
    }
    assert datetime.fromisoformat(connected_at).timestamp() == NOW_MS / 1000
    assert datetime.fromisoformat(created_at).timestamp() == (NOW_MS - 1000) / 1000
    assert connected_at[-10:-5] == ".487+" or connected_at[-10:-5] == ".487-"


@shows("GET /clients/:clientid")
async def test_a_session_that_lives_on_and_a_certificate(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    questions.add(
        "c1",
        connected=False,
        disconnected_at=NOW_MS + 5,
        username=None,
        expiry_interval=7200,
        subscriptions_max=10,
        awaiting_rel_max=None,
        certificate_common_name="device",
        certificate_distinguished_name="CN=device",
    )
    shown = (await api.get("/clients/c1")).json()
    assert (shown["connected"], shown["username"], shown["is_persistent"]) == (False, None, True)
    assert datetime.fromisoformat(shown["disconnected_at"]).timestamp() == (NOW_MS + 5) / 1000
    assert (shown["subscriptions_max"], shown["awaiting_rel_max"]) == (10, "infinity")
    assert (shown["cn"], shown["dn"]) == ("device", "CN=device")


@shows(
    "GET /clients/:clientid",
    "DELETE /clients/:clientid",
    "GET /clients/:clientid/subscriptions",
    "GET /clients/:clientid/mqueue_messages",
    "GET /clients/:clientid/inflight_messages",
)
async def test_an_unknown_client(api: httpx.AsyncClient) -> None:
    for method, path in [
        ("GET", "/clients/no"),
        ("DELETE", "/clients/no"),
        ("GET", "/clients/no/subscriptions"),
        ("GET", "/clients/no/mqueue_messages"),
        ("GET", "/clients/no/inflight_messages"),
    ]:
        answer = await api.request(method, path)
        assert answer.status_code == 404
        assert answer.json() == {"code": "CLIENTID_NOT_FOUND", "message": "Client ID not found"}


@shows("GET /clients/:clientid", "DELETE /clients/:clientid")
@pytest.mark.parametrize("client_id", ODD_IDS)
async def test_ids_are_percent_decoded_segment_by_segment(
    api: httpx.AsyncClient, questions: FakeQuestions, client_id: str
) -> None:
    questions.add(client_id, "t")
    path = "/clients/" + quote(client_id, safe="").replace(".", "%2E")
    assert (await api.get(path)).json()["clientid"] == client_id
    assert (await api.get(path + "/subscriptions")).json()[0]["clientid"] == client_id
    assert (await api.delete(path)).status_code == 204
    assert (await api.get(path)).status_code == 404


@shows("GET /clients")
async def test_list_and_paging(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    for number in range(5):
        questions.add(f"c{number}")
    listed = (await api.get("/clients", params={"page": 2, "limit": 2})).json()
    assert [row["clientid"] for row in listed["data"]] == ["c2", "c3"]
    assert listed["meta"] == {"page": 2, "limit": 2, "count": 5, "hasnext": True}
    listed = (await api.get("/clients", params={"page": 3, "limit": 2})).json()
    assert (len(listed["data"]), listed["meta"]["hasnext"]) == (1, False)
    listed = (await api.get("/clients", params={"page": 9})).json()
    assert listed == {"data": [], "meta": {"page": 9, "limit": 100, "count": 5, "hasnext": False}}


@shows("GET /clients")
@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("clientid=a&clientid=b%2Fc", ClientFilter(client_ids=("a", "b/c"))),
        ("username=u&username=v&unknown=1", ClientFilter(usernames=("u", "v"))),
        ("ip_address=127.0.0.1", ClientFilter(ip_address="127.0.0.1")),
        ("ip_address=0:0:0:0:0:0:0:1", ClientFilter(ip_address="::1")),
        ("conn_state=disconnected&node=" + quote(NODE), ClientFilter(connection_state="disconnected")),
        ("conn_state=idle", ClientFilter(connection_state="idle")),
        ("clean_start=false", ClientFilter(clean_start=False)),
        ("clean_start=true", ClientFilter(clean_start=True)),
        ("proto_ver=4", ClientFilter(protocol_level=4)),
        ("like_clientid=a%25&like_username=b", ClientFilter(like_client_id="a%", like_username="b")),
        ("clientid=a&like_clientid=b", ClientFilter(client_ids=("a",))),
        ("username=a&like_username=b", ClientFilter(usernames=("a",))),
        (
            "gte_created_at=1000&lte_created_at=2024-01-01T00:00:00.5Z",
            ClientFilter(gte_created_at=1000, lte_created_at=1_704_067_200_500),
        ),
        # An unescaped + reaches us as a space.
        (
            "gte_connected_at=2024-01-01T08:00:00+08:00&lte_connected_at=2024-01-01T08:00:00%2B08:00",
            ClientFilter(gte_connected_at=1_704_067_200_000, lte_connected_at=1_704_067_200_000),
        ),
    ],
)
async def test_filters(api: httpx.AsyncClient, questions: FakeQuestions, query: str, wanted: ClientFilter) -> None:
    listed = (await api.get(f"/clients?{query}")).json()
    assert questions.asked == [wanted]
    fuzzy = wanted.like_client_id is not None or wanted.like_username is not None
    assert ("count" in listed["meta"]) is not fuzzy
    assert listed["meta"]["hasnext"] is False


@shows("GET /clients")
@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("page=0", "page"),
        ("page=x", "page"),
        ("page=", "page"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("page=99999999999999999999", "page"),
        ("conn_state=gone", "conn_state"),
        ("clean_start=maybe", "clean_start"),
        ("gte_created_at=yesterday", "gte_created_at"),
        ("lte_connected_at=2024-01-01T00:00:00", "lte_connected_at"),
        ("fields=clientid,listener", "fields"),
        ("fields=", "fields"),
    ],
)
async def test_parameters_that_are_refused(api: httpx.AsyncClient, query: str, path: str) -> None:
    answer = await api.get(f"/clients?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
    detail = json.loads(answer.json()["message"])
    assert (detail["kind"], detail["path"]) == ("validation_error", path)
    assert detail["reason"]


@shows("GET /clients")
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("ip_address=foo", "the ip_address parameter expected type is ip, but the value is foo"),
        ("proto_ver=five", "the proto_ver parameter expected type is integer, but the value is five"),
    ],
)
async def test_filter_values_of_a_wrong_type(api: httpx.AsyncClient, query: str, message: str) -> None:
    answer = await api.get(f"/clients?{query}")
    assert (answer.status_code, answer.json()) == (400, {"code": "INVALID_PARAMETER", "message": message})


@shows("GET /clients", "GET /subscriptions")
@pytest.mark.parametrize("path", ["/clients", "/subscriptions"])
async def test_an_unknown_node(api: httpx.AsyncClient, path: str) -> None:
    answer = await api.get(path, params={"node": "emqx@elsewhere"})
    assert answer.status_code == 500
    assert answer.json() == {
        "code": "NODE_DOWN",
        "message": 'bad rpc call emqx@elsewhere, Reason <<"invalid node">>',
    }


@shows("GET /clients")
@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ("clientid", {"clientid": "c1"}),
        ("clientid,recv_msg.qos1, mqueue_len", {"clientid": "c1", "recv_msg.qos1": 10, "mqueue_len": 3}),
        ("username,disconnected_at,client_attrs,seqno_q2_next", {"username": "u1"}),
    ],
)
async def test_selected_fields(
    api: httpx.AsyncClient, questions: FakeQuestions, fields: str, row: dict[str, Any]
) -> None:
    questions.add("c1")
    listed = (await api.get("/clients", params={"fields": fields})).json()
    assert listed == {"data": [row], "meta": {"page": 1, "limit": 100, "count": 1, "hasnext": False}}


@shows("GET /clients")
async def test_all_fields(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    questions.add("c1")
    listed = (await api.get("/clients", params={"fields": "all"})).json()
    assert listed["data"] == [(await api.get("/clients/c1")).json()]


@shows("GET /clients")
async def test_a_long_list(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    for number in range(1000):
        questions.add(f"c{number}")
    listed = (await api.get("/clients", params={"limit": 10_000})).json()
    assert len({row["clientid"] for row in listed["data"]}) == 1000


@shows("POST /clients/kickout/bulk")
async def test_kick_many(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    questions.add("c1")
    questions.add("c2")
    assert (await api.post("/clients/kickout/bulk", json=[])).status_code == 204
    answer = await api.post("/clients/kickout/bulk", json=["c1", "nobody", "c1"])
    assert (answer.status_code, answer.content) == (204, b"")
    assert list(questions.sessions) == ["c2"]


@shows("POST /clients/kickout/bulk")
@pytest.mark.parametrize("body", [{}, {"clientid": "c1"}, ["c1", 2], "c1", None])
async def test_kick_many_wants_a_list_of_ids(api: httpx.AsyncClient, questions: FakeQuestions, body: Any) -> None:
    questions.add("c1")
    answer = await api.post(
        "/clients/kickout/bulk", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
    assert "c1" in questions.sessions
