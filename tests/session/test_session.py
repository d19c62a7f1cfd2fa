"""Deliveries of one session: what goes out, what waits, what is dropped; tables beside the model."""

from __future__ import annotations

from typing import Any

import pytest
from session.objects import (
    NOW,
    NS,
    SOMEBODY,
    client_run,
    decoded,
    delivery,
    make_session,
    message,
    published,
    run,
)

from trio_broker.protocol.message import Message, Origin, Run
from trio_broker.protocol.packets import PubRel
from trio_broker.routing.delivery import merge
from trio_broker.routing.subscription import Subscription
from trio_broker.session import session as session_module
from trio_broker.session.limits import Limits
from trio_broker.session.outgoing import PUBREL_SENT
from trio_broker.session.session import UNLIMITED_PACKET_SIZE

MINE = Origin("c")


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize("published_qos", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("upgrade", [False, True])
def test_qos(level: int, published_qos: int, granted: int, upgrade: bool) -> None:
    """[MQTT-3.8.4-8]; with `upgrade_qos` the subscription's where that is higher."""
    session = make_session(Limits(upgrade_qos=upgrade), level)
    for made in (run(b"1", qos=published_qos), client_run(b"2", qos=published_qos, level=level)):
        out: list[bytes] = []
        session.deliver([(delivery(qos=granted), made)], NOW, NS, out)
        (packet,) = published(out, level)
        assert packet.qos == (granted if upgrade else min(published_qos, granted))
        assert not packet.dup
        assert not packet.retain


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("identifier", [0, 300])
def test_what_goes_with_a_copy(level: int, qos: int, as_published: bool, retain: bool, identifier: int) -> None:
    """[MQTT-3.3.1-12], [MQTT-3.3.1-13], [MQTT-3.3.4-3]"""
    session = make_session(level=level)
    out: list[bytes] = []
    options: dict[str, Any] = {"qos": 2, "retain_as_published": as_published, "identifier": identifier}
    session.deliver([(delivery(**options), run(b"x", qos=qos, retain=retain))], NOW, NS, out)
    (packet,) = published(out, level)
    assert packet.retain == (retain and as_published)
    expected = [identifier] if identifier and level == 5 else None
    assert packet.properties.get("subscription_identifier") == expected


@pytest.mark.parametrize("qos", [0, 1])
def test_no_local(qos: int) -> None:
    """[MQTT-3.8.3-3] by client identifier; other subscriptions that overlap still count."""
    session = make_session(level=5)
    barred = delivery(qos=1, no_local=True, identifier=1)
    overlapping = merge([barred, delivery(qos=1, identifier=2)])
    out: list[bytes] = []
    session.deliver([(barred, run(b"mine", qos=qos, origin=MINE)), (barred, run(b"others", qos=qos))], NOW, NS, out)
    assert [packet.payload for packet in published(out)] == [b"others"]
    assert (session.meter.delivery_dropped_no_local, session.meter.delivery_dropped) == (1, 1)
    out = []
    session.deliver([(overlapping, run(b"x", qos=qos, origin=MINE)), (overlapping, run(b"y", qos=qos))], NOW, NS, out)
    identifiers = [packet.properties["subscription_identifier"] for packet in published(out)]
    assert identifiers == [[2], [1, 2]]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize(("left", "sent"), [(-1.0, None), (0.0, None), (0.2, 1), (1.0, 1), (59.5, 60)])
def test_expiry(qos: int, left: float, sent: int | None) -> None:
    """[MQTT-3.3.2-5], [MQTT-3.3.2-6]: whole seconds spent here are taken off; 0 left is expired."""
    session = make_session(level=5)
    made = Run("t", qos, False, SOMEBODY, [message(b"x", qos, expires_at=NOW + left)], False)
    out: list[bytes] = []
    session.deliver([(delivery(qos=2), made)], NOW, NS, out)
    assert [packet.properties.get("message_expiry_interval") for packet in published(out)] == (
        [] if sent is None else [sent]
    )
    assert session.meter.delivery_dropped_expired == (sent is None)
    assert len(session.inflight) == (1 if sent is not None and qos else 0)


def test_expiry_neither_stops_what_was_sent_nor_frees_its_identifier() -> None:
    """[MQTT-4.3.3-7] after a reconnect it is sent again, whatever the time."""
    session = make_session(level=5)
    made = Run("t", 1, False, SOMEBODY, [message(b"x", 1, expires_at=NOW + 5)], False)
    out: list[bytes] = []
    session.deliver([(delivery(qos=1), made)], NOW, NS, out)
    session.attach(5, 10, 1000)
    again: list[bytes] = []
    session.pump(NOW + 100, again)
    (first,), (second,) = published(out), published(again)
    assert (second.payload, second.dup, second.packet_identifier) == (b"x", True, first.packet_identifier)
    assert second.properties == {"message_expiry_interval": 0}


def test_expired_while_queued() -> None:
    session = make_session()
    for number, left in enumerate((5, None, 10, 5)):
        each = message(b"%d" % number, number % 2, expires_at=None if left is None else NOW + left)
        session.deliver([(delivery(qos=1), Run("t", number % 2, False, SOMEBODY, [each], False))], NOW, NS, [])
    session.expire_queued(NOW + 7)
    assert [copy.message.payload for copy in session.mqueue] == [b"1", b"2"]
    assert session.queued_qos0 == 1
    assert session.stats.send_dropped_expired == session.meter.delivery_dropped_expired == 2


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("level", [4, 5])
def test_too_large(qos: int, level: int) -> None:
    """[MQTT-3.1.2-24], [MQTT-3.1.2-25]; where all of a run fits nothing is different."""
    session = make_session()
    session.attach(level, 10, 20)
    out: list[bytes] = []
    session.deliver([(delivery(qos=2), client_run(b"x", b"y" * 30, b"z", qos=qos, level=level))], NOW, NS, out)
    assert [packet.payload for packet in published(out, level)] == [b"x", b"z"]
    assert session.meter.delivery_dropped_too_large == session.stats.send_dropped_too_large == 1
    assert len(session.inflight) == session.inflight.open == (2 if qos else 0)


def test_a_smaller_receive_maximum_on_the_next_connection() -> None:
    """[MQTT-3.3.4-9] what is open is sent again as far as the new maximum allows, the rest one by one, in order."""
    session = make_session(level=5)
    session.deliver([(delivery(qos=2), client_run(*[b"%d" % number for number in range(5)], qos=2))], NOW, NS, [])
    session.handle_pubrec(2, 0, NOW, [])
    session.attach(5, 2, 1000)
    out: list[bytes] = []
    session.pump(NOW, out)
    seen = [type(packet).__name__ + str(getattr(packet, "packet_identifier", 0)) for packet in decoded(out)]
    # The PUBREL uses nothing of the quota [MQTT-4.9.0-2]; what comes after the second PUBLISH has to wait.
    assert seen == ["Publish1", "PubRel2", "Publish3"]
    out = []
    session.handle_pubcomp(2, NOW, out)
    assert out == []
    assert session.inflight.open == 2
    session.handle_pubrec(1, 0x80, NOW, out)
    assert [packet.packet_identifier for packet in published(out)] == [4]
    session.handle_pubrec(3, 0, NOW, [])
    out = []
    session.handle_pubcomp(3, NOW, out)
    assert [packet.packet_identifier for packet in published(out)] == [5]


@pytest.mark.parametrize("qos", [1, 2])
def test_acknowledged_while_it_waits_to_be_sent_again(qos: int) -> None:
    """An answer of the client's last connection that comes on this one ends the message: it is not sent again."""
    session = make_session(level=5)
    session.deliver([(delivery(qos=2), client_run(b"0", b"1", b"2", qos=qos))], NOW, NS, [])
    session.attach(5, 1, 1000)
    out: list[bytes] = []
    session.pump(NOW, out)
    assert [packet.payload for packet in published(out)] == [b"0"]
    out = []
    if qos == 1:
        session.handle_pubacks([2], NOW, out)
        assert out == []
        session.handle_pubacks([1], NOW, out)
    else:
        session.handle_pubrec(2, 0x80, NOW, out)
        assert out == []
        session.handle_pubrec(1, 0x80, NOW, out)
    assert [packet.payload for packet in published(out)] == [b"2"]
    assert (session.inflight.open, len(session.inflight)) == (1, 1)


def test_what_a_pubrec_of_the_wrong_kind_does() -> None:
    session = make_session(level=5)
    session.deliver(
        [(delivery(qos=2), client_run(b"1", qos=1)), (delivery(qos=2), client_run(b"2", qos=2))], NOW, NS, []
    )
    assert not session.handle_pubacks([2], NOW, [])
    assert not session.handle_pubrec(1, 0, NOW, [])
    out: list[bytes] = []
    session.handle_pubcomp(2, NOW, out)
    assert out == []
    assert session.inflight.copies[2].phase != PUBREL_SENT
    assert len(session.inflight) == 2
    assert (session.meter.packets_puback_inuse, session.meter.packets_pubrec_inuse) == (1, 1)
    assert session.meter.packets_pubcomp_inuse == 1


@pytest.mark.parametrize(("level", "code"), [(3, 0), (4, 0), (5, 0x92)])
def test_pubrec_for_an_unknown_identifier(level: int, code: int) -> None:
    session = make_session(level=level)
    out: list[bytes] = []
    assert session.handle_pubrec(77, 0, NOW, out)
    assert decoded(out, level) == [PubRel(77, code)]
    out = []
    assert session.handle_pubrec(77, 0x87, NOW, out)
    assert out == []


def test_identifiers_are_not_given_twice() -> None:
    """[MQTT-2.2.1-4] also when they come round again, and never more than there are."""
    session = make_session(Limits(max_inflight=0, max_mqueue_len=0), 4)
    session.inflight.last = 65_500
    session.deliver([(delivery(qos=1), run(*[b"x"] * 65_540))], NOW, NS, [])
    assert sorted(session.inflight.copies) == list(range(1, 65_536))
    assert len(session.mqueue) == 5
    out: list[bytes] = []
    session.handle_pubacks([40_000], NOW, out)
    assert [packet.packet_identifier for packet in published(out, 4)] == [40_000]


@pytest.mark.parametrize("size", [10, 10_000])
def test_a_long_queue_goes_in_pieces(size: int) -> None:
    session = make_session(Limits(max_mqueue_len=0))
    session.deliver([(delivery(), run(*[b"x" * size] * 20_000, qos=0))], NOW, NS, [])
    session.attach(4, 10, 100_000)
    pieces: list[int] = []
    while True:
        out: list[bytes] = []
        session.pump(NOW, out)
        pieces.append(len(out))
        assert sum(map(len, out)) <= session_module.PUMP_SIZE + size + 100
        if not session.unfinished:
            break
    assert sum(pieces) == 20_000
    assert len(pieces) > 3
    assert max(pieces) <= session_module.PUMP_SIZE // session_module.PACKET_COST


def test_acknowledgements_do_not_add_up_to_one_large_piece() -> None:
    """Each PUBACK would make room for a piece; the first makes it, then the buffer has its say."""
    session = make_session(Limits(max_mqueue_len=0, max_inflight=4), 4, 4)
    session.deliver([(delivery(qos=1), run(*[b"x" * 100_000] * 50))], NOW, NS, [])
    session.congested = True
    session.deliver([(delivery(qos=1), run(*[b"x" * 100_000] * 50, qos=0))], NOW, NS, [])
    session.congested = False
    out: list[bytes] = []
    for identifier in (1, 2, 3, 4):
        session.handle_pubacks([identifier], NOW, out)
    assert session.unfinished
    assert sum(map(len, out)) < 2 * session_module.PUMP_SIZE + 600_000


@pytest.mark.parametrize("qos", [1, 2])
def test_nothing_new_before_what_is_open(qos: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """[MQTT-4.4.0-1] also between two pieces of what is sent again."""
    monkeypatch.setattr(session_module, "PUMP_SIZE", 1)
    session = make_session(level=5)
    session.deliver([(delivery(qos=2), client_run(b"0", b"1", b"2", qos=qos))], NOW, NS, [])
    session.attach(5, 10, UNLIMITED_PACKET_SIZE)
    out: list[bytes] = []
    session.pump(NOW, out)
    assert session.unfinished
    session.deliver([(delivery(qos=2), client_run(b"3", qos=qos))], NOW, NS, out)
    session.deliver([(delivery(qos=2, identifier=1), client_run(b"4", qos=qos))], NOW, NS, out)
    while session.unfinished:
        session.pump(NOW, out)
    assert [packet.payload for packet in published(out)] == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(("maximum", "kept"), [(0, 5), (5, 5), (3, 3), (1, 1)])
def test_the_queue_of_who_is_away(maximum: int, kept: int) -> None:
    session = make_session(Limits(max_mqueue_len=maximum))
    session.deliver([(delivery(qos=1), run(b"0", b"1", b"2", b"3", b"4"))], NOW, NS, [])
    assert [copy.message.payload for copy in session.mqueue] == [b"0", b"1", b"2", b"3", b"4"][5 - kept :]
    assert session.mqueue.dropped == session.stats.send_dropped_queue_full == 5 - kept
    assert session.meter.delivery_dropped_queue_full == session.meter.delivery_dropped == 5 - kept


def test_retained_messages() -> None:
    """RETAIN is set [MQTT-3.3.1-8]; QoS is the smaller one; the identifier of the new subscription goes with them."""
    session = make_session(level=5)
    subscription = Subscription("#", "#", qos=1, identifier=9)
    out: list[bytes] = []
    kept = [Message("a", b"%d" % qos, qos, True, 1, SOMEBODY, 1) for qos in (0, 1, 2)]
    session.deliver_retained(subscription, kept, NOW, NS, out)
    seen = [(packet.qos, packet.retain, packet.properties["subscription_identifier"]) for packet in published(out)]
    assert seen == [(0, True, [9]), (1, True, [9]), (1, True, [9])]


def test_awaiting_rel() -> None:
    session = make_session(Limits(await_rel_timeout=10), 5)
    session.awaiting_rel = {1: NOW, 2: NOW + 4, 3: NOW + 6}
    assert session.expire_awaiting_rel(NOW + 14) == 2
    assert session.awaiting_rel == {3: NOW + 6}
    assert session.meter.messages_dropped_await_pubrel_timeout == session.meter.messages_dropped == 2
    assert session.stats.as_dict()["recv_msg.dropped.await_pubrel_timeout"] == 2


def test_counters_of_what_was_sent() -> None:
    session = make_session(level=5)
    for qos in (0, 1, 2):
        session.deliver([(delivery(qos=2), client_run(b"a", b"b", qos=qos))], NOW, NS, [])
        session.deliver([(delivery(qos=2, identifier=1), client_run(b"a", qos=qos))], NOW, NS, [])
    stats, meter = session.stats.as_dict(), session.meter
    assert [stats[f"send_msg.qos{qos}"] for qos in (0, 1, 2)] == [3, 3, 3]
    assert stats["send_msg"] == stats["send_pkt"] == meter.messages_sent == meter.packets_publish_sent == 9
    assert meter.packets_sent == meter.messages_delivered == 9
    assert (meter.messages_qos0_sent, meter.messages_qos1_sent, meter.messages_qos2_sent) == (3, 3, 3)
