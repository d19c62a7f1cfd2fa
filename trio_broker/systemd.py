"""What is told to systemd where it started us with `Type=notify`.

Invariant: without NOTIFY_SOCKET in the environment nothing happens, and a socket that fails never stops the broker.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping

logger = logging.getLogger(__name__)


def notify(state: str, environ: Mapping[str, str]) -> None:
    """Sends `READY=1`, `STOPPING=1` and the like (sd_notify(3)): one datagram to a local socket, without waiting."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    # A leading @ is an abstract socket, whose name begins with a zero byte.
    address = f"\0{path[1:]}" if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notify_socket:
            notify_socket.sendto(state.encode(), address)
    except OSError as error:
        logger.warning("systemd cannot be told %s: %s", state, error)
