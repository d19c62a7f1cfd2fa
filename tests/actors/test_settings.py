"""The configuration at run time: what is set is checked, in force, kept, and there again after a restart."""

from __future__ import annotations

import pytest
from api.live import running

from trio_broker.actors.settings import Overridden
from trio_broker.config import Config, Layers
from trio_broker.errors import ConfigError, ListenerError
from trio_broker.store.memory import MemoryStore


async def test_a_change_is_in_force_and_there_after_a_restart(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        settings = live.broker.questions.settings
        seen: list[tuple[int, int]] = []
        settings.watch("mqtt", lambda before, after: seen.append((before.mqtt.max_inflight, after.mqtt.max_inflight)))
        await settings.change({"mqtt": {"max_inflight": 5}})
        await settings.change({"mqtt": {"max_qos_allowed": 1}})
        assert seen == [(32, 5), (5, 5)]
    async with running(store=store) as live:
        assert live.broker.config.mqtt.max_inflight == 5
        assert live.broker.config.mqtt.max_qos_allowed == 1


async def test_a_replacement_forgets_what_was_set_before(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        settings = live.broker.questions.settings
        await settings.change({"mqtt": {"max_inflight": 5}})
        await settings.replace({"mqtt": {"max_qos_allowed": 1}})
        assert (settings.config.mqtt.max_inflight, settings.config.mqtt.max_qos_allowed) == (32, 1)
        await settings.replace({"mqtt": {}})
        assert settings.config == Config()
    async with running(store=store) as live:
        assert live.broker.config == Config()


@pytest.mark.parametrize(
    "layer", [{"mqtt": {"max_inflight": 0}}, {"mqtt": {"no_such": 1}}, {"nothing": {}}, {"node": {"name": "a@b"}}]
)
async def test_what_is_wrong_changes_nothing(layer: dict[str, object], autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        settings = live.broker.questions.settings
        with pytest.raises(ConfigError):
            await settings.change(layer)
        assert settings.config == Config()
    async with running(store=store) as live:
        assert live.broker.config == Config()


async def test_what_cannot_be_put_in_force_is_taken_back_everywhere(autojump_clock: object) -> None:
    async with running() as live:
        settings = live.broker.questions.settings
        seen: list[int] = []

        def refuse(before: Config, after: Config) -> None:
            raise ListenerError("no")

        settings.watch("mqtt", lambda before, after: seen.append(after.mqtt.max_inflight))
        settings.watch("mqtt", refuse)
        with pytest.raises(ListenerError):
            await settings.change({"mqtt": {"max_inflight": 5}})
        assert seen == [5, 32]
        assert settings.config == Config()
        assert settings.stored == {}


async def test_what_the_environment_says_cannot_be_overridden(autojump_clock: object) -> None:
    layers = Layers.gather(None, {"TRIO_BROKER_MQTT__MAX_INFLIGHT": "7"}, base=Config())
    store = MemoryStore()
    async with running(layers.config(), store, layers=layers) as live:
        settings = live.broker.questions.settings
        with pytest.raises(Overridden):
            await settings.change({"mqtt": {"max_inflight": 5}})
        await settings.change({"mqtt": {"max_inflight": 7, "max_qos_allowed": 1}})
        assert (settings.config.mqtt.max_inflight, settings.config.mqtt.max_qos_allowed) == (7, 1)


async def test_a_listener_that_was_deleted_stays_deleted() -> None:
    stored = {"listeners": {"tcp": {"a": "marked_for_deletion", "b": {"bind": "127.0.0.1:2"}}}}
    below = Layers.gather(None, None, ["listeners.tcp.a.bind=1", "listeners.tcp.c.bind=3"], base=Config()).config()
    config = Layers(below).config(stored)
    assert {name: listener.bind for name, listener in config.listeners["tcp"].items()} == {
        "b": "127.0.0.1:2",
        "c": "0.0.0.0:3",
    }
