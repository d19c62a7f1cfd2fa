"""What stands between a publisher and the router's plan: messages can be taken, or others put in their place."""

from __future__ import annotations

from typing import Any

from actors.flows import one, rest, settle
from api.live import running
from attrs import define, field

from trio_broker.actors.questions import NewMessage
from trio_broker.protocol.message import Message, Run
from trio_broker.protocol.packets import PubAck, Publish
from trio_broker.routing.routing_table import Plan


@define(eq=False)
class Renaming:
    """Messages of `old` become messages of `new`; those of `gone` are taken."""

    old: str
    new: str
    gone: str = ""
    seen: list[str] = field(factory=list)

    def concerns(self, topic_name: str) -> bool:
        return topic_name in (self.old, self.gone)

    def intercept(self, run: Run, plan: Plan[Any]) -> list[Run] | None:
        self.seen.append(run.topic_name)
        if run.topic_name == self.gone:
            return []
        messages = [
            Message(self.new, one.payload, one.qos, one.retain, one.message_id, one.origin, one.publish_at)
            for one in run.messages
        ]
        return [Run(self.new, run.qos, run.retain, run.origin, messages)]

    def keeps(self, run: Run) -> bool:
        return False


async def test_a_message_is_put_in_the_place_of_another_and_its_publisher_is_told_where_it_went(
    autojump_clock: object,
) -> None:
    async with running() as live:
        renaming = Renaming("a", "b", "x")
        live.broker._core.interceptors.add(renaming)  # type: ignore[union-attr]
        publisher, subscriber = await live.connect("p"), await live.connect("s")
        await subscriber.subscribe("b", qos=2)
        for qos in (0, 1, 2):
            answer = await publisher.publish("a", b"%d" % qos, qos=qos)
            assert answer is None or answer.reason_code == 0
        assert [(message.topic_name, message.payload) for message in await rest(subscriber)] == [
            ("b", b"0"),
            ("b", b"1"),
            ("b", b"2"),
        ]
        taken = await publisher.publish("x", b"-", qos=1)
        assert isinstance(taken, PubAck)
        assert taken.reason_code == 0x10
        assert renaming.seen == ["a", "a", "a", "x"]
        assert await rest(subscriber) == []
        [published] = await live.broker.questions.publish([NewMessage("a", b"rest")])
        assert published.matched == 1
        assert (await one(subscriber)).payload == b"rest"


async def test_each_interceptor_sees_a_message_once_and_in_their_order(autojump_clock: object) -> None:
    async with running() as live:
        core = live.broker._core
        assert core is not None
        first, second, third = Renaming("a", "b"), Renaming("b", "a"), Renaming("a", "c")
        for interceptor in (first, second, third):
            core.interceptors.add(interceptor)
        subscriber = await live.connect("s")
        await subscriber.subscribe("#")
        await live.broker.publish("a", b"1")
        await settle()
        assert [message.topic_name for message in await rest(subscriber)] == ["c"]
        assert (first.seen, second.seen, third.seen) == (["a"], ["b"], ["a"])


async def test_what_takes_the_place_of_a_retained_message_is_retained(autojump_clock: object) -> None:
    async with running() as live:
        core = live.broker._core
        assert core is not None
        core.interceptors.add(Renaming("a", "b"))
        await live.broker.publish("a", b"1", retain=True)
        late = await live.connect("late")
        await late.subscribe("#")
        message: Publish = await one(late)
        assert (message.topic_name, message.retain) == ("b", True)
