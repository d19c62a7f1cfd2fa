"""The brokers that can be measured, and how each is started on a port of the loopback address.

Invariant: every broker gets a configuration under which it may drop nothing (no limit on queues and windows), writes
nothing to disk, logs no traffic, and accepts anonymous clients.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from attrs import define, evolve, field

from benchmarks.processes import BROKER, Child, free_port

__all__ = [
    "BASELINE",
    "OURS",
    "REST_KEY",
    "Broker",
    "aedes",
    "amqtt_config",
    "custom",
    "flashmq_config",
    "known_brokers",
    "mosquitto_config",
    "running",
    "stored",
    "trio_broker_config",
]

OURS = "trio-broker"
BASELINE = "mosquitto"
ROOT = Path(__file__).resolve().parent.parent
JS = ROOT / "benchmarks" / "js"


@define(frozen=True)
class Broker:
    """One broker: `command(port, folder)` writes its configuration into `folder` and gives the words that start it."""

    name: str
    command: Callable[[int, Path], list[str]]
    missing: str = ""
    """Why it cannot be run here; empty if it can."""
    version: str = ""
    count_factor: float = 1.0
    """Messages and connections it is given, as a share of the others': a slow broker's rate shows in fewer."""
    environment: dict[str, str] = field(factory=dict)
    versions: tuple[int, ...] = (3, 4, 5)
    """Protocol levels it speaks; scenarios of others are left out."""
    rest: Callable[[int, int, Path], list[str]] | None = None
    """As `command`, with the port of a REST API behind that of MQTT; None: it has no such API."""


REST_KEY = "benchmark:benchmark-secret"


def trio_broker_config(port: int, rest_port: int = 0, data_dir: str = "") -> str:
    """Our configuration (TOML): the defaults, but for limits that drop, the store, and what opens other ports.

    With `rest_port` there is a REST API, and `rest-keys` in the same folder has its key. With `data_dir` there is a
    store.
    """
    rest = (
        f'bind = "127.0.0.1:{rest_port}"\n\n[api_key]\nbootstrap_file = "rest-keys"' if rest_port else "enable = false"
    )
    return f"""\
[node]
data_dir = "{data_dir}"

[store]
durability = "full"

[listeners.tcp.default]
bind = "127.0.0.1:{port}"

[listeners.ws.default]
enable = false

[dashboard.listeners.http]
{rest}

[mqtt]
max_inflight = 65535
max_mqueue_len = 0

[log]
level = "warning"
"""


def mosquitto_config(port: int) -> str:
    return f"""\
listener {port} 127.0.0.1
allow_anonymous true
max_inflight_messages 0
max_queued_messages 0
set_tcp_nodelay true
persistence false
log_type error
"""


def amqtt_config(port: int) -> str:
    return f"""\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


def flashmq_config(port: int) -> str:
    return f"""\
allow_anonymous true
thread_count 1
log_level warning
log_subscriptions false
max_qos_msg_pending_per_client 65535
max_qos_bytes_pending_per_client 268435456
listen {{
  protocol mqtt
  inet_protocol ip4
  inet4_bind_address 127.0.0.1
  port {port}
  tcp_nodelay true
}}
"""


def _configured(words: Sequence[str], config: Callable[[int], str], file_name: str) -> Callable[[int, Path], list[str]]:
    """A command of `words` followed by the path of the configuration file it writes."""

    def command(port: int, folder: Path) -> list[str]:
        path = folder / file_name
        path.write_text(config(port))
        return [*words, str(path)]

    return command


def _first_line(*argv: str) -> str:
    """What a program says about itself, in its first line."""
    said = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    return (said.stdout + said.stderr).strip().partition("\n")[0]


def _ours() -> Broker:
    from trio_broker.version import __version__

    command = _configured([sys.executable, "-m", "trio_broker", "--config"], trio_broker_config, "trio-broker.toml")

    def with_rest(port: int, rest_port: int, folder: Path) -> list[str]:
        (folder / "rest-keys").write_text(f"{REST_KEY}\n")
        path = folder / "trio-broker.toml"
        path.write_text(trio_broker_config(port, rest_port))
        return [sys.executable, "-m", "trio_broker", "--config", str(path)]

    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    version = f"{OURS} {__version__}, Python {sys.version.split()[0]}, Trio {metadata.version('trio')}"
    return Broker(OURS, command, version=version, environment={"PYTHONPATH": path}, rest=with_rest)


