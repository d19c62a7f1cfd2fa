"""What holds for the tests of the store.

Invariant: an assertion that fails in a helper says as much as one in a test.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("store.model")
