"""The fixtures that come with the package, and what importing them costs everybody else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping

import pytest

from trio_broker.testing import ThreadedBroker, open_client


@pytest.fixture
def mqtt_broker_config(request: pytest.FixtureRequest) -> Mapping[str, object]:
    config: Mapping[str, object] = getattr(request, "param", {})
    return config


def test_in_a_plain_test(mqtt_broker: ThreadedBroker) -> None:
    with mqtt_broker.subscribe("a") as inbox:
        mqtt_broker.publish("a", b"1")
        assert inbox.get().payload == b"1"


def test_in_an_asyncio_test(mqtt_broker: ThreadedBroker) -> None:
    async def main() -> None:
        _, writer = await asyncio.open_connection(mqtt_broker.host, mqtt_broker.port)
        writer.close()
        await writer.wait_closed()

    asyncio.run(main())
    assert mqtt_broker.retained() == {}


async def test_in_a_trio_test(mqtt_broker: ThreadedBroker) -> None:
    async with open_client(mqtt_broker.url, client_id="c"):
        assert [client.client_id for client in mqtt_broker.clients()] == ["c"]


@pytest.mark.parametrize("mqtt_broker_config", [{"mqtt": {"max_packet_size": "100KB"}}], indirect=True)
async def test_it_is_configured_by_a_fixture(mqtt_broker: ThreadedBroker) -> None:
    async with open_client(mqtt_broker.url) as client:
        assert client.connack.properties["maximum_packet_size"] == 100 * 1024


def test_one_for_the_whole_run(mqtt_broker_session: ThreadedBroker, request: pytest.FixtureRequest) -> None:
    mqtt_broker_session.publish("a", b"kept", retain=True)
    assert mqtt_broker_session.retained() == {"a": b"kept"}
    assert request.getfixturevalue("mqtt_broker_session") is mqtt_broker_session


def test_the_plugin_loads_nothing_of_weight() -> None:
    """It is imported by every pytest run where the package is installed."""
    program = """if True:
        import sys
        import pytest
        before = set(sys.modules)
        import trio_broker.testing.pytest_plugin
        new = set(sys.modules) - before
        print(sorted(name for name in new if not name.startswith("trio_broker")))
        print(sorted(name for name in new if name.startswith("trio_broker")))
        """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    foreign, own = done.stdout.splitlines()
    assert foreign == "[]"
    assert "trio_broker.broker" not in own


def test_names_that_are_not_there() -> None:
    import trio_broker.testing

    assert all(getattr(trio_broker.testing, name) for name in trio_broker.testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = trio_broker.testing.nothing
