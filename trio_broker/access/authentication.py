"""Who is let in: the chain of authenticators and what happens when it is empty.

Invariant: a client that was not accepted by name or by rule does not get in; an empty chain lets in loopback peers
only, unless anonymous clients were allowed by configuration.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

from attrs import define, field

from trio_broker.protocol.reason_codes import ReasonCode


@define
class Credentials:
    """What a CONNECT and its transport say about the client. `peer_host` is "" for in-memory and Unix sockets."""

    client_id: str
    username: str | None
    password: bytes | None = field(repr=False)
    peer_host: str
    listener: str
    protocol_level: int
    certificate_common_name: str | None = None
    certificate_distinguished_name: str | None = None


@define(frozen=True)
class Verdict:
    """`reason_code` is SUCCESS or what the CONNACK says. `anonymous`: nobody checked who it is."""

    reason_code: ReasonCode = ReasonCode.SUCCESS
    anonymous: bool = False
    superuser: bool = False
    username: str | None = None
    """Who it turned out to be, where that is known better than by CONNECT's user name."""
    data: bytes | None = field(default=None, repr=False)
    """The last authentication data of an enhanced authentication."""

    @property
    def accepted(self) -> bool:
        return self.reason_code == ReasonCode.SUCCESS


ACCEPTED_ANONYMOUS = Verdict(anonymous=True)
REFUSED = Verdict(ReasonCode.NOT_AUTHORIZED)
BAD_CREDENTIALS = Verdict(ReasonCode.BAD_USER_NAME_OR_PASSWORD)


@define(frozen=True)
class Challenge:
    """What the peer has to answer before there is a verdict; `data` may be empty."""

    data: bytes | None = field(default=None, repr=False)


class Authenticator(Protocol):
    """One link of the chain."""

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        """Accept or refuse; None leaves the decision to the next one."""


class Conversation(Protocol):
    """One enhanced authentication of one connection."""

    async def respond(self, data: bytes | None) -> Challenge | Verdict:
        """To the peer's authentication data; None where CONNECT or AUTH had none. Not called after a verdict."""


@runtime_checkable
class EnhancedAuthenticator(Protocol):
    """An authentication method of MQTT 5.0 (section 4.12), `method` being its name, such as "SCRAM-SHA-256"."""

    method: str

    def begin(self, credentials: Credentials) -> Conversation:
        """A client wants to authenticate, or to do so again, in this way."""


@lru_cache(maxsize=1024)
def is_local(peer_host: str) -> bool:
    """Does the peer sit on this machine? In-memory and Unix socket peers do."""
    if not peer_host:
        return True
    try:
        address = ipaddress.ip_address(peer_host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


class AuthenticationChain:
    """`allow_anonymous`: True lets everybody in when no authenticator is configured, None only local peers."""

    def __init__(
        self,
        authenticators: Sequence[Authenticator | EnhancedAuthenticator] = (),
        allow_anonymous: bool | None = None,
    ) -> None:
        self.authenticators = [it for it in authenticators if not isinstance(it, EnhancedAuthenticator)]
        self.enhanced = {it.method: it for it in authenticators if isinstance(it, EnhancedAuthenticator)}
        self.allow_anonymous = allow_anonymous

    def decide_now(self, credentials: Credentials) -> Verdict | None:
        """The verdict where nobody has to be waited for; else None."""
        if self.authenticators:
            return None
        if self.enhanced:
            return BAD_CREDENTIALS  # only those that CONNECT names a method for get in
        allowed = is_local(credentials.peer_host) if self.allow_anonymous is None else self.allow_anonymous
        return ACCEPTED_ANONYMOUS if allowed else REFUSED

    async def decide(self, credentials: Credentials) -> Verdict:
        """Ask one authenticator after the other; nobody knows the client: refused."""
        for authenticator in self.authenticators:
            verdict = await authenticator.authenticate(credentials)
            if verdict is not None:
                return verdict
        return BAD_CREDENTIALS
