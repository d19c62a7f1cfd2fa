"""Assertions in the helpers of these tests say what they compared, as those in the tests do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("robustness.scene", "robustness.peer")
