"""What the tests with real programs lean on.

Invariant: a program that does not want to end is ended.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from sockets.waiting import end

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
WILLING = "import signal; print('ready', flush=True); signal.pause()"


@pytest.mark.parametrize(
    ("program", "patience", "by"), [(STUBBORN, 0.1, signal.SIGKILL), (WILLING, 30, signal.SIGTERM)]
)
def test_a_program_is_asked_to_end_and_then_made_to(program: str, patience: float, by: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        end(process, patience)
    assert process.returncode == -by
