"""Certificates made on the spot, and the TLS options that name them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import trustme
from attrs import define, evolve

from trio_broker.config.listeners import SslOptions


@define
class Certificates:
    """Files of one authority and a server certificate for 127.0.0.1."""

    authority: trustme.CA
    folder: Path
    options: SslOptions

    def server(self, **changes: Any) -> SslOptions:
        return evolve(self.options, **changes)

    def with_clients(self, *, required: bool) -> SslOptions:
        return self.server(verify="verify_peer", fail_if_no_peer_cert=required)

    def client_context(self, common_name: str | None = None) -> ssl.SSLContext:
        """Trusts the authority; with a name it shows a certificate for it."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if common_name is not None:
            self.authority.issue_cert(common_name, common_name=common_name).configure_cert(context)
        return context


def make_certificates(folder: Path) -> Certificates:
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server.private_key_pem.write_to_path(str(folder / "key.pem"))
    for number, blob in enumerate(server.cert_chain_pems):
        blob.write_to_path(str(folder / "cert.pem"), append=number > 0)
    options = SslOptions(
        certfile=str(folder / "cert.pem"), keyfile=str(folder / "key.pem"), cacertfile=str(folder / "ca.pem")
    )
    return Certificates(authority, folder, options)
