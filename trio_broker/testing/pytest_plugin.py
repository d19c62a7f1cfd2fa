"""The pytest plugin: `mqtt_broker`, a broker of its own for each test, on a free port, ready when the test begins.

Invariant: importing this imports pytest and nothing else of weight; the broker's modules load when a fixture is used.
Works in plain, asyncio and Trio tests: the broker runs in a thread with a Trio loop of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from trio_broker.testing.threaded import ThreadedBroker


@pytest.fixture(scope="session")
def mqtt_broker_config() -> Mapping[str, Any]:
    """Override this to configure `mqtt_broker`: tables as in the configuration file, over a default for tests.

    Example: `return {"mqtt": {"max_inflight": 4}}`. Any scope will do.
    """
    return {}


@pytest.fixture
def mqtt_broker(mqtt_broker_config: Mapping[str, Any]) -> Iterator[ThreadedBroker]:
    """An MQTT broker of this test's own: `host`, `port`, `url`, `publish()`, `subscribe()`, `clients()`, `retained()`.

    An error inside the broker fails the test.
    """
    from trio_broker.testing.threaded import ThreadedBroker

    with ThreadedBroker(**mqtt_broker_config) as broker:
        yield broker


@pytest.fixture(scope="session")
def mqtt_broker_session() -> Iterator[ThreadedBroker]:
    """One broker for all tests of the run: faster, but sessions and retained messages stay from test to test."""
    from trio_broker.testing.threaded import ThreadedBroker

    with ThreadedBroker() as broker:
        yield broker
