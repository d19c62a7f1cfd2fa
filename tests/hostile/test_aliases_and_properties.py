"""Topic aliases and properties used against their rules, and in numbers nobody needs.

Invariant: a broken rule is answered with the code the standard names; what is kept is bounded by what was sent, and
given back with the connection.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from conformance.bytes_of import bytes_of
from hostile.conftest import Sites
from hostile.site import DOORS, MEGABYTE, connected, frames, heard, measured
from robustness.scene import connect_bytes, shake_hands

from trio_broker.protocol.packets import ConnAck, Disconnect, PubAck, Publish, Will
from trio_broker.testing import ConnectionEnded

LONG = "x" * 60_000

# What follows a good CONNECT, and the reason code of the DISCONNECT that answers it.
ABUSES: dict[str, tuple[str, int]] = {
    "alias 0": ('30 ["t" [23 0000] ]', 0x94),
    "alias 0 without a topic": ('30 ["" [23 0000] ]', 0x94),
    "alias above the maximum": ('30 ["t" [23 000b] ]', 0x94),
    "the highest alias": ('30 ["t" [23 ffff] ]', 0x94),
    "alias above the maximum without a topic": ('30 ["" [23 000b] ]', 0x94),
    "alias that was never set": ('30 ["" [23 0005] ]', 0x82),
    "no topic and no alias": ('30 ["" [] ]', 0x82),
    "alias twice": ('30 ["t" [23 0001 23 0001] ]', 0x82),
    "alias in SUBSCRIBE": ('82 [0001 [23 0001] "t" 00]', 0x82),
    "message expiry twice": ('30 ["t" [02 00000001 02 00000001] ]', 0x82),
    "content type twice": ('30 ["t" [03 "a" 03 "a"] ]', 0x82),
    "payload format twice": ('30 ["t" [01 00 01 00] ]', 0x82),
    "payload format 2": ('30 ["t" [01 02] ]', 0x82),
    "response topic with a wildcard": ('30 ["t" [08 "a/#"] ]', 0x82),
    "empty response topic": ('30 ["t" [08 ""] ]', 0x82),
    "subscription identifier of a client": ('30 ["t" [0b 01] ]', 0x82),
    "subscription identifier 0": ('82 [0001 [0b 00] "t" 00]', 0x82),
    "subscription identifier twice": ('82 [0001 [0b 01 0b 02] "t" 00]', 0x82),
    "a property that does not exist": ('30 ["t" [7f 00] ]', 0x81),
    "property 0": ('30 ["t" [00 00] ]', 0x81),
    "a property of two bytes": ('30 ["t" [80 01 00] ]', 0x81),
    "a property of another packet": ('30 ["t" [11 00000001] ]', 0x82),
    "a user property that is no UTF-8": ('30 ["t" [26 0001 ff "v"] ]', 0x81),
    "a user property with U+0000": ('30 ["t" [26 "k\\x00" "v"] ]', 0x81),
    "AUTH that nobody asked for": ("f0 [18 [15 'ab' ] ]", 0x81),
}


@pytest.mark.parametrize("abuse", ABUSES)
async def test_a_broken_rule(abuse: str, site: Sites) -> None:
    said, code = ABUSES[abuse]
    async with site("tcp", mqtt={"max_topic_alias": 10}) as it:
        stream = await it.open("tcp")
        assert (await shake_hands(stream, "bad")).properties.get("topic_alias_maximum") == 10
        await stream.send_all(bytes_of(said))
        (last,) = await heard(stream)
        assert isinstance(last, Disconnect)
        assert last.reason_code == code
        await stream.aclose()


async def test_an_alias_that_was_announced_as_0(site: Sites) -> None:
    async with site("tcp", mqtt={"max_topic_alias": 0}) as it:
        stream = await it.open("tcp")
        await stream.send_all(connect_bytes("bad") + frames(Publish("t", b"x", properties={"topic_alias": 1})))
        _, last = await heard(stream)
        assert isinstance(last, Disconnect)
        assert last.reason_code == 0x94
        await stream.aclose()


@pytest.mark.parametrize(
    "properties",
    ["21 0000", "21 0001 21 0001", "27 00000000", "11 00000000 11 00000000", "17 02", "19 02", "16 {'x'}", "23 0001"],
)
async def test_a_broken_rule_in_connect(properties: str, site: Sites) -> None:
    async with site("tcp") as it:
        stream = await it.open("tcp")
        await stream.send_all(bytes_of(f'10 ["MQTT" 05 02 003c [{properties}] "bad"]'))
        (connack,) = await heard(stream)
        assert isinstance(connack, ConnAck)
        assert connack.reason_code == 0x82
        await stream.aclose()


async def test_every_alias_set_and_used(site: Sites) -> None:
    """All 65,535, each set to another topic and then used once."""
    async with site("tcp") as it, connected(it) as client:
        with measured() as memory:
            for first in range(1, 65_536, 13_107):
                await client.send_bytes(
                    b"".join(bytes_of(f'30 ["{at:05}" [23 {at:04x}] ]') for at in range(first, first + 13_107, 1))
                )
                await client.ping()
                await it.round_trips()
        assert memory.grown < 65_535 * 400
        await client.subscribe("65535", 1)
        await client.send(Publish("", b"last", 1, packet_identifier=1, properties={"topic_alias": 65_535}))
        assert (await client.receive()).topic_name == "65535"


async def test_long_names_behind_aliases_are_bounded_and_given_back(site: Sites) -> None:
    """Sixty thousand bytes for each alias would be four gigabytes: 0x97, long before that."""
    async with site("tcp") as it:
        with measured() as memory:
            async with connected(it) as client:
                with suppress(ConnectionEnded):
                    for alias in range(1, 501):
                        await client.send(Publish(f"{alias}/{LONG}", b"", properties={"topic_alias": alias}))
                ended = await client.wait_ended()
                assert ended.reason_code == 0x97
            memory.look()
            assert memory.most < 0.5 * 500 * len(LONG)
            del client, ended
            await it.unhurt()
        assert memory.grown < MEGABYTE


async def test_one_alias_set_again_and_again_costs_no_more(site: Sites) -> None:
    async with site("tcp") as it, connected(it) as client:
        with measured() as memory:
            for turn in range(300):
                await client.send(Publish(f"{turn}/{LONG}", b"", properties={"topic_alias": 1}))
            await client.ping()
        assert memory.grown < MEGABYTE


@pytest.mark.parametrize("door", DOORS)
async def test_thousands_of_user_properties_travel_on(door: str, site: Sites) -> None:
    """There is no limit to their number but the packet's size; they come out as they went in, in their order."""
    pairs = [(f"key-{at % 7}", f"value-{at}") for at in range(20_000)]
    async with site(door) as it, connected(it, door) as client:
        await client.subscribe("t", 1)
        answer = await client.publish("t", b"x", 1, properties={"user_property": pairs})
        assert isinstance(answer, PubAck)
        assert (await client.receive(ack=True)).properties["user_property"] == pairs
        await it.round_trips()


