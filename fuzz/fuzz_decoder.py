"""Fuzz the decoder with atheris: bytes that reach new code are kept and changed further.

    pip install atheris
    python -m fuzz.fuzz_decoder -max_total_time=300 /tmp/found fuzz/corpus

Invariant: this holds nothing of what is checked; that is in `fuzz.invariants`, which needs no atheris.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

__all__ = ["main"]

NEEDS = "atheris is not installed; it is not among this project's own requirements: pip install atheris"


def main(arguments: list[str]) -> int:
    """`arguments` are libFuzzer's: options, then folders of inputs, the first of which takes what is found."""
    try:
        atheris: Any = import_module("atheris")
    except ModuleNotFoundError:
        sys.stderr.write(f"{NEEDS}\n")
        return 2
    # What is imported here is followed branch by branch; nothing of it may be loaded before.
    with atheris.instrument_imports(include=["trio_broker.protocol", "fuzz.invariants"]):
        check = import_module("fuzz.invariants").check
    atheris.Setup(arguments, check)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
