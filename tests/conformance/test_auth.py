"""AUTH and enhanced authentication, as bytes: a made-up method whose answers a reader can check, and SCRAM.

Invariant: the method "SUM" asks for the sum of two numbers until it hears "3"; it lets in "adder", and refuses "no".
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from attrs import define
from conformance.peer import Peer, Server, closing
from conformance.statement import conforms
from scramp import ScramClient  # type: ignore[import-untyped]

from trio_broker.access.authentication import Challenge, Credentials, Verdict
from trio_broker.access.scram import ScramAuthenticator
from trio_broker.broker import Broker
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.testing import RunningBroker
from trio_broker.testing.running import make_config

SUM = '15 "SUM"'
CONNACK = "20 [00 00 [21 0064 27 00100000 22 ffff 15 \"SUM\" 16 {'done'}]]"


@define
class Sum:
    """Asks "1+2"; "3" is right, "wait" asks again, anything else is wrong."""

    method: str = "SUM"

    def begin(self, credentials: Credentials) -> Sum:
        return Sum()

    async def respond(self, data: bytes | None) -> Challenge | Verdict:
        if data == b"3":
            return Verdict(username="adder", data=b"done")
        if data in (None, b"wait"):
            return Challenge(b"1+2")
        if data == b"fault":
            raise RuntimeError("a fault of the authenticator")
        return Verdict(ReasonCode.NOT_AUTHORIZED)


class Guests:
    """Lets in who says "guest", without a password."""

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        return Verdict() if credentials.username == "guest" else None


@pytest.fixture
async def server(transport: str) -> AsyncIterator[Server]:
    bind = {"default": {"bind": "127.0.0.1:0"}}
    config = make_config(None, {"listeners": {"tcp": bind, "ws": bind}})
    broker = Broker(config, authenticators=[Sum(), Guests(), ScramAuthenticator({"anna": "pencil"}, "SCRAM-SHA-512")])
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(broker.run)
        async with closing(Server(RunningBroker(broker, dict(bound.listeners)), transport)) as server:
            yield server
        broker.close()


async def asked(server: Server, client_id: str = "c", rest: str = "") -> Peer:
    """A connection that has named the method SUM and was asked."""
    peer = await server.peer()
    await peer.send(f'10 ["MQTT" 05 02 0000 [{SUM}] "{client_id}"] {rest}')
    await peer.expect(f"f0 [18 [{SUM} 16 {{'1+2'}}]]")
    return peer


async def admitted(server: Server, client_id: str = "c") -> Peer:
    peer = await asked(server, client_id)
    await peer.send(f"f0 [18 [{SUM} 16 {{'3'}}]]")
    await peer.expect(CONNACK)
    return peer


@conforms(v5="4.12.0-2 4.12.0-3 4.12.0-5 3.2.0-1 3.2.0-2")
async def test_auth_until_the_broker_is_content(server: Server) -> None:
    """AUTH 0x18 both ways, the method in each packet, and in the one CONNACK, with the last data."""
    peer = await asked(server)
    await peer.send(f"f0 [18 [{SUM} 16 {{'wait'}}]]")
    await peer.expect(f"f0 [18 [{SUM} 16 {{'1+2'}}]]")
    await peer.send(f"f0 [18 [{SUM} 16 {{'3'}}]]")
    await peer.expect(CONNACK)
    await peer.expect_nothing()


async def test_data_in_connect_may_be_enough(server: Server) -> None:
    peer = await server.peer()
    await peer.send(f'10 ["MQTT" 05 02 0000 [{SUM} 16 {{\'3\'}}] "c"]')
    await peer.expect(CONNACK)


@conforms(v5="4.12.0-4 3.1.4-2 3.14.0-1")
async def test_refused_at_any_step(server: Server) -> None:
    """CONNACK 0x87 and the end, for the data of CONNECT as for that of AUTH; no DISCONNECT before CONNACK."""
    peer = await server.peer()
    await peer.send(f'10 ["MQTT" 05 02 0000 [{SUM} 16 {{\'no\'}}] "c"]')
    await peer.expect_end("20 [00 87 []]")
    peer = await asked(server)
    await peer.send(f"f0 [18 [{SUM} 16 {{'no'}}]]")
    await peer.expect_end("20 [00 87 []]")


@conforms(v5="4.12.0-1")
async def test_an_unknown_method(server: Server) -> None:
    peer = await server.peer()
    await peer.send('10 ["MQTT" 05 02 0000 [15 "SCRAM-SHA-1"] "c"]')
    await peer.expect_end("20 [00 8c []]")


@conforms(v5="4.12.0-6 4.12.0-7")
async def test_without_a_method_there_is_no_auth(server: Server) -> None:
    """Nobody who named none is asked, or told of one, and its AUTH is a protocol error."""
    peer = await server.peer()
    await peer.send('10 ["MQTT" 05 02 0000 [] "c"]')
    await peer.expect_end("20 [00 86 []]")
    peer = await server.peer()
    await peer.send('10 ["MQTT" 05 82 0000 [] "c" "guest"]')
    await peer.expect("20 [00 00 [21 0064 27 00100000 22 ffff]]")
    await peer.send(f"f0 [19 [{SUM} 16 {{'3'}}]]")
    await peer.expect_end("e0 [82]")


@conforms(v5="4.12.0-5")
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param("f0 [18 [15 \"SUN\" 16 {'3'}]]", id="another method"),
        pytest.param("f0 [18 [16 {'3'}]]", id="no method"),
        pytest.param("f0 [19 [15 \"SUM\" 16 {'3'}]]", id="re-authentication"),
        pytest.param("c000", id="PINGREQ"),
        pytest.param('82 [0001 [] "t" 00]', id="SUBSCRIBE"),
        pytest.param('10 ["MQTT" 05 02 0000 [] "c"]', id="CONNECT"),
    ],
)
async def test_what_does_not_belong_into_the_exchange(server: Server, wrong: str) -> None:
    peer = await asked(server)
    await peer.send(wrong)
    await peer.expect_end("20 [00 82 []]")


async def test_nothing_but_auth_behind_connect(server: Server) -> None:
    """[MQTT-3.1.2-30] of the client; what it sends too early ends the connection."""
    peer = await server.peer()
    await peer.send(f'10 ["MQTT" 05 02 0000 [{SUM}] "c"] 82 [0001 [] "t" 00]')
    packet = await peer.packet()
    if packet[0] == 0xF0:  # it came later, byte by byte
        packet = await peer.packet()
    assert packet == b"\x20\x03\x00\x82\x00"
    await peer.expect_end()


@conforms(v5="3.15.1-1 3.15.2-1")
@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        pytest.param('f1 [18 [15 "SUM"]]', 0x81, id="flags"),
        pytest.param('f0 [00 [15 "SUM"]]', 0x82, id="success from a client"),
        pytest.param('f0 [1a [15 "SUM"]]', 0x82, id="unknown code"),
        pytest.param("f000", 0x82, id="short form"),
    ],
)
@pytest.mark.parametrize("is_in", [False, True])
async def test_wrong_auth_packets(server: Server, wrong: str, code: int, is_in: bool) -> None:
    peer = await (admitted if is_in else asked)(server)
    await peer.send(wrong)
    await peer.expect_end(f"e0 [{code:02x}]" if is_in else f"20 [00 {code:02x} []]")


async def test_the_first_packet_is_no_auth(server: Server) -> None:
    peer = await server.peer()
    await peer.send(f"f0 [18 [{SUM}]]")
    await peer.expect_end()


@conforms(v5="4.12.1-1")
async def test_re_authentication_while_messages_flow(server: Server) -> None:
    """AUTH 0x19, the exchange, AUTH 0x00; in the middle of it other packets are handled."""
    peer = await admitted(server)
    await peer.send('82 [0001 [] "t" 00]')
    await peer.expect("90 [0001 [] 00]")
    await peer.send(f"f0 [19 [{SUM}]]")
    await peer.expect(f"f0 [18 [{SUM} 16 {{'1+2'}}]]")
    await peer.send("30 [\"t\" [] 'x']")
    await peer.expect("30 [\"t\" [] 'x']")
    await peer.send(f"f0 [18 [{SUM} 16 {{'3'}}]]")
    await peer.expect(f"f0 [00 [{SUM} 16 {{'done'}}]]")
    await peer.send(f"f0 [19 [{SUM} 16 {{'3'}}]]")
    await peer.expect(f"f0 [00 [{SUM} 16 {{'done'}}]]")
    await peer.expect_nothing()


@conforms(v5="4.12.1-2")
async def test_re_authentication_that_fails(server: Server) -> None:
    peer = await admitted(server)
    await peer.send(f"f0 [19 [{SUM} 16 {{'no'}}]]")
    await peer.expect_end("e0 [87]")


@conforms(v5="4.12.1-1")
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param("f0 [19 [15 \"SCRAM-SHA-512\" 16 {'x'}]]", id="another method"),
        pytest.param('f0 [18 [15 "SUM"]]', id="nothing was asked"),
    ],
)
async def test_re_authentication_out_of_order(server: Server, wrong: str) -> None:
    peer = await admitted(server)
    await peer.send(wrong)
    await peer.expect_end("e0 [82]")


async def test_a_fault_of_the_authenticator_is_no_way_in(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    peer = await asked(server)
    await peer.send(f"f0 [18 [{SUM} 16 {{'fault'}}]]")
    await peer.expect_end("20 [00 88 []]")
    assert "a fault of the authenticator" in caplog.text


@conforms(v5="3.15.2-2 3.15.2-3")
async def test_auth_is_no_larger_than_the_client_takes(server: Server) -> None:
    """The broker's AUTH has no reason string and no user property; where it does not fit, CONNACK 0x95."""
    peer = await server.peer()
    await peer.send(f'10 ["MQTT" 05 02 0000 [27 0000000a {SUM}] "c"]')
    await peer.expect_end("20 [00 95 []]")


