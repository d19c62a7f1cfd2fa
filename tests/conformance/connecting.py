"""How CONNECT and its answers are written at each level, and a broker that asks for a password.

Invariant: the answers are those of this broker with its default settings, byte by byte; what it announces stands in
`LIMITS` alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from conformance.peer import Peer, Server, closing
from trio.testing import wait_all_tasks_blocked

from trio_broker.access.authentication import BAD_CREDENTIALS, REFUSED, Credentials, Verdict
from trio_broker.access.authorization import Action
from trio_broker.broker import Broker
from trio_broker.protocol.message import Origin
from trio_broker.testing import RunningBroker
from trio_broker.testing.running import make_config

__all__ = [
    "LEVELS",
    "LIMITS",
    "accepted",
    "connect",
    "ended",
    "guarded",
    "let_in",
    "nothing_for",
    "refused",
    "section",
    "sessions",
    "settled",
    "will",
]

LEVELS = (4, 5)
# Receive maximum 100, maximum packet size 1 MB, topic alias maximum 65535. Nothing else is limited.
LIMITS = "21 0064 27 00100000 22 ffff"
# Return codes of MQTT 3.1.1, table 3.1, by the reason code of MQTT 5.0. What is not there ends without CONNACK.
RETURN_CODES = {0x84: 1, 0x85: 2, 0x86: 4, 0x87: 5, 0x88: 3, 0x9A: 3, 0x9B: 3}


def section(level: int, properties: str = "") -> str:
    """A section of properties, where there are any at this level."""
    return f"[{properties}]" if level == 5 else ""


def connect(
    level: int, payload: str = '"c"', flags: int = 0x02, *, keep_alive: int = 0, properties: str = "", also: str = ""
) -> str:
    """A CONNECT; `also` stands behind its payload."""
    name = '"MQIsdp"' if level == 3 else '"MQTT"'
    return f"10 [{name} {level:02x} {flags:02x} {keep_alive:04x} {section(level, properties)} {payload} {also}]"


def will(level: int, topic: str = '"w"', message: str = '"x"', properties: str = "") -> str:
    """The will of a CONNECT, which stands behind the client identifier."""
    return f"{section(level, properties)} {topic} {message}"


def accepted(level: int, *, session: bool = False) -> str:
    return f"20 [{session:02x} 00 {section(level, LIMITS)}]"


def refused(level: int, code: int) -> str:
    """CONNACK with this reason code; at level 3 and 4 what has no return code is refused in silence."""
    if level == 5:
        return f"20 [00 {code:02x} []]"
    return f"20 [00 {RETURN_CODES[code]:02x}]" if code in RETURN_CODES else ""


def ended(level: int, code: int) -> str:
    """What the broker says before it closes."""
    return f"e0 [{code:02x}]" if level == 5 else ""


async def let_in(server: Server, text: str, answer: str | bytes) -> Peer:
    """A peer whose first bytes got this answer."""
    peer = await server.peer()
    await peer.send(text)
    await peer.expect(answer)
    return peer


async def settled() -> None:
    """Until the broker has worked off all that has reached it: an end of a connection has no answer to wait for."""
    await wait_all_tasks_blocked()


async def nothing_for(peer: Peer) -> None:
    """Nothing has come for this peer, and nothing is under way."""
    await settled()
    await peer.expect_nothing()


async def sessions(server: Server) -> int:
    """How many sessions there are once everything is worked off."""
    await settled()
    return (await server.running.broker.questions.stats())["sessions.count"]


class Passwords:
    """The password is `right`; the user `banned` comes in nowhere. Keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Credentials] = []

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        self.asked.append(credentials)
        if credentials.username == "banned":
            return REFUSED
        return Verdict() if credentials.password == b"right" else BAD_CREDENTIALS


class NothingSecret:
    """Nobody publishes to `secret`, and nobody subscribes to it."""

    def authorize(self, client: Origin, action: Action, topic: str) -> bool:
        return topic != "secret"


@asynccontextmanager
async def guarded(transport: str, *passwords: Passwords) -> AsyncIterator[Server]:
    """A broker with secrets; with `passwords` it asks for them."""
    bind = {"default": {"bind": "127.0.0.1:0"}}
    config = make_config(None, {"listeners": {"tcp": bind, "ws": bind}})
    broker = Broker(config, authenticators=passwords, authorizer=NothingSecret())
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(broker.run)
        async with closing(Server(RunningBroker(broker, dict(bound.listeners)), transport)) as server:
            yield server
        broker.close()
