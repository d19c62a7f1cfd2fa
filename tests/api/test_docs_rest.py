"""The examples of docs/reference/rest/*.md, and of the how-to guides with calls of older generations, are run as they
stand, by bash and curl, each page against its own broker.

Invariant: what a page shows is what its commands answer; the blocks of a page are run in order, in one shell.

In a `console` block a line that begins with `$ ` is a command, `> ` goes on with it, the lines after it are what it
prints; `...` stands for any text. JSON may be laid out as it reads best. The scene of every page: `c1` (user name `u1`,
MQTT 5) is connected and subscribed to `t/#`; `c2` is away, its session is subscribed to `q/#` and has the messages
`one` (`q/1`) and `two` (`q/2`) in its queue; `house/door` retains `open`. All of them were published by `c1`.
`$PASSWORD` is that of the dashboard user `admin`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import define, field

from trio_broker.testing import open_broker
from trio_broker.testing.running import RunningBroker

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "docs" / "how-to" / "use-emqx4-and-emq2-scripts.md"]
PAGES = [*sorted((ROOT / "docs" / "reference" / "rest").glob("*.md")), *GUIDES]
KEY, SECRET = "docs-key", "docs-secret"
PASSWORD = "docs-password-1"
TIMEOUT = 120.0
"""Seconds: they end what would hang."""
CODE, END = "\x1f", "\x1e"
"""The shell prints them around the exit code of each command: characters that no answer holds."""


@define
class Command:
    """`line` is where it stands in the page."""

    line: int
    text: str
    output: list[str] = field(factory=list)

    @property
    def expected(self) -> str:
        return "\n".join(self.output)


def commands_of(page: str) -> list[Command]:
    """The commands of a page in their order. ValueError for a block that does not begin with one."""
    found: list[Command] = []
    in_block = False
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith("```"):
            in_block = line == "```console"
            is_first = True
        elif in_block and line.startswith("$ "):
            found.append(Command(number, line[2:]))
            is_first = False
        elif in_block and is_first:
            raise ValueError(f"line {number}: a block begins with `$ `, not with {line!r}")
        elif in_block and line.startswith("> ") and not found[-1].output:
            found[-1].text += "\n" + line[2:]
        elif in_block:
            found[-1].output.append(line)
    return found


def is_as_shown(printed: str, expected: str) -> bool:
    """`...` in `expected` stands for any text; of two JSON texts only the layout may differ."""
    if _fits(printed, expected):
        return True
    return expected.lstrip()[:1] in tuple("{[") and _fits(_compact(printed), _compact(expected))


def _fits(printed: str, expected: str) -> bool:
    pattern = ".*?".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


def _compact(text: str) -> str:
    """Without the white space between the tokens of JSON."""
    return re.sub(r'("(?:[^"\\]|\\.)*")|\s+', lambda match: match[1] or "", text)


def script_of(commands: list[Command]) -> str:
    return "\n".join(f"{command.text}\nprintf '{CODE}%s{END}' $?" for command in commands) + "\n"


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[RunningBroker]:
    (folder / "keys").write_text(f"{KEY}:{SECRET}\n", encoding="utf-8")
    http = {"bind": "127.0.0.1:0"}
    async with open_broker(
        node={"data_dir": str(folder / "data")},
        dashboard={"listeners": {"http": http}, "default_password": PASSWORD},
        api={"v4": http, "v2": http},
        api_key={"bootstrap_file": str(folder / "keys")},
    ) as running:
        async with running.client("c2", properties={"session_expiry_interval": 3600}) as c2:
            await c2.subscribe("q/#", qos=1)
            await c2.disconnect()
        async with running.client("c1", username="u1") as c1:
            await c1.subscribe("t/#", qos=1)
            await c1.publish("q/1", b"one", qos=1)
            await c1.publish("q/2", b"two", qos=1)
            await c1.publish("house/door", b"open", qos=1, retain=True)
            yield running


async def run_page(page: Path, folder: Path) -> list[str]:
    """What is wrong with the page: one text for each command that printed something else."""
    commands = commands_of(page.read_text(encoding="utf-8"))
    directory = folder / "directory"
    directory.mkdir()
    async with scene(folder) as running:
        assert running.api is not None
        assert running.api_v4 is not None
        assert running.api_v2 is not None
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "TZ": "UTC",
            "LC_ALL": "C.UTF-8",
            "API": f"http://{running.api[0]}:{running.api[1]}/api/v5",
            "V4": f"http://{running.api_v4[0]}:{running.api_v4[1]}/api/v4",
            "V2": f"http://{running.api_v2[0]}:{running.api_v2[1]}/api/v2",
            "KEY": KEY,
            "SECRET": SECRET,
            "PASSWORD": PASSWORD,
        }
        with trio.fail_after(TIMEOUT):
            done = await trio.run_process(
                ["bash", "-c", script_of(commands)],
                cwd=directory,
                env=environment,
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
            )
    answers = done.stdout.decode().replace("\r\n", "\n").split(END)
    wrong = []
    for command, answer in zip(commands, [*answers, *[""] * len(commands)], strict=False):
        printed, _, code = answer.removesuffix("\n").partition(CODE)
        printed = printed.removesuffix("\n")
        if code != "0" or not is_as_shown(printed, command.expected):
            where = f"{page.relative_to(ROOT)}:{command.line}" if page.is_relative_to(ROOT) else f"line {command.line}"
            wrong.append(
                f"{where}: $ {command.text}\n-- shown:\n{command.expected}\n-- printed (exit code {code or 'none'}):\n"
                + printed
            )
    return wrong


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: apt install curl")


@needs_curl
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
async def test_a_page_shows_what_is_answered(page: Path, tmp_path: Path) -> None:
    wrong = await run_page(page, tmp_path)
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize(
    ("printed", "expected", "fits"),
    [
        ("a", "a", True),
        ("a b", "a  b", False),
        ("", "", True),
        ("a", "", False),
        ("x\ny z", "x...z", True),
        ('{"a":[1,2],"b":"c d"}', '{\n  "a": [1, 2],\n  "b": "c d"\n}', True),
        ('{"a":[1,2],"b":"c d"}', '{"a": [...], "b": "c..."}', True),
        ('{"a":"c d"}', '{"a": "cd"}', False),
        ('{"a":1}', '{"a": 2}', False),
    ],
)
def test_what_is_taken_for_the_same(printed: str, expected: str, fits: bool) -> None:
    assert is_as_shown(printed, expected) is fits


def test_blocks_are_taken_apart() -> None:
    page = "$ no\n```console\n$ a |\n>   b\nc\n> d\n$ e\n```\n```json\nf\n```\n"
    assert commands_of(page) == [Command(3, "a |\n  b", ["c", "> d"]), Command(7, "e", [])]
    with pytest.raises(ValueError, match="line 2: a block begins with"):
        commands_of("```console\nno command\n```\n")


@needs_curl
async def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n"
        '$ NAME=c1; curl -su "$KEY:$SECRET" "$API/clients?fields=clientid&clientid=$NAME"\n'
        '{"data": [{"clientid": "c1"}], "meta": ...}\n'
        "$ echo $NAME\nc2\n"
        "$ echo 1; false\n1\n"
        "$ exit 3\n"
        "$ echo never\n"
        "```\n"
    )
    folder = tmp_path / "scene"
    folder.mkdir()
    wrong = await run_page(page, folder)
    assert wrong == [
        "line 4: $ echo $NAME\n-- shown:\nc2\n-- printed (exit code 0):\nc1",
        "line 6: $ echo 1; false\n-- shown:\n1\n-- printed (exit code 1):\n1",
        "line 8: $ exit 3\n-- shown:\n\n-- printed (exit code none):\n",
        "line 9: $ echo never\n-- shown:\n\n-- printed (exit code none):\n",
    ]


@needs_curl
async def test_the_scene_is_as_promised(tmp_path: Path) -> None:
    async with scene(tmp_path) as running:
        questions = running.broker.questions
        c1, c2 = await questions.client("c1"), await questions.client("c2")
        assert c1 is not None
        assert c2 is not None
        assert (c1.connected, c1.username, c1.protocol_level, c1.subscriptions_count) == (True, "u1", 5, 1)
        assert (c2.connected, c2.mqueue_len, c2.subscriptions_count) == (False, 2, 1)
        queue = await questions.mqueue_messages("c2", None, 10)
        assert queue is not None
        assert [(one.topic_name, one.payload) for one in queue.messages] == [("q/1", b"one"), ("q/2", b"two")]
        retained = await questions.retained_message("house/door")
        assert retained is not None
        assert retained.payload == b"open"
