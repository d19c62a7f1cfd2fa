"""The documentation is true: its programs run, its tour works, and its reference names everything there is.

Invariant: no page is named here; whoever adds one adds it to these tests.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define

import trio_broker
from docs import build_reference
from trio_broker.actors.hooks import Hooks
from trio_broker.actors.management import Management
from trio_broker.cli import _parser
from trio_broker.config import Config, load
from trio_broker.config.tree import keys
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.session.meter import GAUGE_NAMES, METRIC_NAMES, Meter

ROOT = Path(trio_broker.__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
REFERENCE = ROOT / "docs" / "reference"
TIMEOUT = 60.0
"""Seconds: nothing here needs them; they end what would hang."""


@define(frozen=True)
class Block:
    """A fenced block; `output` is the ```text block that follows it, None where there is none."""

    page: str
    line: int
    language: str
    text: str
    output: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    source = page.read_text(encoding="utf-8")
    name = str(page.relative_to(ROOT))
    found: list[Block] = []
    for match in re.finditer(r"(?m)^```(\w*)\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", source, re.DOTALL):
        line = source.count("\n", 0, match.start()) + 1
        found.append(Block(name, line, match[1], match[2], match[3]))
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
TESTS = [block for block in PYTHON if re.search(r"(?m)^(async )?def test_", block.text)]
PROGRAMS = [block for block in PYTHON if block not in TESTS]
TOML = [block for block in BLOCKS if block.language == "toml"]


def ids(blocks: list[Block]) -> list[str]:
    return [str(block) for block in blocks]


# -- programs, tests, configurations


def test_there_is_something_to_try() -> None:
    assert (len(PROGRAMS) > 5, len(TESTS) > 3, len(TOML) > 5) == (True, True, True)


