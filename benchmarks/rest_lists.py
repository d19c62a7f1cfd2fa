"""Asks for the long lists of the REST API, one after the other, until SIGTERM.

    python -m benchmarks.rest_lists PORT

Invariant: the first line says that the first answer is there; the last one, as JSON, how many there were.
"""

from __future__ import annotations

import base64
import http.client
import json
import signal
import sys
import time
from itertools import cycle
from types import FrameType

from benchmarks.brokers import REST_KEY

LISTS = (
    "/api/v5/clients?limit=1000",
    "/api/v5/subscriptions?limit=1000",
    "/api/v5/topics?limit=1000",
    "/api/v5/metrics",
)


def main(port: int) -> int:
    stopped = False

    def stop(signal_number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    headers = {"Authorization": f"Basic {base64.b64encode(REST_KEY.encode()).decode()}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    answers = failed = 0
    spent: list[float] = []
    for path in cycle(LISTS):
        began = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        spent.append(time.perf_counter() - began)
        answers += answer.status == 200
        failed += answer.status != 200
        if len(spent) == 1:
            print("begun", flush=True)
        if stopped:
            break
    slowest = sorted(spent)[-max(1, len(spent) // 100)]
    print(json.dumps({"answers": answers, "failed": failed, "p99_ms": round(slowest * 1e3, 2)}), flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
