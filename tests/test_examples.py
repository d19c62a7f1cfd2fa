"""Every example runs as its user would run it."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import httpx
import trio

from trio_broker.testing import open_client

EXAMPLES = Path(__file__).parent.parent / "examples"
TIMEOUT = 60.0  # a bound for a failure, in seconds


def run(*command: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_every_example_has_a_test() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix == ".py" or path.is_dir()} - {"__pycache__"}
    assert names == {"embed.py", "week_in_milliseconds.py", "quart_app.py", "pytest_suite"}


def test_embed() -> None:
    assert run("embed.py") == [
        "listening on 127.0.0.1",
        "house/door: open",
        "house/window: closed",
        "house/window: goodbye",
        "ended",
    ]


def test_week_in_milliseconds() -> None:
    *lines, took = run("week_in_milliseconds.py")
    assert lines == [
        "day 0: session present False",
        "kept for the traveller: a letter",
        "day 6: session present True",
        "day 14: session present False",
    ]
    assert took.startswith("two weeks took ")


async def test_quart_app() -> None:
    example = runpy.run_path(str(EXAMPLES / "quart_app.py"))
    async with trio.open_nursery() as nursery:
        url, port = await nursery.start(example["main"], "127.0.0.1:0", "127.0.0.1:0")
        async with httpx.AsyncClient(base_url=url) as http, open_client(("127.0.0.1", port)) as client:
            await client.subscribe("lamps/#", qos=1)
            assert (await http.post("/lamps/kitchen", content=b"on")).status_code == 202
            assert (await client.receive()).payload == b"on"
            await client.publish("lamps/hall", b"off", qos=1)
            # Its own copy reaches the program no later than ours reaches us.
            assert (await client.receive()).topic_name == "lamps/hall"
            with trio.fail_after(TIMEOUT):
                while (await http.get("/lamps")).json() != {"kitchen": "on", "hall": "off"}:
                    await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


def test_pytest_suite() -> None:
    assert "3 passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", "pytest_suite")[-1]
