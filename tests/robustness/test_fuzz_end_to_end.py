"""Anything at all, thrown at a running broker in memory: it never fails, and a bystander still works afterwards."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise

import pytest
import trio
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from robustness.scene import PATIENCE, connect_bytes, footprint_of
from trio.testing import MockClock, wait_all_tasks_blocked

from cases.packet_cases import PACKET_CASES, WRONG_CASES
from cases.packet_strategies import client_packets
from trio_broker.actors.questions import ClientFilter
from trio_broker.broker import Broker
from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import ConnAck, Disconnect, Packet
from trio_broker.testing import Client, RunningBroker, open_broker, open_client

LEVELS = st.sampled_from([3, 4, 5])
CLIENT_IDS = st.sampled_from(["one", "two", ""])
SHORT = 200  # bytes; longer rows of the tables only make this slow
GOOD = [case.data for case in PACKET_CASES if case.sent_by == "client"]
WRONG = [case.data for case in WRONG_CASES if case.sent_by == "client"]
ROWS = [data for data in GOOD + WRONG if len(data) < SHORT]
# Small limits, so that they are met.
MQTT = {"max_awaiting_rel": 3, "max_inflight": 2, "max_mqueue_len": 3, "max_packet_size": 2048, "max_topic_alias": 2}


@frozen
class Attack:
    """What one peer sends, and where it is cut into pieces."""

    level: int
    data: bytes
    cuts: list[int]

    def pieces(self) -> list[bytes]:
        edges = [0, *sorted(cut % (len(self.data) + 1) for cut in self.cuts), len(self.data)]
        return [self.data[start:end] for start, end in pairwise(edges) if start < end]


class Errors(logging.Handler):
    """Collects what is logged as an error, or with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            self.records.append(record)


@st.composite
def sound_streams(draw: st.DrawFn) -> Attack:
    """CONNECT and packets that each are well-formed, in any order."""
    level = draw(LEVELS)
    packets = draw(st.lists(client_packets(level), max_size=8))
    data = connect_bytes(draw(CLIENT_IDS), level, draw(st.booleans()))
    return Attack(level, data + b"".join(encode(packet, level, "client") for packet in packets), draw(CUTS))


