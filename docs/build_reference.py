"""Writes docs/reference/configuration.md from the settings that trio_broker.config declares.

    python docs/build_reference.py            # writes the page
    python docs/build_reference.py --print    # shows it

Invariant: the page says nothing of a key that the code does not say, but for `REMARKS`; a key is marked as having no
effect exactly where a broker that is given another value for it says so at its start.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from trio_broker.config import Config, ListenerConfig, SslOptions, TcpOptions, WebsocketOptions, to_dict
from trio_broker.config.kinds import Choice, Or
from trio_broker.config.setting import Kind, Setting, entries
from trio_broker.config.tree import Records, overlay
from trio_broker.config.variants import Variants
from trio_broker.config.without_effect import without_effect

PAGE = Path(__file__).parent / "reference" / "configuration.md"

LISTENER = "listeners.<kind>.<name>"
"""How the keys of a listener begin on the page."""

NO_EFFECT = "**No effect in this version.**"

REMARKS = {
    "store.durability": "What each level survives, and what it costs: "
    "[what is kept](../explanation/what-is-kept.md). With `memory`, or without `node.data_dir`, nothing is on disk, "
    "nor the hash of a generated API key.",
    "mqtt.keepalive_check_interval": "Not needed here: a silent client is noticed when its time is over.",
    f"{LISTENER}.mountpoint": "It is shown over REST.",
    f"{LISTENER}.enable_authn": '`"quick_deny_anonymous"` refuses at once who gives no user name.',
    f"{LISTENER}.bind": "Not for `memory` listeners; a path for `unix` ones, an address and a port for the others.",
    f"{LISTENER}.tcp_options.buffer": "In this version each read asks for 64 KB.",
    f"{LISTENER}.ssl_options.depth": "In this version it is OpenSSL's own limit, whatever is set.",
    "dashboard.listeners.https.ssl_options.depth": "In this version it is OpenSSL's own limit, whatever is set.",
    "api.v2.ssl_options.depth": "In this version it is OpenSSL's own limit, whatever is set.",
    "api.v4.ssl_options.depth": "In this version it is OpenSSL's own limit, whatever is set.",
    "api.v2.bind": "EMQ 2 has it at port 8080. [How to use it](../how-to/use-emqx4-and-emq2-scripts.md).",
    "api.v4.bind": "EMQX 4 has it at ports 8081 and 18083, the Cloud at 8443. "
    "[How to use it](../how-to/use-emqx4-and-emq2-scripts.md).",
    f"{LISTENER}.proxy_protocol": "Only the proxy may reach such a port: see `access_rules`.",
    f"{LISTENER}.access_rules": "With `proxy_protocol` the peer is the proxy, not whom it names.",
    "mqtt.peer_cert_as_username": "`pem` is the certificate (DER) in base64, `md5` its digest, `crt` all of it, both "
    "in hexadecimal digits.",
    "flapping_detect.enable": "Takeovers and kicks count too; who was not let in is not counted. The bans are listed "
    "under [`/banned`](rest/banned.md).",
    f"{LISTENER}.websocket.proxy_address_header": "Where a proxy on this machine names the client: its last address.",
    f"{LISTENER}.websocket.proxy_port_header": "The same for the port.",
}
"""What a reader has to know and the declaration does not say."""

_OTHER_VALUES: tuple[object, ...] = (
    *(True, False, 1, 2, 30, 2048, "1h", "3MB", "7/s", "7MB/s", "50%", "30,5,3", "other", "/other", "a@b", "deny all"),
    *("127.0.0.1:7", ["other"], ["tlsv1.2"], {"t/1": 10}, [{"expression": "clientid", "set_as_attr": "a"}]),
)

_INTRODUCTION = """# Configuration

Made from the code by `python docs/build_reference.py`; do not change it here.

A configuration file is TOML. What comes later wins: the defaults, the file (`--config`), what was set
[over REST](rest/configs.md), the environment, the command line (`--set KEY=VALUE`). The names and forms are EMQX's:

* a duration is `"15s"`, `"1m30s"`, `"7d"`, or a whole number of milliseconds;
* a size is `"10KB"`, `"1MB"`, `"2GB"`, or a whole number of bytes; 1 KB is 1024 bytes;
* `"infinity"` stands where there need be no limit.

In the environment a key is written in capitals, with `TRIO_BROKER_` in front and `__` for each dot:
`TRIO_BROKER_MQTT__MAX_INFLIGHT=64`. Everything is text there and in `--set`; lists may be written with commas or as in
TOML, tables as TOML inline tables.

