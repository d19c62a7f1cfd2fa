"""`/mqtt/topic_rewrite` over a running broker: what is a rule, and that the list is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from api.live import Live, running
from api.operations import shows

from trio_broker.config import Config, Layers, load
from trio_broker.config.topics import RewriteConfig
from trio_broker.errors import ConfigError
from trio_broker.store.memory import MemoryStore

RULE = {"action": "all", "source_topic": "x/#", "re": "^x/y/(.+)$", "dest_topic": "z/y/$1"}
LIST = [
    RULE,
    {"action": "publish", "source_topic": "+", "re": "", "dest_topic": "${clientid}/${username}"},
    {"action": "subscribe", "source_topic": "a/+", "re": "(?i)b", "dest_topic": "+/$1/#"},
]


async def put(live: Live, rules: Any) -> tuple[int, Any]:
    answer = await live.api.put("/mqtt/topic_rewrite", json=rules)
    return answer.status_code, answer.json()


@shows("GET /mqtt/topic_rewrite", "PUT /mqtt/topic_rewrite")
async def test_the_list_is_replaced_and_kept(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        assert (await live.api.get("/mqtt/topic_rewrite")).json() == []
        assert await put(live, [RULE, RULE]) == (200, [RULE, RULE])
        assert await put(live, LIST) == (200, LIST)
        assert live.broker.questions.settings.config.rewrite[0] == RewriteConfig(**RULE)
    async with running(store=store) as live:
        assert (await live.api.get("/mqtt/topic_rewrite")).json() == LIST
        assert await put(live, []) == (200, [])
    async with running(store=store) as live:
        assert (await live.api.get("/mqtt/topic_rewrite")).json() == []


@shows("GET /mqtt/topic_rewrite", "PUT /mqtt/topic_rewrite")
async def test_a_file_has_them_too_and_rest_covers_it(tmp_path: Path, autojump_clock: object) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[[rewrite]]\nsource_topic = "x/#"\nre = "^x/y/(.+)$"\ndest_topic = "z/y/$1"\n')
    config = load(path, base=Config())
    store = MemoryStore()
    async with running(config, store) as live:
        assert (await live.api.get("/mqtt/topic_rewrite")).json() == [RULE]
        assert await put(live, []) == (200, [])
    async with running(config, store) as live:
        assert (await live.api.get("/mqtt/topic_rewrite")).json() == []


@shows("PUT /mqtt/topic_rewrite")
async def test_what_the_environment_says_stays(autojump_clock: object) -> None:
    environment = {"TRIO_BROKER_REWRITE": '[{source_topic = "a", re = "a", dest_topic = "b"}]'}
    layers = Layers.gather(None, environment, base=Config())
    async with running(layers.config(), layers=layers) as live:
        status, body = await put(live, [RULE])
        assert (status, body["code"]) == (403, "UPDATE_FAILED")
        [rule] = (await live.api.get("/mqtt/topic_rewrite")).json()
        assert rule["dest_topic"] == "b"


@shows("PUT /mqtt/topic_rewrite")
async def test_how_many_there_may_be(autojump_clock: object) -> None:
    async with running() as live:
        assert (await put(live, [RULE] * 19))[0] == 200
        for count in (20, 21, 500):
            assert await put(live, [RULE] * count) == (
                413,
                {"code": "EXCEED_LIMIT", "message": "Max rewrite rules count is 20"},
            )
        assert len((await live.api.get("/mqtt/topic_rewrite")).json()) == 19


WRONG = [
    ({"action": "both"}, "root.2.action", "not_a_enum_symbol"),
    ({"action": None}, "root.2.action", "required_field"),
    ({"source_topic": None}, "root.2.source_topic", "required_field"),
    ({"re": None}, "root.2.re", "required_field"),
    ({"dest_topic": None}, "root.2.dest_topic", "required_field"),
    ({"dest": "x"}, "root.2", "unknown_fields"),
    ({"re": 7}, "root.2.re", "Expected `str`"),
    ({"source_topic": ""}, "root.2.source_topic", "a topic filter is empty"),
    ({"source_topic": "x/#/y"}, "root.2.source_topic", "# must be a level of its own"),
    ({"source_topic": "$share/g/x"}, "root.2.source_topic", "the filter within a shared subscription"),
    ({"re": "("}, "root.2.re", "is no regular expression: missing )"),
    ({"re": r"(a)\1"}, "root.2.re", r"invalid escape sequence \1"),
    ({"dest_topic": ""}, "root.2.dest_topic", "a topic filter is empty"),
    ({"dest_topic": "z/#"}, "root.2.dest_topic", "has a wildcard: nobody can publish there"),
    ({"dest_topic": "+/z", "action": "publish"}, "root.2.dest_topic", "has a wildcard: nobody can publish there"),
    ({"dest_topic": "z#", "action": "subscribe"}, "root.2.dest_topic", "# must be a level of its own"),
    ({"dest_topic": "$queue/z", "action": "subscribe"}, "root.2.dest_topic", "shared subscription"),
]


@pytest.mark.parametrize(("changes", "path", "reason"), WRONG)
@shows("PUT /mqtt/topic_rewrite")
async def test_what_is_no_rule(autojump_clock: object, changes: dict[str, Any], path: str, reason: str) -> None:
    """One that is wrong, and nothing changes."""
    async with running() as live:
        await put(live, [RULE])
        status, body = await put(live, [RULE, {**RULE, **changes}])
        assert (status, body["code"]) == (400, "BAD_REQUEST")
        detail = json.loads(body["message"])
        assert detail["path"] == path
        assert reason in detail["reason"]
        assert (await live.api.get("/mqtt/topic_rewrite")).json() == [RULE]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('source_topic = "a"\nre = "("\ndest_topic = "b"', 'rewrite.1.re: "(" is no regular expression: missing )'),
        ('source_topic = "a"\nre = "a"', 'rewrite.1.dest_topic: "": a topic filter is empty'),
        ('source_topic = "a"\nre = "a"\ndest_topic = "#"', 'rewrite.1.dest_topic: "#" has a wildcard'),
        ('source = "a"', "rewrite.1.source: unknown key"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[[rewrite]]\n{text}\n")
    with pytest.raises(ConfigError) as wrong:
        load(path, base=Config())
    assert str(wrong.value).startswith(f"{path}: {message}")
