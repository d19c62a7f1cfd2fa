"""Writes docs/reference/rest-operations.md: each operation of the REST API, its page, and the tests that show it.

    python docs/build_rest_table.py            # writes the page
    python docs/build_rest_table.py --missing  # the operations that no test shows

Invariant: the operations are those that are served; a test counts only where it carries the operation in
`@shows(...)`, as literal text.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from trio_broker.api import v5
from trio_broker.api.routes import Router

__all__ = ["PAGE", "main", "marked", "missing", "operations", "page", "pages", "unknown"]

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path(__file__).parent / "reference" / "rest-operations.md"
PAGES = Path(__file__).parent / "reference" / "rest"
TESTS = ROOT / "tests"

BLOCK = re.compile(r"(?ms)^```.*?^```$")

HEAD = """\
# Operations of the REST API and their tests

Made by `python docs/build_rest_table.py`; do not change it here.

Each operation under `/api/v5`, the page that explains it, and the tests that fail if it does not answer as it must.
"""


def operations() -> dict[str, str]:
    """`METHOD /path` -> what it does, in the order in which they are served."""
    return {f"{route.method} {route.path}": route.summary for route in v5.ROUTES}


def marked(tests: Path = TESTS) -> dict[str, list[str]]:
    """Operation -> `path::test`, of all tests under `tests` that carry it."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(tests.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "shows(" not in text:
            continue
        for function in ast.walk(ast.parse(text, str(path))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for operation in _carried(function, path):
                    found[operation].append(f"{path.relative_to(tests.parent).as_posix()}::{function.name}")
    return dict(found)


def _carried(function: ast.FunctionDef | ast.AsyncFunctionDef, path: Path) -> Iterator[str]:
    for decorator in function.decorator_list:
        if not (isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "shows"):
            continue
        for argument in decorator.args:
            if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                raise ValueError(f"{path.name}: {function.name}: what `shows` is given has to be literal text")
            yield argument.value


def pages(folder: Path = PAGES) -> dict[str, list[str]]:
    """Operation -> the names of the pages that mention it as `METHOD /path`; where none does, those that call it."""
    found: dict[str, list[str]] = defaultdict(list)
    called: dict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.glob("*.md")):
        if path.name == "README.md":
            continue
        text = path.read_text(encoding="utf-8")
        for operation in dict.fromkeys(re.findall(r"\b(?:GET|POST|PUT|DELETE) /[\w/:]+", BLOCK.sub("", text))):
            found[operation].append(path.name)
        for operation in dict.fromkeys(_called("\n".join(BLOCK.findall(text)))):
            called[operation].append(path.name)
    return dict(called) | dict(found)


def _called(blocks: str) -> Iterator[str]:
    """The operations that commands with curl ask for."""
    router = Router()
    for route in v5.ROUTES:
        router.add(route.path, route)
    for command in re.findall(r"(?m)^\$ (.*(?:\n> .*)*)", blocks):
        for path in re.findall(r"(?s)curl.*?\$API(/[^\s?'\"]*)", command):
            there = router.find(path.encode())
            asked = re.search(r"-X\s*(\w+)", command)
            method = asked[1] if asked else "POST" if re.search(r" (-d|-F|--data\S*|--json) ", command) else "GET"
            if there is not None and method in there.routes:
                yield f"{method} {there.routes[method].path}"


def missing() -> list[str]:
    """The operations that no test shows."""
    carried = marked()
    return [operation for operation in operations() if operation not in carried]


def unknown() -> list[str]:
    """What tests say they show, though there is no such operation."""
    known = operations()
    return [f"{operation} ({', '.join(tests)})" for operation, tests in marked().items() if operation not in known]


def page() -> str:
    carried, explained = marked(), pages()
    lines = [HEAD, "| operation | what it does | page | tests |\n|---|---|---|---|"]
    for operation, summary in operations().items():
        shown = ", ".join(f"[{name.removesuffix('.md')}](rest/{name})" for name in explained.get(operation, []))
        lines.append(f"| `{operation}` | {summary} | {shown} | {_names(carried.get(operation, []))} |")
    return "\n".join(lines) + "\n"


def _names(tests: list[str]) -> str:
    """The file, and the tests in it."""
    files: dict[str, list[str]] = defaultdict(list)
    for test in tests:
        path, _, name = test.partition("::")
        files[path].append(name)
    return "<br>".join(
        f"[{Path(path).stem}](../../{path}): " + ", ".join(f"`{name}`" for name in names)
        for path, names in files.items()
    )


def main(arguments: list[str]) -> None:
    if arguments == ["--missing"]:
        sys.stdout.write("".join(f"{operation}\n" for operation in missing()))
    elif arguments:
        sys.exit("usage: python docs/build_rest_table.py [--missing]")
    else:
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
