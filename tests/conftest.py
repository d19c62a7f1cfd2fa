"""What holds for every test.

Invariant: no test depends on the machine's speed, nor on the environment the suite was started in.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# An assertion that fails in a helper says as much as one in a test.
pytest.register_assert_rewrite("store.model")

# How fast an example runs says something about the machine only.
settings.register_profile("trio-broker", deadline=None)
settings.load_profile("trio-broker")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What configures a broker of the user, or the service the suite may run in, must not reach the tests."""
    for name in list(os.environ):
        if name.startswith("TRIO_BROKER_") or name == "NOTIFY_SOCKET":
            monkeypatch.delenv(name)