async def test_disconnect_ends_the_exchange(server: Server) -> None:
    peer = await asked(server)
    await peer.send("e000")
    await peer.expect_end()


async def test_the_will_of_who_never_got_in_is_not_published(server: Server) -> None:
    subscriber = await admitted(server, "subscriber")
    await subscriber.send('82 [0001 [] "will" 00]')
    await subscriber.expect("90 [0001 [] 00]")
    peer = await server.peer()
    await peer.send(f'10 ["MQTT" 05 06 0000 [{SUM}] "c" [] "will" {{\'gone\'}}]')
    await peer.expect(f"f0 [18 [{SUM} 16 {{'1+2'}}]]")
    await peer.send(f"f0 [18 [{SUM} 16 {{'no'}}]]")
    await peer.expect_end("20 [00 87 []]")
    await subscriber.expect_nothing()


async def test_scram(server: Server) -> None:
    """Both sides prove that they know the password, and again later."""
    method = '15 "SCRAM-SHA-512"'

    def auth(code: int, data: str) -> str:
        return f"f0 [{code:02x} [{method} 16 {{'{data}'}}]]"

    def data_of(packet: bytes) -> str:
        return packet[packet.index(b"SCRAM-SHA-512") + 16 :].decode()

    peer = await server.peer()
    client = ScramClient(["SCRAM-SHA-512"], "anna", "pencil")
    await peer.send(f'10 ["MQTT" 05 02 0000 [{method} 16 {{\'{client.get_client_first()}\'}}] "c"]')
    client.set_server_first(data_of(await peer.packet()))
    await peer.send(auth(0x18, client.get_client_final()))
    connack = await peer.packet()
    assert connack[0] == 0x20
    client.set_server_final(data_of(connack))
    client = ScramClient(["SCRAM-SHA-512"], "anna", "pencil")
    await peer.send(auth(0x19, client.get_client_first()))
    client.set_server_first(data_of(await peer.packet()))
    await peer.send(auth(0x18, client.get_client_final()))
    again = await peer.packet()
    assert again[0] == 0xF0
    client.set_server_final(data_of(again))
    await peer.expect_nothing()
