"""Authenticators and authorization sources for tests of what goes on around them: they answer as they are told.

Use `fakes(monkeypatch)` before the broker is made: every kind of authenticator and of source is then one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import trio
from attrs import define, field

from trio_broker.access.asking import Request, Subject
from trio_broker.access.authentication import Challenge, Credentials, Verdict
from trio_broker.access.authorization import Source
from trio_broker.actors.authn import chain
from trio_broker.actors.authn.base import ConfiguredAuthenticator, ResourceFigures
from trio_broker.actors.authz import sources
from trio_broker.errors import ConfigError


@define
class Script:
    """What the fakes answer, by their name, and what became of them: `lives` has `start`, `close`, `delete`."""

    verdicts: dict[str, Callable[[Credentials], Verdict | None]] = field(factory=dict)
    decisions: dict[str, Callable[[Subject, Request], bool | None]] = field(factory=dict)
    lives: list[tuple[str, str]] = field(factory=list)
    asked: list[tuple[str, Request]] = field(factory=list)
    refuses_to_start: set[str] = field(factory=set)
    takes: dict[str, float] = field(factory=dict)
    """Seconds; sources with a time here are such as have to be waited for."""

    def life(self) -> list[tuple[str, str]]:
        """What happened since this was last looked at."""
        happened, self.lives = self.lives, []
        return happened


SCRIPT = Script()


def fakes(monkeypatch: pytest.MonkeyPatch) -> Script:
    """The script of this test."""
    script = Script()
    monkeypatch.setattr(__import__(__name__, fromlist=["SCRIPT"]), "SCRIPT", script)
    for name in list(chain.KINDS):
        cls = "FakeEnhanced" if name.startswith("scram") else "FakeAuthenticator"
        monkeypatch.setitem(_mutable(chain.KINDS), name, f"{__name__}:{cls}")
    for name in list(sources.KINDS):
        monkeypatch.setitem(_mutable(sources.KINDS), name, f"{__name__}:FakeSource")
    return script


def _mutable(kinds: Mapping[str, str]) -> dict[str, str]:
    assert isinstance(kinds, dict)
    return kinds


class FakeAuthenticator(ConfiguredAuthenticator):
    def __init__(self, config: Any, core: Any, authenticator_id: str) -> None:
        super().__init__(config, core, authenticator_id)
        if authenticator_id.endswith(":http"):
            self.resource = ResourceFigures()

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        await trio.sleep(SCRIPT.takes.get(self.id, 0))
        if self.resource is not None:
            self.resource.matched += 1
        verdict = SCRIPT.verdicts.get(self.id)
        return None if verdict is None else verdict(credentials)

    async def start(self) -> None:
        if self.id in SCRIPT.refuses_to_start:
            raise ConfigError("url", "cannot be")
        SCRIPT.lives.append(("start", self.id))

    async def close(self) -> None:
        SCRIPT.lives.append(("close", self.id))

    async def delete(self) -> None:
        SCRIPT.lives.append(("delete", self.id))


class FakeEnhanced(FakeAuthenticator):
    """One challenge, which is to be answered with the user name; then what the script says."""

    method = "FAKE"

    def begin(self, credentials: Credentials) -> FakeConversation:
        return FakeConversation(self.id, credentials)


@define
class FakeConversation:
    authenticator_id: str
    credentials: Credentials
    asked: bool = False

    async def respond(self, data: bytes | None) -> Challenge | Verdict:
        if not self.asked:
            self.asked = True
            return Challenge(b"who?")
        self.credentials.username = (data or b"").decode()
        return SCRIPT.verdicts[self.authenticator_id](self.credentials) or Verdict()


class FakeSource(Source):
    def __init__(self, config: Any, core: Any) -> None:
        super().__init__()
        self.type = config.type
        self.text = "read from a file"
        self.waits = config.type in SCRIPT.takes

    def authorize(self, subject: Subject, request: Request) -> bool | None:
        assert not self.waits
        return self._decide(subject, request)

    async def ask(self, subject: Subject, request: Request) -> bool | None:
        await trio.sleep(SCRIPT.takes[self.type])
        return self._decide(subject, request)

    def _decide(self, subject: Subject, request: Request) -> bool | None:
        SCRIPT.asked.append((self.type, request))
        decide = SCRIPT.decisions.get(self.type)
        return None if decide is None else decide(subject, request)

    async def start(self) -> None:
        if self.type in SCRIPT.refuses_to_start:
            raise ConfigError("rules", "cannot be")
        SCRIPT.lives.append(("start", self.type))

    async def close(self) -> None:
        SCRIPT.lives.append(("close", self.type))

    async def delete(self) -> None:
        SCRIPT.lives.append(("delete", self.type))
