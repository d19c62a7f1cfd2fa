"""The configuration at run time: what is set is checked, in force, kept, and there again after a restart."""

from __future__ import annotations

from typing import Any

import pytest
from api.live import running

from trio_broker.actors.settings import Overridden
from trio_broker.broker import Broker
from trio_broker.config import (
    AlarmConfig,
    ApiKeyConfig,
    Config,
    DashboardConfig,
    DashboardListeners,
    HttpConfig,
    Layers,
)
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


async def test_a_fault_while_one_goes_back_does_not_keep_others_from_it(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as live:
        settings = live.broker.questions.settings
        seen: list[int] = []

        def note(before: Config, after: Config) -> None:
            seen.append(after.mqtt.max_inflight)

        def goes_and_never_comes_back(before: Config, after: Config) -> None:
            if before.mqtt.max_inflight == 5:
                raise OSError("no")

        def refuse(before: Config, after: Config) -> None:
            raise ConfigError("mqtt.max_inflight", "not today")

        for watcher in (note, goes_and_never_comes_back, refuse):
            settings.watch("mqtt", watcher)
        with pytest.raises(ConfigError, match="not today"):
            await settings.change({"mqtt": {"max_inflight": 5}})
        assert seen == [5, 32]
        assert settings.config == Config()
    assert "a setting could not be put back" in caplog.text


async def test_who_fails_over_a_change_goes_back_too(autojump_clock: object) -> None:
    """A watcher that refuses has changed nothing; one that fails may have done half of it."""
    async with running() as live:
        settings = live.broker.questions.settings
        there: list[int] = [32]

        def half(before: Config, after: Config) -> None:
            there[0] = after.mqtt.max_inflight
            if after.mqtt.max_inflight == 5:
                raise OSError("no")

        settings.watch("mqtt", half)
        with pytest.raises(OSError, match="no"):
            await settings.change({"mqtt": {"max_inflight": 5}})
        assert there == [32]
        assert settings.config == Config()
        await settings.change({"mqtt": {"max_inflight": 6}})
        assert there == [6]


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ({"mqtt": {"max_inflight": 0}}, "stored settings: mqtt.max_inflight"),
        ({"mqtt": {"max_inflght": 1}}, "stored settings: mqtt.max_inflght"),
        ({"nothing": {}}, "stored settings: nothing"),
        ({"mqtt": "x"}, "stored settings: mqtt"),
        ({"retainer": {"msg_clear_interval": "10ms"}}, "retainer.msg_clear_interval"),
    ],
)
async def test_a_stored_setting_that_does_not_fit_can_be_left_out(
    document: dict[str, Any], word: str, autojump_clock: object
) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await live.broker.questions.settings.change({"alarm": {"size_limit": 7}, "delayed": {"enable": False}})
        [(root, body)] = document.items()
        live.broker._core.documents.put("config", root, body)  # type: ignore[union-attr]
    with pytest.raises(ConfigError) as failed:
        await Broker(Config(), store=store).run()
    assert word in str(failed.value)
    assert "--ignore-stored" in str(failed.value)
    assert "\n" not in str(failed.value)
    async with running(store=store, ignore_stored=True) as live:
        settings = live.broker.questions.settings
        assert (settings.config, settings.stored) == (Config(), {})
        assert set(live.broker._core.documents.of("config")) == {"alarm", "delayed", root}  # type: ignore[union-attr]
        await settings.reset(root)
        with pytest.raises(LookupError):
            await settings.reset("nothing")
        await settings.change({"alarm": {"validity_period": "1h"}})
    async with running(store=store) as live:
        config = live.broker.config
        assert (config.alarm.size_limit, config.alarm.validity_period) == (AlarmConfig().size_limit, 3600)
        assert config.delayed.enable is False


async def test_what_would_not_start_without_what_is_stored_is_not_blamed_on_it(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await live.broker.questions.settings.change({"alarm": {"size_limit": 7}})
    missing = ApiKeyConfig(bootstrap_file="/no/such/file")
    http = DashboardConfig(listeners=DashboardListeners(http=HttpConfig(bind="127.0.0.1:0")))
    with pytest.raises(ConfigError, match="bootstrap_file") as failed:
        await Broker(Config(api_key=missing, dashboard=http), store=store).run()
    assert "--ignore-stored" not in str(failed.value)


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
