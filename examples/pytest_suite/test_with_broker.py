"""A plain, synchronous test suite with a real broker: no Docker, no fixed port, no waiting for a port to open.

The fixture `mqtt_broker` comes with the package: `pytest examples/pytest_suite`.
"""

from __future__ import annotations

import queue

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from trio_broker.testing import ThreadedBroker


class Thermostat:
    """The code under test: heats when it is told that it is cold."""

    def __init__(self, host: str, port: int) -> None:
        self.ready: queue.Queue[bool] = queue.Queue()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="thermostat")
        self.client.on_connect = lambda client, *_: client.subscribe("room/temperature", qos=1)
        self.client.on_subscribe = lambda *_: self.ready.put(True)
        self.client.on_message = self.decide
        self.client.connect(host, port)
        self.client.loop_start()
        assert self.ready.get(timeout=10)

    def decide(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        cold = float(message.payload) < 18
        client.publish("room/heater", b"on" if cold else b"off", qos=1, retain=True)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        # paho closes its own sockets when it is freed; its references back to us would put that off.
        self.client.on_connect = self.client.on_subscribe = self.client.on_message = None


@pytest.mark.parametrize(("temperature", "heater"), [(b"12.5", b"on"), (b"21", b"off")])
def test_heats_when_it_is_cold(mqtt_broker: ThreadedBroker, temperature: bytes, heater: bytes) -> None:
    thermostat = Thermostat(mqtt_broker.host, mqtt_broker.port)
    try:
        with mqtt_broker.subscribe("room/heater") as inbox:
            mqtt_broker.publish("room/temperature", temperature, qos=1)
            assert inbox.get().payload == heater
        assert mqtt_broker.retained() == {"room/heater": heater}
        assert [client.client_id for client in mqtt_broker.clients() if client.connected] == ["thermostat"]
    finally:
        thermostat.close()


def test_each_test_has_a_broker_of_its_own(mqtt_broker: ThreadedBroker) -> None:
    assert mqtt_broker.retained() == {}
    assert mqtt_broker.url == f"mqtt://127.0.0.1:{mqtt_broker.port}"
