"""Who is let in: the chain of authenticators and what happens when it is empty.

Invariant: a client that was not accepted by name or by rule does not get in; an empty chain lets in loopback peers
only, unless anonymous clients were allowed by configuration. Authenticators of the embedding program come before those
of the configuration; the first one that accepts or refuses has decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from attrs import define, field

from trio_broker.access.addresses import plain_address
from trio_broker.protocol.reason_codes import ReasonCode

if TYPE_CHECKING:
    from trio_broker.access.rules import RuleSet

NO_ATTRIBUTES: Mapping[str, str] = {}


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
    peer_port: int = 0
    zone: str = "default"
    client_attrs: Mapping[str, str] = NO_ATTRIBUTES

    def value(self, name: str) -> str | None:
        """What the placeholder `${name}` stands for; None where there is nothing. Raises UnicodeDecodeError."""
        if name == "password":
            return None if self.password is None else self.password.decode()
        return fact(self, name)


def fact(who: Any, name: str) -> str | None:
    """The same without the password, for whatever has the fields of `Credentials`."""
    kind, _, attribute = name.partition(".")
    if kind == "client_attrs":
        found: str | None = who.client_attrs.get(attribute)
        return found
    field_name = _FIELDS.get(name)
    return None if field_name is None else str(value) if (value := getattr(who, field_name)) is not None else None


_FIELDS: Mapping[str, str] = {
    "username": "username",
    "clientid": "client_id",
    "peerhost": "peer_host",
    "peerport": "peer_port",
    "zone": "zone",
    "listener": "listener",
    "cert_subject": "certificate_distinguished_name",
    "cert_common_name": "certificate_common_name",
}


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
    client_attrs: Mapping[str, str] = NO_ATTRIBUTES
    """For the placeholders `${client_attrs.NAME}`."""
    expire_at: float | None = None
    """Seconds since the epoch; then the connection is closed."""
    rules: RuleSet | None = None
    """What the client may do by its own token; asked before the sources."""
    rules_expire_at: float | None = None
    """Seconds since the epoch; then they allow nothing any more."""
    authenticator: str = ""
    """The id of the one in the configuration that decided, such as `password_based:built_in_database`."""
    by_client_id: bool = False
    """It knows the client by its client id, and not by its user name."""

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
        return plain_address(peer_host).is_loopback
    except ValueError:
        return False


class AuthenticationChain:
    """`authenticators` are those of the embedding program; those of the configuration come behind them with `use`.

    `allow_anonymous`: True lets everybody in when there is no authenticator at all, None only local peers.
    """

    def __init__(
        self,
        authenticators: Sequence[Authenticator | EnhancedAuthenticator] = (),
        allow_anonymous: bool | None = None,
    ) -> None:
        self._own = tuple(authenticators)
        self.allow_anonymous = allow_anonymous
        self.patience = 0.0
        """Seconds that the authenticators of the configuration may take in all, by their own timeouts."""
        self.authenticators: list[Authenticator] = []
        self.enhanced: dict[str, EnhancedAuthenticator] = {}
        self.use(())

    def use(self, configured: Sequence[Authenticator | EnhancedAuthenticator], patience: float = 0.0) -> None:
        """These are asked from now on, behind the program's; who is being asked about already is not asked about anew.

        Of two with the same method the first one counts.
        """
        chain = (*self._own, *configured)
        self.authenticators = [it for it in chain if not isinstance(it, EnhancedAuthenticator)]
        self.enhanced = {it.method: it for it in reversed(chain) if isinstance(it, EnhancedAuthenticator)}
        self.patience = patience

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
        for authenticator in self.authenticators:  # `use` makes a new list
            verdict = await authenticator.authenticate(credentials)
            if verdict is not None:
                return verdict
        return BAD_CREDENTIALS
