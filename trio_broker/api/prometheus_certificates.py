"""When the certificates of the TLS listeners expire.

Invariant: what cannot be read is left out; a scrape does not fail over a file.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from trio_broker.actors.questions import ListenerInfo
from trio_broker.actors.threads import in_thread
from trio_broker.config.files import read_plain_file

__all__ = ["expiries", "not_after"]

log = logging.getLogger(__name__)

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


async def expiries(listeners: Iterable[ListenerInfo]) -> list[tuple[ListenerInfo, int]]:
    """Each TLS listener that is enabled and has a certificate, and the second since the epoch at which it expires."""
    found: list[tuple[ListenerInfo, int]] = []
    for listener in listeners:
        if not listener.enable:
            continue
        options = listener.configuration.get("ssl_options")
        path = options.get("certfile") if isinstance(options, dict) else None
        if not path:
            continue
        try:
            found.append((listener, not_after((await in_thread(read_plain_file, path)).decode())))
        except (OSError, ValueError) as error:
            log.warning("certificate of listener %s: %s", listener.identifier, error)
    return found


def not_after(pem: str) -> int:
    """The end of the validity of the first certificate in a PEM text. Raises ValueError."""
    first = _CERTIFICATE.search(pem)
    if first is None:
        raise ValueError("there is no certificate in the file")
    data = ssl.PEM_cert_to_DER_cert(first[0])
    # Certificate and TBSCertificate, of which the validity is a part [RFC 5280 section 4.1].
    _, at, _ = _element(data, 0)
    _, at, _ = _element(data, at)
    tag, _, end = _element(data, at)
    if tag == _VERSION:
        at = end
    for _part in ("serial number", "signature algorithm", "issuer"):
        _, _, at = _element(data, at)
    tag, at, _ = _element(data, at)
    if tag != _SEQUENCE:
        raise ValueError("it is no certificate")
    _, _, at = _element(data, at)
    tag, at, end = _element(data, at)
    text = data[at:end].decode("ascii")
    if tag == _UTC_TIME:
        # Years from 50 on are of the last century [RFC 5280 section 4.1.2.5.1].
        text = f"{19 if text[:2] >= '50' else 20}{text}"
    return int(datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp())


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the content of the DER element at a place. Raises ValueError."""
    try:
        tag, length = data[at], data[at + 1]
    except IndexError:
        raise ValueError("the certificate is cut off") from None
    at += 2
    if length & 0x80:
        octets = length & 0x7F
        length = int.from_bytes(data[at : at + octets], "big")
        at += octets
    if at + length > len(data):
        raise ValueError("the certificate is cut off")
    return tag, at, at + length
