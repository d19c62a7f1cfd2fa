"""Fixtures of the tests with hostile peers.

Invariant: assertions in the helpers say what they compared, as those in the tests do.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from listeners.certificates import Certificates, make_certificates

pytest.register_assert_rewrite("hostile.site", "robustness.scene")

from hostile.site import Site, open_site  # noqa: E402 - behind what makes its assertions speak

Sites = Callable[..., AbstractAsyncContextManager[Site]]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def site(caplog: pytest.LogCaptureFixture, certificates: Certificates) -> Sites:
    """`async with site("tcp", "ws", mqtt={...}) as it`: see `hostile.site.open_site`."""

    def opened(*doors: str, **overrides: Any) -> AbstractAsyncContextManager[Site]:
        return open_site(caplog, certificates, *doors, **overrides)

    return opened
