"""One broker in a thread, with TCP, TLS, WebSocket and secure WebSocket on free ports, for clients over real sockets.

Invariant: a client that is not installed fails its tests; nothing here waits for the clock, only for what it names.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
import trustme
from attrs import define

from trio_broker.testing.threaded import ThreadedBroker

WEBSOCKET_PATH = "/mqtt"
LISTENERS = {"tcp": "tcp:default", "tls": "ssl:default", "ws": "ws:default", "wss": "wss:default"}


class HasFileno(Protocol):
    def fileno(self) -> int: ...


@define(frozen=True)
class Endpoint:
    """Where and how to connect; `transport` is tcp, tls, ws or wss."""

    transport: str
    host: str
    port: int
    ca_file: str
    websocket_path: str = WEBSOCKET_PATH

    @property
    def tls(self) -> bool:
        return self.transport in ("tls", "wss")

    @property
    def websocket(self) -> bool:
        return self.transport in ("ws", "wss")

    def ssl_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)


@define(frozen=True)
class Certificates:
    ca_file: str
    certificate_file: str
    key_file: str


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder: Path = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    leaf.private_key_pem.write_to_path(str(folder / "key.pem"))
    for number, blob in enumerate(leaf.cert_chain_pems):
        blob.write_to_path(str(folder / "certificate.pem"), append=number > 0)
    return Certificates(str(folder / "ca.pem"), str(folder / "certificate.pem"), str(folder / "key.pem"))


@pytest.fixture(scope="session")
def broker(certificates: Certificates) -> Iterator[ThreadedBroker]:
    ssl_options = {"certfile": certificates.certificate_file, "keyfile": certificates.key_file}
    bind = {"bind": "127.0.0.1:0"}
    listeners = {
        "tcp": {"default": bind},
        "ssl": {"default": {**bind, "ssl_options": ssl_options}},
        "ws": {"default": {**bind, "websocket": {"mqtt_path": WEBSOCKET_PATH}}},
        "wss": {"default": {**bind, "ssl_options": ssl_options, "websocket": {"mqtt_path": WEBSOCKET_PATH}}},
    }
    with ThreadedBroker(listeners=listeners) as running:
        yield running


@pytest.fixture
def endpoint(transport: str, broker: ThreadedBroker, certificates: Certificates) -> Endpoint:
    """The listener for the `transport` the test is parametrized with."""
    host, port = broker.listeners[LISTENERS[transport]]
    return Endpoint(transport, host, port, certificates.ca_file)


@pytest.fixture
def prefix() -> str:
    """A word of its own for topics and client identifiers; short enough for MQTT 3.1 [MQTT 3.1 section 3.1]."""
    return uuid.uuid4().hex[:10]


@pytest.fixture
def wait_gone(broker: ThreadedBroker) -> Callable[[str], None]:
    """Wait until the broker has seen that this client is no longer connected."""
    return broker.wait_disconnected


@pytest.fixture
def cut() -> Callable[[HasFileno], None]:
    """End a connection as a crash does: no DISCONNECT, no WebSocket close frame, no TLS goodbye."""

    def shut_down(sock: HasFileno) -> None:
        with socket.socket(fileno=os.dup(sock.fileno())) as twin:
            twin.shutdown(socket.SHUT_RDWR)

    return shut_down


@pytest.fixture(scope="session")
def tool() -> Callable[[str, str], str]:
    """`tool(name, package)`: the path of a program; the test fails where it is not installed."""

    def find(name: str, package: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.fail(f"{name} is not installed (package {package}): `make test` installs it", pytrace=False)
        return path

    return find
