"""The version of this package; read by the build and shown by the command and over REST.

Invariant: the only place where the version is written.
"""

from __future__ import annotations

__version__ = "0.1.0"
