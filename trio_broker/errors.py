"""The exceptions of the broker; each carries the answer it leads to.

Invariant: everything raised on purpose derives from `TrioBrokerError`.

    TrioBrokerError
    +-- ProtocolError        a peer broke the protocol: `reason_code` is what it is told
    +-- ConfigError          a configuration key or value is wrong: `key` names it
    +-- ListenerError        a listener cannot be opened or is not known
    +-- AuthenticationError  a client is not let in: `reason_code` for its CONNACK
    +-- ActorGone            the actor that was asked has ended
    +-- AskTimeout           the actor that was asked did not answer before the deadline
    +-- StoreError           something could not be stored; nothing may be acknowledged
"""

from __future__ import annotations

from trio_broker.protocol.reason_codes import ReasonCode


class TrioBrokerError(Exception):
    """Base of all errors of this package."""


class ProtocolError(TrioBrokerError):
    """The peer broke MQTT. `reason_code` goes into the CONNACK or DISCONNECT that ends the connection."""

    def __init__(self, reason_code: ReasonCode, message: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.message = message
        self.maximum_packet_size = 0
        """What the CONNECT that is wrong says about it, for the CONNACK that says so; 0 = nothing."""

    def __str__(self) -> str:
        return f"{self.message} (0x{self.reason_code:02X} {self.reason_code.name.lower()})"


class AuthenticationError(TrioBrokerError):
    """A client is refused; `reason_code` goes into its CONNACK."""

    def __init__(self, reason_code: ReasonCode, message: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class ConfigError(TrioBrokerError):
    """A key or a value of the configuration is wrong; the message is one line that names both."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.key = key


class ListenerError(TrioBrokerError):
    """A listener cannot be opened (port taken, bad certificate, ...); the message names it."""


class ActorGone(TrioBrokerError):
    """The actor ended before it could answer."""


class AskTimeout(TrioBrokerError):
    """The actor did not answer before the deadline of the question."""


class StoreError(TrioBrokerError):
    """A write did not become durable."""
