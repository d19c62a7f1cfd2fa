"""Make `fuzz/corpus` from the tables of packets in `tests/cases`.

    PYTHONPATH=tests python -m fuzz.make_corpus

Invariant: the same tables make the same files, and a file that no row stands for is deleted.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cases.packet_cases import PACKET_CASES, WRONG_CASES, PacketCase, WrongCase
from fuzz.invariants import LEVELS, Plan, Role
from trio_broker.protocol.packets import Connect

__all__ = ["CORPUS", "corpus", "write"]

CORPUS: Final = Path(__file__).parent / "corpus"
SHORT: Final = 400  # rows with more bytes only slow a search down
SIZE: Final = 1_048_576


def corpus() -> dict[str, bytes]:
    """File name -> content: for each kind of packet, level and side the good rows, then those of the wrong ones."""
    files: dict[str, bytes] = {}
    streams: dict[str, list[PacketCase]] = defaultdict(list)
    for case in PACKET_CASES:
        if len(case.data) > SHORT:
            continue
        kind = type(case.packet).__name__.lower()
        if isinstance(case.packet, Connect):
            # Only one fits into a stream, and it decides about the level.
            files[_name("connect", case.level, case.name)] = _input(0, "server", [case])
        else:
            streams[_name(kind, case.level, case.sent_by)].append(case)
    for name, cases in streams.items():
        files[name] = _input(cases[0].level, _reader(cases[0]), cases)
    for level in LEVELS:
        wrong = [case for case in WRONG_CASES if case.level == level and len(case.data) <= SHORT]
        # After an error nothing is read, so each needs a file; alike ones (by reason and first byte) are one.
        chosen = {(row.reason_code, row.data[:1], row.sent_by): row for row in wrong}
        for (code, first, sent_by), row in chosen.items():
            files[_name("wrong", level, sent_by, first.hex(), f"{code:02x}")] = _input(level, _reader(row), [row])
    return files


def write(folder: Path = CORPUS) -> int:
    """Make the folder's files what `corpus` says; returns how many they are."""
    files = corpus()
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.bin"):
        if old.name not in files:
            old.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return len(files)


def _reader(case: PacketCase | WrongCase) -> Role:
    return "server" if case.sent_by == "client" else "client"


def _input(level: int, role: Role, cases: Iterable[PacketCase | WrongCase]) -> bytes:
    data = b"".join(case.data for case in cases)
    return Plan(level, role, SIZE, cuts=3, seed=len(data) % 256).header() + data


def _name(*parts: object) -> str:
    return re.sub(r"[^a-z0-9]+", "-", " ".join(map(str, parts)).lower()).strip("-") + ".bin"


if __name__ == "__main__":
    sys.stdout.write(f"{write()} files in {CORPUS}\n")