An unknown key, a value of the wrong kind, or a file that cannot be read is one line that names it, and exit code 2:
`trio-broker --config FILE --check` tells without starting anything. In a program the same keys are the attributes of
`trio_broker.Config` and the classes of `trio_broker.config`; there a wrong value raises `ConfigError`.

"No effect in this version" is said of keys that are understood, so that a configuration can be shared with later
versions. A broker that is given another value for one of them says so in its log when it starts. Where it says
"EMQX's; understood, and has no effect here", there is nothing to set: the key is there for configurations that have it.
"""

_LISTENERS = """A listener is a table `[listeners.<kind>.<name>]`. The kind is `tcp`, `ssl` (MQTT over TLS), `ws`
(WebSocket), `wss` (WebSocket over TLS), `unix` or `memory`; the name is letters, digits, `_` and `-`, and must be in
lower case to be reached from the environment. Its identifier, in logs and over REST, is `kind:name`. There may be any
number of each kind; `enable = false` takes away one of the two that the command starts with.
"""


def page() -> str:
    """The whole page, in Markdown."""
    sections = [_INTRODUCTION, _differences(), *_sections(Config, "")]
    return "\n".join(sections)


def _differences() -> str:
    command = dict(_flat(to_dict(Config.service()), ""))
    embedded = dict(_flat(to_dict(Config()), ""))
    lines = ["The command starts with these; a `Config()` in a program has no listener and keeps nothing on disk:", ""]
    lines.append("```toml")
    bound = [key for key in command if key.endswith(".bind")]
    chosen = [key for key in command if key in bound or (key in embedded and embedded[key] != command[key])]
    lists = [key for key in chosen if _list_of(key)]
    lines += [f"{key} = {json.dumps(command[key])}" for key in chosen if key not in lists]
    for key in lists:
        for table in command[key]:  # type: ignore[attr-defined]
            lines += ["", f"[[{key}]]", *(f"{name} = {_toml(value)}" for name, value in table.items())]
    lines += ["```", ""]
    return "\n".join(lines)


def _toml(value: object) -> str:
    """Texts of several lines as such."""
    if isinstance(value, str) and "\n" in value and "'''" not in value:
        return f"'''\n{value}'''"
    return json.dumps(value)


def _flat(tables: dict[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in tables.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _sections(cls: type[attrs.AttrsInstance], key: str) -> Iterator[str]:
    """The tables of this class, and of those below it."""
    settings: dict[str, Setting | Records | Variants] = {}
    below: list[str] = []
    for name, entry in entries(cls).items():
        path = f"{key}.{name}" if key else name
        if isinstance(entry, Setting):
            settings[path] = entry
        elif path == "listeners":
            below += [f"## `[{LISTENER}]`\n\n{_LISTENERS}", _table(dict(_settings(ListenerConfig, LISTENER)))]
            for cls_below, name_below, kinds in (
                (TcpOptions, "tcp_options", "all kinds"),
                (SslOptions, "ssl_options", "`ssl` and `wss` listeners only; its files are PEM"),
                (WebsocketOptions, "websocket", "`ws` and `wss` listeners only"),
            ):
                path_below = f"{LISTENER}.{name_below}"
                below.append(f"### `[{path_below}]`\n\nFor {kinds}.\n")
                below.append(_table(dict(_settings(cls_below, path_below))))
        elif isinstance(entry, Records):
            settings[path] = entry
            below += [f"## `[[{path}]]`\n\n{entry.doc.capitalize()}: any number of tables.\n"]
            below.append(_table(dict(_settings(entry.cls, path))))
        elif isinstance(entry, Variants):
            settings[path] = entry
            below += _variants(path, entry)
        else:
            below += _sections(entry.cls, path)  # type: ignore[attr-defined]
    if settings:
        yield f"## `[{key}]`\n" if key else "## At the top\n"
        yield _table(settings)
    yield from below


def _variants(key: str, entry: Variants) -> Iterator[str]:
    """A list of tables of several kinds: a part for each of them."""
    chosen_by = " and ".join(f"`{name}`" for name in entry.chosen_by)
    most = "".join(f", or more where `{name}` tells them apart" for name in entry.apart)
    doc = f"{entry.doc.capitalize()}. A table each, at most one of a kind{most}; {chosen_by} say which."
    yield f"## `[[{key}]]`\n\n{doc}\n"
    for cls in entry.classes.values():
        chosen = {name: getattr(cls(), name) for name in entry.chosen_by if hasattr(cls(), name)}
        yield f"### {', '.join(f'`{name} = {json.dumps(value)}`' for name, value in chosen.items())}\n"
        lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
        for name, setting in _flattened(cls, ""):
            if name in chosen:
                continue
            default = "none" if setting.default is None else setting.default
            cells = (f"`{name}`", setting.kind.expects, f"`{json.dumps(default)}`", f"{setting.doc}.")
            lines.append(_row(cells))
        yield "\n".join([*lines, ""])


def _flattened(cls: type[attrs.AttrsInstance], prefix: str) -> Iterator[tuple[str, Setting]]:
    """The keys of a table and of those below it."""
    for name, entry in entries(cls).items():
        if isinstance(entry, Setting):
            yield f"{prefix}{name}", entry
        else:
            yield from _flattened(entry.cls, f"{prefix}{name}.")  # type: ignore[attr-defined]


def _settings(cls: type[attrs.AttrsInstance], key: str) -> Iterator[tuple[str, Setting]]:
    for name, entry in entries(cls).items():
        if isinstance(entry, Setting):
            yield f"{key}.{name}", entry


def _table(settings: Mapping[str, Setting | Records | Variants]) -> str:
    lines = ["| key | value | default | meaning | environment |", "|---|---|---|---|---|"]
    for key, setting in settings.items():
        name, environment = f"`{key.rpartition('.')[2]}`", f"`{environment_name(key)}`"
        if not isinstance(setting, Setting):
            cells = (name, "a list of tables", "`[]`", f"{setting.doc}: see `[[{key}]]`.", environment)
        else:
            default = f"`{json.dumps(setting.default)}`"
            cells = (name, setting.kind.expects, default, _meaning(key, setting), environment)
        lines.append(_row(cells))
    return "\n".join([*lines, ""])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def environment_name(key: str) -> str:
    """`mqtt.max_inflight` as `TRIO_BROKER_MQTT__MAX_INFLIGHT`; a list of tables is one variable."""
    return f"TRIO_BROKER_{(_list_of(key) or key).upper().replace('.', '__')}"


def _list_of(key: str) -> str:
    """The list of tables that this is a key of; "" where it is of none."""
    cls: Any = Config
    found: list[str] = []
    for part in key.split("."):
        entry = entries(cls).get(part)
        found.append(part)
        if isinstance(entry, (Records, Variants)):
            return ".".join(found)
        cls = getattr(entry, "cls", None)
        if cls is None:
            break
    return ""


def _meaning(key: str, setting: Setting) -> str:
    # What has a remark does have a meaning here, whatever the declaration says.
    declared = "" if setting.doc.startswith("EMQX's;") and key in REMARKS else f"{setting.doc}."
    doc = declared.replace("$SYS", "`$SYS`").replace("$share/group/filter", "`$share/group/filter`")
    return " ".join(filter(None, (doc, _effect(key, setting), REMARKS.get(key))))


def _effect(key: str, setting: Setting) -> str:
    """What the broker says of other values of this key, tried out one by one."""
    tried = [(raw, _is_without_effect(key, raw)) for raw in _others(setting)]
    if tried and all(void for _, void in tried):
        return NO_EFFECT
    void_ones = ", ".join(f"`{json.dumps(raw)}`" for raw, void in tried if void)
    return f"{void_ones}: {NO_EFFECT}" if void_ones else ""


def _others(setting: Setting) -> Iterator[object]:
    """Values of this key's kind other than its default."""
    kind: Kind = setting.kind
    inner = kind.kind if isinstance(kind, Or) else kind
    default = kind.parse(setting.default)
    for raw in inner.values if isinstance(inner, Choice) else _OTHER_VALUES:
        try:
            other = kind.parse(raw) != default
        except ValueError:
            continue
        if other:
            yield raw


def _is_without_effect(key: str, raw: object) -> bool:
    """Whether a broker with this value says that it has no effect."""
    value: object = raw
    parts = key.replace(LISTENER, "listeners.tcp.default").split(".")
    for count, part in reversed(list(enumerate(parts, 1))):
        value = {part: [value] if ".".join(parts[:count]) == _list_of(key) != key else value}
    assert isinstance(value, dict)
    return bool(without_effect(overlay(Config(), value)))


def main(arguments: list[str]) -> None:
    if arguments == ["--print"]:
        sys.stdout.write(page())
    elif arguments:
        sys.exit("usage: python docs/build_reference.py [--print]")
    else:
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
