"""HOCON, the notation of EMQX's configuration files: reading what was sent, writing what is shown.

Invariant: `read(write(tables)) == tables` for plain tables; a text cannot make the reader open a file, ask the network
or tell what is in the environment.

pyhocon reads. It never sees the texts in a text, quoted or not: each is kept aside behind a placeholder, so that
nothing in them is taken for anything else. (It would make a duration of `60s`, and join `true false` to `TrueFalse`.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

LARGEST: Final = 128 * 1024
"""Characters of a text: pyhocon takes a second for some ten or twenty thousand."""
DEEPEST: Final = 32
"""Tables and lists within each other."""

_OPEN, _CLOSE = "\ue000", "\ue001"  # around the number of a string that is kept aside
_PLACEHOLDER: Final = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_TOKEN: Final = re.compile(
    r'''(?P<raw>"""(?:[^"]|"(?!""))*"""+)'''
    r"""|(?P<text>"(?:[^"\\\n]|\\.)*")"""
    r"|(?P<comment>(?:\#|//)[^\n]*)"
    r"|(?P<opens>[\[{(])|(?P<closes>[\]})])"
    r"|(?P<begins>\+?=|:|,)"
    r"|(?P<line>\n)"
    r"|(?P<word>[A-Za-z_][\w-]*)"
    r"|(?P<other>[\s\S])"
)
_UNQUOTED: Final = re.compile(r"""(?:(?!//)[^\n,{}\[\]"#])+""")
"""What may stand in a value without quotes."""
_MEANING: Final = re.compile(r"true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class HoconError(ValueError):
    """The text is not HOCON, or wants more than is allowed here; the message is one line."""


def read(text: str) -> dict[str, Any]:
    """The tables of a text, as plain values. Raises HoconError. Takes its time: not for the event loop."""
    if len(text) > LARGEST:
        raise HoconError(f"the text is longer than {LARGEST} characters")
    rest, strings = _set_aside(text)
    # It takes a tenth of a second to load, which most brokers never need.
    from pyhocon import ConfigFactory  # type: ignore[import-untyped]
    from pyhocon.config_tree import ConfigTree  # type: ignore[import-untyped]

    try:
        tree = ConfigFactory.parse_string(rest, resolve=False)
        tables = tree.as_plain_ordered_dict() if isinstance(tree, ConfigTree) else None
    except RecursionError:  # `a.a.a...` is as many tables, without a brace
        raise HoconError("too many things within each other") from None
    except Exception as error:  # noqa: BLE001 - whatever the library says of a text that it cannot read
        raise HoconError(_why(error, strings)) from None
    if tables is None:
        raise HoconError("a table is wanted, not a list")
    return _table(tables, strings, 1)


def _set_aside(text: str) -> tuple[str, list[str]]:
    """The text with placeholders for its strings and with empty comments, and the strings."""
    strings: list[str] = []
    parts: list[str] = []
    nested: list[str] = []
    in_value = False  # a value may begin here, and nothing of it was seen yet
    at = 0
    while at < len(text):
        if in_value and (found := _UNQUOTED.match(text, at)):
            at = found.end()
            in_value = found[0].isspace()
            parts.append(_unquoted(found[0], text[at : at + 1], strings))
            continue
        token = _TOKEN.match(text, at)
        assert token is not None  # any character is one
        kind, word = token.lastgroup, token[0]
        at = token.end()
        if kind in ("raw", "text"):
            parts.append(_placeholder(word[3:-3] if kind == "raw" else _decoded(word), strings))
            if in_value and (behind := _UNQUOTED.match(text, at)) and behind[0].strip():
                raise HoconError(f"{behind[0].strip()[:60]!r} stands behind a string: put all of it in quotes")
            in_value = False
            continue
        if kind == "comment":
            parts.append("#")
            continue
        if kind == "opens":
            nested.append(word)
            if len(nested) > DEEPEST:
                raise HoconError(f"more than {DEEPEST} tables and lists within each other")
        elif kind == "closes" and nested:
            nested.pop()
        elif kind == "word" and word.lower() == "include":
            raise HoconError("`include` is not allowed here")
        elif word == '"':
            raise HoconError("a string has no end")
        elif word in (_OPEN, _CLOSE):
            raise HoconError(f"the character {word!a} may stand in quoted strings only")
        elif word == "$":
            raise HoconError("substitutions (${...}) are not allowed here; put texts with a $ in quotes")
        if kind == "begins" and word != ",":
            in_value = True
        elif not word.isspace():
            in_value = bool(nested) and nested[-1] == "[" and kind in ("opens", "begins")
        elif kind == "line" and nested and nested[-1] == "[":
            in_value = True
        parts.append(word)
    return "".join(parts), strings


def _placeholder(string: str, strings: list[str]) -> str:
    strings.append(string)
    return f'"{_OPEN}{len(strings) - 1}{_CLOSE}"'


def _unquoted(found: str, follows: str, strings: list[str]) -> str:
    """A value without quotes: a word or a number that means something, or a text up to the end of its line."""
    value = found.strip()
    if not value or _MEANING.fullmatch(value):
        return found
    for character in (_OPEN, _CLOSE):
        if character in value:
            raise HoconError(f"the character {character!a} may stand in quoted strings only")
    if "$" in value:
        raise HoconError("substitutions (${...}) are not allowed here; put texts with a $ in quotes")
    if value.startswith("include") and not value[7:].strip():
        raise HoconError("`include` is not allowed here")
    if follows == '"':
        raise HoconError(f"a string stands behind {value[:60]!r}: put all of it in quotes")
    return found.replace(value, _placeholder(value, strings), 1)


def _decoded(quoted: str) -> str:
    try:
        decoded = json.loads(quoted, strict=False)
    except ValueError:
        raise HoconError(f"{quoted[:60]} is not a string as JSON has it") from None
    assert isinstance(decoded, str)
    return decoded


def _why(error: Exception, strings: list[str]) -> str:
    line, column = getattr(error, "lineno", None), getattr(error, "column", None)
    if line is not None and column is not None:
        return f"line {line}, column {column} is not HOCON"
    return _back(" ".join(str(error).split())[:200], strings) or type(error).__name__


def _back(text: str, strings: list[str]) -> str:
    return _PLACEHOLDER.sub(lambda found: strings[int(found[1])], text)


def _table(tree: Mapping[str, Any], strings: list[str], depth: int) -> dict[str, Any]:
    if depth > DEEPEST:
        raise HoconError(f"more than {DEEPEST} tables and lists within each other")
    return {_back(str(key), strings): _value(value, strings, depth) for key, value in tree.items()}


def _value(value: Any, strings: list[str], depth: int) -> Any:
    if isinstance(value, Mapping):
        return _table(value, strings, depth + 1)
    if isinstance(value, list):
        return [_value(item, strings, depth) for item in value]
    if isinstance(value, str):
        return _back(value, strings)
    if isinstance(value, bool | int | float):
        return value
    if value is None or type(value).__name__ == "NoneValue":  # what pyhocon calls a null within lists
        return None
    raise HoconError(f"{str(value)[:60]} is not understood")


def write(tables: Mapping[str, Any], indent: str = "") -> str:
    """HOCON with a line for each value; tables in braces, everything else as JSON has it."""
    lines = []
    for key, value in tables.items():
        name = key if _PLAIN_KEY.fullmatch(key) and key.lower() != "include" else _text(key)
        if isinstance(value, Mapping):
            below = write(value, indent + "  ")
            lines.append(f"{indent}{name} {{\n{below}{indent}}}\n" if below else f"{indent}{name} {{}}\n")
        else:
            lines.append(f"{indent}{name} = {_text(value)}\n")
    return "".join(lines)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
