"""`python -m trio_broker` is the command `trio-broker`.

Invariant: nothing happens on import.
"""

from __future__ import annotations

import sys

from trio_broker.cli import main

if __name__ == "__main__":
    sys.exit(main())
