"""The marks on connections and sessions that are traced: what they see, they tell their traces.

Invariant: a mark changes nothing of what its connection or session does; where there is none, nothing is looked at but
that there is none: once for each batch of bytes or messages. Packets are decoded a second time for it, on both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from trio_broker.actors.messages import After
from trio_broker.actors.trace_lines import Event
from trio_broker.errors import ProtocolError
from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.message import Run
from trio_broker.protocol.packets import MQTT311, Connect, Packet
from trio_broker.session.session import UNLIMITED_PACKET_SIZE

if TYPE_CHECKING:
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.gate import ConnectionInfo
    from trio_broker.actors.session_actor import SessionActor
    from trio_broker.actors.trace import Trace
    from trio_broker.session.channel import Channel
    from trio_broker.session.step import Step

AUTHENTICATION: Final = (0x86, 0x87, 0x8C)
"""Reason codes of a CONNACK that say that somebody could not prove who they are."""


def peer_of(info: ConnectionInfo | None) -> str:
    """`host:port`, empty for who is within the machine."""
    if info is None or not info.peer_host:
        return ""
    host = f"[{info.peer_host}]" if ":" in info.peer_host else info.peer_host
    return f"{host}:{info.peer_port}"


def tell(traces: Sequence[Trace], event: Event) -> None:
    for trace in traces:
        trace.note(event)


class ConnectionTrace:
    """`connection.trace`. Made between two batches of bytes."""

    __slots__ = ("_connection", "_inside", "_received", "_sent", "traces")

    def __init__(self, connection: Connection, traces: tuple[Trace, ...]) -> None:
        self.traces = traces
        self._connection = connection
        self._inside = False
        decoder = connection.decoder
        self._received = Decoder(level=decoder.level, max_packet_size=decoder.max_packet_size)
        if decoder.held:
            self._received.feed(bytes(decoder.held))
        self._sent: Decoder | None = None
        self.attached()

    def tell(self, tag: str, msg: str, traces: Sequence[Trace] | None = None, **more: Any) -> None:
        connection = self._connection
        client_id = connection.client_id
        connect = more.get("packet") if connection.connect is None else connection.connect
        if not client_id and isinstance(connect, Connect):
            client_id = connect.client_id
        event = Event(tag, msg, client_id, peer_of(connection.info), **more)
        tell(self.traces if traces is None else traces, event)

    # -- packets

    def takes(self, data: bytes, step: Step) -> bool:
        """The connection received this. False: go on, it has been seen; true: it was taken, in here."""
        if self._inside:
            return False
        self._look(data)
        start = len(step.routed)
        self._inside = True
        try:
            self._connection.received(data, step)
        finally:
            self._inside = False
        self.led_to(step, start)
        return True

    def _look(self, data: bytes) -> None:
        decoder = self._received
        was_wrong = decoder.error is not None
        self.packets(decoder.feed(data))
        if decoder.error is not None and not was_wrong:
            self.tell("MQTT", "bad_packet_received", fields=_said(decoder.error))

    def packets(self, packets: Sequence[Packet], traces: Sequence[Trace] | None = None) -> None:
        for packet in packets:
            self.tell("MQTT", "mqtt_packet_received", traces, packet=packet)

    def sent(self, data: bytes) -> None:
        """Whole packets go out."""
        decoder = self._sent
        if decoder is None or decoder.error is not None or decoder.held:
            level = self._connection.decoder.level or MQTT311
            decoder = self._sent = Decoder(role="client", level=level, max_packet_size=UNLIMITED_PACKET_SIZE)
        for packet in decoder.feed(data):
            self.tell("MQTT", "mqtt_packet_sent", packet=packet)
        if decoder.error is not None or decoder.held:
            self.tell("MQTT", "mqtt_packet_sent", fields={"bytes": len(data)})

    def led_to(self, step: Step, start: int = 0) -> None:
        """What the packets left for the router: told when it has been routed."""
        runs = [entry for entry in step.routed[start:] if type(entry) is Run]
        if runs:
            step.routed.append(After(partial(self._published, runs)))

    def _published(self, runs: list[Run]) -> None:
        for run in runs:
            for payload in payloads_of(run):
                self.tell("PUBLISH", "publish_to", fields=published(run, run.matched), payload=payload)

    # -- everything else

    def attached(self) -> None:
        """There is a channel: listen to what is allowed on it."""
        channel = self._connection.channel
        if channel is not None:
            for name, action in _ASKED:
                decide = getattr(channel, name)
                if decide is not None and not isinstance(decide, _Decision):
                    setattr(channel, name, _Decision(self, action, decide))

    def remove(self) -> None:
        """Nobody traces the connection any more."""
        self._connection.trace = None
        channel: Channel | None = self._connection.channel
        if channel is not None:
            for name, _ in _ASKED:
                decide = getattr(channel, name)
                if isinstance(decide, _Decision):
                    setattr(channel, name, decide.decide)

    def refused(self, error: ProtocolError) -> None:
        if error.reason_code in AUTHENTICATION:
            self.tell("AUTHN", "authentication_failure", fields=_said(error))
        self.tell("CONNECT", "connection_refused", fields=_said(error))

    def ended(self, reason_code: int, reason: str) -> None:
        fields = {"reason_code": f"0x{reason_code:02X}", "reason": reason}
        self.tell("SOCKET", "connection_terminated", fields=fields)


_ASKED: Final = (("authorize_publish", "publish"), ("authorize_subscribe", "subscribe"))


class _Decision:
    """In the place of what decides, whose answer it gives and tells."""

    def __init__(self, mark: ConnectionTrace, action: str, decide: Callable[..., Any]) -> None:
        self.decide = decide
        self._mark = mark
        self._action = action

    def __call__(self, topic: str, *more: Any) -> Any:
        result = self.decide(topic, *more)
        if result is None:
            return None  # it will be asked again
        fields = {"action": self._action, "topic": topic, "result": "allow" if result else "deny"}
        self._mark.tell("AUTHZ", "authorization_result", fields=fields)
        return result


class SessionTrace:
    """`actor.trace`: what the router brings to the session, and what becomes of it."""

    __slots__ = ("_inside", "traces")

    def __init__(self, traces: tuple[Trace, ...]) -> None:
        self.traces = traces
        self._inside = False

    def takes(self, actor: SessionActor, items: list[Any], now: float, inserted_at_ns: int) -> bool:
        """As `ConnectionTrace.takes`."""
        session = actor.session
        if self._inside or session is None:
            return False
        peer = peer_of(actor.peer if actor.connection is not None else None)
        for delivery, run in items:
            fields = {**_messages(run), "subscribed_qos": delivery.qos}
            tell(self.traces, Event("SESSION", "deliver", actor.client_id, peer, fields=fields))
        mqueue, stats = session.mqueue, session.stats
        queued = len(mqueue) + mqueue.dropped
        dropped = [getattr(stats, name) for name, _ in _DROPPED]
        self._inside = True
        try:
            actor.deliver(items, now, inserted_at_ns)
        finally:
            self._inside = False
        count = len(mqueue) + mqueue.dropped - queued
        if count > 0:
            fields = {"messages": count, "mqueue_len": len(mqueue)}
            tell(self.traces, Event("SESSION", "queued", actor.client_id, peer, fields=fields))
        for (name, reason), before in zip(_DROPPED, dropped, strict=True):
            if (count := getattr(stats, name) - before) > 0:
                fields = {"messages": count, "reason": reason}
                tell(self.traces, Event("SESSION", "dropped", actor.client_id, peer, fields=fields))
        return True


_DROPPED: Final = (
    ("send_dropped_queue_full", "queue_full"),
    ("send_dropped_expired", "expired"),
    ("send_dropped_too_large", "too_large"),
    ("send_dropped_other", "no_local"),
)


def payloads_of(run: Run) -> list[bytes]:
    packets = run.packets
    return [one.payload for one in (packets if packets is not None else run.messages)]


def _messages(run: Run) -> dict[str, Any]:
    return {"topic": run.topic_name, "qos": run.qos, "messages": len(run), "from_clientid": run.origin.client_id}


def published(run: Run, subscribers: int) -> dict[str, Any]:
    return {"topic": run.topic_name, "qos": run.qos, "retain": bool(run.retain), "subscribers": subscribers}


def _said(error: ProtocolError) -> dict[str, Any]:
    return {"reason_code": f"0x{error.reason_code:02X}", "reason": error.message}