@pytest.mark.parametrize("block", PROGRAMS, ids=ids(PROGRAMS))
def test_a_program_runs(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(block.text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    if block.output is not None:
        assert done.stdout == block.output


def test_the_tests_pass(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n", encoding="utf-8")
    functions = 0
    for number, block in enumerate(TESTS):
        # The page and the line are in the file's name, and so in what pytest says of it.
        name = re.sub(r"\W+", "_", str(block))
        (tmp_path / f"test_{number}_{name}.py").write_text(block.text, encoding="utf-8")
        functions += len(re.findall(r"(?m)^(?:async )?def test_", block.text))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{functions} passed" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("block", TOML, ids=ids(TOML))
def test_a_configuration_is_good(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "trio-broker.toml"
    path.write_text(block.text, encoding="utf-8")
    assert load(path) is not None


# -- the tour


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket on which the command says that it is ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(TIMEOUT)
        yield receiver


@define(frozen=True)
class Started:
    key: str
    mqtt_port: str
    api: str


@pytest.fixture
def command(tmp_path: Path, ready: socket.socket) -> Iterator[Started]:
    """The command, as a user starts it, but for its ports."""
    binds = ("listeners.tcp.default.bind", "listeners.ws.default.bind", "dashboard.listeners.http.bind")
    arguments = [f"--set={key}=127.0.0.1:0" for key in binds]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": str(tmp_path / "notify")}
    output, errors = tmp_path / "output", tmp_path / "errors"
    with (
        output.open("w") as stdout,
        errors.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", "trio_broker", *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=stdout,
            stderr=stderr,
        ) as process,
    ):
        try:
            assert ready.recv(100) == b"READY=1", errors.read_text()
            log = errors.read_text(encoding="utf-8")
            yield Started(
                key=one(r"API key \(shown only now\): (\S+)", output.read_text(encoding="utf-8")),
                mqtt_port=one(r"tcp:default: listening on 127\.0\.0\.1:(\d+)", log),
                api=one(r"REST API on (http://127\.0\.0\.1:\d+/api/v5)", log),
            )
            process.terminate()
            assert process.wait(TIMEOUT) == 0, errors.read_text()
        finally:
            process.kill()
    assert "Traceback" not in errors.read_text(encoding="utf-8")


def one(pattern: str, text: str) -> str:
    found = re.findall(pattern, text)
    assert len(found) == 1, (pattern, text)
    return str(found[0])


def tour_of(readme: str) -> str:
    tour = one(r"(?s)<!-- tour: begin -->\n(.*?)<!-- tour: end -->", readme)
    return "\n".join(re.findall(r"(?ms)^```bash\n(.*?)^```$", tour))


def values_in(text: str) -> list[Any]:
    """The JSON objects that stand in a text, in their order, whatever stands between them."""
    decoder = json.JSONDecoder()
    found: list[Any] = []
    position = text.find("{")
    while position >= 0:
        value, end = decoder.raw_decode(text, position)
        found.append(value)
        position = text.find("{", end)
    return found


def test_the_tour(command: Started, tmp_path: Path) -> None:
    tour = tour_of((ROOT / "README.md").read_text(encoding="utf-8"))
    for line, replacement in (
        ('KEY="key:secret"', f'KEY="{command.key}"'),
        ("API=http://127.0.0.1:18083/api/v5", f"API={command.api}"),
    ):
        assert tour.count(line) == 1
        tour = tour.replace(line, replacement)
    # A step that fails must not leave a stopped client behind.
    tour = f"trap 'kill -KILL $(jobs -p) 2>/dev/null || true' EXIT\n{tour}"
    # Mosquitto's clients go to port 1883 unless they are told otherwise.
    wrappers = tmp_path / "wrappers"
    wrappers.mkdir()
    for name in ("mosquitto_sub", "mosquitto_pub"):
        wrapper = wrappers / name
        wrapper.write_text(f'#!/bin/sh\nPATH=${{PATH#*:}} exec {name} -p {command.mqtt_port} "$@"\n', encoding="utf-8")
        wrapper.chmod(0o700)
    environment = {**os.environ, "PATH": f"{wrappers}:{os.environ['PATH']}"}
    printed, said = tmp_path / "tour.out", tmp_path / "tour.err"
    with (
        printed.open("w") as stdout,
        said.open("w") as stderr,
        subprocess.Popen(
            ["bash", "-eu", "-c", tour],
            cwd=tmp_path,
            env=environment,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        ) as script,
    ):
        try:
            code = script.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(script.pid, signal.SIGKILL)
            raise
    output = printed.read_text(encoding="utf-8")
    assert (code, said.read_text(encoding="utf-8")) == (0, ""), output
    kitchen, mqueue, inflight, published, retained, delayed, banned, zone = values_in(output)
    assert (kitchen["clientid"], kitchen["connected"], kitchen["mqueue_len"]) == ("kitchen", False, 1)
    assert [(row["topic"], row["payload"]) for row in mqueue["data"]] == [("house/door", "open")]
    assert "house/door open\n" in output
    assert [(row["topic"], row["payload"]) for row in inflight["data"]] == [("house/window", "closed")]
    assert set(published) == {"id"}
    assert (retained["topic"], retained["payload"]) == ("house/light", "b24=")
    assert [(row["topic"], row["delayed_interval"]) for row in delayed["data"]] == [("house/light", 3600)]
    assert (banned["as"], banned["who"], banned["until"]) == ("clientid", "porch", "infinity")
    assert zone["mqtt"]["max_inflight"] == 64


# -- links and words


def headings_of(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
    titles = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_dead(page: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in headings_of(target)):
            dead.append(link)
    assert dead == []


def test_every_page_is_in_the_index() -> None:
    docs = ROOT / "docs"
    written_by_the_benchmark = {"performance-table.md", "performance-growth.md"}
    pages = {str(page.relative_to(docs)) for page in PAGES if page.parent != ROOT} - written_by_the_benchmark
    rest = {page for page in pages if page.startswith("reference/rest/") and not page.endswith("/README.md")}
    assert pages - rest - {"README.md"} <= _links(docs / "README.md")
    assert {Path(page).name for page in rest} <= _links(docs / "reference" / "rest" / "README.md")


def _links(page: Path) -> set[str]:
    return set(re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")))


MACHINE_PATHS = re.compile(r"(?<![\w.}])/(?:work|root|home|tmp|Users|usr/local)(?:/|\b)|site-packages|[A-Z]:\\")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_path_of_somebodys_machine(page: Path) -> None:
    assert MACHINE_PATHS.findall(page.read_text(encoding="utf-8")) == []


# -- the reference


def reference(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_the_configuration_page_is_what_the_code_says() -> None:
    assert reference("configuration.md") == build_reference.page(), "python docs/build_reference.py writes it"


def test_the_script_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    build_reference.main(["--print"])
    assert capsys.readouterr().out == build_reference.page()


def test_every_key_is_documented() -> None:
    page = reference("configuration.md")
    for key in keys(Config):
        general = re.sub(r"^listeners\.\w+\.\*", build_reference.LISTENER, key)
        assert f"`{build_reference.environment_name(general)}`" in page, key
        assert f"| `{key.rpartition('.')[2]}` |" in page, key


def test_remarks_are_about_keys_that_exist() -> None:
    known = {re.sub(r"^listeners\.\w+\.\*", build_reference.LISTENER, key) for key in keys(Config)}
    assert set(build_reference.REMARKS) <= known


def test_a_key_without_effect_is_marked() -> None:
    page = reference("configuration.md")
    marked = set(re.findall(rf"(?m)^\| `(\w+)` \|.*{re.escape(build_reference.NO_EFFECT)}", page))
    assert {"retry_interval", "mountpoint", "strict_mode", "depth"} <= marked
    assert not {"max_inflight", "bind", "access_rules"} & marked


def rows(page: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^\| `([^`]+)` \| (.*) \|$", page))


def test_every_metric_is_documented() -> None:
    counters, gauges = reference("metrics.md").split("## Gauges")
    assert list(rows(counters)) == list(METRIC_NAMES)
    assert list(rows(gauges)) == list(GAUGE_NAMES)


def test_what_is_always_0_is_said_to_be() -> None:
    """A counter moves where `meter.NAME +=` stands, a gauge where its name is given to `set_gauge` or `move_gauge`.

    Those that are properties of the meter are sums of such counters.
    """
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "trio_broker").rglob("*.py"))
    moving = set(re.findall(r"meter\.(\w+) \+=", code))
    moving |= {name for name, value in vars(Meter).items() if isinstance(value, property)}
    counters, gauges = (rows(part) for part in reference("metrics.md").split("## Gauges"))
    still = {name for name in METRIC_NAMES if name.replace(".", "_") not in moving}
    assert {name for name, meaning in counters.items() if meaning == "*always 0*"} == still
    assert {name for name, meaning in gauges.items() if meaning == "*always 0*"} == {
        name for name in GAUGE_NAMES if f'"{name}"' not in re.sub(r"(?s)GAUGE_NAMES: Final = \(.*?\n\)", "", code)
    }


def test_every_option_is_documented() -> None:
    page = reference("command.md")
    options = [option for action in _parser()._actions for option in action.option_strings]
    assert "--config" in options
    for option in options:
        assert re.search(rf"`{option}[` ]", page), option


def test_every_hook_is_documented() -> None:
    section = reference("python.md").split("## Hooks")[1].split("\n## ")[0]
    assert set(rows(section)) == set(vars(Hooks()))


def test_every_question_and_public_name_is_documented() -> None:
    page = reference("python.md")
    questions = set(vars(Management)) - {"__init__"}
    for name in (*trio_broker.__all__, *(name for name in questions if not name.startswith("_"))):
        assert re.search(rf"\b{name}\b", page), name


def test_every_reason_code_that_is_used_is_documented() -> None:
    page = reference("reason-codes.md")
    folders = ("access", "actors", "protocol", "session", "routing")
    files = [path for folder in folders for path in (ROOT / "trio_broker" / folder).rglob("*.py")]
    used = {name for path in files for name in re.findall(r"ReasonCode\.([A-Z]\w+)", path.read_text(encoding="utf-8"))}
    assert len(used) > 20
    for name in used:
        assert f"0x{ReasonCode[name]:02X}" in page, name
