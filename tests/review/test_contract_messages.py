"""The REST contract, read afresh: messages that wait for clients, and those on their way to them."""

from __future__ import annotations

import base64
import re
from datetime import datetime
from typing import Any

import pytest
import trio
from api.live import Live, running
from api.operations import shows
from review.contract import MESSAGE_ID, away, failed, got, invalid, post
from trio.testing import MockClock

from trio_broker.protocol.packets import PubComp, PubRec, PubRel

MQUEUE = "/clients/c1/mqueue_messages"
INFLIGHT = "/clients/c1/inflight_messages"
BOTH = pytest.mark.parametrize("path", [MQUEUE, INFLIGHT])


async def waiting(live: Live, path: str, payloads: list[bytes], qos: int = 1) -> None:
    """`c1` has these waiting in its mqueue, or on their way."""
    if path == MQUEUE:
        await away(live, "c1", "t/#", qos=2)
    else:
        client = await live.connect("c1", auto_ack=False)
        await client.subscribe("t/#", 2)
    publisher = await live.connect("pub", username="u9")
    for index, payload in enumerate(payloads):
        await publisher.publish(f"t/{index}", payload, qos)
        await trio.sleep(0.01)


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@BOTH
@pytest.mark.parametrize("level", [4, 5])
async def test_nothing_waits(path: str, level: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1", level=level)
        assert await got(live, path) == {"data": [], "meta": {"start": "none", "position": "none"}}
        assert await got(live, path, position="none") == {"data": [], "meta": {"start": "none", "position": "none"}}


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@BOTH
async def test_a_message(path: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        before = datetime.fromisoformat((await post_and_look(live))["publish_at"]).timestamp()
        await waiting(live, path, [b'{"foo": "bar"}'])
        answer = await got(live, path)
        assert answer.keys() == {"data", "meta"}
        (message,) = answer["data"]
        keys = {"msgid", "topic", "qos", "publish_at", "from_clientid", "from_username", "payload", "inserted_at"}
        assert message.keys() == keys | ({"mqueue_priority"} if path == MQUEUE else set())
        assert MESSAGE_ID.fullmatch(message["msgid"])
        assert (message["topic"], message["qos"]) == ("t/0", 1)
        assert (message["from_clientid"], message["from_username"]) == ("pub", "u9")
        assert message["payload"] == base64.b64encode(b'{"foo": "bar"}').decode()
        assert type(message["publish_at"]) is int
        assert before <= message["publish_at"] / 1000 < before + 3600
        assert re.fullmatch(r"\d{19}", message["inserted_at"])
        assert before <= int(message["inserted_at"]) / 1e9 < before + 3600
        token = message["inserted_at"]
        if path == MQUEUE:
            assert message["mqueue_priority"] == 0
            token += "_0"
        assert answer["meta"] == {"start": token, "position": token}


async def post_and_look(live: Live) -> Any:
    """A retained message that has just been published: what time it is for the broker."""
    await post(live, "now", "x", retain=True)
    return await got(live, "/mqtt/retainer/message/now")


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@BOTH
async def test_who_published(path: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await waiting(live, path, [])
        nameless = await live.connect("nameless")
        await nameless.publish("t/1", b"x", 2)
        identifier = (await post(live, "t/2", "x", qos=2)).json()["id"]
        first, second = (await got(live, path))["data"]
        assert (first["from_clientid"], first["from_username"], first["qos"]) == ("nameless", "undefined", 2)
        assert (second["from_clientid"], second["from_username"]) == ("http_api", "undefined")
        assert second["msgid"] == identifier


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@BOTH
async def test_how_payloads_are_shown(path: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await waiting(live, path, ["größe".encode(), b""])
        for query, expected in [
            ("?payload=base64", ["Z3LDtsOfZQ==", ""]),
            ("", ["Z3LDtsOfZQ==", ""]),
            ("?payload=plain", ["größe", ""]),
            ("?payload=none", [None, None]),
        ]:
            rows = (await got(live, path + query))["data"]
            assert [row.get("payload") for row in rows] == expected
            assert all(("payload" in row) == (query != "?payload=none") for row in rows)
        invalid(await live.api.get(path + "?payload=hex"), "payload", "not_a_enum_symbol")


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@BOTH
async def test_a_payload_that_is_no_text(path: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await waiting(live, path, [b"a", b"\xff\xfe"])
        answer = await live.api.get(path + "?payload=plain")
        failed(answer, 400, "INVALID_PARAMETER", "Some message payloads are not JSON serializable")
        assert (await got(live, path))["data"][1]["payload"] == "//4="


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@BOTH
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
async def test_pages_by_position_to_the_end(path: str, limit: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        await waiting(live, path, [b"%d" % index for index in range(5)])
        seen: list[str] = []
        query: dict[str, Any] = {"limit": limit, "payload": "plain"}
        starts = set()
        for _ in range(20):
            answer = await got(live, path, **query)
            assert answer["meta"].keys() == {"start", "position"}
            starts.add(answer["meta"]["start"])
            if not answer["data"]:
                assert answer["meta"]["position"] == query["position"]
                break
            seen += [row["payload"] for row in answer["data"]]
            last = answer["data"][-1]["inserted_at"] + ("_0" if path == MQUEUE else "")
            assert answer["meta"]["position"] == last
            query["position"] = last
        assert seen == ["0", "1", "2", "3", "4"]
        assert len(starts) == 1
        assert (await got(live, path, position="none", limit=1))["data"][0]["topic"] == "t/0"


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@BOTH
async def test_what_is_gone_does_not_matter_to_a_position(path: str, autojump_clock: MockClock) -> None:
    """Where to go on stays known when the message at that place was delivered in the meantime."""
    async with running() as live:
        await waiting(live, path, [b"0", b"1", b"2"])
        meta = (await got(live, path, limit=1))["meta"]
        later = int(meta["position"].split("_")[0]) + 1
        token = f"{later}" + ("_0" if path == MQUEUE else "")
        answer = await got(live, path, position=token, payload="plain")
        assert [row["payload"] for row in answer["data"]] == ["1", "2"]


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@BOTH
@pytest.mark.parametrize("position", ["x", "1_x", "_", "1_2_3", "-1"])
async def test_what_is_no_position(path: str, position: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await waiting(live, path, [b"0"])
        answer = await live.api.get(path, params={"position": position})
        failed(answer, 400, "INVALID_PARAMETER", "position_limit_invalid")


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@BOTH
@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=10001", "limit=x", "max_payload_bytes=0", "max_payload_bytes=-1", "max_payload_bytes=much"],
)
async def test_what_is_refused(path: str, query: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await waiting(live, path, [b"0"])
        invalid(await live.api.get(f"{path}?{query}"), query.split("=")[0])


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@BOTH
@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("max_payload_bytes=1", 1),
        ("max_payload_bytes=23", 1),
        ("max_payload_bytes=24", 2),
        ("max_payload_bytes=35", 2),
        ("max_payload_bytes=36", 3),
        ("max_payload_bytes=9&payload=plain", 1),
        ("max_payload_bytes=18&payload=plain", 2),
        ("max_payload_bytes=17&payload=plain", 1),
        ("max_payload_bytes=1&payload=none", 4),
        ("max_payload_bytes=1KB", 4),
        ("max_payload_bytes=1kb", 4),
        ("max_payload_bytes=32MB", 4),
        ("", 4),
    ],
)
async def test_how_much_is_shown(path: str, query: str, count: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        await waiting(live, path, [b"123456789"] * 4)
        rows = (await got(live, f"{path}?{query}"))["data"]
        assert [row["topic"] for row in rows] == [f"t/{index}" for index in range(count)]


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@BOTH
async def test_a_megabyte_by_default(path: str, autojump_clock: MockClock) -> None:
    """Counted as it is shown: in base64 400 kB are 533 kB."""
    async with running() as live:
        await waiting(live, path, [b"x" * 400_000] * 3)
        assert len((await got(live, path))["data"]) == 1
        assert len((await got(live, path, payload="plain"))["data"]) == 2
        assert len((await got(live, path, max_payload_bytes="2MB"))["data"]) == 3


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_from_the_queue_to_the_flight_and_away(level: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        options: dict[str, Any] = {"level": level, "clean_start": False}
        if level == 5:
            options["properties"] = {"session_expiry_interval": 3600}
        client = await live.connect("c1", **options)
        await client.subscribe("t/#", 1)
        await client.disconnect()
        for index in range(40):
            assert (await post(live, f"t/{index}", qos=1)).status_code == 200
        assert len((await got(live, MQUEUE))["data"]) == 40
        assert (await got(live, INFLIGHT))["data"] == []
        client = await live.connect("c1", auto_ack=False, **options)
        packets = [await client.receive() for _ in range(32)]
        flying, queued = (await got(live, INFLIGHT))["data"], (await got(live, MQUEUE))["data"]
        assert [row["topic"] for row in flying] == [f"t/{index}" for index in range(32)]
        assert [row["topic"] for row in queued] == [f"t/{index}" for index in range(32, 40)]
        assert (await got(live, "/clients/c1"))["inflight_cnt"] == 32
        assert (await got(live, "/clients/c1"))["mqueue_len"] == 8
        for packet in packets:
            client.acknowledge(packet)
        for _ in range(8):
            client.acknowledge(await client.receive())
        await client.ping()
        assert (await got(live, MQUEUE))["data"] == (await got(live, INFLIGHT))["data"] == []


@shows("GET /clients/:clientid/inflight_messages")
async def test_qos_two_flies_until_pubcomp(autojump_clock: MockClock) -> None:
    async with running() as live:
        await waiting(live, INFLIGHT, [])
        client = await live.connect("c1", auto_ack=False)
        await client.subscribe("t/#", 2)
        await post(live, "t/1", "hello", qos=2)
        packet = await client.receive()
        for step in (None, PubRec(packet.packet_identifier)):
            if step is not None:
                await client.send(step)
                await client.expect(PubRel)
            (row,) = (await got(live, INFLIGHT, payload="plain"))["data"]
            assert (row["payload"], row["qos"]) == ("hello", 2)
        await client.send(PubComp(packet.packet_identifier))
        await client.ping()
        assert (await got(live, INFLIGHT))["data"] == []


@shows("GET /clients/:clientid/inflight_messages", "GET /clients/:clientid/mqueue_messages")
async def test_qos_zero_does_not_fly_but_may_wait(autojump_clock: MockClock) -> None:
    async with running() as live:
        await waiting(live, INFLIGHT, [b"x"], qos=0)
        assert (await got(live, INFLIGHT))["data"] == []
        await away(live, "c1", "t/#", qos=2)
        await post(live, "t/0")
        (row,) = (await got(live, MQUEUE))["data"]
        assert row["qos"] == 0
