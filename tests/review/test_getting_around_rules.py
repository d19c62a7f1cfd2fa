"""Attacks on access rules: a forbidden topic, read or written in every way that leads to it.

`secret/x` is denied to everybody but `witness`, who sees what arrives there, and says what must not be read.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from api.live import Live, running
from review.contract import KEPT, done, got, listed
from review.rights import (
    WITNESS,
    allow,
    arrived,
    for_all,
    guarded,
    may_publish,
    may_subscribe,
    rule,
    settings,
)
from trio.testing import MockClock

from trio_broker.protocol.packets import Connect, Publish, Subscribe, SubscribeFilter, Will
from trio_broker.testing import Client

SECRET = "secret/x"
DENIALS = [rule(SECRET), rule("secret/#"), rule("+/x"), rule("secret/+")]
LEVELS = pytest.mark.parametrize("level", [3, 4, 5])

READING = [
    "secret/x",
    "#",
    "+/x",
    "secret/+",
    "secret/#",
    "+/+",
    "+/#",
    "secret/x/#",
    "+/x/#",
    "+/+/#",
    "$share/g/secret/x",
    "$share/g/#",
    "$share/g/+/x",
    "$share/g/secret/+",
    "$share/$queue/secret/x",
    "$share/ /secret/x",
    "$queue/secret/x",
    "$queue/#",
    "$queue/+/x",
    "$queue/$share/g/secret/x",
    "$queue/$queue/secret/x",
    "$share/g/$queue/secret/x",
    "$share/g/$share/g/secret/x",
    "$share/g/$delayed/5/secret/x",
    "$delayed/5/secret/x",
    "$delayed/5/#",
    "$delayed/5/$share/g/secret/x",
    "$delayed/5/$queue/#",
    "$delayed/#",
    "$exclusive/secret/x",
    "$SHARE/g/secret/x",
    "$shared/g/secret/x",
    "$local/secret/x",
    "$share//secret/x",
    "$share/+/secret/x",
    "$share/#/secret/x",
    "$share/g",
    "$share/g/",
    "$queue/",
    "$share/g//secret/x",
    "/secret/x",
    "/#",
    "+/secret/x",
    "secret//x",
    "secret/x/",
    "secret/x/+",
    "SECRET/X",
    "sec+/x",
    "secret#",
    "secret/x#",
    " secret/x",
    "secret/x ",
    "./secret/x",
    "secret/./x",
    "%73ecret/x",
    "eq secret/x",
    "${clientid}/x",
]


async def scene(live: Live, *rules: dict[str, Any], no_match: str = "allow") -> Client:
    """The rules, and the witness, who has seen nothing so far."""
    await guarded(live, *rules, no_match=no_match)
    witness = await live.connect(WITNESS, username=WITNESS)
    await witness.subscribe("#", 2)
    return witness


def secrets(messages: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return [one for one in messages if one[0] == SECRET or one[1] == b"hidden"]


async def say_hidden(witness: Client) -> None:
    """Said on `secret/x`, retained too, now and delayed; the subscriptions of the witness see it."""
    for qos in (0, 1, 2):
        await witness.publish(SECRET, b"hidden", qos, retain=qos == 1)
    await witness.publish("$delayed/2/secret/x", b"hidden", 1)
    await trio.sleep(3)


@LEVELS
@pytest.mark.parametrize("denial", DENIALS, ids=lambda one: str(one["topic"]))
async def test_reading(denial: dict[str, Any], level: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        witness = await scene(live, denial)
        readers = []
        for number, topic_filter in enumerate(READING):
            reader = await live.connect(f"r{number}", level=level)
            with trio.move_on_after(60):
                try:
                    await reader.subscribe(topic_filter, number % 3)
                except Exception:  # noqa: BLE001 - a filter that is malformed ends the connection
                    assert reader.disconnected is not None
            readers.append((topic_filter, reader))
        await say_hidden(witness)
        assert len(secrets(await arrived(witness))) >= 4
        assert [one for one, reader in readers if secrets(await arrived(reader))] == []


async def test_reading_with_every_option_and_again(autojump_clock: MockClock) -> None:
    async with running() as live:
        witness = await scene(live, rule(SECRET))
        await say_hidden(witness)
        reader = await live.connect("r")
        for qos in (0, 1, 2):
            for handling in (0, 1, 2):
                for topic_filter in (SECRET, "#", "$share/g/#"):
                    options = SubscribeFilter(topic_filter, qos, False, True, handling)
                    [code] = (await reader.subscribe([options], identifier=7)).reason_codes
                    assert code == 0x87
        many = [SubscribeFilter(one) for one in ("a", SECRET, "b", "#", "a", "+/x")]
        assert (await reader.subscribe(many)).reason_codes == [0, 0x87, 0, 0x87, 0, 0x87]
        await reader.unsubscribe("#", SECRET)
        assert not await may_subscribe(reader, SECRET)
        await say_hidden(witness)
        assert secrets(await arrived(reader)) == []
        assert {row["topic"] for row in await got(live, "/clients/r/subscriptions")} == {"a", "b"}


async def test_only_what_all_rules_cover_can_be_read(autojump_clock: MockClock) -> None:
    """With no_match = deny, a filter that reaches beyond what is allowed is refused."""
    async with running() as live:
        witness = await scene(live, allow("open/#"), allow("+/y"), allow("a/b"), allow("eq +"), no_match="deny")
        await say_hidden(witness)
        for number, topic_filter in enumerate([*READING, "open", "+", "a/+", "+/b", "$share/g/+/+", "+/y/#"]):
            reader = await live.connect(f"r{number}")
            [code] = (await reader.subscribe(topic_filter, 1)).reason_codes
            assert (code < 0x80) is (topic_filter in ("open", "+")), topic_filter
            assert secrets(await arrived(reader)) == []


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("level", [4, 5])
async def test_writing(qos: int, level: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        witness = await scene(live, rule(SECRET))
        for number, topic in enumerate(
            [
                SECRET,
                "$delayed/1/secret/x",
                "$delayed/0/secret/x",
                "$delayed/0001/secret/x",
                "$delayed/99999999999/secret/x",
                "$delayed/1/$delayed/1/secret/x",
                "$delayed/1/$share/g/secret/x",
                "$delayed//secret/x",
                "$delayed/-1/secret/x",
                "$delayed/+1/secret/x",
                "$delayed/ 1/secret/x",
                "$delayed/1 /secret/x",
                "$delayed/\uff11/secret/x",
                "$delayed/1_0/secret/x",
                "$delayed/1.0/secret/x",
                "$DELAYED/1/secret/x",
                "$share/g/secret/x",
                "$queue/secret/x",
                "$queue/$delayed/1/secret/x",
                "$share/g/$delayed/1/secret/x",
                "$exclusive/secret/x",
                "secret/x/",
                "/secret/x",
                "secret//x",
                "Secret/x",
            ]
        ):
            for retain in (False, True):
                writer = await live.connect(f"w{number}", level=level)
                with trio.move_on_after(60):
                    try:
                        await writer.publish(topic, b"forged", qos, retain)
                    except Exception:  # noqa: BLE001 - a name that is malformed ends the connection
                        assert writer.disconnected is not None
        await trio.sleep(20)
        seen = {topic for topic, payload in await arrived(witness) if payload == b"forged"}
        assert seen <= {"secret/x/", "/secret/x", "secret//x", "Secret/x"}
        assert "Secret/x" in seen
        assert (await live.api.get("/mqtt/retainer/message/secret%2Fx")).status_code == 404
        assert SECRET not in await listed(live, "/mqtt/delayed/messages", "topic", limit=1000)


async def test_overwriting_and_deleting_what_is_retained(autojump_clock: MockClock) -> None:
    async with running() as live:
        witness = await scene(live, rule(SECRET, action="publish"), rule("house/#", action="publish", retain=True))
        await witness.publish(SECRET, b"true", 1, retain=True)
        writer = await live.connect("w")
        for payload in (b"", b"forged"):
            for qos in (0, 1, 2):
                await writer.publish(SECRET, payload, qos, retain=True)
                await writer.publish("$delayed/1/secret/x", payload, qos, retain=True)
                await writer.publish("$delayed/1/house/x", payload or b"forged", qos, retain=True)
                await writer.publish("house/x", payload or b"forged", qos, retain=True)
        await trio.sleep(5)
        reader = await live.connect("r")
        await reader.subscribe("#", 1)
        assert await arrived(reader) == [(SECRET, b"true")]
        assert await may_publish(writer, "house/x")


async def test_topic_aliases(autojump_clock: MockClock) -> None:
    async with running() as live:
        witness = await scene(live, rule(SECRET))

        async def use(client: Client, topic: str, alias: int, payload: bytes) -> int:
            answer = await client.publish(topic, payload, 1, properties={"topic_alias": alias})
            assert answer is not None
            return answer.reason_code

        writer = await live.connect("w")
        assert await use(writer, "open", 1, b"fine") == 0
        assert await use(writer, SECRET, 2, b"forged") == 0x87
        assert await use(writer, "", 2, b"forged") == 0x87
        assert await use(writer, SECRET, 1, b"forged") == 0x87
        assert await use(writer, "", 1, b"forged") == 0x87
        assert await use(writer, "$delayed/1/secret/x", 3, b"forged") == 0x87
        assert await use(writer, "", 3, b"forged") == 0x87
        assert await use(writer, "later", 4, b"fine") == 0
        await for_all(live, rule(SECRET), rule("later"))
        assert await use(writer, "", 4, b"forged") == 0x87
        for qos in (0, 2):
            await writer.publish("", b"forged", qos, properties={"topic_alias": 2})
        await trio.sleep(5)
        assert [payload for _, payload in await arrived(witness)] == [b"fine", b"fine"]


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("topic", [SECRET, "$delayed/1/secret/x", "$delayed/0/secret/x", "rewrite/x"])
@pytest.mark.parametrize("delay", [0, 5])
async def test_wills(topic: str, level: int, delay: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        rules = [{"action": "publish", "source_topic": "secret/#", "re": "^secret/(.+)$", "dest_topic": "open/$1"}]
        witness = await scene(live, rule(SECRET), rule("rewrite/#"))
        if topic == "rewrite/x":  # what is denied stays so, wherever it would go
            rules[0] |= {"source_topic": "rewrite/#", "re": "^rewrite/(.+)$"}
            assert (await live.api.put("/mqtt/topic_rewrite", json=rules)).status_code == 200
        for number, (qos, retain) in enumerate([(0, False), (1, True), (2, False)]):
            properties: Any = {"will_delay_interval": delay} if delay and level == 5 else {}
            will = Will(topic, b"forged", qos, retain, properties)
            more: dict[str, Any] = KEPT if level == 5 else {}
            writer = await live.connect(f"w{number}", level=level, will=will, **more)
            assert writer.connack.reason_code in (0, 0x87, 5)
            if writer.connack.reason_code == 0:
                await writer.drop()
        fine = await live.connect("fine", will=Will("open/will", b"fine"))
        await fine.drop()
        await trio.sleep(30)
        assert await arrived(witness) == [("open/will", b"fine")]
        for name in ("secret%2Fx", "open%2Fx"):
            assert (await live.api.get(f"/mqtt/retainer/message/{name}")).status_code == 404


async def test_a_will_goes_by_the_rules_of_the_moment_in_which_it_is_published(autojump_clock: MockClock) -> None:
    async with running() as live:
        witness = await scene(live)
        properties: Any = {"will_delay_interval": 60}
        for name in ("taken", "ended", "kicked", "late"):
            will = Will(SECRET, name.encode(), 1, True, properties if name == "late" else {})
            client = await live.connect(name, will=will, **KEPT)
            if name == "late":
                await client.drop()
        await trio.sleep(1)
        await for_all(live, rule(SECRET))
        await live.connect("taken", clean_start=False)
        done(await live.api.delete("/clients/kicked"))
        done(await live.api.delete("/clients/ended"))
        await trio.sleep(100)
        assert await arrived(witness) == []


async def test_a_client_that_is_cut_off_has_no_will_where_it_may_not(autojump_clock: MockClock) -> None:
    async with running() as live:
        witness = await scene(live, rule(SECRET))
        await settings(live, "allow", "disconnect")
        writer = await live.connect("w", will=Will(SECRET, b"forged", 1))
        await writer.send(Publish(SECRET, b"forged"))
        with trio.fail_after(60):
            await writer.wait_ended()
        assert await arrived(witness) == []


async def test_packets_behind_one_that_ends_the_connection_are_not_acted_on(autojump_clock: MockClock) -> None:
    async with running() as live:
        witness = await scene(live, rule(SECRET), rule("denied"))
        await settings(live, "allow", "disconnect")
        writer = await live.connect("w", level=4, connect=False)
        hello = await writer.connect(Connect("w", 4))
        assert hello.reason_code == 0
        denied, fine = b"\x30\x08\x00\x06denied", b"\x30\x06\x00\x04open"
        await writer.send_bytes(denied + fine)
        with trio.fail_after(60):
            await writer.wait_ended()
        assert await arrived(witness) == []


async def test_a_will_has_to_fit_the_conditions_too(autojump_clock: MockClock) -> None:
    async with running() as live:
        witness = await scene(live, rule("r", retain=True), rule("q", qos=[2]), rule("n", retain=False))
        for topic in ("r", "q", "n", "$delayed/1/r", "$delayed/1/q"):
            for qos, retain in ((0, False), (2, False), (1, True)):
                will = Will(topic, f"{topic[-1]} {qos} {retain}".encode(), qos, retain)
                writer = await live.connect("w", will=will)
                await writer.drop()
                await trio.sleep(1)
        await trio.sleep(5)
        fine = {b"r 0 False", b"r 2 False", b"q 0 False", b"q 1 True", b"n 1 True"}
        assert {payload for _, payload in await arrived(witness)} == fine


async def test_a_denied_change_leaves_a_subscription_as_it_is(autojump_clock: MockClock) -> None:
    async with running() as live:
        witness = await scene(live, rule("q", qos=[2]), rule("deaf", qos=[1, 2]))
        client = await live.connect("c1")
        assert await may_subscribe(client, "q", 0)
        assert not await may_subscribe(client, "q", 2)
        assert not await may_subscribe(client, "$share/g/q", 2)
        [row] = await got(live, "/clients/c1/subscriptions")
        assert (row["topic"], row["qos"]) == ("q", 0)
        await witness.publish("q", b"x", 2)
        with trio.fail_after(60):
            assert (await client.receive()).qos == 0


async def test_a_client_that_is_cut_off_has_no_part_of_what_it_asked_for(autojump_clock: MockClock) -> None:
    async with running() as live:
        await scene(live, rule(SECRET))
        await settings(live, "allow", "disconnect")
        client = await live.connect("c1", **KEPT)
        await client.send(Subscribe(1, [SubscribeFilter(one) for one in ("a", SECRET, "#", "b")]))
        with trio.fail_after(60):
            await client.wait_ended()
        kept = {row["topic"] for row in await got(live, "/clients/c1/subscriptions")}
        assert kept <= {"a", "b"}


async def test_an_old_client_that_cannot_be_told_is_not_subscribed(autojump_clock: MockClock) -> None:
    """SUBACK of MQTT 3.1 has no code for a refusal: the connection ends instead."""
    async with running() as live:
        await scene(live, rule(SECRET))
        client = await live.connect("c1", level=3, clean_start=False)
        await client.send(Subscribe(1, [SubscribeFilter("open"), SubscribeFilter(SECRET)]))
        with trio.fail_after(60):
            await client.wait_ended()
        assert SECRET not in {row["topic"] for row in await got(live, "/clients/c1/subscriptions")}
