"""Enhanced authentication: the exchange of AUTH packets with one connection [MQTT 5.0 section 4.12].

Invariant: one exchange a connection at a time, in a task of its own with a deadline; peer and broker take turns. The
connection's end is its end.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from trio_broker.access.authentication import Challenge, Credentials, EnhancedAuthenticator, Verdict
from trio_broker.actors.authorizing import authorize
from trio_broker.actors.expiry import expire_later
from trio_broker.errors import ProtocolError
from trio_broker.protocol.encode import strip_to_fit
from trio_broker.protocol.packets import MQTT5, Auth, Connect, Disconnect, Packet, Properties
from trio_broker.protocol.reason_codes import ReasonCode

if TYPE_CHECKING:
    from trio_broker.actors.connection import Connection

__all__ = ["Exchange", "begun", "credentials_of", "exchanged", "reauthenticate"]

log = logging.getLogger("trio_broker.authentication")


def credentials_of(connection: Connection, connect: Connect, client_id: str) -> Credentials:
    """What a CONNECT and its transport say about the client."""
    info = connection.info
    return Credentials(
        client_id=client_id,
        username=connect.username,
        password=connect.password,
        peer_host=info.peer_host,
        listener=info.listener,
        protocol_level=connect.protocol_level,
        certificate_common_name=info.certificate_common_name,
        certificate_distinguished_name=info.certificate_distinguished_name,
    )


class Exchange:
    """Between one connection and one authenticator; `run` it in a task."""

    def __init__(self, connection: Connection, authenticator: EnhancedAuthenticator, credentials: Credentials) -> None:
        self.connection = connection
        self.method = authenticator.method
        self._conversation = authenticator.begin(credentials)
        self._scope = trio.CancelScope()
        self._answer: bytes | None = None
        self._answered = trio.Event()
        self._waits = False

    def cancel(self) -> None:
        """The connection is over."""
        self._scope.cancel()

    def received(self, packet: Auth) -> None:
        """AUTH from the peer. Raises ProtocolError when it is not its turn or it changes the method [MQTT-4.12.0-5]."""
        self.connection.core.meter.packets_auth_received += 1
        if not self._waits or packet.reason_code != ReasonCode.CONTINUE_AUTHENTICATION:  # [MQTT-4.12.0-3]
            raise ProtocolError(ReasonCode.PROTOCOL_ERROR, f"AUTH 0x{packet.reason_code:02X} out of turn")
        if packet.properties.get("authentication_method") != self.method:
            raise ProtocolError(ReasonCode.PROTOCOL_ERROR, "AUTH with another method")
        self._waits = False
        self._answer = packet.properties.get("authentication_data")
        self._answered.set()

    def send(self, reason_code: ReasonCode, data: bytes | None) -> bool:
        """AUTH to the peer; False when it is too large for it [MQTT-3.1.2-24]."""
        connection = self.connection
        properties: Properties = {"authentication_method": self.method}
        if data is not None:
            properties["authentication_data"] = data
        assert connection.connect is not None
        maximum = connection.connect.properties.get("maximum_packet_size", 0)
        frame = strip_to_fit(Auth(reason_code, properties), MQTT5, maximum)
        if frame is None:
            return False
        connection.write(frame)
        connection.core.meter.packets_auth_sent += 1
        return True

    async def run(self, data: bytes | None) -> Verdict | None:
        """From the peer's first data to the verdict; None when the connection ended before."""
        verdict: Verdict | None = None
        timeout = self.connection.core.limits.idle_timeout
        with self._scope, trio.move_on_after(timeout) as deadline:
            try:
                verdict = await self._converse(data)
            except Exception:
                log.exception("authentication of %s failed", self.connection.name)
                verdict = Verdict(ReasonCode.SERVER_UNAVAILABLE)
        if deadline.cancelled_caught:
            log.warning("authentication of %s took longer than %g s", self.connection.name, timeout)
            verdict = Verdict(ReasonCode.NOT_AUTHORIZED)
        return verdict

    async def _converse(self, data: bytes | None) -> Verdict:
        while True:
            response = await self._conversation.respond(data)
            if not isinstance(response, Challenge):
                return response
            if not self.send(ReasonCode.CONTINUE_AUTHENTICATION, response.data):  # [MQTT-4.12.0-2]
                return Verdict(ReasonCode.PACKET_TOO_LARGE)
            self._answered = trio.Event()
            self._waits = True
            await self._answered.wait()
            data = self._answer


