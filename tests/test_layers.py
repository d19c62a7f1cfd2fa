"""The floors of the house, what an import of the package brings with it, and the size of its files."""

from __future__ import annotations

import ast
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import trio_broker

PACKAGE = Path(trio_broker.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))

LONGEST = 600
REASON = f"Longer than {LONGEST} lines because"


def test_the_floors_hold() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts: 3 kept, 0 broken." in done.stdout


def loaded_by(statement: str) -> dict[str, object]:
    """What a fresh interpreter has after `statement`: its modules, and the state of logging and signals."""
    program = (
        "import json, logging, signal, sys\n"
        "signals = {number: signal.getsignal(number) for number in signal.valid_signals()}\n"
        f"{statement}\n"
        "print(json.dumps({\n"
        "    'modules': sorted(name for name in sys.modules if '.' not in name),\n"
        "    'handlers': len(logging.getLogger().handlers) + len(logging.getLogger('trio_broker').handlers),\n"
        "    'levels': [logging.getLogger().level, logging.getLogger('trio_broker').level],\n"
        "    'signals': all(signal.getsignal(number) == before for number, before in signals.items()),\n"
        "}))\n"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    "statement",
    ["import trio_broker", "from trio_broker import Broker, Config; Broker(Config())", "import trio_broker.testing"],
)
def test_an_import_is_light_and_changes_nothing(statement: str) -> None:
    found = loaded_by(statement)
    modules = found["modules"]
    assert isinstance(modules, list)
    assert not {"quart", "quart_trio", "hypercorn", "werkzeug", "jinja2", "flask"} & set(modules)
    assert "trio_broker" in modules
    assert (found["handlers"], found["levels"], found["signals"]) == (0, [30, 0], True)


def test_a_broker_that_runs_without_rest_loads_nothing_of_it() -> None:
    statement = (
        "import sys, trio\n"
        "from trio_broker import Broker, Config\n"
        "async def main():\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        broker = Broker(Config())\n"
        "        await nursery.start(broker.run)\n"
        "        await trio.testing.wait_all_tasks_blocked()\n"
        "        broker.close()\n"
        "import trio.testing; trio.run(main)\n"
        "assert not [name for name in sys.modules if name.startswith('trio_broker.api')]"
    )
    modules = loaded_by(statement)["modules"]
    assert isinstance(modules, list)
    assert not {"quart", "hypercorn", "prometheus_client", "pyhocon"} & set(modules)


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_file_is_too_long_without_a_reason() -> None:
    too_long = [
        str(path.relative_to(ROOT))
        for path in FILES
        if lines_of(path) > LONGEST and REASON not in (ast.get_docstring(ast.parse(path.read_bytes())) or "")
    ]
    assert too_long == []


def test_files_are_rooms_not_halls() -> None:
    assert len(FILES) > 50
    assert statistics.median(lines_of(path) for path in FILES if path.name != "__init__.py") <= 200


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_says_what_lives_there(path: Path) -> None:
    module = ast.parse(path.read_bytes())
    if module.body:
        assert ast.get_docstring(module)
    if len(module.body) > 1:
        first = module.body[1]
        assert isinstance(first, ast.ImportFrom)
        assert first.module == "__future__"
