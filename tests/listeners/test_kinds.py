"""From a configuration to a listener."""

from __future__ import annotations

import subprocess
import sys

import pytest
from listeners.fake_gate import listener_config

from trio_broker.config.listeners import LISTENER_KINDS
from trio_broker.errors import ListenerError
from trio_broker.listeners import make_listener


@pytest.mark.parametrize("kind", LISTENER_KINDS)
def test_each_kind_of_the_configuration_can_be_made(kind: str) -> None:
    listener = make_listener(listener_config(kind, name="x"))
    assert listener.identifier == f"{kind}:x"
    assert not listener.running
    assert listener.bound is None


def test_a_kind_that_does_not_exist() -> None:
    with pytest.raises(ListenerError, match="quic:default: there is no such kind; kinds are tcp, ssl"):
        make_listener(listener_config("quic"))


def test_websockets_are_imported_when_they_are_needed() -> None:
    code = (
        "import sys, trio_broker.listeners; print([name for name in ('trio_websocket', 'h11') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
