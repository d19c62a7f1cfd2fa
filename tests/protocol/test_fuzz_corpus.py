"""The fuzz target over its corpus and some mutations of it, without a fuzzer: no rule is broken.

Invariant: the corpus is what the tables of packets make of it, and the same mutations are tried every time.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from fuzz.invariants import HEADER, Plan, check
from fuzz.make_corpus import CORPUS, corpus, write
from trio_broker.protocol.decoder import Decoder

FILES = sorted(CORPUS.glob("*.bin"))
MUTATIONS = 30


def mutated(data: bytes, dice: Random) -> bytes:
    """A few bytes changed, taken out, put in or repeated; the header as well."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(changed))
        match dice.randrange(5):
            case 0:
                changed[at] = dice.randrange(256)
            case 1:
                changed[at] ^= 1 << dice.randrange(8)
            case 2 if len(changed) > HEADER + 1:
                del changed[at : at + dice.randint(1, 3)]
            case 3:
                changed[at:at] = changed[at : at + dice.randint(1, 40)]
            case _:
                changed[at:at] = dice.randbytes(dice.randint(1, 4))
    return bytes(changed)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_and_mutations_of_it(file: Path) -> None:
    data = file.read_bytes()
    check(data)
    dice = Random(file.name)
    for _ in range(MUTATIONS):
        check(mutated(data, dice))


def test_streams_put_together() -> None:
    """Two files behind each other, decoded in the way of the first."""
    dice = Random(1)
    inputs = [file.read_bytes() for file in FILES]
    for _ in range(300):
        first, second = dice.sample(inputs, 2)
        check(first + second[HEADER:])


def test_noise() -> None:
    dice = Random(2)
    for _ in range(1000):
        check(dice.randbytes(dice.randint(0, 60)))


def test_large_packets_in_pieces() -> None:
    """So that what is held grows and is given back."""
    body = b"\0\1a" + bytes(200_000)
    publish = b"\x30\x83\x9a\x0c" + body
    for level in (3, 4):
        for cuts in (0, 5, 15):
            check(Plan(level, "server", 1_048_576, cuts, 7).header() + publish * 3 + publish[:1000])


def test_the_corpus_is_up_to_date(tmp_path: Path) -> None:
    assert {file.name: file.read_bytes() for file in FILES} == corpus(), (
        "run `PYTHONPATH=tests python -m fuzz.make_corpus`"
    )
    (tmp_path / "old.bin").write_bytes(b"")
    write(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == set(corpus())


def test_every_header_is_understood() -> None:
    for how in range(256):
        header = bytes((how, 3, 9))
        plan = Plan.of(header)
        assert Plan.of(plan.header()) == plan
        assert b"".join(plan.pieces(b"abcdef")) == b"abcdef"


@pytest.mark.parametrize("level", [3, 4])
def test_a_server_says_no_disconnect_below_5(level: int) -> None:
    """It goes from client to server only [3.1.1 section 3.14]: who reads for a client must notice a server's."""
    decoder = Decoder(role="client", level=level)
    assert decoder.feed(b"\xe0\0") == []
    assert decoder.error is not None


@pytest.mark.skipif(find_spec("atheris") is not None, reason="atheris is installed")
def test_without_a_fuzzer_the_program_says_what_it_needs() -> None:
    root = CORPUS.parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.fuzz_decoder"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "pip install atheris" in done.stderr
    assert "Traceback" not in done.stderr
