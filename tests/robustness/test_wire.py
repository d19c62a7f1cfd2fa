"""The table of packets, thrown at a running broker over TCP, whole and byte by byte.

Valid packets get their answer; wrong ones end their connection with the reason code of the table (5.0) or a plain close
(3.x); a bystander notices neither.
"""

from __future__ import annotations

import pytest
from robustness.peer import Peer
from robustness.scene import Scene, connect_bytes, connect_tcp, open_scene

from cases.packet_cases import PACKET_CASES, WRONG_CASES, PacketCase, WrongCase
from trio_broker.errors import ProtocolError
from trio_broker.protocol.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
)
from trio_broker.protocol.topics import parse_topic_filter

CLIENT_CASES = [case for case in PACKET_CASES if case.sent_by == "client"]
CONNECTS = [case for case in CLIENT_CASES if isinstance(case.packet, Connect)]
OTHERS = [case for case in CLIENT_CASES if not isinstance(case.packet, Connect)]
WRONG = [case for case in WRONG_CASES if case.sent_by == "client"]
PING = b"\xc0\0"
DISCONNECT = b"\xe0\0"


async def come(scene: Scene, level: int, in_pieces: bool) -> Peer:
    """A peer that is connected."""
    peer = Peer(await connect_tcp(scene.running), level, in_pieces)
    await peer.stream.send_all(connect_bytes("peer", level))
    (connack,) = await peer.hear(ConnAck)
    assert isinstance(connack, ConnAck)
    assert connack.reason_code == 0
    return peer


@pytest.mark.parametrize("case", CONNECTS, ids=str)
async def test_connect_is_answered(case: PacketCase, caplog: pytest.LogCaptureFixture) -> None:
    connect = case.packet
    assert isinstance(connect, Connect)
    wanted = 0
    if "authentication_method" in connect.properties:
        wanted = 0x8C  # nobody here knows that method [MQTT-4.12.0-1]
    elif not connect.client_id and (case.level == 3 or (case.level == 4 and not connect.clean_start)):
        wanted = 0x85  # [MQTT-3.1.3-8]
    async with open_scene(caplog) as scene:
        for in_pieces in (False, True):
            async with await connect_tcp(scene.running) as stream:
                peer = Peer(stream, case.level, in_pieces)
                await peer.send(case.data)
                (connack,) = await peer.hear(ConnAck)
                assert isinstance(connack, ConnAck)
                assert (connack.reason_code, connack.session_present) == (wanted, False)
                assert ("assigned_client_identifier" in connack.properties) == (
                    case.level == 5 and not connect.client_id and wanted == 0
                )
                if wanted == 0:
                    await peer.stream.send_all(PING + DISCONNECT)
                    assert await peer.hear_all() == [PingResp()]
                else:
                    assert await peer.hear_all() == []
            # A session that goes on is ended, so that the second time is as the first, and nothing is left.
            if wanted == 0 and connect.client_id:
                await scene.running.broker.questions.kick(connect.client_id)
            await scene.settled()
        await scene.exchange()


@pytest.mark.parametrize("case", OTHERS, ids=str)
async def test_a_valid_packet_is_answered(case: PacketCase, caplog: pytest.LogCaptureFixture) -> None:
    async with open_scene(caplog) as scene:
        for in_pieces in (False, True):
            peer = await come(scene, case.level, in_pieces)
            async with peer.stream:
                await peer.send(case.data)
                await ANSWERS[type(case.packet)](case, peer, scene)
            await scene.running.broker.questions.delete_retained(None)
            await scene.settled()
        await scene.exchange()


async def goes_on(peer: Peer, *answers: Packet) -> None:
    """`answers` is what comes, and the connection is good still, until it is ended as it should be."""
    await peer.stream.send_all(PING)
    heard = await peer.hear(PingResp, *(type(answer) for answer in answers))
    assert sorted(map(repr, heard)) == sorted(map(repr, [PingResp(), *answers]))
    await peer.stream.send_all(DISCONNECT)
    assert await peer.hear_all() == []


async def _publish(case: PacketCase, peer: Peer, scene: Scene) -> None:
    packet = case.packet
    assert isinstance(packet, Publish)
    if not packet.topic_name:  # an alias that was never set
        assert await peer.hear_all() == [Disconnect(0x82)]
        return
    identifier = packet.packet_identifier
    if packet.qos == 0:
        await goes_on(peer)
    elif packet.qos == 1:
        await goes_on(peer, PubAck(identifier))
    else:
        assert await peer.hear(PubRec) == [PubRec(identifier)]
        await peer.send(b"\x62\2" + identifier.to_bytes(2, "big"))
        await goes_on(peer, PubComp(identifier))


