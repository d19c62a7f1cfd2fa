"""The broker under test, over each of the ways to send bytes to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from conformance.peer import TRANSPORTS, Server, closing

from trio_broker.testing import open_broker


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def server(request: pytest.FixtureRequest, transport: str) -> AsyncIterator[Server]:
    """A fresh broker on free ports. `@pytest.mark.settings(mqtt={...})` gives it other settings."""
    marker = request.node.get_closest_marker("settings")
    bind = {"default": {"bind": "127.0.0.1:0"}}
    async with open_broker(listeners={"tcp": bind, "ws": bind}, **(marker.kwargs if marker else {})) as running:
        async with closing(Server(running, transport)) as server:
            yield server
