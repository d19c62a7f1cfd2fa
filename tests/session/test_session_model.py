"""The session against a model that knows nothing but MQTT: whatever happens, each message is in exactly one place."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from session.objects import NOW, NS, client_run, decoded, delivery, make_session, run

from trio_broker.protocol.packets import PubAck, PubComp, Publish, PubRec, PubRel
from trio_broker.session import session as session_module
from trio_broker.session.limits import Limits
from trio_broker.session.session import UNLIMITED_PACKET_SIZE, Session


class SessionModel(RuleBasedStateMachine):
    """A client that is fair to itself: it acknowledges what it got, in any order, or does not.

    `open` holds what it got on QoS 1 and 2 and did not finish: packet identifier -> payload. `released` are those of
    QoS 2 that it answered with PUBREC; `complete` are payloads whose handshake is over.
    """

    @initialize(
        window=st.integers(1, 5),
        queue=st.sampled_from([0, 1, 3, 10]),
        store_qos0=st.booleans(),
        level=st.sampled_from([3, 4, 5]),
        last=st.sampled_from([0, 65530]),
        piece=st.sampled_from([1, 150, session_module.PUMP_SIZE]),
    )
    def start(self, window: int, queue: int, store_qos0: bool, level: int, last: int, piece: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(session_module, "PUMP_SIZE", piece)
        limits = Limits(max_inflight=window, max_mqueue_len=queue, mqueue_store_qos0=store_qos0)
        self.window = window
        self.session: Session = make_session(limits)
        self.session.inflight.last = last  # the last packet identifier that was given
        self.level = level
        self.maximum = window
        self.numbers = iter(range(1_000_000))
        self.qos_of: dict[bytes, int] = {}
        self.open: dict[int, bytes] = {}
        self.sent_now: set[int] = set()  # identifiers of PUBLISHes on the present connection, not yet finished
        self.released: set[int] = set()
        self.complete: set[bytes] = set()
        self.sent_at_most_once: list[bytes] = []
        self.first_sent: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
        self.to_be_repeated: list[tuple[str, int]] = []
        self.connected = False

    def teardown(self) -> None:
        self.patch.undo()

    # -- what the client reads ---------------------------------------------------------------------------------------

    def read(self, out: list[bytes]) -> None:
        if not self.connected:
            assert out == []
            return
        for packet in decoded(out, self.level):
            if isinstance(packet, PubRel):
                self.repeated("PubRel", packet.packet_identifier)
                continue
            assert isinstance(packet, Publish)
            assert packet.qos == self.qos_of[packet.payload]
            if packet.qos == 0:
                assert not packet.dup
                assert packet.payload not in self.first_sent[0]
                self.first_sent[0].append(packet.payload)
                continue
            identifier = packet.packet_identifier
            if packet.dup:
                assert self.open[identifier] == packet.payload
                assert identifier not in self.released  # [MQTT-4.3.3-6]
                self.repeated("Publish", identifier)
            else:
                assert identifier not in self.open, "an identifier that is in use [MQTT-2.2.1-4]"
                assert not self.to_be_repeated, "something new before what was open [MQTT-4.4.0-1]"
                self.open[identifier] = packet.payload
                self.first_sent[packet.qos].append(packet.payload)
            self.sent_now.add(identifier)
            assert len(self.sent_now) <= self.maximum  # [MQTT-3.3.4-9]

    def repeated(self, kind: str, identifier: int) -> None:
        """After a reconnect everything open comes again, in the first order, once [MQTT-4.4.0-1, 4.6.0-1]."""
        if self.to_be_repeated:
            assert self.to_be_repeated.pop(0) == (kind, identifier)
        else:
            assert kind == "PubRel"

    def finish(self, identifier: int) -> None:
        self.complete.add(self.open.pop(identifier))
        self.sent_now.discard(identifier)
        self.released.discard(identifier)
        self.to_be_repeated = [entry for entry in self.to_be_repeated if entry[1] != identifier]

    # -- what happens ------------------------------------------------------------------------------------------------

    @rule(
        qos=st.integers(0, 2),
        count=st.integers(1, 6),
        from_client=st.booleans(),
        plain=st.booleans(),
    )
    def deliver(self, qos: int, count: int, from_client: bool, plain: bool) -> None:
        payloads = [b"%d" % next(self.numbers) for _ in range(count)]
        self.qos_of.update(dict.fromkeys(payloads, qos))
        messages = client_run(*payloads, qos=qos, level=self.level) if from_client else run(*payloads, qos=qos)
        out: list[bytes] = []
        options = {} if plain else {"retain_as_published": True, "identifier": 7 if self.level == 5 else 0}
        self.session.deliver([(delivery(qos=2, **options), messages)], NOW, NS, out)
        self.read(out)

    @rule()
    def pump(self) -> None:
        out: list[bytes] = []
        self.session.pump(NOW, out)
        self.read(out)

    @rule(data=st.data(), error=st.booleans())
    def acknowledge(self, data: st.DataObject, error: bool) -> None:
        """Answer something that is open: PUBACK, PUBREC, or PUBCOMP, on this connection or left over from the last."""
        if not self.connected or not self.open:
            return
        identifier = data.draw(st.sampled_from(sorted(self.open)))
        out: list[bytes] = []
        if self.qos_of[self.open[identifier]] == 1:
            self.finish(identifier)
            assert self.session.handle_pubacks([identifier], NOW, out)
        elif identifier in self.released:
            self.finish(identifier)
            self.session.handle_pubcomp(identifier, NOW, out)
        elif error and self.level == 5:
            self.finish(identifier)
            assert self.session.handle_pubrec(identifier, 0x80, NOW, out)
        else:
            self.released.add(identifier)
            self.to_be_repeated = [
                ("PubRel", identifier) if entry == ("Publish", identifier) else entry for entry in self.to_be_repeated
            ]
            expected, self.to_be_repeated = self.to_be_repeated, []
            assert self.session.handle_pubrec(identifier, 0, NOW, out)
            assert [type(packet) for packet in decoded(out, self.level)] == [PubRel]
            self.to_be_repeated = expected
            return
        self.read(out)

    @rule(identifier=st.integers(1, 20), kind=st.sampled_from([PubAck, PubRec, PubComp]))
    def answer_what_is_not_open(self, identifier: int, kind: type) -> None:
        if not self.connected or identifier in self.open:
            return
        out: list[bytes] = []
        if kind is PubAck:
            assert self.session.handle_pubacks([identifier], NOW, out)
        elif kind is PubRec:
            assert self.session.handle_pubrec(identifier, 0, NOW, out)
            assert [packet.packet_identifier for packet in decoded(out, self.level)] == [identifier]  # type: ignore[union-attr]
            return
        else:
            self.session.handle_pubcomp(identifier, NOW, out)
        assert out == []

    @rule(receive_maximum=st.sampled_from([1, 2, 3, 65535]))
    def reconnect(self, receive_maximum: int) -> None:
        """Also without having noticed that the last connection is over: a takeover."""
        self.connected = True
        self.maximum = min(self.window, receive_maximum)
        self.sent_now = set()
        self.to_be_repeated = [
            ("PubRel" if identifier in self.released else "Publish", identifier) for identifier in self.open
        ]
        self.session.detach()
        self.session.attach(self.level, receive_maximum, UNLIMITED_PACKET_SIZE)
        self.pump()

    @rule()
    def disconnect(self) -> None:
        self.connected = False
        self.session.detach()

    @rule(congested=st.booleans())
    def set_congested(self, congested: bool) -> None:
        if self.connected:
            self.session.congested = congested
            self.pump()

    # -- what must hold at any time ----------------------------------------------------------------------------------

    @invariant()
    def inflight_is_what_the_client_has_not_finished(self) -> None:
        inflight = self.session.inflight
        assert {identifier: copy.message.payload for identifier, copy in inflight.copies.items()} == self.open
        assert list(inflight.copies) == list(self.open)
        assert inflight.open <= inflight.maximum
        assert len(inflight) <= self.window  # EMQX: max_inflight is the size of the window
        counted = sum(copy.counted for copy in inflight.copies.values())
        assert inflight.open == counted == len(self.sent_now)
        assert inflight.releasing == len(self.released)

    @invariant()
    def every_message_is_in_exactly_one_place(self) -> None:
        session = self.session
        queued = [copy.message.payload for copy in session.mqueue]
        places = [*self.open.values(), *self.complete, *self.first_sent[0], *queued]
        assert len(places) == len(set(places))
        assert len(self.qos_of) - len(places) == session.stats.send_dropped_queue_full == session.meter.delivery_dropped
        assert not session.mqueue.maximum or len(queued) <= session.mqueue.maximum
        assert session.queued_qos0 == sum(copy.qos == 0 for copy in session.mqueue)

    @invariant()
    def each_qos_keeps_its_order(self) -> None:
        for qos, payloads in self.first_sent.items():
            numbers = [int(payload) for payload in payloads]
            assert numbers == sorted(numbers)
            waiting = [int(copy.message.payload) for copy in self.session.mqueue if copy.qos == qos]
            assert waiting == sorted(waiting)
            assert not numbers or not waiting or waiting[0] > numbers[-1]

    @invariant()
    def stamps_grow(self) -> None:
        stamps = [copy.inserted_at_ns for copy in self.session.mqueue]
        assert stamps == sorted(set(stamps))

    @invariant()
    def nothing_waits_without_a_reason(self) -> None:
        """What can be sent has been sent."""
        session = self.session
        if self.connected and not session.congested and not session.unfinished and session.mqueue.items:
            assert session.queued_qos0 == 0  # a full window holds back no QoS 0 [MQTT-3.3.4-10]
            assert session.inflight.resend or not session.inflight.has_room()


SessionModel.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestSession = SessionModel.TestCase
