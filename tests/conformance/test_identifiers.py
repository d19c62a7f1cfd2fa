"""The map from the standards' statements to the tests has no hole."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import build_conformance
from docs.build_conformance import identifiers, marked, missing, sections


def test_every_statement_has_a_test() -> None:
    assert missing() == []


def test_no_test_carries_an_identifier_that_does_not_exist() -> None:
    assert sorted(set(marked()) - set(identifiers(sections()))) == []


def test_the_page_is_up_to_date() -> None:
    assert build_conformance.PAGE.read_text() == build_conformance.page(), "python docs/build_conformance.py writes it"


def test_both_standards_are_there() -> None:
    known = identifiers(sections())
    assert len([one for one in known if one.startswith("3.1.1/")]) > 110
    assert len([one for one in known if one.startswith("5/")]) > 190
    assert len([one for one in known if one.startswith("@")]) > 60


def test_a_line_that_is_not_understood() -> None:
    with pytest.raises(ValueError, match="not a statement"):
        sections("= Heading\nno columns")


def test_marks_are_read_from_the_source(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(
        'from conformance.statement import conforms\n\n@conforms(v311="1.2.3-4", v5="5.6.7-8 5.6.7-9", edge="will-1")\n'
        "async def test_it() -> None: ...\n"
    )
    name = f"{tmp_path.name}/test_x.py::test_it"
    assert marked(tmp_path) == {key: [name] for key in ["3.1.1/1.2.3-4", "5/5.6.7-8", "5/5.6.7-9", "@will-1"]}


def test_what_cannot_be_read_from_the_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text("@conforms(v5=NAME)\ndef test_it() -> None: ...\n")
    with pytest.raises(ValueError, match="literal"):
        marked(tmp_path)
