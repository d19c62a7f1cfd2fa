"""MQTT.js, the client of browsers and Node: MQTT 3.1, 3.1.1 and 5.0 over every transport."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TIMEOUT = 60.0  # a bound for a failure, in seconds
FOLDER = Path(__file__).parent / "js"
SCHEMES = {"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"}


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize("transport", list(SCHEMES))
def test_scenarios(
    endpoint: Any, level: int, prefix: str, tool: Callable[[str, str], str], wait_gone: Callable[[str], None]
) -> None:
    """Round trip with QoS 0, 1 and 2, retained message, will on an abrupt end, clean disconnect."""
    node = tool("node", "nodejs")
    if not (FOLDER / "node_modules" / "mqtt").is_dir():
        pytest.fail(f"MQTT.js is not installed: `make test` does it (npm install in {FOLDER})", pytrace=False)
    path = endpoint.websocket_path if endpoint.websocket else ""
    question = {
        "url": f"{SCHEMES[endpoint.transport]}://{endpoint.host}:{endpoint.port}{path}",
        "level": level,
        "prefix": prefix,
        "ca": endpoint.ca_file if endpoint.tls else None,
    }
    process = subprocess.Popen(
        [node, "scenarios.mjs", json.dumps(question)],
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    killer = threading.Timer(TIMEOUT, process.kill)
    killer.start()
    said: list[str] = []
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.strip())
            if line.startswith("gone? "):
                wait_gone(line.split()[1])
                process.stdin.write("gone\n")
                process.stdin.flush()
    killer.cancel()
    killer.join()
    assert process.returncode == 0, said
    assert [line for line in said if line.startswith("ok ")] == [
        "ok roundTrip",
        "ok retained",
        "ok willOnAbruptEnd",
        "ok cleanDisconnect",
    ]