RULES = "\n".join(
    [
        *(f'{{allow, {{user, "user{number}"}}, all, ["user/{number}/#"]}}.' for number in range(20)),
        '{deny, all, publish, ["$SYS/#", "secret/#"]}.',
        '{allow, all, all, ["own/${clientid}/#"]}.',
        "{allow, all}.",
    ]
)
"""Access rules of which the last one holds for what the scenarios do, so that all have been looked at."""


def ruled() -> Broker:
    """Ours with access rules for everything that clients do: decisions are kept for each client and topic."""
    ours = _ours()
    rules = f"[authorization]\nno_match = 'deny'\n\n[[authorization.sources]]\ntype = 'file'\nrules = '''\n{RULES}'''\n"
    words = [sys.executable, "-m", "trio_broker", "--config"]
    command = _configured(words, lambda port: f"{trio_broker_config(port)}\n{rules}", "ruled.toml")
    return evolve(ours, name=f"{OURS}-rules", command=command, rest=None)


def stored(data_dir: Path) -> Broker:
    """Ours with a store in `data_dir`."""
    ours = _ours()
    words = [sys.executable, "-m", "trio_broker", "--config"]
    command = _configured(words, lambda port: trio_broker_config(port, data_dir=str(data_dir)), "stored.toml")
    return evolve(ours, command=command)


def _program(name: str, words: Sequence[str], config: Callable[[int], str], version_flag: str) -> Broker:
    # Debian keeps daemons in sbin, which is not on everybody's PATH.
    found = shutil.which(words[0]) or shutil.which(words[0], path="/usr/local/sbin:/usr/sbin:/sbin")
    command = _configured([found or words[0], *words[1:]], config, f"{name}.conf")
    if found is None:
        return Broker(name, command, missing=f"no program {words[0]!r}")
    return Broker(name, command, version=_first_line(found, version_flag))


def _amqtt() -> Broker:
    start = [sys.executable, "-c", "from amqtt.scripts.broker_script import main; main()", "-c"]
    command = _configured(start, amqtt_config, "amqtt.yaml")
    if importlib.util.find_spec("amqtt") is None:
        return Broker("amqtt", command, missing="no Python package 'amqtt'")
    return Broker("amqtt", command, version=f"amqtt {metadata.version('amqtt')}", count_factor=0.2, versions=(4,))


def aedes(folder: Path = JS) -> Broker:
    """On Node.js; `npm install` in `benchmarks/js` brings it."""
    found = shutil.which("node")
    package = folder / "node_modules" / "aedes" / "package.json"

    def command(port: int, _: Path) -> list[str]:
        return [found or "node", str(folder / "aedes.js"), str(port)]

    if found is None:
        return Broker("aedes", command, missing="no program 'node'")
    if not package.exists():
        return Broker("aedes", command, missing="no npm package 'aedes' (cd benchmarks/js; npm install)")
    version = f"aedes {json.loads(package.read_text())['version']}, Node.js {_first_line(found, '--version')}"
    return Broker("aedes", command, version=version, count_factor=0.5, versions=(3, 4))


def custom(text: str) -> Broker:
    """A broker from the command line: `name=program arguments`, or a bare command; `{port}` stands for the port."""
    name, equals, words = text.partition("=")
    if not equals or not name.replace("-", "").isalnum():
        name, words = "custom", text
    if "{port}" not in words:
        raise ValueError(f"the command of {name!r} does not say where {{port}} goes: {words}")

    program, *rest = shlex.split(words)
    if os.sep in program:
        program = str(Path(program).absolute())  # it is started in a folder of its own

    def command(port: int, folder: Path) -> list[str]:
        return [word.replace("{port}", str(port)) for word in (program, *rest)]

    return Broker(name, command, version=Path(program).name)


def known_brokers() -> list[Broker]:
    """All, ours first; those which cannot be run here say why in `missing`."""
    return [
        _ours(),
        _program(BASELINE, ["mosquitto", "-c"], mosquitto_config, "-h"),
        _program("flashmq", ["flashmq", "--config-file"], flashmq_config, "--version"),
        aedes(),
        _amqtt(),
    ]


@contextmanager
def running(broker: Broker, folder: Path, wrap: Sequence[str] = (), rest_port: int = 0) -> Iterator[tuple[Child, int]]:
    """A fresh process of `broker` that answers MQTT, and its port. `wrap` goes in front of its command's arguments."""
    port = free_port()
    argv = broker.rest(port, rest_port, folder) if broker.rest and rest_port else broker.command(port, folder)
    if wrap:  # `python -m x` becomes `python -m profiler ... -m x`
        argv = [argv[0], *wrap, *argv[1:]]
    with Child(argv, folder / "broker.log", BROKER, folder=folder, environment=broker.environment) as child:
        child.wait_for_mqtt(port)
        yield child, port
