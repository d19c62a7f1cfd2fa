"""The reference page names each operation, with the role that may call it, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from trio_broker.api import v5

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "rest-api.md"
ROLES = {"everybody": "all", "viewers": "viewer", "publishers": "publisher", "administrators": "administrator"}


def test_every_operation_is_documented() -> None:
    rows = re.findall(r"(?m)^\| `((?:GET|POST|PUT|DELETE) /\S+)` \| .+ \| (\w+) \|$", PAGE.read_text(encoding="utf-8"))
    assert len(rows) == len(set(rows))
    assert dict(rows) == {f"{route.method} {route.path}": ROLES[route.access] for route in v5.ROUTES}
