"""What this broker can switch on and off under the names of plugins and modules, as EMQX 4 and EMQ 2 know them.

Invariant: only what there is here is listed, and it runs where the configuration in force says so; who starts or stops
it changes the configuration, which is in force and kept when that returns.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
from attrs import frozen

from trio_broker.actors.feature_switches import (
    Access,
    AlreadyStarted,
    Feature,
    Kind,
    NoSuchFeature,
    NotPossible,
    NotStarted,
    always,
    by_access,
    by_setting,
    refusal,
)
from trio_broker.config import Config
from trio_broker.config.authentication import BuiltInDatabaseConfig, HttpAuthenticatorConfig, JwtConfig
from trio_broker.config.authorization import BuiltInSourceConfig, FileSourceConfig, HttpSourceConfig

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = [
    "AlreadyStarted",
    "FeatureList",
    "FeatureRow",
    "Features",
    "NoSuchFeature",
    "NotPossible",
    "NotStarted",
]


@frozen(kw_only=True)
class FeatureRow:
    """`kind` is the type of a plugin, or says that it is a module."""

    name: str
    description: str
    kind: Kind
    active: bool


class FeatureList:
    """Those of one sort. Changes raise NoSuchFeature, NotPossible, and what `Settings.change` raises."""

    def __init__(self, core: Core, features: Iterable[Feature]) -> None:
        self._core = core
        self._features = {feature.name: feature for feature in features}

    def rows(self) -> list[FeatureRow]:
        config = self._core.settings.config
        return [
            FeatureRow(name=one.name, description=one.description, kind=one.kind, active=one.is_active(config))
            for one in self._features.values()
        ]

    async def start(self, name: str) -> None:
        """All of it that does not run. Raises AlreadyStarted, too."""
        feature = self._found(name)

        def started(config: Config) -> dict[str, Any]:
            if feature.is_whole(config):
                raise AlreadyStarted(f"{name} runs already")
            return feature.start(config)

        await self._core.settings.change(started)

    async def stop(self, name: str) -> None:
        """Raises NotStarted, too."""
        feature = self._found(name)

        def stopped(config: Config) -> dict[str, Any]:
            if not feature.is_active(config):
                raise NotStarted(f"{name} does not run")
            return feature.stop(config)

        await self._core.settings.change(stopped)

    async def reload(self, name: str) -> None:
        """What it reads from a file counts as it is now; everything else is as the configuration says all the time.

        Raises NotStarted where there is such a file, and nobody goes by it.
        """
        feature = self._found(name)
        if not feature.reads:
            await trio.lowlevel.checkpoint()
        elif feature.is_active(self._core.settings.config):
            await self._core.authorization_sources.read_again(feature.reads)
        else:
            raise NotStarted(f"{name} does not run")

    def _found(self, name: str) -> Feature:
        feature = self._features.get(name)
        if feature is None:
            raise NoSuchFeature(f"Not found: {name[:200]}")
        return feature


class Features:
    """`plugins` and `modules` are EMQX 4's, `older_plugins` are EMQ 2's."""

    def __init__(self, core: Core) -> None:
        self.plugins = FeatureList(core, PLUGINS)
        self.modules = FeatureList(core, MODULES)
        self.older_plugins = FeatureList(core, OLDER_PLUGINS)


# -- all there are --------------------------------------------------------------------------------------------------


def _presence(config: Config) -> tuple[bool, bool]:
    events, topics = config.sys_topics.sys_event_messages, config.sys_topics
    return topics.is_enabled and events.client_connected, topics.is_enabled and events.client_disconnected


def _start_presence(config: Config) -> dict[str, Any]:
    if not config.sys_topics.is_enabled:
        raise NotPossible("there are no $SYS topics: set sys_topics.sys_heartbeat_interval first")
    return _presence_events(True)


def _presence_events(told: bool) -> dict[str, Any]:
    return {"sys_topics": {"sys_event_messages": {"client_connected": told, "client_disconnected": told}}}


_USERNAMES: Final = BuiltInDatabaseConfig(user_id_type="username")
_CLIENT_IDS: Final = BuiltInDatabaseConfig(user_id_type="clientid")

_HTTP: Final = by_access(
    "emqx_auth_http",
    "Authentication/ACL with HTTP API",
    Access(authenticators=[HttpAuthenticatorConfig()], sources=[HttpSourceConfig()]),
)
_JWT: Final = by_access("emqx_auth_jwt", "Authentication with JWT", Access(authenticators=[JwtConfig()]))
_DASHBOARD: Final = always(
    "emqx_dashboard", "Dashboard users and what they may call", "feature", "it is what answers you"
)
_MODULES: Final = always(
    "emqx_modules", "Modules of the broker", "feature", "only what belongs to it can be stopped, one by one"
)
_RETAINER: Final = by_setting(
    "emqx_retainer",
    "Retained messages",
    "feature",
    lambda config: config.retainer.is_enabled,
    lambda _: {"retainer": {"enable": True, "backend": {"enable": True}}},
    lambda _: {"retainer": {"enable": False}},
)

PLUGINS: Final = (
    _HTTP,
    _JWT,
    by_access(
        "emqx_auth_mnesia",
        "Authentication/ACL with the built-in database",
        Access(authenticators=[_USERNAMES, _CLIENT_IDS], sources=[BuiltInSourceConfig()], adds=True),
    ),
    _DASHBOARD,
    always("emqx_management", "The REST API", "feature", "it is what answers you"),
    _MODULES,
    always("emqx_prometheus", "Figures for Prometheus", "feature", "figures are made when they are asked for"),
    _RETAINER,
)

MODULES: Final = (
    by_access(
        "emqx_mod_acl_internal",
        "Access rules of a file",
        Access(sources=[FileSourceConfig()]),
        kind="module",
        reads="file",
    ),
    by_setting(
        "emqx_mod_delayed",
        "Delayed publish",
        "module",
        lambda config: config.delayed.enable,
        lambda _: {"delayed": {"enable": True}},
        lambda _: {"delayed": {"enable": False}},
    ),
    Feature(
        name="emqx_mod_presence",
        description="Messages about clients that connect and disconnect",
        kind="module",
        is_active=lambda config: any(_presence(config)),
        is_whole=lambda config: all(_presence(config)),
        start=_start_presence,
        stop=lambda _: _presence_events(False),
    ),
    by_setting(
        "emqx_mod_rewrite",
        "Topic rewrite",
        "module",
        lambda config: bool(config.rewrite),
        refusal("there are no rules: it runs as soon as there is one"),
        refusal("it runs as long as there are rules"),
    ),
    by_setting(
        "emqx_mod_slow_subs",
        "Slow subscriptions",
        "module",
        lambda config: config.slow_subs.enable,
        lambda _: {"slow_subs": {"enable": True}},
        lambda _: {"slow_subs": {"enable": False}},
    ),
    by_setting(
        "emqx_mod_subscription",
        "Subscriptions that clients get by themselves",
        "module",
        lambda config: bool(config.auto_subscribe.topics),
        refusal("there are no topics (auto_subscribe.topics): it runs as soon as there is one"),
        refusal("it runs as long as there are topics (auto_subscribe.topics)"),
    ),
    always("emqx_mod_topic_metrics", "Counts of single topics", "module", "a topic counts until it is deleted"),
    always("emqx_mod_trace", "Logs of single clients and topics", "module", "only single traces can be stopped"),
)

OLDER_PLUGINS: Final = (
    by_access(
        "emq_auth_clientid",
        "Authentication with ClientId/Password",
        Access(authenticators=[_CLIENT_IDS], adds=True),
    ),
    attrs.evolve(_HTTP, name="emq_auth_http"),
    attrs.evolve(_JWT, name="emq_auth_jwt"),
    by_access(
        "emq_auth_username",
        "Authentication with Username/Password",
        Access(authenticators=[_USERNAMES], adds=True),
    ),
    attrs.evolve(_DASHBOARD, name="emq_dashboard"),
    attrs.evolve(_MODULES, name="emq_modules"),
    attrs.evolve(_RETAINER, name="emq_retainer"),
)