def begun(connection: Connection) -> None:
    """There is an exchange with it now: what came behind CONNECT was too early for that."""
    held, connection.held = connection.held or [], []
    exchanged(connection, held)


def exchanged(connection: Connection, packets: list[Packet]) -> None:
    """From a peer without a session yet: there is only AUTH, and DISCONNECT [MQTT-3.1.2-30]."""
    meter = connection.core.meter
    meter.packets_received += len(packets)
    for packet in packets:
        if connection.over:
            return
        try:
            if isinstance(packet, Disconnect):
                meter.packets_disconnect_received += 1
                connection.lost("DISCONNECT")
            elif not isinstance(packet, Auth) or connection.exchange is None:
                name = type(packet).__name__
                raise ProtocolError(ReasonCode.PROTOCOL_ERROR, f"{name} during authentication")
            else:
                connection.exchange.received(packet)
        except ProtocolError as error:
            connection.refuse(error)


def reauthenticate(connection: Connection, packet: Auth) -> None:
    """AUTH from a client that is connected: begins a re-authentication, or goes on with it [MQTT-4.12.1-1].

    Raises ProtocolError for what does not belong there.
    """
    if connection.exchange is not None:
        connection.exchange.received(packet)
        return
    core = connection.core
    core.meter.packets_auth_received += 1
    method = packet.properties.get("authentication_method")
    assert connection.channel is not None
    assert connection.connect is not None
    if packet.reason_code != ReasonCode.RE_AUTHENTICATE:
        raise ProtocolError(ReasonCode.PROTOCOL_ERROR, f"AUTH 0x{packet.reason_code:02X} out of turn")
    if method is None or method != connection.channel.terms.authentication_method:
        raise ProtocolError(ReasonCode.PROTOCOL_ERROR, "AUTH with another method than CONNECT")
    authenticator = core.authentication.enhanced.get(method)
    if authenticator is None:
        raise ProtocolError(ReasonCode.NOT_AUTHORIZED, f"there is no authentication method {method!r} any more")
    credentials = credentials_of(connection, connection.connect, connection.client_id)
    exchange = connection.exchange = Exchange(connection, authenticator, credentials)
    core.sessions_nursery.start_soon(_again, exchange, packet.properties.get("authentication_data"))


async def _again(exchange: Exchange, data: bytes | None) -> None:
    """Meanwhile everything else goes on with the old rights."""
    connection = exchange.connection
    verdict = await exchange.run(data)
    connection.exchange = None
    if verdict is None or connection.over:
        return
    if verdict.accepted:
        assert connection.connect is not None
        if verdict.username in (None, connection.connect.username):
            if exchange.send(ReasonCode.SUCCESS, verdict.data):
                _renew(connection, verdict)
            else:
                connection.fail(ReasonCode.PACKET_TOO_LARGE, "AUTH does not fit into its maximum packet size")
            return
        log.warning("%s authenticated itself as another user", connection.name)
    connection.fail(ReasonCode.NOT_AUTHORIZED, "re-authentication failed")  # [MQTT-4.12.1-2]


def _renew(connection: Connection, verdict: Verdict) -> None:
    """From now on the client has the rights of this verdict, for as long as it says."""
    actor, channel = connection.actor, connection.channel
    if actor is None or channel is None:
        return
    actor.verdict = verdict
    authorize(actor, connection, channel)
    expire_later(connection, verdict)
