"""What the log says of connections: who, from where, at which door; one line an event; and never a secret."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import trio
from robustness.scene import PATIENCE, Scene, connect_bytes, connect_tcp, open_scene, read_to_end, shake_hands
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.access.authentication import BAD_CREDENTIALS, Credentials, Verdict
from trio_broker.broker import Broker
from trio_broker.config import Config, LogConfig
from trio_broker.logs import logging_as
from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.packets import Auth, Connect, Properties, Will
from trio_broker.testing import open_broker, open_client

SECRET = "Sw0rdfish-4711"
SECRETS = (SECRET, SECRET.encode().hex(), repr(SECRET.encode()))


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All that any logger says, at the lowest level."""
    caplog.set_level(1)
    caplog.set_level(1, "trio_broker")
    yield caplog
    formatter = logging.Formatter("%(name)s %(message)s %(args)s")
    for record in caplog.records:
        text = formatter.format(record)
        assert not any(secret in text for secret in SECRETS), text


async def name_of(stream: trio.SocketStream) -> str:
    await trio.lowlevel.checkpoint()
    return "{}:{}".format(*stream.socket.getsockname())


@pytest.mark.parametrize("level", [3, 4, 5])
async def test_coming_and_going_are_a_line_each_with_who_and_where(
    level: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_scene(caplog) as scene:
        async with await connect_tcp(scene.running) as stream:
            name = await name_of(stream)
            await shake_hands(stream, "the-client", level)
            await stream.send_all(b"\xe0\0")
            assert await read_to_end(stream) == b""
        await scene.settled()
        lines = [line.getMessage() for line in scene.lines()]
        assert len(lines) == 2
        for line in lines:
            assert all(part in line for part in ("the-client", name, "tcp:default")), line


async def test_the_messages_of_a_client_are_no_lines(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """INFO is for connections: a busy client does not fill the disk."""
    async with open_scene(caplog) as scene:
        async with open_client(scene.running.broker, client_id="busy") as busy:
            await scene.mark()
            for at in range(50):
                await busy.subscribe(f"a/{at}")
                await busy.publish(f"a/{at}", b"x", at % 3)
                await busy.ping()
                await busy.unsubscribe(f"a/{at}")
            assert scene.lines() == []
        await scene.settled()


@pytest.mark.parametrize(
    "client_id", ["a\nb", "a\r\n2026-01-01 ERROR it is all over", "\x1b[31mred", "a\u2028b", "x" * 5000]
)
async def test_a_client_identifier_writes_no_lines_of_its_own(client_id: str, caplog: pytest.LogCaptureFixture) -> None:
    async with open_scene(caplog) as scene:
        async with await connect_tcp(scene.running) as stream:
            await shake_hands(stream, client_id)
        await scene.settled()
        for line in scene.lines():
            text = line.getMessage()
            assert text.splitlines() == [text]
            assert text.isprintable()
            assert len(text) < 7000


async def test_a_takeover_names_both_connections(caplog: pytest.LogCaptureFixture) -> None:
    async with open_scene(caplog) as scene:
        async with await connect_tcp(scene.running) as old, await connect_tcp(scene.running) as new:
            names = [await name_of(old), await name_of(new)]
            await shake_hands(old, "twin")
            await scene.mark()
            await shake_hands(new, "twin")
            assert await read_to_end(old)
            await wait_all_tasks_blocked()
            text = "\n".join(line.getMessage() for line in scene.lines())
            assert all(name in text for name in names)
            assert len(scene.lines()) == 2
        await scene.settled()


# -- secrets


def connects_with_secrets() -> list[Connect]:
    authentication: Properties = {"authentication_method": "m", "authentication_data": SECRET.encode()}
    return [
        Connect("c", 4, username="u", password=SECRET.encode()),
        Connect("c", 5, username="u", password=SECRET.encode()),
        Connect("c", 5, password=SECRET.encode(), will=Will("w", b"x")),
        Connect("c", 5, properties=authentication),
    ]


@pytest.mark.parametrize("packet", connects_with_secrets(), ids=["v4", "v5", "password alone", "authentication"])
def test_no_secret_is_in_the_repr_of_a_packet(packet: Connect) -> None:
    for text in (repr(packet), str(packet), f"{packet}", repr([packet])):
        assert not any(secret in text for secret in SECRETS)


def test_no_secret_is_in_the_repr_of_auth() -> None:
    packet = Auth(0x18, {"authentication_method": "m", "authentication_data": SECRET.encode()})
    assert not any(secret in repr(packet) for secret in SECRETS)


def test_no_secret_is_in_the_repr_of_credentials() -> None:
    credentials = Credentials("c", "u", SECRET.encode(), "127.0.0.1", "tcp:default", 5)
    assert not any(secret in repr(credentials) for secret in SECRETS)


def test_no_secret_is_in_the_repr_of_half_a_packet() -> None:
    decoder = Decoder()
    assert decoder.feed(connect_bytes("c", username="u", password=SECRET.encode())[:-1]) == []
    assert SECRET[:-1] not in repr(decoder)


@pytest.mark.parametrize("target", ["memory", "tcp"])
async def test_no_secret_is_in_the_log(target: str, everything: pytest.LogCaptureFixture) -> None:
    """Good, bad and broken CONNECTs with a password, everything logged that can be."""
    async with open_broker() as running:
        for packet in connects_with_secrets():
            where = running.broker if target == "memory" else (running.host, running.port)
            async with open_client(where, level=packet.protocol_level, connect=False) as client:
                await client.connect(packet)
        whole = connect_bytes("c", username="u", password=SECRET.encode())
        for data in (
            whole + whole,
            whole[:-1],
            whole + b"\xc1\0",
            whole[:9] + b"\x03" + whole[10:],
            whole[2:],
            whole + b"x",
        ):
            async with await trio.open_tcp_stream(running.host, running.port) as stream:
                await stream.send_all(data)
                await wait_all_tasks_blocked()


async def test_no_secret_is_in_the_log_of_a_refusal_or_a_fault(everything: pytest.LogCaptureFixture) -> None:
    """Neither when the authenticator says no, nor when it fails: the traceback shows code, not values."""

    class Refuses:
        async def authenticate(self, credentials: Credentials) -> Verdict | None:
            await trio.lowlevel.checkpoint()
            if credentials.username == "refused":
                return BAD_CREDENTIALS
            raise RuntimeError("the backend is down")

    broker = Broker(Config(), authenticators=[Refuses()])
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        for username in ("refused", "broken"):
            async with await broker.connect_stream() as stream:
                await stream.send_all(connect_bytes("c", username=username, password=SECRET.encode()))
                with trio.fail_after(PATIENCE):
                    assert await stream.receive_some()
        await wait_all_tasks_blocked()
        broker.close()


# -- under attack


async def test_an_attack_does_not_fill_the_log(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("log") / "broker.log"
    with logging_as(LogConfig(file=str(path), rate_limit=5)):
        async with open_broker() as running:
            for _ in range(60):
                async with await trio.open_tcp_stream(running.host, running.port) as stream:
                    await stream.send_all(b"\0garbage")
                    assert await read_to_end(stream) == b""
            async with open_client(running.broker, client_id="good") as good:
                await good.ping()
    lines = path.read_text().splitlines()
    assert len(lines) < 20
    assert any("suppressed 55 similar" in line for line in lines)
    assert any("'good'" in line for line in lines)  # what is of another sort is still seen


async def test_refusals_of_one_scene_are_lines_of_one_sort(caplog: pytest.LogCaptureFixture) -> None:
    """The rate limit counts what is logged before its arguments are put in: peers must not be part of that."""
    async with open_scene(caplog) as scene:
        await bother(scene, 10)
        assert len({str(line.msg) for line in scene.lines()}) == 1
        assert len({line.getMessage() for line in scene.lines()}) == 10


async def bother(scene: Scene, times: int) -> None:
    for _ in range(times):
        async with await connect_tcp(scene.running) as stream:
            await stream.send_all(b"\0garbage")
            assert await read_to_end(stream) == b""
    await scene.settled()
