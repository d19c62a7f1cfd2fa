"""Faults of our own in handling a client: they end it alone, with 0x83, its will, and a traceback in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import trio
from robustness.faults import Fault, fail_when
from robustness.scene import PATIENCE, WILL, Scene, open_scene, shake_hands
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.packets import PubAck, Publish
from trio_broker.session import channel
from trio_broker.session.channel import Channel
from trio_broker.session.session import Session
from trio_broker.testing import Client, open_client


def says_boom(*arguments: object) -> bool:
    """Whether one of the arguments is a PUBLISH to `boom`, or bytes of it."""
    return any(
        (isinstance(one, bytes) and b"boom" in one)
        or (isinstance(one, Publish) and one.topic_name == "boom")
        or (isinstance(one, list) and any(isinstance(part, Publish) and part.topic_name == "boom" for part in one))
        for one in arguments
    )


async def trigger_publish(client: Client) -> None:
    await client.send(Publish("boom", b"", 1, packet_identifier=1))


async def trigger_subscribe(client: Client) -> None:
    with trio.move_on_after(PATIENCE):
        await client.subscribe("boom")


async def trigger_puback(client: Client) -> None:
    await client.send(PubAck(9))


IN_A_CLIENT = [
    pytest.param(Decoder, "feed", says_boom, trigger_publish, id="decoder"),
    pytest.param(Channel, "handle", says_boom, trigger_publish, id="channel"),
    pytest.param(channel, "handle_subscribe", lambda packet, step: packet.filters[0].topic_filter == "boom",
                 trigger_subscribe, id="subscribe"),
    pytest.param(Session, "handle_pubacks", lambda identifiers, *_: 9 in identifiers, trigger_puback, id="puback"),
]  # fmt: skip


def the_fault(scene: Scene, client_id: str) -> None:
    """What the log has of it: one error, with its traceback, that names the client."""
    (error,) = scene.lines(logging.ERROR)
    assert error.exc_info is not None
    assert isinstance(error.exc_info[1], Fault)
    assert repr(client_id) in error.getMessage()


@pytest.mark.parametrize("target", ["memory", "tcp"])
@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize(("owner", "name", "meant", "trigger"), IN_A_CLIENT)
async def test_a_fault_in_handling_a_client_ends_it_alone(
    owner: type | ModuleType,
    name: str,
    meant: Callable[..., bool],
    trigger: Callable[[Client], Any],
    level: int,
    target: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_scene(caplog, faults=True) as scene:
        fail_when(monkeypatch, owner, name, meant)
        where = scene.running.broker if target == "memory" else (scene.running.host, scene.running.port)
        with pytest.raises(Exception, match="connection ended") if trigger is trigger_subscribe else trio.CancelScope():
            async with open_client(where, client_id="unlucky", level=level, will=WILL) as client:
                await scene.mark()
                try:
                    await trigger(client)
                finally:
                    with trio.fail_after(PATIENCE):
                        ended = await client.wait_ended()
                if level == 5:
                    assert (ended.how, ended.reason_code) == ("disconnect", 0x83)
                else:
                    assert ended.how == "eof"
        assert await scene.will() == b"gone"
        await scene.settled()
        the_fault(scene, "unlucky")
        await scene.exchange()
        # Who comes again is served.
        async with open_client(where, client_id="unlucky", level=level) as again:
            await again.ping()
        await scene.settled()


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_fault_in_delivering_ends_the_subscriber_alone(
    qos: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_scene(caplog, faults=True) as scene:
        broker = scene.running.broker
        async with (
            open_client(broker, client_id="unlucky", will=WILL) as unlucky,
            open_client(broker, client_id="other") as other,
        ):
            await unlucky.subscribe("boom", 1)
            await other.subscribe("boom", 1)
            await scene.mark()
            victim = await broker.questions.client("unlucky")
            assert victim is not None
            original = Session.deliver

            def deliver(self: Session, *arguments: Any, **named: Any) -> None:
                if self.client_id == "unlucky":
                    raise Fault("Session.deliver")
                original(self, *arguments, **named)

            monkeypatch.setattr(Session, "deliver", deliver)
            await scene.bystander.publish("boom", b"x", qos)  # and gets its PUBACK
            with trio.fail_after(PATIENCE):
                assert (await other.receive()).payload == b"x"
                ended = await unlucky.wait_ended()
            assert (ended.how, ended.reason_code) == ("disconnect", 0x83)
            assert await scene.will() == b"gone"
            the_fault(scene, "unlucky")
        await scene.settled()


@pytest.mark.parametrize(("owner", "name"), [(Session, "attach"), (Session, "detach")])
@pytest.mark.parametrize("kept", [0, 100])
async def test_a_fault_while_coming_or_going_ends_that_client_alone(
    owner: type | ModuleType,
    name: str,
    kept: int,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_scene(caplog, faults=True) as scene:
        with monkeypatch.context() as patch:
            fail_when(patch, owner, name)
            stream = await scene.running.broker.connect_stream()
            try:
                await shake_hands(stream, "unlucky", properties={"session_expiry_interval": kept})
            except AssertionError:
                assert name == "attach"
            await trio.aclose_forcefully(stream)
            await wait_all_tasks_blocked()
            the_fault(scene, "unlucky")
        await scene.exchange()
        async with open_client(scene.running.broker, client_id="unlucky") as again:
            assert again.connack.reason_code == 0
        await scene.settled()


async def test_a_fault_in_a_hook_is_a_line_and_nothing_else(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_scene(caplog, faults=True) as scene:

        def fail(event: object) -> None:
            raise Fault("hook")

        hooks = scene.running.broker.hooks
        for list_of in (hooks.connected, hooks.disconnected, hooks.published):
            list_of.append(fail)
        async with open_client(scene.running.broker, client_id="c") as client:
            await client.publish("bystander", b"x", 1)
            assert (await scene.bystander.receive()).payload == b"x"
        await scene.settled()
        assert len(scene.lines(logging.ERROR)) == 3
        for list_of in (hooks.connected, hooks.disconnected, hooks.published):
            list_of.clear()
