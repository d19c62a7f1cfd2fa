"""The REST API of a large broker: how long its lists take, and what the messages feel of them.

    python -m benchmarks.rest [--sessions 100000] [--subscriptions 1000000] [--times 20] [--rate 50000] [--quick]

Invariant: every call is made over a real HTTP connection and has to be a success; "server" is what the server says of
itself, "HTTP" what the caller waits. Each is measured while nothing else happens and while messages flow at `--rate`.
Exit code 1 when a bound does not hold.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import FrameType
from urllib.parse import quote

from attrs import define, field

from benchmarks import load
from benchmarks.brokers import REST_KEY, ROOT, trio_broker_config
from benchmarks.load import Options, run_load
from benchmarks.processes import BROKER, LOAD, Child, free_port, raise_file_limit
from benchmarks.rest_site import FIRST_AT, HANDLED, client_id, host, username
from benchmarks.routing import match_filter

__all__ = ["Call", "Taken", "calls", "main", "measure", "table"]

PAGE, SCAN, ONE = 50.0, 1000.0, 5.0
"""Milliseconds at the server: a page, a search through everything, one client."""
FLOW = 2.0
"""What the p99 of the messages may become, in times of what it is without the calls."""
SECONDS = 12.0


@define(frozen=True)
class Call:
    """One operation; `bound` in milliseconds at the server."""

    path: str
    bound: float


@define
class Taken:
    """Milliseconds of each time."""

    server: list[float] = field(factory=list)
    http: list[float] = field(factory=list)


def calls(sessions: int, subscriptions: int) -> list[Call]:
    """Pages at the beginning, in the middle and far behind, indexed ones, searches, one client."""
    middle = sessions // 2
    far = max(1, sessions // 100)  # the last page of 100
    far_row = max(1, subscriptions // 100)
    each = max(1, subscriptions // sessions)
    held = quote(match_filter(middle * each + 1), safe="")
    hall = quote(match_filter(middle * each + 1).split("/")[0] + "/+/+/temperature", safe="")
    wanted = [
        Call("/clients?limit=100", PAGE),
        Call(f"/clients?limit=100&page={far}", PAGE),
        Call("/clients?limit=1000", PAGE),
        Call(f"/clients?clientid={client_id(middle)}", PAGE),
        Call(f"/clients?username={username(middle)}", PAGE),
        Call("/clients?conn_state=disconnected&limit=100", PAGE),
        Call("/clients_v2?limit=100", PAGE),
        Call("/clients_v2?limit=1000", PAGE),
        Call("/subscriptions?limit=100", PAGE),
        Call(f"/subscriptions?limit=100&page={min(1000, far_row)}", PAGE),
        Call(f"/subscriptions?limit=100&page={far_row}", PAGE),
        Call("/subscriptions?limit=1000", PAGE),
        Call(f"/subscriptions?clientid={client_id(middle)}", PAGE),
        Call(f"/subscriptions?topic={held}", PAGE),
        Call("/topics?limit=100", PAGE),
        Call(f"/topics?limit=100&page={min(1000, far_row)}", PAGE),
        Call("/topics?limit=1000", PAGE),
        Call(f"/topics/{held}", PAGE),
        Call("/sessions_count", PAGE),
        Call(f"/clients?like_clientid={sessions - 1:06}", SCAN),
        Call(f"/clients?like_username={username(sessions - 1)[4:]}", SCAN),
        Call(f"/clients?ip_address={host(middle)}", SCAN),
        Call(f"/clients?gte_created_at={FIRST_AT + middle}&limit=100", SCAN),
        Call(f"/clients?lte_connected_at={FIRST_AT + middle}&limit=100", SCAN),
        Call("/subscriptions?match_topic=nobody%2F%23", SCAN),
        Call(f"/subscriptions?match_topic={hall}", SCAN),
        Call("/subscriptions?match_topic=%2B%2F%2B%2F%2B%2Fhumidity", SCAN),
        Call("/subscriptions?qos=2&limit=100", SCAN),
        Call(f"/clients/{client_id(middle)}", ONE),
        Call(f"/clients/{client_id(middle)}/subscriptions", ONE),
    ]
    return list({call.path: call for call in wanted}.values())


def measure(port: int, wanted: Sequence[Call], times: int, until: Iterable[object] | None = None) -> dict[str, Taken]:
    """Each call so many times, in rounds; RuntimeError when one fails. `until`: stop when it has no more items."""
    headers = {"Authorization": f"Basic {base64.b64encode(REST_KEY.encode()).decode()}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    taken = {call.path: Taken() for call in wanted}
    rounds = range(times) if until is None else until
    for _ in rounds:
        for call in wanted:
            began = time.perf_counter()
            connection.request("GET", f"/api/v5{call.path}", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            taken[call.path].http.append((time.perf_counter() - began) * 1e3)
            if answer.status != 200:
                raise RuntimeError(f"GET {call.path}: {answer.status} {body[:200]!r}")
            taken[call.path].server.append(int(answer.getheader(HANDLED, "0")) / 1e3)
    connection.close()
    return taken


def _until_told() -> Iterator[None]:
    """Rounds until SIGTERM, one at least."""
    stopped = False

    def stop(signal_number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    while True:
        yield
        if stopped:
            return


def ask(port: int, sessions: int, subscriptions: int) -> None:
    """The calls, again and again until SIGTERM; then what they took, as JSON. A process of its own."""
    print("begun", flush=True)
    taken = measure(port, calls(sessions, subscriptions), 0, _until_told())
    print(json.dumps({path: [it.server, it.http] for path, it in taken.items()}), flush=True)


@contextmanager
def site(folder: Path, sessions: int, subscriptions: int) -> Iterator[tuple[Child, int, int]]:
    """The broker's process, its port for MQTT, and that of its REST API."""
    port, rest_port = free_port(), free_port()
    (folder / "rest-keys").write_text(f"{REST_KEY}\n")
    path = folder / "trio-broker.toml"
    path.write_text(trio_broker_config(port, rest_port))
    argv = [sys.executable, "-m", "benchmarks.rest_site", str(path), str(sessions), str(subscriptions)]
    environment = {"PYTHONPATH": str(ROOT)}
    with Child(argv, folder / "broker.log", BROKER, folder=folder, environment=environment, capture=True) as child:
        if not child.read_line():
            raise RuntimeError(f"the broker did not start:\n{child.tail()}")
        yield child, port, rest_port


