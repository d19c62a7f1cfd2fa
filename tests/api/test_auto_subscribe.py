"""`/mqtt/auto_subscribe` over a running broker: what is a topic, and that the list is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from api.live import Live, running
from api.operations import shows

from trio_broker.config import Config, Layers, load
from trio_broker.errors import ConfigError
from trio_broker.store.memory import MemoryStore

PLAIN = {"qos": 0, "rh": 0, "rap": 0, "nl": 0}
FULL = {"topic": "/c/${clientid}/${username}/${host}/${port}/#", "qos": 2, "rh": 1, "rap": 1, "nl": 1}


async def put(live: Live, topics: Any) -> tuple[int, Any]:
    answer = await live.api.put("/mqtt/auto_subscribe", json=topics)
    return answer.status_code, answer.json()


async def get(live: Live) -> Any:
    return (await live.api.get("/mqtt/auto_subscribe")).json()


@shows("GET /mqtt/auto_subscribe", "PUT /mqtt/auto_subscribe")
async def test_the_list_is_replaced_and_kept(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        assert await get(live) == []
        assert await put(live, [{"topic": "a"}, {"topic": "b"}]) == (
            200,
            [{"topic": "a", **PLAIN}, {"topic": "b", **PLAIN}],
        )
        shared = {"topic": "$share/${clientid}/x", **PLAIN}
        assert await put(live, [FULL, {"topic": "$share/${clientid}/x", "qos": "0"}]) == (200, [FULL, shared])
    async with running(store=store) as live:
        assert await get(live) == [FULL, shared]
        assert await put(live, []) == (200, [])
    async with running(store=store) as live:
        assert await get(live) == []


@shows("GET /mqtt/auto_subscribe", "PUT /mqtt/auto_subscribe")
async def test_a_file_has_them_too_and_rest_covers_it(tmp_path: Path, autojump_clock: object) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[[auto_subscribe.topics]]\ntopic = "a"\nqos = 1\n\n[[auto_subscribe.topics]]\ntopic = "b"\n')
    config, store = load(path, base=Config()), MemoryStore()
    async with running(config, store) as live:
        assert await get(live) == [{"topic": "a", **PLAIN, "qos": 1}, {"topic": "b", **PLAIN}]
        assert await put(live, [FULL]) == (200, [FULL])
    async with running(config, store) as live:
        assert await get(live) == [FULL]


@shows("PUT /mqtt/auto_subscribe")
async def test_what_the_environment_says_stays(autojump_clock: object) -> None:
    layers = Layers.gather(None, {"TRIO_BROKER_AUTO_SUBSCRIBE__TOPICS": '[{topic = "a"}]'}, base=Config())
    async with running(layers.config(), layers=layers) as live:
        status, body = await put(live, [FULL])
        assert (status, body["code"]) == (403, "UPDATE_FAILED")
        assert await get(live) == [{"topic": "a", **PLAIN}]


@shows("PUT /mqtt/auto_subscribe")
async def test_how_many_there_may_be(autojump_clock: object) -> None:
    async with running() as live:
        assert (await put(live, [FULL] * 20))[0] == 200
        status, body = await put(live, [FULL] * 21)
        assert (status, body["code"]) == (409, "EXCEED_LIMIT")
        assert "20" in body["message"]
        assert len(await get(live)) == 20


@pytest.mark.parametrize(
    ("changes", "path", "reason"),
    [
        ({"topic": None}, "root.2.topic", "required_field"),
        ({"topic": ""}, "root.2.topic", "a topic filter is empty"),
        ({"topic": "a#"}, "root.2.topic", "# must be a level of its own"),
        ({"topic": "$share/g"}, "root.2.topic", "a shared subscription has no topic filter"),
        ({"topic": "a", "x": 1}, "root.2", "unknown_fields"),
        ({"topic": "a", "qos": 3}, "root.2.qos", "<= 2"),
        ({"topic": "a", "qos": "x"}, "root.2.qos", "Expected `int`"),
        ({"topic": "a", "rh": 3}, "root.2.rh", "<= 2"),
        ({"topic": "a", "rap": 2}, "root.2.rap", "<= 1"),
        ({"topic": "a", "nl": -1}, "root.2.nl", ">= 0"),
        ({"topic": "$share/g/a", "nl": 1}, "root.2.nl", "must be 0 for a shared subscription"),
    ],
)
@shows("PUT /mqtt/auto_subscribe")
async def test_what_is_no_topic(autojump_clock: object, changes: dict[str, Any], path: str, reason: str) -> None:
    """One that is wrong, and nothing changes."""
    async with running() as live:
        await put(live, [FULL])
        status, body = await put(live, [FULL, changes])
        assert (status, body["code"]) == (400, "BAD_REQUEST")
        detail = json.loads(body["message"])
        assert detail["path"] == path
        assert reason in detail["reason"]
        assert await get(live) == [FULL]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('topic = "a/#/b"', 'auto_subscribe.topics.1.topic: "a/#/b": # must be a level of its own'),
        ("qos = 1", 'auto_subscribe.topics.1.topic: "": a topic filter is empty'),
        ('topic = "a"\nqos = 3', "auto_subscribe.topics.1.qos: 3 is not a whole number from 0 to 2"),
        ('topic = "$queue/a"\nnl = 1', "auto_subscribe.topics.1.nl: must be 0"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[[auto_subscribe.topics]]\n{text}\n")
    with pytest.raises(ConfigError) as wrong:
        load(path, base=Config())
    assert str(wrong.value).startswith(f"{path}: {message}")
