"""Writes docs/reference/rest-operations.md: each operation of the REST API, its page, and the tests that show it.

    python docs/build_rest_table.py            # writes the page
    python docs/build_rest_table.py --missing  # the operations that no test shows

Invariant: the operations are those that are served; a test counts only where it carries the operation in
`@shows(...)`, as literal text. Those of `/api/v5` are called without their base path, as everywhere in the docs.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from trio_broker.api import v2, v4, v5
from trio_broker.api.routes import Route, Router

__all__ = [
    "DOCUMENTED",
    "GENERATIONS",
    "OTHER_SPELLINGS",
    "PAGE",
    "main",
    "marked",
    "missing",
    "numbered",
    "operations",
    "page",
    "pages",
    "unknown",
]

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path(__file__).parent / "reference" / "rest-operations.md"
PAGES = Path(__file__).parent / "reference" / "rest"
TESTS = ROOT / "tests"

BLOCK = re.compile(r"(?ms)^```.*?^```$")

GENERATIONS: dict[str, tuple[str, tuple[Route, ...]]] = {
    "API": ("", v5.ROUTES),
    "V4": (v4.BASE_PATH, v4.ROUTES),
    "V2": (v2.BASE_PATH, v2.ROUTES),
}
"""By the variable that holds the base address in examples: what operations are called with, and the routes."""

DOCUMENTED = (
    "GET /management/nodes",
    "GET /management/nodes/:node_name",
    "GET /monitoring/nodes",
    "GET /monitoring/nodes/:node_name",
    "GET /nodes/:node_name/clients",
    "GET /nodes/:node_name/clients/:client_id",
    "GET /clients/:client_id",
    "DELETE /clients/:clientid",
    "PUT /clients/:clientid/clean_acl_cache",
    "GET /node/:node_name/sessions",
    "GET /nodes/:node_name/sessions/:client_id",
    "GET /sessions/:client_id",
    "GET /nodes/:node_name/subscriptions",
    "GET /subscriptions/:client_id",
    "POST /mqtt/subscribe",
    "GET /routes",
    "GET /routes/:topic",
    "GET /nodes/:node_name/plugins",
    "PUT /nodes/plugins/:name",
    "GET /monitoring/listeners",
    "GET /monitoring/listeners/:node_name",
    "POST /mqtt/publish",
    "GET /monitoring/metrics",
    "GET /monitoring/metrics/:node_name",
    "GET /monitoring/stats",
    "GET /monitoring/stats/:node_name",
    "GET /users",
    "POST /users",
    "PUT /users/:username",
    "DELETE /users/:username",
    "POST /auth",
    "PUT /change_pwd/:username",
)
"""The 32 operations of EMQ 2's document, in its order; what the variables are called there does not matter here."""

OTHER_SPELLINGS = {"GET /nodes/:node_name/sessions": 10, "PUT /nodes/:node_name/plugins/:name": 19}
"""Two that the document's definition writes in one way and its example, or the broker itself, in another."""

HEAD = """\
# Operations of the REST API and their tests

Made by `python docs/build_rest_table.py`; do not change it here.

Each operation, the page that explains it, and the tests that fail if it does not answer as it must. What each of them
asks of the broker is in [a table of its own](rest-questions.md).

## `/api/v5`
"""
FOUR = """\

## `/api/v4`

On the port of `api.v4.bind`, with `api.v4.cloud` also under `/api`.
"""
TWO = """\

## `/api/v2`: the 32 operations of EMQ 2's document

On the port of `api.v2.bind`.
"""
BESIDES = """\

## `/api/v2`: served besides
"""


def operations() -> dict[str, str]:
    """`METHOD /path` -> what it does, in the order in which they are served."""
    return {
        f"{route.method} {base}{route.path}": route.summary for base, routes in GENERATIONS.values() for route in routes
    }


def numbered() -> dict[str, int]:
    """The operations of `/api/v2` that EMQ 2's document has, and their numbers there."""
    numbers = {_nameless(operation): number for number, operation in enumerate(DOCUMENTED, 1)}
    numbers |= {_nameless(operation): number for operation, number in OTHER_SPELLINGS.items()}
    return {
        f"{route.method} {v2.BASE_PATH}{route.path}": numbers[nameless]
        for route in v2.ROUTES
        if (nameless := _nameless(f"{route.method} {route.path}")) in numbers
    }


def _nameless(operation: str) -> str:
    return re.sub(r":\w+", ":", operation)


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
        for operation in dict.fromkeys(re.findall(r"\b(?:GET|POST|PUT|DELETE) /[\w/:$-]+", BLOCK.sub("", text))):
            found[operation].append(path.name)
        for operation in dict.fromkeys(_called("\n".join(BLOCK.findall(text)))):
            called[operation].append(path.name)
    return dict(called) | dict(found)


def _called(blocks: str) -> Iterator[str]:
    """The operations that commands with curl ask for."""
    routers = {variable: _router(routes) for variable, (_, routes) in GENERATIONS.items()}
    for command in re.findall(r"(?m)^\$ (.*(?:\n> .*)*)", blocks):
        for variable, path in re.findall(r"(?s)curl.*?\$(API|V4|V2)(/[^\s?'\"]*)", command):
            there = routers[variable].find(path.encode())
            asked = re.search(r"-X\s*(\w+)", command)
            method = asked[1] if asked else "POST" if re.search(r" (-d|-F|--data\S*|--json) ", command) else "GET"
            if there is not None and method in there.routes:
                yield f"{method} {GENERATIONS[variable][0]}{there.routes[method].path}"


def _router(routes: tuple[Route, ...]) -> Router:
    router = Router()
    for route in routes:
        router.add(route.path, route)
    return router


def missing() -> list[str]:
    """The operations that no test shows."""
    carried = marked()
    return [operation for operation in operations() if operation not in carried]


def unknown() -> list[str]:
    """What tests say they show, though there is no such operation."""
    known = operations()
    return [f"{operation} ({', '.join(tests)})" for operation, tests in marked().items() if operation not in known]


def page() -> str:
    carried, explained, numbers = marked(), pages(), numbered()
    rows = {
        operation: f"| `{operation}` | {summary} | {_links(explained.get(operation, []))} | "
        f"{_names(carried.get(operation, []))} |"
        for operation, summary in operations().items()
    }
    of_two = [operation for operation in rows if f" {v2.BASE_PATH}/" in operation]
    documented = sorted((one for one in of_two if one in numbers), key=numbers.__getitem__)
    lines = [HEAD, "| operation | what it does | page | tests |\n|---|---|---|---|"]
    lines += [row for operation, row in rows.items() if " /api/" not in operation]
    lines += [FOUR, "| operation | what it does | page | tests |\n|---|---|---|---|"]
    lines += [row for operation, row in rows.items() if f" {v4.BASE_PATH}" in operation]
    lines += [TWO, "| number | operation | what it does | page | tests |\n|---|---|---|---|---|"]
    lines += [f"| {numbers[operation]} {rows[operation]}" for operation in documented]
    lines += [BESIDES, "| operation | what it does | page | tests |\n|---|---|---|---|"]
    lines += [rows[operation] for operation in of_two if operation not in numbers]
    return "\n".join(lines) + "\n"


def _links(names: list[str]) -> str:
    return ", ".join(f"[{name.removesuffix('.md')}](rest/{name})" for name in names)


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
