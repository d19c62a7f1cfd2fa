"""MQTT.js: what 5.0 adds, and sessions and takeover in every version.

Invariant: a scenario holds when its program says so and ends well; what it says else is shown in the failure.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_broker.access.scram import ScramAuthenticator
from trio_broker.broker import Broker
from trio_broker.testing.running import make_config
from trio_broker.testing.threaded import ThreadedBroker

TIMEOUT = 60.0  # a bound for a failure, in seconds
FOLDER = Path(__file__).parent / "js"
SCHEMES = {"tcp": "mqtt", "wss": "wss"}


@pytest.fixture
def play(tool: Callable[[str, str], str], prefix: str) -> Callable[..., None]:
    """`play(scenario, url, level, ca)`: run one of features.mjs."""
    node = tool("node", "nodejs")
    if not (FOLDER / "node_modules" / "mqtt").is_dir():
        pytest.fail(f"MQTT.js is not installed: `make test` does it (npm install in {FOLDER})", pytrace=False)

    def run(scenario: str, url: str, level: int = 5, ca: str | None = None) -> None:
        question = {"url": url, "level": level, "prefix": prefix, "ca": ca, "scenario": scenario}
        done = subprocess.run(
            [node, "features.mjs", json.dumps(question)],
            cwd=FOLDER,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, f"ok {scenario}\n"), done.stdout

    return run


def play_at(play: Callable[..., None], endpoint: Any, scenario: str, level: int) -> None:
    path = endpoint.websocket_path if endpoint.websocket else ""
    url = f"{SCHEMES[endpoint.transport]}://{endpoint.host}:{endpoint.port}{path}"
    play(scenario, url, level, endpoint.ca_file if endpoint.tls else None)


@pytest.mark.parametrize("transport", list(SCHEMES))
@pytest.mark.parametrize(
    "scenario",
    [
        "properties",
        "topicAliases",
        "subscribeOptions",
        "will",
        "sharedSubscription",
        "flowControl",
        "requestResponse",
        "codes",
    ],
)
def test_features(endpoint: Any, play: Callable[..., None], scenario: str) -> None:
    play_at(play, endpoint, scenario, 5)


@pytest.mark.parametrize("transport", list(SCHEMES))
@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize("scenario", ["session", "takeover"])
def test_sessions(endpoint: Any, play: Callable[..., None], scenario: str, level: int) -> None:
    play_at(play, endpoint, scenario, level)


def test_limits_are_told(play: Callable[..., None]) -> None:
    limits = {
        "max_qos_allowed": 1,
        "retain_available": False,
        "max_packet_size": 2000,
        "max_topic_alias": 5,
        "max_awaiting_rel": 7,
        "server_keepalive": 77,
        "wildcard_subscription": False,
        "shared_subscription": False,
        "response_information": "answers/",
    }
    with ThreadedBroker(mqtt=limits) as broker:
        play("limits", broker.url)


async def test_scram(tool: Callable[[str, str], str], prefix: str) -> None:
    """Enhanced authentication: the right password, by which the broker proves itself too, and a wrong one."""
    question = {"level": 5, "prefix": prefix, "ca": None, "scenario": "scram"}
    config = make_config(None, {})
    broker = Broker(config, authenticators=[ScramAuthenticator({"anna": "pencil"})])
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(broker.run)
        host, port = bound.listeners["tcp:default"]
        command = [tool("node", "nodejs"), "features.mjs", json.dumps(question | {"url": f"mqtt://{host}:{port}"})]
        with trio.fail_after(TIMEOUT):
            done = await trio.run_process(
                command, cwd=FOLDER, capture_stdout=True, stderr=subprocess.STDOUT, check=False
            )
        broker.close()
    assert (done.returncode, done.stdout) == (0, b"ok scram\n"), done.stdout.decode()
