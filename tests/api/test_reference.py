"""The reference names each operation, with the role that may call it and the tests that show it, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import build_rest_table
from docs.build_rest_table import (
    DOCUMENTED,
    OTHER_SPELLINGS,
    marked,
    missing,
    numbered,
    operations,
    pages,
    unknown,
)
from trio_broker.api import v5

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "rest-api.md"
ROLES = {"everybody": "all", "viewers": "viewer", "publishers": "publisher", "administrators": "administrator"}


def test_every_operation_is_documented() -> None:
    rows = re.findall(r"(?m)^\| `((?:GET|POST|PUT|DELETE) /\S+)` \| .+ \| (\w+) \|$", PAGE.read_text(encoding="utf-8"))
    assert len(rows) == len(set(rows))
    assert dict(rows) == {f"{route.method} {route.path}": ROLES[route.access] for route in v5.ROUTES}


def test_every_operation_is_shown_by_a_test() -> None:
    assert missing() == [], "mark a test with @shows(...)"


def test_every_operation_of_an_older_generation_has_a_page() -> None:
    explained = pages()
    older = [operation for operation in operations() if " /api/" in operation]
    assert [operation for operation in older if operation not in explained] == [], "docs/reference/rest"


def test_the_32_operations_of_the_document_are_served() -> None:
    assert (len(DOCUMENTED), len(set(DOCUMENTED))) == (32, 32)
    assert {*numbered().values()} == {*range(1, 33)}
    assert len(numbered()) == 32 + len(OTHER_SPELLINGS)


def test_no_test_shows_an_operation_that_does_not_exist() -> None:
    assert unknown() == []


def test_the_table_of_tests_is_up_to_date() -> None:
    table = build_rest_table.PAGE.read_text(encoding="utf-8")
    assert table == build_rest_table.page(), "python docs/build_rest_table.py writes it"


def test_the_index_names_every_page() -> None:
    index = (build_rest_table.PAGES / "README.md").read_text(encoding="utf-8")
    there = {path.name for path in build_rest_table.PAGES.glob("*.md")} - {"README.md"}
    assert set(re.findall(r"(?m)^\* \[.+\]\(([\w-]+\.md)\): ", index)) == there


def test_marks_are_read_from_the_source(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_x.py").write_text(
        '@shows("GET /a", "PUT /a/:b")\nasync def test_it() -> None: ...\n\n@shows("GET /a")\ndef test_too(): ...\n'
    )
    (tests / "test_y.py").write_text("def test_nothing() -> None: ...\n")
    there = ["tests/test_x.py::test_it", "tests/test_x.py::test_too"]
    assert marked(tests) == {"GET /a": there, "PUT /a/:b": there[:1]}
    (tests / "test_y.py").write_text("@shows(*ALL)\ndef test_them() -> None: ...\n")
    with pytest.raises(ValueError, match=r"test_y\.py: test_them: what `shows` is given has to be literal text"):
        marked(tests)


def test_pages_are_found_by_what_they_mention(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A\n\n## `GET /a`\n\n```console\n$ GET /b\n```\n\n`PUT /a/:b?c=d` and `GET /a`.\n")
    (tmp_path / "README.md").write_text("`GET /c`\n")
    assert pages(tmp_path) == {"GET /a": ["a.md"], "PUT /a/:b": ["a.md"]}


def test_pages_are_found_by_what_they_call(tmp_path: Path) -> None:
    block = (
        '```console\n$ curl -su "$KEY:$SECRET" "$API/clients/a%2Fb?x"\n{}\n'
        "$ curl \"$API/publish\" -H x \\\n>   -d '{}'\n"
        '$ curl -X DELETE "$API/clients/$ID" "$API/nowhere"\n$ curl "$API/status"\n'
        '$ curl "$V4/clients/c1"\n$ curl -d x "$V2/mqtt/publish"\n```\n'
    )
    (tmp_path / "a.md").write_text(f"# A\n\n{block}")
    (tmp_path / "b.md").write_text("`GET /status`")
    assert pages(tmp_path) == {
        "GET /clients/:clientid": ["a.md"],
        "POST /publish": ["a.md"],
        "DELETE /clients/:clientid": ["a.md"],
        "GET /api/v4/clients/:clientid": ["a.md"],
        "POST /api/v2/mqtt/publish": ["a.md"],
        "GET /status": ["b.md"],
    }


def test_the_script_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build_rest_table, "PAGE", tmp_path / "page.md")
    build_rest_table.main([])
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == build_rest_table.page()
    build_rest_table.main(["--missing"])
    assert capsys.readouterr().out.split("\n") == [*missing(), ""]
    with pytest.raises(SystemExit, match="usage"):
        build_rest_table.main(["--all"])
