"""The table of what operations ask says what their handlers ask, and every operation of an older generation asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import build_questions_table
from docs.build_questions_table import GENERATIONS, questions_of
from trio_broker.actors.api_keys import ApiKeys
from trio_broker.actors.questions import Questions
from trio_broker.api import v2, v4
from trio_broker.api.context import Api
from trio_broker.api.v5 import publish, stats

ASK_NOTHING = {"GET /api/v4/telemetry/data", "GET /api/v4/telemetry/status", "PUT /api/v4/telemetry/status"}
"""Operations of v2 and v4 whose answer is the same whatever the broker does."""


def test_the_table_of_questions_is_up_to_date() -> None:
    table = build_questions_table.PAGE.read_text(encoding="utf-8")
    assert table == build_questions_table.page(), "python docs/build_questions_table.py writes it"


def test_every_operation_of_an_older_generation_asks_something() -> None:
    silent = {
        f"{route.method} {base}{route.path}"
        for base in (v2.BASE_PATH, v4.BASE_PATH)
        for route in GENERATIONS[base]
        if not questions_of(route.handler)
    }
    assert silent == ASK_NOTHING


def test_what_is_asked_is_there_to_be_asked() -> None:
    known = {*vars(Questions), *Questions.__annotations__}
    asked = {
        question for routes in GENERATIONS.values() for route in routes for question in questions_of(route.handler)
    }
    assert {question.partition(".")[0] for question in asked} <= known
    assert len(asked) > 50


async def _aliased(api: Api, name: str) -> object:
    keys, now = api.questions.api_keys, 1
    if (found := keys.get(name)) is None:
        await _through_another(api.questions)
    api.check_node(name)
    return [found, now, api.level]


async def _through_another(questions: Questions) -> None:
    await questions.kick("c1")
    _of_a_part(questions.api_keys, "x")


def _of_a_part(keys: ApiKeys, other: str) -> object:
    return keys.rows() if other else keys.now()


def test_aliases_and_what_is_called_are_followed() -> None:
    assert questions_of(_of_a_part) == ["api_keys.now", "api_keys.rows"]
    assert questions_of(_aliased) == ["api_keys.get", "node_name"]  # those of the tests are none of the package
    assert "stats" in questions_of(stats.routes.all[0].handler)
    assert "publish" in questions_of(publish.routes.all[0].handler)


def test_the_script_writes_the_page_of_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_questions_table, "PAGE", tmp_path / "page.md")
    build_questions_table.main([])
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == build_questions_table.page()
    with pytest.raises(SystemExit, match="usage"):
        build_questions_table.main(["--all"])
