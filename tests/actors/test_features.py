"""What plugins and modules of EMQ 2 and EMQX 4 stand for here: whether it runs, and what starting and stopping does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from actors.flows import rest
from api.live import Live, running

from trio_broker.actors.features import AlreadyStarted, FeatureList, NoSuchFeature, NotPossible, NotStarted
from trio_broker.actors.settings import Overridden
from trio_broker.config import Config, Layers, SysTopicsConfig
from trio_broker.config.authentication import BuiltInDatabaseConfig, HttpAuthenticatorConfig, JwtConfig
from trio_broker.config.authorization import AuthorizationConfig, FileSourceConfig, HttpSourceConfig
from trio_broker.errors import ConfigError
from trio_broker.protocol.packets import PubAck
from trio_broker.store.memory import MemoryStore

HTTP = HttpAuthenticatorConfig(url="http://127.0.0.1:1/a")
HTTP_SOURCE = HttpSourceConfig(url="http://127.0.0.1:1/b")
JWT = JwtConfig(secret="s3cr3t")
SYS: dict[str, Any] = {"sys_topics": {"sys_heartbeat_interval": "30s"}}
ALWAYS = ("emqx_dashboard", "emqx_management", "emqx_modules", "emqx_prometheus")
ALWAYS_MODULES = ("emqx_mod_topic_metrics", "emqx_mod_trace")


def active(features: FeatureList) -> set[str]:
    return {row.name for row in features.rows() if row.active}


def config_of(live: Live) -> Config:
    return live.broker.questions.settings.config


def chain(live: Live) -> list[tuple[str, bool]]:
    """What users are looked up by, and whether it is enabled."""
    return [(getattr(one, "user_id_type", one.mechanism), one.enable) for one in config_of(live).authentication]


def sources(live: Live) -> list[tuple[str, bool]]:
    return [(one.type, one.enable) for one in config_of(live).authorization.sources]


async def test_each_is_listed_as_it_is(autojump_clock: object) -> None:
    async with running() as live:
        features = live.broker.questions.features
        assert active(features.plugins) == {*ALWAYS, "emqx_retainer"}
        assert active(features.modules) == {*ALWAYS_MODULES, "emqx_mod_delayed"}
        assert active(features.older_plugins) == {"emq_dashboard", "emq_modules", "emq_retainer"}
        for rows in (features.plugins.rows(), features.modules.rows(), features.older_plugins.rows()):
            assert len({row.name for row in rows}) == len(rows)
            assert all(row.description for row in rows)
        assert {row.kind for row in features.modules.rows()} == {"module"}
        assert {row.kind for row in features.plugins.rows()} == {"auth", "feature"}
    async with running(Config.service()) as live:
        features = live.broker.questions.features
        assert active(features.modules) == {
            *ALWAYS_MODULES,
            "emqx_mod_acl_internal",
            "emqx_mod_delayed",
            "emqx_mod_presence",
        }


@pytest.mark.parametrize(
    ("sort", "name", "off", "on"),
    [
        ("plugins", "emqx_retainer", {"retainer": {"enable": False}}, {"retainer": {"enable": True}}),
        ("plugins", "emqx_retainer", {"retainer": {"backend": {"enable": False}}}, {"retainer": {"enable": True}}),
        ("older_plugins", "emq_retainer", {"retainer": {"enable": False}}, {"retainer": {"enable": True}}),
        ("modules", "emqx_mod_delayed", {"delayed": {"enable": False}}, {"delayed": {"enable": True}}),
        ("modules", "emqx_mod_slow_subs", {"slow_subs": {"enable": False}}, {"slow_subs": {"enable": True}}),
    ],
)
async def test_a_setting_is_switched(
    autojump_clock: object, sort: str, name: str, off: dict[str, Any], on: dict[str, Any]
) -> None:
    """In force at once, and there after a restart."""
    store = MemoryStore()
    async with running(store=store) as live:
        features: FeatureList = getattr(live.broker.questions.features, sort)
        await live.broker.questions.settings.change(off)
        assert name not in active(features)
        with pytest.raises(NotStarted):
            await features.stop(name)
        await features.start(name)
        assert name in active(features)
        ((root, value),) = on.items()
        assert getattr(config_of(live), root).enable is value["enable"]
        with pytest.raises(AlreadyStarted):
            await features.start(name)
    async with running(store=store) as live:
        features = getattr(live.broker.questions.features, sort)
        assert name in active(features)
        await features.stop(name)
    async with running(store=store) as live:
        assert name not in active(getattr(live.broker.questions.features, sort))


async def test_without_the_retainer_nothing_is_retained(autojump_clock: object) -> None:
    async with running() as live:
        c1 = await live.connect("c1")
        plugins = live.broker.questions.features.plugins
        await plugins.stop("emqx_retainer")
        await c1.publish("t", b"x", qos=1, retain=True)
        await rest(c1)
        assert (await live.broker.questions.retained(None, 0, 10))[1] == 0
        await plugins.start("emqx_retainer")
        await c1.publish("t", b"x", qos=1, retain=True)
        await rest(c1)
        assert (await live.broker.questions.retained(None, 0, 10))[1] == 1


async def test_what_answers_cannot_be_stopped(autojump_clock: object) -> None:
    async with running() as live:
        features = live.broker.questions.features
        for sort, names in ((features.plugins, ALWAYS), (features.modules, ALWAYS_MODULES)):
            for name in names:
                with pytest.raises(NotPossible):
                    await sort.stop(name)
                with pytest.raises(AlreadyStarted):
                    await sort.start(name)
                await sort.reload(name)
                assert name in active(sort)
        assert live.broker.questions.settings.stored == {}


async def test_what_is_nothing_here_is_not_there(autojump_clock: object) -> None:
    """Neither what other brokers have, nor a name in the list of another sort."""
    async with running() as live:
        features = live.broker.questions.features
        for sort, name in (
            (features.plugins, "emqx_recon"),
            (features.plugins, "emqx_mod_delayed"),
            (features.plugins, "emq_retainer"),
            (features.modules, "emqx_retainer"),
            (features.older_plugins, "emqx_retainer"),
            (features.older_plugins, ""),
        ):
            for switch in (sort.start, sort.stop, sort.reload):
                with pytest.raises(NoSuchFeature):
                    await switch(name)


async def test_built_in_users_are_added_switched_off_and_on(autojump_clock: object) -> None:
    """Who is added comes last in the chain; rules that are added come before those of a file."""
    file = FileSourceConfig(rules="{allow, all}.")
    config = Config(authentication=(JWT,), authorization=AuthorizationConfig(sources=(file,)))
    store = MemoryStore()
    async with running(config, store) as live:
        plugins = live.broker.questions.features.plugins
        assert "emqx_auth_mnesia" not in active(plugins)
        await plugins.start("emqx_auth_mnesia")
        assert chain(live) == [("jwt", True), ("username", True), ("clientid", True)]
        assert sources(live) == [("built_in_database", True), ("file", True)]
        with pytest.raises(AlreadyStarted):
            await plugins.start("emqx_auth_mnesia")
        await plugins.stop("emqx_auth_mnesia")
        assert chain(live) == [("jwt", True), ("username", False), ("clientid", False)]
        assert sources(live) == [("built_in_database", False), ("file", True)]
    async with running(config, store) as live:
        plugins = live.broker.questions.features.plugins
        with pytest.raises(NotStarted):
            await plugins.stop("emqx_auth_mnesia")
        older = live.broker.questions.features.older_plugins
        await older.start("emq_auth_clientid")
        assert chain(live) == [("jwt", True), ("username", False), ("clientid", True)]
        assert sources(live) == [("built_in_database", False), ("file", True)]
        assert "emqx_auth_mnesia" in active(plugins), "a part of it runs"
        await plugins.start("emqx_auth_mnesia")  # the rest
        assert chain(live) == [("jwt", True), ("username", True), ("clientid", True)]
        assert sources(live) == [("built_in_database", True), ("file", True)]
        assert config_of(live).authentication[0] == JWT, "its secret is still its own"


@pytest.mark.parametrize(("name", "kind"), [("emq_auth_username", "username"), ("emq_auth_clientid", "clientid")])
async def test_users_of_one_kind_are_let_in(autojump_clock: object, name: str, kind: str) -> None:
    async with running() as live:
        older = live.broker.questions.features.older_plugins
        await older.start(name)
        assert (chain(live), sources(live)) == ([(kind, True)], [])
        await live.broker.questions.authn_users.found("password_based:built_in_database").add_user("me", "secret")
        good = await live.connect("me", username="me", password=b"secret")
        bad = await live.connect("you", username="me", password=b"wrong")
        assert (good.connack.reason_code, bad.connack.reason_code) == (0, 0x86)
        await older.stop(name)
        again = await live.connect("you", username="me", password=b"wrong")
        assert again.connack.reason_code == 0
        await older.start(name)
        assert chain(live) == [(kind, True)]
        users = live.broker.questions.authn_users.found("password_based:built_in_database").users
        assert list(users.all) == ["me"], "they are kept"


async def test_a_kind_that_is_there_is_left_as_it_is(autojump_clock: object) -> None:
    there = BuiltInDatabaseConfig(user_id_type="clientid", enable=False)
    async with running(Config(authentication=(there,))) as live:
        older = live.broker.questions.features.older_plugins
        await older.start("emq_auth_username")
        assert chain(live) == [("clientid", False), ("username", True)]
        assert config_of(live).authentication[0] == there
        await older.start("emq_auth_clientid")
        await older.stop("emq_auth_username")
        assert chain(live) == [("clientid", True), ("username", False)]


async def test_web_services_and_tokens_have_to_be_configured(autojump_clock: object) -> None:
    async with running() as live:
        features = live.broker.questions.features
        for sort, start in ((features.plugins, "emqx_auth_"), (features.older_plugins, "emq_auth_")):
            for name in (f"{start}http", f"{start}jwt"):
                with pytest.raises(NotPossible, match="configured"):
                    await sort.start(name)
                with pytest.raises(NotStarted):
                    await sort.stop(name)
        assert live.broker.questions.settings.stored == {}


async def test_web_services_and_tokens_are_switched(autojump_clock: object) -> None:
    config = Config(authentication=(HTTP, JWT), authorization=AuthorizationConfig(sources=(HTTP_SOURCE,)))
    async with running(config) as live:
        plugins = live.broker.questions.features.plugins
        assert {"emqx_auth_http", "emqx_auth_jwt"} <= active(plugins)
        await plugins.stop("emqx_auth_http")
        assert chain(live) == [("password_based", False), ("jwt", True)]
        assert sources(live) == [("http", False)]
        await plugins.start("emqx_auth_http")
        await plugins.stop("emqx_auth_jwt")
        assert chain(live) == [("password_based", True), ("jwt", False)]
        assert config_of(live).authentication[1] == attrs.evolve(JWT, enable=False)
        await live.broker.questions.settings.change({"authorization": {"sources": []}})
        assert "emqx_auth_http" in active(plugins)
        await plugins.stop("emqx_auth_http")
        assert "authorization" in live.broker.questions.settings.stored
        assert chain(live) == [("password_based", False), ("jwt", False)]


async def test_only_what_is_switched_is_kept(autojump_clock: object) -> None:
    """The file goes on to say what the rest is."""
    config = Config(authentication=(JWT,), authorization=AuthorizationConfig(sources=(HTTP_SOURCE,)))
    async with running(config) as live:
        await live.broker.questions.features.plugins.stop("emqx_auth_jwt")
        assert set(live.broker.questions.settings.stored) == {"authentication"}


async def test_what_the_environment_says_stays(autojump_clock: object) -> None:
    layers = Layers.gather(None, {"TRIO_BROKER_RETAINER__ENABLE": "true"}, base=Config())
    async with running(layers.config(), layers=layers) as live:
        with pytest.raises(Overridden):
            await live.broker.questions.features.plugins.stop("emqx_retainer")
        assert "emqx_retainer" in active(live.broker.questions.features.plugins)


# -- modules --------------------------------------------------------------------------------------------------------


async def test_events_of_clients_are_switched(autojump_clock: object) -> None:
    config = Config(sys_topics=SysTopicsConfig(sys_heartbeat_interval=30.0))
    async with running(config) as live:
        modules = live.broker.questions.features.modules
        assert "emqx_mod_presence" in active(modules)
        async with live.broker.subscribe("$SYS/brokers/+/clients/#") as messages:
            await live.connect("c1")
            assert (await anext(messages)).topic_name.endswith("/c1/connected")
            await modules.stop("emqx_mod_presence")
            await live.connect("c2")
            with pytest.raises(NotStarted):
                await modules.stop("emqx_mod_presence")
            await modules.start("emqx_mod_presence")
            await live.connect("c3")
            assert (await anext(messages)).topic_name.endswith("/c3/connected")
        await live.broker.questions.settings.change(
            {"sys_topics": {"sys_event_messages": {"client_disconnected": False}}}
        )
        assert "emqx_mod_presence" in active(modules), "a part of it runs"
        await modules.start("emqx_mod_presence")
        assert config_of(live).sys_topics.sys_event_messages.client_disconnected
        with pytest.raises(AlreadyStarted):
            await modules.start("emqx_mod_presence")


async def test_events_need_sys_topics(autojump_clock: object) -> None:
    async with running() as live:
        modules = live.broker.questions.features.modules
        with pytest.raises(NotPossible, match=r"sys_topics\.sys_heartbeat_interval"):
            await modules.start("emqx_mod_presence")


@pytest.mark.parametrize(
    ("name", "root", "value"),
    [
        ("emqx_mod_rewrite", "rewrite", [{"source_topic": "a/#", "re": "^a/(.+)$", "dest_topic": "b/$1"}]),
        ("emqx_mod_subscription", "auto_subscribe", {"topics": [{"topic": "c/${clientid}"}]}),
    ],
)
async def test_what_has_only_a_list_has_no_switch(autojump_clock: object, name: str, root: str, value: Any) -> None:
    async with running() as live:
        modules = live.broker.questions.features.modules
        assert name not in active(modules)
        with pytest.raises(NotPossible, match="as soon as"):
            await modules.start(name)
        with pytest.raises(NotStarted):
            await modules.stop(name)
        await live.broker.questions.settings.change({root: value})
        assert name in active(modules)
        with pytest.raises(AlreadyStarted):
            await modules.start(name)
        with pytest.raises(NotPossible, match="as long as"):
            await modules.stop(name)
        assert name in active(modules), "nothing was forgotten"


async def allowed(live: Live, topic: str) -> bool:
    client = await live.connect("c1")
    answer = await client.publish(topic, b"x", qos=1)
    await client.disconnect()
    assert isinstance(answer, PubAck)
    return answer.reason_code < 0x80


async def test_rules_of_a_file_are_switched_and_read_again(autojump_clock: object, tmp_path: Path) -> None:
    path = tmp_path / "acl.conf"
    path.write_text('{deny, all, publish, ["a"]}.\n')
    config = Config(authorization=AuthorizationConfig(sources=(FileSourceConfig(path=str(path)),)))
    async with running(config) as live:
        modules = live.broker.questions.features.modules
        assert "emqx_mod_acl_internal" in active(modules)
        assert (await allowed(live, "a"), await allowed(live, "b")) == (False, True)
        path.write_text('{deny, all, publish, ["b"]}.\n')
        assert (await allowed(live, "a"), await allowed(live, "b")) == (False, True)
        await modules.reload("emqx_mod_acl_internal")
        assert (await allowed(live, "a"), await allowed(live, "b")) == (True, False)
        assert live.broker.questions.settings.stored == {}, "the configuration is the same"
        path.write_text("{no rule}.\n")
        with pytest.raises(ConfigError, match=r"acl\.conf"):
            await modules.reload("emqx_mod_acl_internal")
        assert (await allowed(live, "a"), await allowed(live, "b")) == (True, False)
        path.write_text("{allow, all}.\n")
        await modules.stop("emqx_mod_acl_internal")
        assert await allowed(live, "b")
        with pytest.raises(NotStarted):
            await modules.reload("emqx_mod_acl_internal")
        path.write_text('{deny, all, publish, ["b"]}.\n')
        await modules.start("emqx_mod_acl_internal")
        assert not await allowed(live, "b")


async def test_rules_in_the_configuration_are_not_read_again(autojump_clock: object) -> None:
    file = FileSourceConfig(rules='{deny, all, publish, ["a"]}.')
    async with running(Config(authorization=AuthorizationConfig(sources=(file,)))) as live:
        modules = live.broker.questions.features.modules
        await modules.reload("emqx_mod_acl_internal")
        assert not await allowed(live, "a")
        assert live.broker.questions.settings.stored == {}


async def test_without_a_file_there_are_no_rules_to_start(autojump_clock: object) -> None:
    async with running() as live:
        modules = live.broker.questions.features.modules
        with pytest.raises(NotPossible):
            await modules.start("emqx_mod_acl_internal")
        with pytest.raises(NotStarted):
            await modules.reload("emqx_mod_acl_internal")
