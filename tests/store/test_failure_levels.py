"""What each level of durability waits for, and what it leaves on the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from actors.flows import SESSION, payloads, rest, settle
from store.failure_store import Gate
from store.restart_world import inbox
from trio.testing import MockClock

from trio_broker.broker import Broker
from trio_broker.config import Config
from trio_broker.protocol.packets import (
    ConnAck,
    Connect,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscribeFilter,
)
from trio_broker.store.files import FILE_NAME
from trio_broker.store.sqlite import SqliteStore
from trio_broker.testing import Client, open_client
from trio_broker.testing.running import make_config

LEVELS_ON_DISK = ["full", "normal", "relaxed"]


@asynccontextmanager
async def broker_with(data_dir: Path | None, durability: str) -> AsyncIterator[Broker]:
    node = {} if data_dir is None else {"data_dir": str(data_dir)}
    no_listener = {"tcp": {"default": {"enable": False}}}
    config = make_config(None, {"listeners": no_listener, "node": node, "store": {"durability": durability}})
    broker = Broker(config)
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        yield broker
        broker.close()


async def say_everything(kept: Client, new: Client) -> None:
    """What waits for a commit at the level `full`: a PUBACK, PUBREC, PUBCOMP, SUBACK, CONNACK, and QoS 2 to `kept`."""
    await kept.send(Publish("t", b"1", 1, False, False, 1))
    await kept.send(Publish("t", b"2", 2, False, False, 2))
    await kept.send(PubRel(2))
    await kept.send(Subscribe(3, [SubscribeFilter("u", 1)]))
    await new.send(Connect("new", properties=SESSION))
    await settle()


ALL = {PubAck, PubRec, PubComp, SubAck, Publish}


@pytest.mark.parametrize("durability", LEVELS_ON_DISK)
async def test_who_waits_for_a_commit(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, durability: str
) -> None:
    """`full` and `normal` alike: everybody; `relaxed`: nobody. A graceful end writes it all."""
    async with broker_with(tmp_path, durability) as broker:
        store = broker._store
        assert isinstance(store, SqliteStore)
        gate = Gate(store, monkeypatch)
        async with (
            open_client(broker, client_id="kept", properties=SESSION, auto_ack=False) as kept,
            open_client(broker, connect=False) as new,
        ):
            await kept.subscribe("t", 2)
            gate.shut()
            await say_everything(kept, new)
            before, welcome = await inbox(kept), await inbox(new)
            if durability == "relaxed":
                assert {type(packet) for packet in before} == ALL
                assert [type(packet) for packet in welcome] == [ConnAck]
            else:
                assert all(isinstance(packet, Publish) and packet.qos == 1 for packet in before)
                assert welcome == []
            await gate.open()
            after = await inbox(kept)
            assert {type(packet) for packet in [*before, *after]} == ALL
            assert len([*welcome, *await inbox(new)]) == 1
    async with broker_with(tmp_path, durability) as broker:
        async with open_client(broker, client_id="kept", properties=SESSION, clean_start=False) as kept:
            assert kept.session_present
            assert sorted(payloads(await rest(kept))) == [b"1", b"2"]
        assert await broker.questions.topics() == ["t", "u"]
        assert await broker.questions.client("new") is not None


@pytest.mark.parametrize("durability", ["normal", "relaxed"])
async def test_what_was_committed_is_synced_within_a_second(
    tmp_path: Path, autojump_clock: MockClock, durability: str
) -> None:
    """Also when nothing more is written."""
    async with broker_with(tmp_path, durability) as broker:
        store = broker._store
        assert isinstance(store, SqliteStore)
        async with open_client(broker, client_id="kept", properties=SESSION) as kept:
            for _ in range(3):
                await kept.subscribe("t", 2)
                await trio.sleep(1.1)
                await settle()
                assert not store._database.is_unsynced


def test_full_is_the_default_of_the_service() -> None:
    store = Broker(Config.service())._store
    assert isinstance(store, SqliteStore)
    assert store.durability == "full"


@pytest.mark.parametrize(("has_directory", "durability"), [(True, "memory"), (False, "full"), (False, "memory")])
async def test_nothing_is_on_the_disk_of_a_broker_in_memory(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, has_directory: bool, durability: str
) -> None:
    """Nor waits anybody; the next broker knows of nothing."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "data"
    directory.mkdir()
    data_dir = directory if has_directory else None
    async with broker_with(data_dir, durability) as broker:
        async with (
            open_client(broker, client_id="kept", properties=SESSION, auto_ack=False) as kept,
            open_client(broker, connect=False) as new,
        ):
            await kept.subscribe("t", 2)
            await say_everything(kept, new)
            assert {type(packet) for packet in await inbox(kept)} == ALL
            await kept.publish("r", b"x", 1, True)
        async with open_client(broker, client_id="kept", properties=SESSION, clean_start=False) as kept:
            assert kept.session_present
        assert list(tmp_path.iterdir()) == [directory]
        assert list(directory.glob(f"{FILE_NAME}*")) == []
    async with broker_with(data_dir, durability) as broker:
        async with open_client(broker, client_id="kept", properties=SESSION, clean_start=False) as kept:
            assert not kept.session_present
        assert await broker.questions.retained(None, 0, 10) == ([], 0)
    assert list(directory.iterdir()) == []
