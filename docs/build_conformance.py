"""Writes docs/reference/conformance.md: which test shows which statement of the standards.

    python docs/build_conformance.py            # writes the page
    python docs/build_conformance.py --missing  # the statements that no test carries

Invariant: a statement counts as shown only where a test carries its identifier in `@conforms(...)`, or where
conformance.txt gives the reason why there is none. An identifier is `3.1.1/3.1.0-1`, `5/3.1.0-1` or `@connecting-1`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from attrs import define, field

__all__ = ["PAGE", "Row", "Section", "identifiers", "main", "marked", "missing", "page", "sections"]

ROOT = Path(__file__).resolve().parent.parent
STATEMENTS = Path(__file__).parent / "reference" / "conformance.txt"
PAGE = Path(__file__).parent / "reference" / "conformance.md"
PREFIXES = {"v311": "3.1.1/", "v5": "5/", "edge": "@"}

HEAD = """\
# Conformance

Made by `python docs/build_conformance.py`; do not change it here.

Each statement that the standards (MQTT 3.1.1 with Errata 01, MQTT 5.0) number and that a server can keep or break, in
our own words, and edge cases that brokers have got wrong, with the tests that fail if this broker is wrong about it.
*close* = close the network connection. A number such as 0x82 is a reason code of MQTT 5.0. Statements that only a
client can keep are left out.

The tests in `tests/conformance` send and expect exact bytes on real sockets, over TCP and WebSocket, whole and cut
into single bytes.
"""


@define(frozen=True)
class Row:
    """One statement; `reason` is why there is no test."""

    v311: tuple[str, ...]
    v5: tuple[str, ...]
    edge: str
    rule: str
    reason: str = ""

    @property
    def identifiers(self) -> list[str]:
        return [
            *(PREFIXES["v311"] + one for one in self.v311),
            *(PREFIXES["v5"] + one for one in self.v5),
            *([self.edge] if self.edge else []),
        ]


@define
class Section:
    title: str
    rows: list[Row] = field(factory=list)


def sections(text: str | None = None) -> list[Section]:
    """What conformance.txt says. ValueError for a line that is not understood."""
    found: list[Section] = []
    for line in (STATEMENTS.read_text(encoding="utf-8") if text is None else text).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("= "):
            found.append(Section(line[2:].strip()))
            continue
        cells = [cell.strip() for cell in re.split(r"\s*\|\s+", line)]
        if not found or not 3 <= len(cells) <= 4:
            raise ValueError(f"not a statement: {line!r}")
        first, second, rule, reason = [*cells, ""][:4]
        edge = first if first.startswith("@") else ""
        found[-1].rows.append(Row(() if edge else tuple(first.split()), tuple(second.split()), edge, rule, reason))
    return found


def identifiers(of: list[Section]) -> dict[str, list[Row]]:
    """Identifier -> the rows that are about it."""
    found: dict[str, list[Row]] = defaultdict(list)
    for section in of:
        for row in section.rows:
            for identifier in row.identifiers:
                found[identifier].append(row)
    return dict(found)


def marked(tests: Path = ROOT / "tests") -> dict[str, list[str]]:
    """Identifier -> `path::test`, of all tests under `tests` that carry it."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(tests.rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for identifier in _carried(function, path):
                    found[identifier].append(f"{path.relative_to(tests.parent).as_posix()}::{function.name}")
    return dict(found)


def _carried(function: ast.FunctionDef | ast.AsyncFunctionDef, path: Path) -> Iterator[str]:
    for decorator in function.decorator_list:
        if not (isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "conforms"):
            continue
        for keyword in decorator.keywords:
            if not (isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str)):
                raise ValueError(f"{path.name}: {function.name}: what `conforms` is given has to be literal text")
            for word in keyword.value.value.split():
                yield PREFIXES[keyword.arg or ""] + word


def missing() -> list[str]:
    """The identifiers that no test carries, though there is no reason given."""
    carried = marked()
    return [
        identifier
        for identifier, rows in identifiers(sections()).items()
        if identifier not in carried and not all(row.reason for row in rows)
    ]


def _names(row: Row, carried: dict[str, list[str]]) -> str:
    """The tests of a row: the file, and the tests in it that carry one of its identifiers."""
    files: dict[str, list[str]] = defaultdict(list)
    for identifier in row.identifiers:
        for test in carried.get(identifier, []):
            path, _, name = test.partition("::")
            if name not in files[path]:
                files[path].append(name)
    shown = [f"[{Path(path).stem}](../../{path}): " + ", ".join(f"`{it}`" for it in files[path]) for path in files]
    return "<br>".join(([row.reason] if row.reason else []) + shown)


def page() -> str:
    carried = marked()
    lines = [HEAD]
    for section in sections():
        lines += [f"## {section.title}", ""]
        is_edges = all(row.edge for row in section.rows)
        lines += (
            ["| case | statement | tests |\n|---|---|---|"]
            if is_edges
            else ["| 3.1.1 | 5.0 | statement | tests |\n|---|---|---|---|"]
        )
        for row in section.rows:
            rule = re.sub(r"(?<!\\)\|", r"\|", row.rule)
            first = row.edge.removeprefix("@") if is_edges else f"{', '.join(row.v311)} | {', '.join(row.v5)}"
            lines.append(f"| {first} | {rule} | {_names(row, carried)} |")
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    if arguments == ["--missing"]:
        sys.stdout.write("".join(f"{identifier}\n" for identifier in missing()))
    elif arguments:
        sys.exit("usage: python docs/build_conformance.py [--missing]")
    else:
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