@st.composite
def mutated_streams(draw: st.DrawFn) -> Attack:
    """The same with bytes changed, taken out, doubled and put in."""
    attack = draw(sound_streams())
    data = bytearray(attack.data)
    # Mostly behind CONNECT, as there is more to break.
    start = draw(st.sampled_from([0, 20, 20, 20]))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(min(start, len(data) - 1), len(data) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                data[at] = draw(st.integers(0, 255))
            case 1 if len(data) > 1:
                del data[at : at + draw(st.integers(1, 4))]
            case 2:
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
            case _:
                data[at:at] = draw(st.binary(max_size=6))
        if not data:
            break
    return Attack(attack.level, bytes(data), attack.cuts)


@st.composite
def rows_of_the_tables(draw: st.DrawFn) -> Attack:
    """Rows of the tables of cases, good and wrong, of any level, one behind the other."""
    level = draw(LEVELS)
    data = b"".join(draw(st.lists(st.sampled_from(ROWS), max_size=6)))
    return Attack(level, (connect_bytes(draw(CLIENT_IDS), level) if draw(st.booleans()) else b"") + data, draw(CUTS))


CUTS = st.lists(st.integers(0, 400), max_size=5)
NOISE = st.builds(Attack, LEVELS, st.binary(max_size=200), CUTS)
KNOWN_NOISE = st.builds(
    lambda level, noise, cuts: Attack(level, connect_bytes("noise", level) + noise, cuts),
    LEVELS,
    st.binary(max_size=200),
    CUTS,
)


async def peer(broker: Broker, attack: Attack, said: list[bytes]) -> None:
    """Sends its pieces, while it reads what the broker says."""
    async with await broker.connect_stream() as stream, trio.open_nursery() as nursery:

        async def read() -> None:
            while data := await stream.receive_some():
                said.append(bytes(data))

        nursery.start_soon(read)
        for piece in attack.pieces():
            try:
                await stream.send_all(piece)
            except trio.BrokenResourceError:
                break
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def withstand(attacks: Sequence[Attack]) -> None:
    """Let the peers attack at the same time, then look at everything."""
    errors = Errors()
    logger = logging.getLogger("trio_broker")
    logger.addHandler(errors)
    try:
        async with open_broker(mqtt=MQTT) as running, open_client(running.broker, client_id="bystander") as bystander:
            await bystander.subscribe("bystander", 2)
            quiet = await footprint_of(running)
            said: list[list[bytes]] = [[] for _ in attacks]
            async with trio.open_nursery() as nursery:
                for attack, heard in zip(attacks, said, strict=True):
                    nursery.start_soon(peer, running.broker, attack, heard)
            for attack, heard in zip(attacks, said, strict=True):
                check_answers(b"".join(heard), attack.level)
            await works_still(bystander)
            # Nothing is left but what a session, or a retained message, is meant to leave.
            await clear(running)
            assert await footprint_of(running) == quiet
        assert errors.records == []
    finally:
        logger.removeHandler(errors)


async def works_still(bystander: Client) -> None:
    for qos in (0, 1, 2):
        payload = f"does it work with QoS {qos}?".encode()
        with trio.fail_after(PATIENCE):
            await bystander.publish("bystander", payload, qos)
            # A peer may have published to the same topic by chance.
            while (await bystander.receive()).payload != payload:
                pass


async def clear(running: RunningBroker) -> None:
    """End all sessions but the bystander's, and forget what is retained."""
    await wait_all_tasks_blocked()
    questions = running.broker.questions
    for row in (await questions.clients(ClientFilter(), 0, 1000)).rows:
        if row.client_id != "bystander":
            await questions.kick(row.client_id)
    await wait_all_tasks_blocked()
    await questions.delete_retained(None)
    await wait_all_tasks_blocked()


def check_answers(data: bytes, level: int) -> None:
    """What a broker says is well-formed MQTT, begins with CONNACK, and has nothing behind DISCONNECT."""
    # The level may have been changed by a mutation, then the answer is in that dialect.
    for known in (level, 5, 4, 3):
        decoder = Decoder(role="client", level=known)
        packets: list[Packet] = decoder.feed(data)
        if decoder.error is None and decoder.pending == 0:
            break
    else:
        pytest.fail(f"no dialect of MQTT: {data!r}")
    if packets:
        assert isinstance(packets[0], ConnAck)
    assert not any(isinstance(packet, ConnAck) for packet in packets[1:])
    assert not any(isinstance(packet, Disconnect) for packet in packets[:-1])


def run(*attacks: Attack) -> None:
    trio.run(withstand, attacks, clock=MockClock(autojump_threshold=0))


EXAMPLES = settings(max_examples=60)


@EXAMPLES
@given(NOISE)
def test_noise(attack: Attack) -> None:
    run(attack)


@EXAMPLES
@given(KNOWN_NOISE)
def test_noise_behind_connect(attack: Attack) -> None:
    run(attack)


@EXAMPLES
@given(sound_streams())
def test_well_formed_packets_in_any_order(attack: Attack) -> None:
    run(attack)


@settings(max_examples=150)
@given(mutated_streams())
def test_mutated_streams(attack: Attack) -> None:
    run(attack)


@EXAMPLES
@given(rows_of_the_tables())
def test_rows_of_the_tables(attack: Attack) -> None:
    run(attack)


@EXAMPLES
@given(st.lists(st.one_of(sound_streams(), mutated_streams(), rows_of_the_tables(), NOISE), min_size=2, max_size=5))
def test_all_at_once(attacks: list[Attack]) -> None:
    run(*attacks)
