"""What every authenticator of the configuration is: an id, an answer, figures.

Invariant: nothing here waits or keeps a secret.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from attrs import define

from trio_broker.access.authentication import Credentials, Verdict

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = ["AuthenticatorFigures", "ConfiguredAuthenticator", "ResourceFigures", "Status"]

Status = Literal["connected", "connecting", "disconnected"]


@define
class AuthenticatorFigures:
    """What became of the clients that one authenticator was asked about."""

    total: int = 0
    success: int = 0
    failed: int = 0
    nomatch: int = 0

    def count(self, verdict: Verdict | None) -> None:
        self.total += 1
        if verdict is None:
            self.nomatch += 1
        elif verdict.accepted:
            self.success += 1
        else:
            self.failed += 1


@define
class ResourceFigures:
    """What became of the requests to a web service."""

    matched: int = 0
    success: int = 0
    failed: int = 0


class ConfiguredAuthenticator(ABC):
    """One link of the chain. Those with a `method` (MQTT 5.0 section 4.12) have `begin` too, see
    `trio_broker.access.authentication.EnhancedAuthenticator`, and leave `authenticate` to answer None.
    """

    def __init__(self, config: Any, core: Core, authenticator_id: str) -> None:
        self.config = config
        self.core = core
        self.id = authenticator_id
        self.figures = AuthenticatorFigures()
        self.resource: ResourceFigures | None = None
        """None where nobody else is asked."""

    @property
    def status(self) -> Status:
        return "connected"

    @abstractmethod
    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        """Accept or refuse; None leaves the decision to the next one. What goes wrong is logged, and None."""

    async def start(self) -> None:  # noqa: B027 - most have nothing to do
        """Before it is asked for the first time. Raises ConfigError where it cannot be as it is configured."""

    async def close(self) -> None:  # noqa: B027
        """It is asked no more."""

    async def delete(self) -> None:  # noqa: B027
        """It was taken out of the configuration over REST: what it keeps in the store goes, too."""
