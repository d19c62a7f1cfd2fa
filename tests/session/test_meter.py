"""The counters of the broker and of one session, under their public names."""

from __future__ import annotations

from trio_broker.session.meter import GAUGE_NAMES, METRIC_NAMES, OWN_METRIC_NAMES, Meter
from trio_broker.session.stats import STAT_NAMES, Stats

QOS = ("qos0", "qos1", "qos2")
SENT_MESSAGES = [f"messages.{qos}.sent" for qos in QOS]
SENT_PACKETS = [
    name for name in METRIC_NAMES if name.startswith("packets.") and name.endswith(".sent") and name.count(".") == 2
]
# What is not counted by itself, and what it is the sum of.
SUMS = {
    "messages.received": [f"messages.{qos}.received" for qos in QOS],
    "messages.sent": SENT_MESSAGES,
    "packets.publish.sent": SENT_MESSAGES,
    "packets.sent": SENT_PACKETS,
}


def test_every_counter_has_one_name_and_begins_at_0() -> None:
    names = METRIC_NAMES + OWN_METRIC_NAMES
    assert len(set(names)) == len(names)
    figures = Meter().as_dict()
    assert tuple(figures) == names
    assert set(figures.values()) == {0}


def test_a_counter_is_found_under_its_name() -> None:
    meter = Meter()
    counted = [name for name in METRIC_NAMES + OWN_METRIC_NAMES if name not in {*SUMS, "authorization.allow"}]
    for number, name in enumerate(counted, 1):
        setattr(meter, name.replace(".", "_"), number)
    figures = meter.as_dict()
    assert [figures[name] for name in counted] == list(range(1, len(counted) + 1))
    assert {name: sum(figures[part] for part in parts) for name, parts in SUMS.items()} == {
        name: figures[name] for name in SUMS
    }
    decisions = figures["authorization.cache_hit"] + figures["authorization.cache_miss"]
    assert figures["authorization.allow"] + figures["authorization.deny"] == decisions


def test_gauges_remember_their_highest_value() -> None:
    meter = Meter()
    meter.set_gauge("topics", 5)
    meter.move_gauge("topics", 2)
    meter.move_gauge("topics", -4)
    figures = meter.gauges_as_dict()
    assert (figures["topics.count"], figures["topics.max"]) == (3, 7)
    assert set(figures) == {f"{name}.{kind}" for name in GAUGE_NAMES for kind in ("count", "max")}


def test_two_meters_share_nothing() -> None:
    one, other = Meter(), Meter()
    one.packets_puback_sent += 1
    one.set_gauge("topics", 1)
    assert other.packets_sent == 0
    assert other.gauges_as_dict()["topics.count"] == 0


def test_the_counters_of_a_session() -> None:
    stats = Stats()
    assert tuple(sorted(stats.as_dict())) == tuple(sorted(STAT_NAMES))
    stats.recv_msg_qos0, stats.recv_msg_qos1, stats.recv_msg_qos2 = 1, 2, 4
    stats.send_msg_qos0, stats.send_msg_qos1, stats.send_msg_qos2 = 8, 16, 32
    stats.send_dropped_expired, stats.send_dropped_queue_full = 1, 2
    stats.send_dropped_too_large, stats.send_dropped_other = 4, 8
    stats.recv_dropped, stats.recv_dropped_await_pubrel_timeout = 1, 2
    figures = stats.as_dict()
    assert figures["recv_msg"] == 7
    assert figures["send_msg"] == 56
    assert figures["send_msg.dropped"] == 15
    assert figures["recv_msg.dropped"] == 3
