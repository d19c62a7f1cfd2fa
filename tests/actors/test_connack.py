"""CONNACK: what the broker announces, and what it leaves out."""

from __future__ import annotations

import pytest
from actors.flows import SESSION, joined, talk
from trio.testing import MockClock

from trio_broker.protocol.packets import Connect, Disconnect, Properties
from trio_broker.testing import open_broker


async def test_connack_announces_every_limit(autojump_clock: MockClock) -> None:
    """[MQTT-3.2.2-9], [MQTT-3.2.2-21] and sections 3.2.2.3.x"""
    limits = {
        "max_awaiting_rel": 7,
        "max_qos_allowed": 1,
        "retain_available": False,
        "max_packet_size": "64KB",
        "max_topic_alias": 3,
        "wildcard_subscription": False,
        "shared_subscription": False,
        "server_keepalive": 33,
        "session_expiry_interval": "1m",
    }
    async with open_broker(mqtt=limits) as running:
        async with running.client("c", keep_alive=10, properties=SESSION) as client:
            assert client.connack.properties == {
                "receive_maximum": 7,
                "maximum_qos": 1,
                "retain_available": 0,
                "maximum_packet_size": 65536,
                "topic_alias_maximum": 3,
                "wildcard_subscription_available": 0,
                "shared_subscription_available": 0,
                "server_keep_alive": 33,
            }


async def test_connack_is_silent_about_what_is_not_limited(autojump_clock: MockClock) -> None:
    """[MQTT-3.2.2-22] and the values a client presumes."""
    async with open_broker() as running, running.client("c", properties=SESSION) as client:
        said = set(client.connack.properties)
        assert said <= {"receive_maximum", "maximum_packet_size", "topic_alias_maximum"}


@pytest.mark.parametrize(("asked", "answered"), [(None, None), (0, None), (1, "answers/")])
async def test_response_information(autojump_clock: MockClock, asked: int | None, answered: str | None) -> None:
    """[MQTT-3.1.2-28]"""
    properties: Properties = {} if asked is None else {"request_response_information": asked}
    async with open_broker(mqtt={"response_information": "answers/"}) as running:
        async with running.client("c", properties=properties) as client:
            assert client.connack.properties.get("response_information") == answered


async def test_connack_fits_into_the_client(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-24] a client which takes 10 bytes gets no larger CONNACK."""
    async with open_broker() as running:
        data = joined(5, Connect("", properties={"maximum_packet_size": 10}), Disconnect())
        assert len(await talk(running.broker, data)) <= 10