async def test_user_properties_of_messages_are_given_back(site: Sites) -> None:
    pairs = [("", "")] * 100_000
    async with site("tcp") as it, connected(it) as client:
        with measured() as memory:
            for _ in range(5):
                await client.publish("nowhere", b"x", 1, properties={"user_property": pairs})
            await it.round_trips()
        assert memory.grown < MEGABYTE


@pytest.mark.parametrize("where", ["CONNECT", "will"])
async def test_user_properties_of_connect_are_not_kept_in_a_larger_form(where: str, site: Sites) -> None:
    """As long as the connection lasts: a will has to be kept, and nothing asks for those of CONNECT again.

    A pair of two empty texts has five bytes on the wire.
    """
    pairs = [("", "")] * 200_000
    fields = (
        {"properties": {"user_property": pairs}}
        if where == "CONNECT"
        else {"will": Will("w", b"x", properties={"user_property": pairs})}
    )
    data = connect_bytes("bad", **fields)
    async with site("tcp", mqtt={"max_packet_size": 2 * MEGABYTE}) as it:
        with measured() as memory:
            async with await it.open("tcp") as stream:
                await stream.send_all(data)
                assert await stream.receive_some(65536)
                await it.round_trips()
                memory.look()
                held = memory.grown
            await it.unhurt()
        assert memory.grown < MEGABYTE
    assert held < (20 if where == "will" else 1) * len(data)
