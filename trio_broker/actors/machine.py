"""What the broker's process may have of its machine: memory, descriptors, load.

Invariant: asked of the system at each call; nothing is kept.
"""

from __future__ import annotations

import os
import platform
import resource
from typing import Final

__all__ = ["NO_LIMIT", "machine_memory", "max_descriptors"]

NO_LIMIT: Final = 2**31 - 1
"""What stands for "no limit" where a number is due."""


def max_descriptors() -> int:
    """File descriptors this process may have open at one time."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return NO_LIMIT if soft == resource.RLIM_INFINITY else soft


def machine_memory(path: str = "/proc/meminfo") -> tuple[int, int]:
    """Bytes of memory of this machine: all of it, and what is used. Without Linux's table: all of it is used by us."""
    try:
        with open(path, encoding="ascii") as table:
            sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in table)}
        return sizes["MemTotal"], sizes["MemTotal"] - sizes["MemAvailable"]
    except (OSError, KeyError):
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        # Kibibytes on every system but macOS, which has no /proc either.
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return total, largest if platform.system() == "Darwin" else largest * 1024
