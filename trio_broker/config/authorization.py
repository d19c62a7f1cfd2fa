"""`authorization`: who may publish and subscribe to what, where nothing says it, and what is kept of decisions.

Invariant: the keys and their defaults are EMQX's; a source is known by its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import frozen

from trio_broker.config.http_client import SslClientConfig, body, headers, url
from trio_broker.config.kinds import Choice, Duration, Flag, Integer, ListOf, Text
from trio_broker.config.setting import setting
from trio_broker.config.tree import table
from trio_broker.config.variants import variants

DEFAULT_RULES = """\
%% Everything that happens on the broker, and what it says of itself, are for clients on this machine.
{allow, {user, "dashboard"}, subscribe, ["$SYS/#"]}.
{allow, {ipaddrs, ["127.0.0.1", "::1"]}, all, ["$SYS/#", "#"]}.
{deny, all, subscribe, ["$SYS/#", {eq, "#"}, {eq, "+/#"}]}.
{allow, all}.
"""
"""What the command starts with, as EMQX has it."""

_ENABLE = "false = it is passed over"


@frozen(kw_only=True)
class FileSourceConfig:
    type: str = setting(Choice(("file",)), "file", "rules in EMQX's text form")
    enable: bool = setting(Flag(), True, _ENABLE)
    path: str = setting(Text(), "", "the file with the rules; empty = they are in `rules`")
    rules: str = setting(Text(r"[^\0]*"), "", 'the rules, such as {allow, all, subscribe, ["t/#"]}.')


@frozen(kw_only=True)
class BuiltInSourceConfig:
    type: str = setting(Choice(("built_in_database",)), "built_in_database", "rules that are managed over REST")
    enable: bool = setting(Flag(), True, _ENABLE)
    max_rules: int = setting(Integer(1, 1_000_000), 100, "rules of one client, one user, or all")


@frozen(kw_only=True)
class HttpSourceConfig:
    type: str = setting(Choice(("http",)), "http", "a web service decides")
    enable: bool = setting(Flag(), True, _ENABLE)
    method: str = setting(Choice(("get", "post")), "post", "of the request")
    url: str = url("where it is; placeholders may stand in the path and the query")
    headers: Mapping[str, str] = headers({}, "headers beside the usual ones")
    body: Mapping[str, str] = body("with get: the query; values may hold placeholders")
    request_timeout: float = setting(Duration(), "30s", "an answer that takes longer is none")
    connect_timeout: float = setting(Duration(), "15s", "the same for a connection")
    pool_size: int = setting(Integer(1, 1024), 8, "connections at one time")
    enable_pipelining: int = setting(Integer(0), 100, "EMQX's; understood, and has no effect here")
    ssl: SslClientConfig = table(SslClientConfig, "for https")


SourceConfig: TypeAlias = FileSourceConfig | BuiltInSourceConfig | HttpSourceConfig

SOURCES: Mapping[str, Any] = {
    "file": FileSourceConfig,
    "built_in_database": BuiltInSourceConfig,
    "http": HttpSourceConfig,
}


@frozen(kw_only=True)
class AuthorizationCacheConfig:
    enable: bool = setting(Flag(), True, "keep decisions for a client while it is connected")
    max_size: int = setting(Integer(1, 1_048_576), 32, "decisions that are kept for one client")
    ttl: float = setting(Duration(), "1m", "how long one is kept")
    excludes: tuple[str, ...] = setting(ListOf(Text()), [], "topic filters whose decisions are not kept")


@frozen(kw_only=True)
class AuthorizationConfig:
    no_match: str = setting(Choice(("allow", "deny")), "allow", "what holds where no source says anything")
    deny_action: str = setting(
        Choice(("ignore", "disconnect")), "ignore", "disconnect = a client that does what it may not is cut off"
    )
    cache: AuthorizationCacheConfig = table(AuthorizationCacheConfig, "what is kept of decisions")
    sources: tuple[SourceConfig, ...] = variants(SOURCES, ("type",), "where rules come from, in their order")
