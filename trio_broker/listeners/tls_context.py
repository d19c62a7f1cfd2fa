"""The TLS side of `ssl_options`: certificates, versions, ciphers, and who may be asked for a certificate.

Invariant: a context that is returned works; everything wrong with the files is said here, naming the file.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

from trio_broker.config.files import check_plain_file
from trio_broker.config.listeners import SslOptions
from trio_broker.errors import ListenerError

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has nothing weaker to switch off."""

_VERSIONS = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}

_REASONS = {
    "KEY_VALUES_MISMATCH": "the key does not match the certificate",
    "KEY_TYPE_MISMATCH": "the key does not match the certificate",
    "EE_KEY_TOO_SMALL": "the key is too small to be safe",
    "CA_MD_TOO_WEAK": "the certificate is signed with a hash that is not safe any more",
}


def build_context(door: str, options: SslOptions, *, alpn: str) -> ssl.SSLContext:
    """A server context. Raises ListenerError: one line that names the door, the option and the file.

    `door` begins that line: "listener ssl:default".
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if options.honor_cipher_order:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols([alpn])
    _set_versions(door, context, options.versions)
    _set_ciphers(door, context, options.ciphers)
    _load_certificate(door, context, options)
    _set_verification(door, context, options)
    return context


def _load_certificate(door: str, context: ssl.SSLContext, options: SslOptions) -> None:
    certfile, keyfile = options.certfile, options.keyfile or options.certfile
    if not certfile:
        raise ListenerError(f"{door}: ssl_options.certfile is not set")
    _check_readable(door, "certfile", certfile)
    _check_readable(door, "keyfile", keyfile)
    asked = False

    def password() -> str:
        nonlocal asked
        asked = True
        return options.password

    try:
        # The password is always given: OpenSSL would ask for it on the terminal otherwise.
        context.load_cert_chain(certfile, keyfile, password)
    except (ssl.SSLError, OSError) as error:
        # OpenSSL does not say which of the two files it means.
        where, reason = f"certfile {certfile!r} with keyfile {keyfile!r}", _reason(error)
        if not reason and asked:
            where = f"keyfile {keyfile!r}"
            reason = "the password does not fit" if options.password else "the key needs ssl_options.password"
        elif not reason and not _holds_certificates(certfile):
            where, reason = f"certfile {certfile!r}", "there is no PEM certificate in it"
        elif not reason:
            where, reason = f"keyfile {keyfile!r}", "there is no PEM private key in it"
        raise ListenerError(f"{door}: ssl_options.{where}: {reason}") from None
    except ValueError as error:  # a password of more than 1024 bytes
        raise ListenerError(f"{door}: ssl_options.password: {error}") from None


def _holds_certificates(path: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError:
        return False
    return True


def _reason(error: OSError) -> str:
    return _REASONS.get(getattr(error, "reason", None) or "", "")


def _set_verification(door: str, context: ssl.SSLContext, options: SslOptions) -> None:
    if options.verify == "verify_none":
        return
    if not options.cacertfile:
        raise ListenerError(f"{door}: ssl_options.verify = verify_peer needs ssl_options.cacertfile")
    _check_readable(door, "cacertfile", options.cacertfile)
    if not _holds_certificates(options.cacertfile):
        raise ListenerError(f"{door}: ssl_options.cacertfile {options.cacertfile!r}: there is no PEM certificate in it")
    context.load_verify_locations(options.cacertfile)
    context.verify_mode = ssl.CERT_REQUIRED if options.fail_if_no_peer_cert else ssl.CERT_OPTIONAL


def _set_versions(door: str, context: ssl.SSLContext, versions: Sequence[str]) -> None:
    if not versions:
        raise ListenerError(f"{door}: ssl_options.versions is empty")
    chosen = sorted(_VERSIONS[version] for version in versions)
    context.minimum_version, context.maximum_version = chosen[0], chosen[-1]


def _set_ciphers(door: str, context: ssl.SSLContext, ciphers: Sequence[str]) -> None:
    # Python cannot choose among the TLS 1.3 suites (TLS_...): they are all on.
    below_1_3 = [cipher for cipher in ciphers if not cipher.startswith("TLS_")]
    try:
        context.set_ciphers(":".join(below_1_3) or CIPHERS)
    except ssl.SSLError:
        raise ListenerError(f"{door}: ssl_options.ciphers: none of them is known: {':'.join(below_1_3)}") from None


def _check_readable(door: str, option: str, path: str) -> None:
    try:
        check_plain_file(path)
    except OSError as error:
        raise ListenerError(f"{door}: ssl_options.{option} {path!r}: {error.strerror}") from None


Certificate = dict[str, Any]
"""What `SSLObject.getpeercert` gives."""

_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}


def common_name(certificate: Certificate) -> str | None:
    """The last CN of the subject: the most specific one."""
    found: str | None = None
    for relative in certificate.get("subject", ()):
        for key, value in relative:
            if key == "commonName":
                found = value
    return found


def distinguished_name(certificate: Certificate) -> str | None:
    """The subject as RFC 4514 writes it: most specific part first."""
    parts = [
        "+".join(f"{_SHORT.get(key, key)}={_escaped(value)}" for key, value in relative)
        for relative in certificate.get("subject", ())
    ]
    return ",".join(reversed(parts)) or None


def _escaped(value: str) -> str:
    text = "".join(f"\\{character}" if character in ',+"\\<>;' else character for character in value)
    text = text.replace("\x00", "\\00")
    if text.startswith(("#", " ")):
        text = "\\" + text
    if text.endswith(" ") and len(value) > 1:
        text = text[:-1] + "\\ "
    return text
