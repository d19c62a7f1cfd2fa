"""HOCON: what is written is read back; what is read is understood as it was meant; nothing in a text reaches out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_broker.api.hocon import DEEPEST, LARGEST, HoconError, read, write
from trio_broker.config import Config, to_dict

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=3))
def test_what_is_written_is_read_back(tables: dict[str, Any]) -> None:
    assert read(write(tables)) == tables


def test_the_whole_configuration_is_read_back() -> None:
    tables = to_dict(Config.service())
    assert read(write(tables)) == tables


def test_it_is_written_to_be_read() -> None:
    tables = {"mqtt": {"max_inflight": 32, "idle_timeout": "15s", "off": {}}, "a.b": [1, "x"], "include": None}
    assert write(tables) == (
        'mqtt {\n  max_inflight = 32\n  idle_timeout = "15s"\n  off {}\n}\n"a.b" = [1, "x"]\n"include" = null\n'
    )


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("", {}),
        ("a.b.c = 1", {"a": {"b": {"c": 1}}}),
        ("a { b : 1, c = x }", {"a": {"b": 1, "c": "x"}}),
        ('{"a": {"b": [1, "x"]}}', {"a": {"b": [1, "x"]}}),
        ("a.b = 1\na { c = 2 }", {"a": {"b": 1, "c": 2}}),
        ("a = 1\na = 2", {"a": 2}),
        ("# one\n// two\na = 1 # three", {"a": 1}),
        ("a = 1 # one\nb = 2 // two\nc = [ # three\n 3 ]", {"a": 1, "b": 2, "c": [3]}),
        ("a = 1 \t\nb = 15s ", {"a": 1, "b": "15s"}),
        ('a = "# no comment // either"', {"a": "# no comment // either"}),
        ('"a.b" = 1', {"a.b": 1}),
        ('a = "\\u00e9\\n\\""', {"a": 'é\n"'}),
        ('a = """x\n"y" ${z}"""', {"a": 'x\n"y" ${z}'}),
        ('a = "${clientid}/include"', {"a": "${clientid}/include"}),
        ("a = 15s, b = 5 minutes, c = 1m30s", {"a": "15s", "b": "5 minutes", "c": "1m30s"}),
        ('a = 70%, b = 1MB, c = infinity, d = "15s"', {"a": "70%", "b": "1MB", "c": "infinity", "d": "15s"}),
        ("bind = 0.0.0.0:1883", {"bind": "0.0.0.0:1883"}),
        (
            "a = true false, b = null x, c = x true, d = 1 month",
            {"a": "true false", "b": "null x", "c": "x true", "d": "1 month"},
        ),
        ("a = [\n x y\n 15s, true\n]\nb = 10 s x # no", {"a": ["x y", "15s", True], "b": "10 s x"}),
        ("a = [1, {b = 2}, null]", {"a": [1, {"b": 2}, None]}),
        ("a = on, b = true, c = -1.5", {"a": "on", "b": True, "c": -1.5}),
    ],
)
def test_what_is_meant(text: str, tables: dict[str, Any]) -> None:
    assert read(text) == tables


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "HOCON"),
        ("a = 1\nb c {", "HOCON"),
        ('a = "x', "no end"),
        ('a = "\\x"', "JSON"),
        ("a = ${HOME}", "substitutions"),
        ("a = $x", "substitutions"),
        ('include "/etc/passwd"', "include"),
        ('INCLUDE required(file("/etc/passwd"))', "include"),
        ('a { b = 1, include url("http://x/") }', "include"),
        ('""include"/etc/passwd"', "include"),
        ("a = \ue0000\ue001", "quoted strings only"),
        ('a = x "y"', "put all of it in quotes"),
        ('a = "x" y', "put all of it in quotes"),
        ("a = x${y}", "substitutions"),
        ("{" * 40, "within each other"),
        ("[1, 2]", "a table is wanted"),
        ("x" * (LARGEST + 1), "longer than"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(HoconError, match=words):
        read(text)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet='ab=:{}[]"$\\\n#/, .+incluef()0', max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    why = ""
    try:
        found = read(text)
    except HoconError as error:
        why = str(error)
    assert isinstance(found, dict) if not why else "\n" not in why


@pytest.mark.parametrize("levels", [DEEPEST + 1, 200, 320, 400, 900, 3000])
def test_a_key_of_too_many_levels_is_refused(levels: int) -> None:
    with pytest.raises(HoconError, match="within each other"):
        read(".".join("a" * levels) + " = 1")


def test_a_key_of_many_levels_is_read() -> None:
    found: Any = read(".".join("a" * DEEPEST) + " = 1")
    for _ in range(DEEPEST):
        found = found["a"]
    assert found == 1