async def _unknown_puback(case: PacketCase, peer: Peer, scene: Scene) -> None:
    await goes_on(peer)


async def _unknown_pubrec(case: PacketCase, peer: Peer, scene: Scene) -> None:
    packet = case.packet
    assert isinstance(packet, PubRec)
    if packet.reason_code >= 0x80:  # the client gave it up; there is nothing to release
        await goes_on(peer)
    else:
        await goes_on(peer, PubRel(packet.packet_identifier, 0x92 if case.level == 5 else 0))


async def _unknown_pubrel(case: PacketCase, peer: Peer, scene: Scene) -> None:
    packet = case.packet
    assert isinstance(packet, PubRel)
    await goes_on(peer, PubComp(packet.packet_identifier, 0x92 if case.level == 5 else 0))


def _is_valid(topic_filter: str) -> bool:
    try:
        parse_topic_filter(topic_filter)
    except ProtocolError:
        return False
    return True


async def _subscribe(case: PacketCase, peer: Peer, scene: Scene) -> None:
    packet = case.packet
    assert isinstance(packet, Subscribe)
    filters = [wanted.topic_filter for wanted in packet.filters]
    if all(map(_is_valid, filters)):
        await goes_on(peer, SubAck(packet.packet_identifier, [wanted.qos for wanted in packet.filters]))
        return
    # Refused or ended (3.1 knows no refusal), and never stored (conformance: be consistent).
    heard = await peer.hear(SubAck)
    if heard and isinstance(heard[0], SubAck):
        assert case.level != 3
        assert heard == [SubAck(packet.packet_identifier, [0x8F if case.level == 5 else 0x80])]
    else:
        assert peer.ended
        assert heard == ([Disconnect(0x8F)] if case.level == 5 else [])
    assert await scene.running.broker.questions.topics() == ["bystander", "will"]


async def _unsubscribe(case: PacketCase, peer: Peer, scene: Scene) -> None:
    packet = case.packet
    assert isinstance(packet, Unsubscribe)
    heard = await peer.hear(UnsubAck)
    codes = [0x11] * len(packet.topic_filters) if case.level == 5 else []
    if heard:  # also for what cannot be a filter: nothing was there (5.0 may say that it never could be)
        (unsuback,) = heard
        assert isinstance(unsuback, UnsubAck)
        assert unsuback.packet_identifier == packet.packet_identifier
        assert [0x11 if code == 0x8F else code for code in unsuback.reason_codes] == codes
        await goes_on(peer)
    else:
        assert peer.ended
        assert not all(packet.topic_filters)


async def _pingreq(case: PacketCase, peer: Peer, scene: Scene) -> None:
    assert await peer.hear(PingResp) == [PingResp()]
    await goes_on(peer)


async def _disconnect(case: PacketCase, peer: Peer, scene: Scene) -> None:
    assert await peer.hear_all() == []


async def _auth(case: PacketCase, peer: Peer, scene: Scene) -> None:
    # There was no authentication method in its CONNECT [MQTT-4.12.0-7].
    assert await peer.hear_all() == [Disconnect(0x82)]


ANSWERS = {
    Publish: _publish,
    PubAck: _unknown_puback,
    PubRec: _unknown_pubrec,
    PubRel: _unknown_pubrel,
    PubComp: _unknown_puback,
    Subscribe: _subscribe,
    Unsubscribe: _unsubscribe,
    PingReq: _pingreq,
    Disconnect: _disconnect,
    Auth: _auth,
}


def last_words(case: WrongCase) -> list[Packet]:
    """What the broker says before it closes."""
    if case.level == 5:
        return [Disconnect(case.reason_code)]
    if case.level == 0 and case.reason_code == 0x84:  # return code 1 below 5.0 [MQTT-3.1.2-2]
        return [ConnAck(0x84)]
    if case.level == 0 and case.decoder_level == 5:
        return [ConnAck(case.reason_code)]
    return []  # [MQTT-3.1.4-1, 4.8.0-1]; first packets that are no CONNECT: [MQTT-3.1.0-1]


@pytest.mark.parametrize("case", WRONG, ids=str)
async def test_a_wrong_packet_ends_its_connection_alone(case: WrongCase, caplog: pytest.LogCaptureFixture) -> None:
    async with open_scene(caplog) as scene:
        for in_pieces in (False, True):
            level = case.level or case.decoder_level or 5
            if case.level:
                peer = await come(scene, level, in_pieces)
            else:
                peer = Peer(await connect_tcp(scene.running), level, in_pieces)
            await scene.mark()
            name = "{}:{}".format(*peer.stream.socket.getsockname())
            async with peer.stream:
                await peer.send(case.data)
                assert await peer.hear_all() == last_words(case)
            assert name in await scene.unhurt()
