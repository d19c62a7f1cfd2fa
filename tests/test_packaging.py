"""What is shipped beside the package: example configuration, unit file, Dockerfile, the build's metadata."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest

from trio_broker.config import Config, HttpsConfig, load
from trio_broker.config.model import ApiConfig, CloudApiConfig, OlderApiConfig
from trio_broker.config.tree import keys
from trio_broker.version import __version__

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "packaging" / "trio-broker.toml"
DOCKERFILE = (ROOT / "packaging" / "Dockerfile").read_text(encoding="utf-8")


def opened(text: str) -> str:
    """The example with each key in force."""
    return re.sub(r"^# (\[|\w+ = )", r"\1", text, flags=re.MULTILINE)


def test_the_example_as_it_is_changes_nothing() -> None:
    assert load(EXAMPLE) == Config.service()


def test_the_example_shows_the_defaults() -> None:
    tables: dict[str, Any] = tomllib.loads(opened(EXAMPLE.read_text(encoding="utf-8")))
    listeners = tables["listeners"]
    assert listeners.pop("unix") == {"default": {"bind": "/run/trio-broker/mqtt.sock"}}
    tls = listeners.pop("ssl")["default"]
    assert (tls.pop("bind"), tls["ssl_options"].pop("certfile")) == ("0.0.0.0:8883", "/etc/trio-broker/cert.pem")
    assert tls["ssl_options"].pop("keyfile") == "/etc/trio-broker/key.pem"
    https = tables["dashboard"]["listeners"].pop("https")
    assert https.pop("bind") == "0.0.0.0:18084"
    assert https["ssl_options"].pop("certfile") == https["ssl_options"].pop("keyfile").replace("key", "cert")
    assert load(stored={"dashboard": {"listeners": {"https": {**https, "enable": False}}}}).dashboard == attrs.evolve(
        Config.service().dashboard,
        listeners=attrs.evolve(Config.service().dashboard.listeners, https=HttpsConfig(enable=False)),
    )
    older = tables.pop("api")
    assert {name: one.pop("bind") for name, one in older.items()} == {"v2": "127.0.0.1:8080", "v4": "127.0.0.1:8081"}
    assert load(stored={"api": {name: {**one, "enable": False} for name, one in older.items()}}).api == ApiConfig(
        v2=OlderApiConfig(enable=False), v4=CloudApiConfig(enable=False)
    )
    assert load(stored={**tables}) == Config.service()
    assert load(stored={"listeners": {"ssl": {"default": {**tls, "bind": 1, "enable": False}}}}).listeners["ssl"][
        "default"
    ] == attrs.evolve(Config.service().listeners["tcp"]["default"], kind="ssl", bind="0.0.0.0:1", enable=False)


def test_the_example_as_a_whole_is_good(tmp_path: Path) -> None:
    path = tmp_path / "opened.toml"
    path.write_text(opened(EXAMPLE.read_text(encoding="utf-8")), encoding="utf-8")
    assert set(load(path).listeners) == {"tcp", "ssl", "ws", "unix"}


def test_the_example_has_every_key() -> None:
    tables = tomllib.loads(opened(EXAMPLE.read_text(encoding="utf-8")))
    shown = set(flattened(tables, ""))
    for key in keys(Config):
        kinds = ("tcp", "ssl", "ws") if key.startswith("listeners.") else ("",)
        name = key.split(".", 3)[-1]
        key = re.sub(r"^api\.v\d\.ssl_options", "dashboard.listeners.https.ssl_options", key)  # a comment says so
        assert key in shown or any(f"listeners.{kind}.default.{name}" in shown for kind in kinds if kind), key


def flattened(tables: dict[str, Any], prefix: str) -> list[str]:
    found: list[str] = []
    for name, value in tables.items():
        found += flattened(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [f"{prefix}{name}"]
    return found


def test_the_example_fits_a_screen() -> None:
    assert max(map(len, EXAMPLE.read_text(encoding="utf-8").splitlines())) <= 120


def test_the_unit_file() -> None:
    # Keys may come twice, which only a parser that is not strict takes; the last one is then seen.
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "packaging" / "trio-broker.service", encoding="utf-8")
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["ExecStart"].endswith("/trio-broker --config /etc/trio-broker/trio-broker.toml")
    assert service["RestartPreventExitStatus"] == "2"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert int(service["TimeoutStopSec"].removesuffix("s")) > Config().shutdown_timeout
    assert {"AF_INET", "AF_INET6", "AF_UNIX"} == set(service["RestrictAddressFamilies"].split())
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_the_environment_that_the_container_sets_is_understood() -> None:
    environ = dict(re.findall(r"^(?:ENV|   ) (TRIO_BROKER_\w+)=(\S+)", DOCKERFILE, flags=re.MULTILINE))
    assert len(environ) == 4
    config = load(environ=environ)
    ports = {listener.address.port for listeners in config.listeners.values() for listener in listeners.values()}
    assert config.http is not None
    exposed = re.search(r"^EXPOSE (.*)$", DOCKERFILE, flags=re.MULTILINE)
    assert exposed is not None
    assert {*map(int, exposed[1].split())} == {*ports, config.http.address.port}
    assert config.mqtt.allow_anonymous is None


def test_the_container_is_slim_and_not_root() -> None:
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)
    assert stages == ["python:3-slim", "python:3-slim"]
    last = DOCKERFILE[DOCKERFILE.rindex("FROM ") :]
    assert re.search(r"^USER (?!root)", last, flags=re.MULTILINE)
    assert 'ENTRYPOINT ["trio-broker"]' in last
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split())


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_requirements_have_lower_bounds_only(project: dict[str, Any]) -> None:
    requirements = [*project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        requirements += extra
    assert requirements
    assert all(re.fullmatch(r"[A-Za-z0-9-]+>=[0-9.]+", requirement) for requirement in requirements)
    assert project["project"]["requires-python"] == ">=3.11"


def test_the_changelog_has_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_package_is_typed() -> None:
    assert (ROOT / "trio_broker" / "py.typed").exists()
