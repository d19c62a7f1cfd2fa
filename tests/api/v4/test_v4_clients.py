"""`/clients` of EMQX 4: lists and their filters, look-ups, kicking out."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.protocol.packets import Will
from trio_broker.testing.running import make_config

KEPT: dict[str, Any] = {"properties": {"session_expiry_interval": 3600}}
NOTHING = {"code": 0, "data": []}


async def ids(v4: httpx.AsyncClient, query: str = "", path: str = "/clients") -> list[str]:
    answer = await v4.get(f"{path}?{query}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["code"] == 0, answer.text
    return [row["clientid"] for row in answer.json()["data"]]


async def away(live: Live, client_id: str, **options: Any) -> None:
    """A session whose client is gone."""
    client = await live.connect(client_id, **KEPT | options)
    await client.disconnect()


def nodes_path(live: Live) -> str:
    return f"/nodes/{live.broker.config.node.name}"


@shows("GET /api/v4/clients", "GET /api/v4/nodes/:node/clients")
async def test_the_list_and_its_pages(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        for path in ("/clients", f"{nodes_path(live)}/clients"):
            meta = {"page": 1, "limit": 10000, "count": 0, "hasnext": False}
            assert (await v4.get(path)).json() == {"code": 0, "data": [], "meta": meta}
        await live.connect("c1")
        await away(live, "c2")
        await live.connect("c3", level=4)
        for path in ("/clients", f"{nodes_path(live)}/clients"):
            answer = (await v4.get(path)).json()
            assert answer["meta"] == {"page": 1, "limit": 10000, "count": 3, "hasnext": False}
            assert [row["clientid"] for row in answer["data"]] == ["c1", "c2", "c3"]
            assert [row["connected"] for row in answer["data"]] == [True, False, True]
            pages = {
                "_limit=2": (["c1", "c2"], 1, 2, True),
                "_page=2&_limit=2": (["c3"], 2, 2, False),
                "_page=3&_limit=2": ([], 3, 2, False),
                "_page=0&_limit=2": (["c1", "c2"], 0, 2, True),
                "_page=-7&_limit=1": (["c1"], -7, 1, True),
                "_page=2147483648&_limit=2147483648": ([], 2**31, 2**31, False),
                "_limit=0": ([], 1, 0, True),
                "_limit=1000000": (["c1", "c2", "c3"], 1, 1_000_000, False),
            }
            for query, (found, page, limit, hasnext) in pages.items():
                answer = (await v4.get(f"{path}?{query}")).json()
                assert [row["clientid"] for row in answer["data"]] == found, query
                assert answer["meta"] == {"page": page, "limit": limit, "count": 3, "hasnext": hasnext}


@shows("GET /api/v4/clients", "GET /api/v4/nodes/:node/clients")
async def test_every_filter(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await live.connect("c1", username="u1")
        await trio.sleep(10)
        between = live.broker.questions._core.clock.wall_ms(trio.current_time()) // 1000 - 5
        await away(live, "c2", username="user2", clean_start=False)
        await live.connect("c3/x", level=3)
        everybody = ["c1", "c2", "c3/x"]
        found = {
            "clientid=c3%2Fx": ["c3/x"],
            "clientid=c1&clientid=c2": ["c1"],
            "clientid=nobody": [],
            "clientid=": [],
            "username=u1": ["c1"],
            "username=undefined": [],
            "zone=external": everybody,
            "zone=internal": [],
            "zone=internal&clientid=c1": [],
            "ip_address=127.0.0.1": everybody,
            "ip_address=127.0.0.2": [],
            "conn_state=connected": ["c1", "c3/x"],
            "conn_state=disconnected": ["c2"],
            "conn_state=idle": [],
            "conn_state=connecting": [],
            "clean_start=false": ["c2"],
            "clean_start=true": ["c1", "c3/x"],
            "proto_name=MQTT": ["c1", "c2"],
            "proto_name=MQIsdp": ["c3/x"],
            "proto_name=CoAP": [],
            "proto_ver=3": ["c3/x"],
            "proto_ver=5": ["c1", "c2"],
            "_like_clientid=/x": ["c3/x"],
            "_like_clientid=C": [],
            "_like_clientid=.": [],
            "_like_username=u": ["c1", "c2"],
            "_like_username=": everybody,
            "clientid=c1&_like_clientid=nobody": ["c1"],
            "username=u1&_like_username=nobody": ["c1"],
            f"_gte_created_at={between}": ["c2", "c3/x"],
            f"_lte_created_at={between}": ["c1"],
            f"_gte_connected_at={between}": ["c2", "c3/x"],
            f"_lte_connected_at={between}": ["c1"],
            f"_gte_connected_at={between}&proto_ver=5": ["c2"],
            f"_gte_created_at={between}&_lte_created_at={between}": [],
            "_gte_mqueue_len=0": everybody,
            "_gte_mqueue_len=1": [],
            "_lte_mqueue_dropped=0": everybody,
            "_gte_mqueue_dropped=1": [],
        }
        for path in ("/clients", f"{nodes_path(live)}/clients"):
            for query, expected in found.items():
                answer = (await v4.get(f"{path}?{query}")).json()
                assert ([row["clientid"] for row in answer["data"]], query) == (expected, query)
                assert answer["meta"] == {"page": 1, "limit": 10000, "count": -1, "hasnext": False}
        # What is no filter is ignored.
        answer = (await v4.get("/clients?unknown=1&like_clientid=c1")).json()
        assert (len(answer["data"]), answer["meta"]["count"]) == (3, 3)


@shows("GET /api/v4/clients")
async def test_what_is_shown_as_a_second_is_found_by_it(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await trio.sleep(0.5)
        await live.connect("c1")
        info = await live.broker.questions.client("c1")
        assert info is not None
        second = info.created_at // 1000
        assert await ids(v4, f"_gte_created_at={second}&_lte_created_at={second}") == ["c1"]
        assert await ids(v4, f"_gte_connected_at={second}&_lte_connected_at={second}") == ["c1"]
        assert await ids(v4, f"_lte_created_at={second - 1}") == []
        assert await ids(v4, f"_gte_created_at={second + 1}") == []


@shows("GET /api/v4/clients")
async def test_filters_by_what_waits_and_what_was_dropped(autojump_clock: MockClock) -> None:
    async with running(make_config(Config(), {"mqtt": {"max_mqueue_len": 2}})) as live, older(live, "v4") as v4:
        for client_id, topic in (("none", "x"), ("one", "a"), ("full", "b")):
            client = await live.connect(client_id, **KEPT)
            await client.subscribe(topic, qos=1)
            await client.disconnect()
        await live.broker.publish("a", b"", qos=1)
        for _ in range(5):
            await live.broker.publish("b", b"", qos=1)
        found = {
            "_gte_mqueue_len=1": ["one", "full"],
            "_gte_mqueue_len=2": ["full"],
            "_lte_mqueue_len=1": ["none", "one"],
            "_gte_mqueue_len=1&_lte_mqueue_len=1": ["one"],
            "_gte_mqueue_dropped=3": ["full"],
            "_gte_mqueue_dropped=4": [],
            "_lte_mqueue_dropped=2": ["none", "one"],
        }
        for query, expected in found.items():
            assert (await ids(v4, query), query) == (expected, query)


@shows("GET /api/v4/clients")
async def test_pages_of_what_was_looked_for(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        for number in range(5):
            await live.connect(f"c{number}", username="u")
        for query in ("username=u", "_like_clientid=c", "_like_username=u", "zone=external", "proto_ver=5"):
            for page, rows, hasnext in ((1, ["c0", "c1"], True), (2, ["c2", "c3"], True), (3, ["c4"], False)):
                answer = (await v4.get(f"/clients?{query}&_limit=2&_page={page}")).json()
                assert [row["clientid"] for row in answer["data"]] == rows
                assert answer["meta"] == {"page": page, "limit": 2, "count": -1, "hasnext": hasnext}


@shows("GET /api/v4/clients", "GET /api/v4/nodes/:node/clients")
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("proto_ver=x", 'Can\'t convert <<"x">> to integer type'),
        ("proto_ver=", 'Can\'t convert <<"">> to integer type'),
        ("proto_ver=4.5", 'Can\'t convert <<"4.5">> to integer type'),
        ("_gte_mqueue_len=many", 'Can\'t convert <<"many">> to integer type'),
        ("_lte_mqueue_dropped=-", 'Can\'t convert <<"-">> to integer type'),
        ("_page=one", 'Can\'t convert <<"one">> to integer type'),
        ("_limit=all", 'Can\'t convert <<"all">> to integer type'),
        ("_limit=-1", 'Can\'t convert <<"-1">> to integer type'),
        ("_gte_created_at=x", 'Can\'t convert <<"x">> to timestamp type'),
        ("_lte_created_at=2020-01-01", 'Can\'t convert <<"2020-01-01">> to timestamp type'),
        ("_gte_connected_at=%D9%A3", 'Can\'t convert <<"٣">> to timestamp type'),
        (f"_lte_connected_at={'9' * 5000}", f'Can\'t convert <<"{"9" * 200}">> to timestamp type'),
        ("ip_address=x", 'Can\'t convert <<"x">> to ip type'),
        ("ip_address=::1", 'Can\'t convert <<"::1">> to ip type'),
        ("ip_address=127.0.0.1:1883", 'Can\'t convert <<"127.0.0.1:1883">> to ip type'),
        ("conn_state=gone", 'Can\'t convert <<"gone">> to atom type'),
        ("clean_start=maybe", 'Can\'t convert <<"maybe">> to atom type'),
    ],
)
async def test_filters_that_are_refused(autojump_clock: MockClock, query: str, message: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        for path in ("/clients", f"{nodes_path(live)}/clients"):
            answer = await v4.get(f"{path}?{query}")
            assert (answer.status_code, answer.json()) == (200, {"code": 108, "message": message})


@shows(
    "GET /api/v4/clients/:clientid",
    "GET /api/v4/nodes/:node/clients/:clientid",
    "GET /api/v4/clients/username/:username",
    "GET /api/v4/nodes/:node/clients/username/:username",
)
async def test_look_ups(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await live.connect("a/b", username="ann e")
        await away(live, "c2", username="ann e")
        await live.connect("username", username="u")
        for base in ("", nodes_path(live)):
            one = (await v4.get(f"{base}/clients/a%2Fb")).json()
            assert one.keys() == {"code", "data"}
            assert (one["code"], len(one["data"]), one["data"][0]["clientid"]) == (0, 1, "a/b")
            assert one["data"] == (await v4.get("/clients?clientid=a%2Fb")).json()["data"]
            assert (await v4.get(f"{base}/clients/nobody")).json() == NOTHING
            both = (await v4.get(f"{base}/clients/username/ann%20e")).json()
            assert both.keys() == {"code", "data"}
            assert [(row["clientid"], row["username"]) for row in both["data"]] == [("a/b", "ann e"), ("c2", "ann e")]
            assert (await v4.get(f"{base}/clients/username/nobody")).json() == NOTHING
            # A plus sign in a path is no blank.
            assert (await v4.get(f"{base}/clients/username/ann+e")).json() == NOTHING
            assert await ids(v4, path=f"{base}/clients/username") == ["username"]


@shows("DELETE /api/v4/clients/:clientid", "DELETE /api/v4/nodes/:node/clients/:clientid")
@pytest.mark.parametrize("of_node", [False, True])
async def test_who_is_kicked_out_loses_session_and_connection(autojump_clock: MockClock, of_node: bool) -> None:
    async with running() as live, older(live, "v4") as v4:
        base = nodes_path(live) if of_node else ""
        watcher = await live.connect("watcher")
        await watcher.subscribe("will")
        c1 = await live.connect("c1", will=Will("will", b"gone"), **KEPT)
        c4 = await live.connect("c4", level=4)
        await away(live, "c2")
        for client_id in ("c1", "c4", "c2", "c2", "nobody"):
            answer = await v4.delete(f"{base}/clients/{client_id}")
            assert (answer.status_code, answer.text) == (200, '{"code":0}')
        assert (await c1.wait_ended()).reason_code == 0x98
        assert (await c4.wait_ended()).packet is None
        assert (await watcher.receive()).payload == b"gone"
        assert await ids(v4) == ["watcher"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/clients"),
        ("GET", "/clients/c1"),
        ("GET", "/clients/username/u"),
        ("DELETE", "/clients/c1"),
    ],
)
async def test_a_node_that_there_is_not(autojump_clock: MockClock, method: str, path: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        await live.connect("c1", username="u")
        answer = await v4.request(method, f"/nodes/other@127.0.0.1{path}")
        assert (answer.status_code, answer.text) == (404, "Not found.")
        assert answer.headers["content-type"].startswith("text/plain")
        assert await ids(v4) == ["c1"]


@shows("GET /api/v4/clients")
async def test_a_long_list_leaves_room_for_others(autojump_clock: MockClock) -> None:
    """Its rows are made a few at a time."""
    async with running() as live, older(live, "v4") as v4:
        for number in range(300):
            await live.connect(f"c{number}")
        turns = 0
        done = False

        async def count_turns() -> None:
            nonlocal turns
            while not done:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_turns)
            answer = await v4.get("/clients")
            done = True
        assert len(answer.json()["data"]) == 300
        assert turns > 300 / 96 + 300 / 64