def table(wanted: Sequence[Call], alone: dict[str, Taken], beside: dict[str, Taken]) -> tuple[str, bool]:
    """The figures in Markdown, and whether every bound holds."""
    lines = [
        "| call (ms) | server | worst | HTTP | worst | server, beside the flow | worst | bound | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    all_hold = True
    for call in wanted:
        parts = []
        for taken in (alone[call.path].server, alone[call.path].http, beside[call.path].server):
            parts += [f"{median(taken):.1f}", f"{max(taken):.1f}"]
        holds = median(beside[call.path].server) <= call.bound and median(alone[call.path].server) <= call.bound
        all_hold = all_hold and holds
        verdict = "holds" if holds else "BROKEN"
        lines.append(f"| `{call.path}` | {' | '.join(parts)} | {call.bound:g} | {verdict} |")
    return "\n".join(lines) + "\n", all_hold


def run(sessions: int, subscriptions: int, times: int, rate: int, seconds: float) -> bool:
    """Measure, print; whether every bound holds."""
    wanted = calls(sessions, subscriptions)
    flow = Options("pairs", max(1, round(rate * seconds / 100)), 100, 100, rate=rate, seconds=seconds * 4 + 30)
    with tempfile.TemporaryDirectory(prefix="trio-broker-rest-") as name:
        folder = Path(name)
        with site(folder, sessions, subscriptions) as (child, port, rest_port):
            memory = child.rss_kb() / 1024
            print(f"{sessions:,} sessions, {subscriptions:,} subscriptions: {memory:,.0f} MiB", file=sys.stderr)
            measure(rest_port, wanted, 1)
            alone = measure(rest_port, wanted, times)
            quiet = run_load(flow, port, folder)
            argv = [sys.executable, "-m", "benchmarks.rest", "--ask", str(rest_port)]
            argv += ["--sessions", str(sessions), "--subscriptions", str(subscriptions)]
            with Child(argv, folder / "ask.log", LOAD, folder=ROOT, capture=True, niceness=19) as asker:
                asker.read_line()
                loud = run_load(flow, port, folder)
                asker.process.terminate()
                line = asker.read_line()
                if not line:
                    raise RuntimeError(f"the calls failed:\n{asker.tail()}")
    if quiet.trouble or loud.trouble:
        raise RuntimeError(f"the flow: {quiet.trouble or loud.trouble}")
    beside = {path: Taken(*both) for path, both in json.loads(line).items()}
    text, holds = table(wanted, alone, beside)
    factor = loud.number("p99_ms") / quiet.number("p99_ms") if quiet.number("p99_ms") else 0.0
    print(text)
    print(
        f"flow of {rate:,} msg/s: p50 {quiet.number('p50_ms'):.2f} ms, p99 {quiet.number('p99_ms'):.2f} ms, max"
        f" {quiet.number('max_ms'):.1f} ms; beside the calls p50 {loud.number('p50_ms'):.2f} ms, p99"
        f" {loud.number('p99_ms'):.2f} ms, max {loud.number('max_ms'):.1f} ms: {factor:.2f} times (at most {FLOW:g})"
    )
    return holds and factor <= FLOW


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.rest", description="How long the lists of the REST API take.")
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--subscriptions", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=20, help="how often each call is made")
    parser.add_argument("--rate", type=int, default=50_000, help="messages a second that flow meanwhile")
    parser.add_argument("--quick", action="store_true", help="small numbers: does it work?")
    parser.add_argument("--ask", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.ask is not None:
        ask(options.ask, options.sessions, options.subscriptions)
        return 0
    raise_file_limit()
    if options.quick:
        options.sessions, options.subscriptions, options.times, options.rate = 2000, 20_000, 3, 2000
    try:
        load.build()
        holds = run(
            options.sessions, options.subscriptions, options.times, options.rate, 2.0 if options.quick else SECONDS
        )
    except RuntimeError as error:
        print(f"benchmarks.rest: {error}", file=sys.stderr)
        return 1
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
