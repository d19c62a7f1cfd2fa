"""Writes docs/reference/rest-questions.md: who may call each operation, and what it asks of the broker.

    python docs/build_questions_table.py

Invariant: what stands there is read from the source of the handlers, and of the functions they use; nothing is listed
by hand. Only what is called or read of `Questions` counts: a question, or what one of their parts has (`banned.rows`).
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from trio_broker.actors.questions import Questions
from trio_broker.api import v2, v4, v5
from trio_broker.api.context import Api
from trio_broker.api.routes import Route

__all__ = ["PAGE", "main", "page", "questions_of"]

PAGE = Path(__file__).parent / "reference" / "rest-questions.md"

HEAD = """\
# What the operations of the REST API ask of the broker

Made by `python docs/build_questions_table.py`; do not change it here.

The generations of the API are three ways to say the same: whatever their answers look like, they are made of what the
same `Questions` ([Python](python.md#questions)) say. Who may call an operation, and what it asks; "password": a
dashboard user has to show theirs, no key will do."""
GENERATIONS: dict[str, tuple[Route, ...]] = {"": v5.ROUTES, v4.BASE_PATH: v4.ROUTES, v2.BASE_PATH: v2.ROUTES}
"""By what their operations are called with."""
WHO = {"everybody": "all", "viewers": "viewer", "publishers": "publisher", "administrators": "administrator"}

QUESTIONS = "questions"
"""What stands for the `Questions` themselves in the chains below: `questions.banned.rows`."""
PARTS = {text: name for name, text in Questions.__annotations__.items() if text[0].isupper()}
"""By the name of its class, what `Questions` call a part that has state of its own."""


def questions_of(function: Any) -> list[str]:
    """Everything that a handler, and what it uses of this package, asks; in alphabetical order."""
    found: set[str] = set()
    seen: set[Any] = set()
    waiting = [function]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        chains, used = _read(one)
        found |= chains
        waiting += used
    return sorted(found)


@cache
def _read(function: Any) -> tuple[frozenset[str], tuple[Any, ...]]:
    """What is asked in the text of one function, and which others it uses."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef)
    globals_ = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    names = _names(tree)
    if function.__qualname__.startswith("Api."):
        names["self"] = "api"
    chains = {chain for node in ast.walk(tree) if (chain := _question(_chain(node, names))) is not None}
    used = [value for node in ast.walk(tree) if (value := _function(node, names, globals_)) is not None]
    return frozenset(_longest(chains)), tuple(used)


def _names(tree: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, str]:
    """What stands for the questions or a part of them in this function: parameters by their types, and aliases."""
    names: dict[str, str] = {}
    arguments = tree.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        text = ast.unparse(argument.annotation) if argument.annotation is not None else ""
        if text == "Api":
            names[argument.arg] = "api"
        elif text == "Questions":
            names[argument.arg] = QUESTIONS
        elif text in PARTS:
            names[argument.arg] = f"{QUESTIONS}.{PARTS[text]}"
    for node in [*ast.walk(tree)] * 2:  # twice: an alias may be of another that comes later in the tree
        for target, value in _assigned(node):
            if isinstance(target, ast.Name) and (chain := _chain(value, names)) is not None:
                names[target.id] = chain
    return names


def _assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(node, ast.NamedExpr):
        yield node.target, node.value
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                yield from zip(target.elts, node.value.elts, strict=False)
            else:
                yield target, node.value


def _chain(node: ast.AST, names: dict[str, str]) -> str | None:
    """`api.questions.banned.rows` as `questions.banned.rows`; None for what begins elsewhere."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    before = _chain(node.value, names)
    if before is None:
        return None
    return QUESTIONS if (before, node.attr) == ("api", QUESTIONS) else f"{before}.{node.attr}"


def _question(chain: str | None) -> str | None:
    """The question, or the part and what is asked of it."""
    if chain is None or "." not in chain:
        return None
    first, name, *more = chain.split(".")
    if first == QUESTIONS:
        is_part = name in PARTS.values()
        return ".".join([name, *more[:2]]) if is_part else name
    return None


def _longest(chains: set[str]) -> set[str]:
    """Without those that only lead to others: `banned` where there is `banned.rows`."""
    return {chain for chain in chains if not any(other.startswith(f"{chain}.") for other in chains)}


def _function(node: ast.AST, names: dict[str, str], globals_: dict[str, Any]) -> Any:
    """The function of this package that is named here; None for anything else."""
    value: Any = None
    if isinstance(node, ast.Name) and node.id not in names:
        value = globals_.get(node.id)
    elif isinstance(node, ast.Attribute):
        chain = _chain(node, names)
        if chain is not None and chain.startswith("api.") and chain.count(".") == 1:
            value = inspect.getattr_static(Api, node.attr, None)
            value = value.fget if isinstance(value, property) else value
        elif isinstance(node.value, ast.Name) and isinstance(owner := globals_.get(node.value.id), ModuleType | type):
            value = getattr(owner, node.attr, None)
    value = inspect.unwrap(getattr(value, "__func__", value)) if callable(value) else None
    ours = isinstance(value, FunctionType) and value.__module__.startswith("trio_broker.")
    return value if ours and value.__name__ != "<lambda>" else None


def page() -> str:
    lines = [HEAD]
    for base, routes in GENERATIONS.items():
        lines += [f"\n## `{base or '/api/v5'}`\n", "| operation | who | asks |\n|---|---|---|"]
        lines += [_row(base, route) for route in routes]
    return "\n".join([*lines, *_counts()]) + "\n"


def _counts() -> Iterator[str]:
    """Of each question, how many operations of each generation ask it."""
    counts = [
        Counter(question for route in routes for question in questions_of(route.handler))
        for routes in GENERATIONS.values()
    ]
    titles = [base or "/api/v5" for base in GENERATIONS]
    yield "\n## How many operations ask each question\n"
    yield f"| question | {' | '.join(f'`{base}`' for base in titles)} |"
    yield "|---|" + "---|" * len(counts)
    for question in sorted(set().union(*counts)):
        yield f"| `{question}` | {' | '.join(str(count[question] or '') for count in counts)} |"


def _row(base: str, route: Route) -> str:
    asked = ", ".join(f"`{question}`" for question in questions_of(route.handler)) or "nothing"
    who = WHO[route.access] + (", password" if route.tokens_only else "")
    return f"| `{route.method} {base}{route.path}` | {who} | {asked} |"


def main(arguments: list[str]) -> None:
    if arguments:
        sys.exit("usage: python docs/build_questions_table.py")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
