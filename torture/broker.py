"""The broker as a process of its own, on one data directory and one port; it ends by SIGKILL.

Invariant: when the `with` block around a `BrokerProcess` ends, its process is gone.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import trio
from attrs import define, field

__all__ = ["BrokerFailed", "BrokerProcess", "quiet_port"]

ROOT: Final = Path(__file__).parent.parent
PATIENCE: Final = 120.0


class BrokerFailed(Exception):
    """It ended by itself, or does not listen; the text has the end of its log."""


def quiet_port() -> int:
    """A free port below those that the system gives to clients: one of theirs could take it while nobody listens."""
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@define(eq=False)
class BrokerProcess:
    folder: Path
    """For its data directory `data`, and its `broker.log`."""
    port: int
    settings: dict[str, str] = field(factory=dict)
    _process: trio.Process | None = None
    _log: IO[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def __enter__(self) -> Self:
        self.data.mkdir(parents=True, exist_ok=True)
        self._log = (self.folder / "broker.log").open("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process._proc.wait()
        if self._log is not None:
            self._log.close()

    async def spawn(self) -> None:
        settings = {
            "node.data_dir": str(self.data),
            "listeners.tcp.default.bind": f"127.0.0.1:{self.port}",
            "listeners.ws.default.enable": "false",
            "log.level": "warning",
            **self.settings,
        }
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        self._process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "trio_broker", *words],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("TRIO_BROKER_")},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is for us: the broker ends when we say so
        )

    @property
    def process(self) -> trio.Process:
        assert self._process is not None
        return self._process

    async def wait_for_listener(self) -> float:
        """Returns the seconds until connections are taken. Raises BrokerFailed."""
        began = trio.current_time()
        while self.process.poll() is None and trio.current_time() - began < PATIENCE:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", self.port)
            except OSError:
                await trio.sleep(0.01)
            else:
                await trio.aclose_forcefully(stream)
                return trio.current_time() - began
        code = self.process.poll()
        raise BrokerFailed(f"the broker {'does not listen' if code is None else f'ended with {code}'}\n{self.tail()}")

    async def kill(self) -> None:
        """As a crash would. Raises BrokerFailed where it had ended before."""
        if self.process.poll() is not None:
            raise BrokerFailed(f"the broker ended by itself, with {self.process.returncode}\n{self.tail()}")
        self.process.kill()
        await self.process.wait()

    async def end(self) -> int:
        """Ask it to end; its exit code."""
        self.process.terminate()
        with trio.move_on_after(PATIENCE):
            return await self.process.wait()
        self.process.kill()
        return await self.process.wait()

    def complaints(self) -> list[str]:
        """The lines of its log that are errors."""
        lines = (self.folder / "broker.log").read_text(errors="replace").splitlines()
        return [line for line in lines if " ERROR " in line or " CRITICAL " in line or line.startswith("Traceback")]

    def tail(self, lines: int = 20) -> str:
        return "\n".join((self.folder / "broker.log").read_text(errors="replace").splitlines()[-lines:])
