"""TLS options: what they become, and what is said when they are wrong."""

from __future__ import annotations

import os
import shutil
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from listeners.certificates import Certificates

from trio_broker.config.listeners import SslOptions
from trio_broker.errors import ListenerError
from trio_broker.listeners.tls_context import build_context, common_name, distinguished_name


def built(options: SslOptions) -> ssl.SSLContext:
    return build_context("listener ssl:default", options, alpn="mqtt")


def complaint(options: SslOptions) -> str:
    with pytest.raises(ListenerError) as failed:
        built(options)
    message = str(failed.value)
    assert message.startswith("listener ssl:default: ssl_options.")
    assert "\n" not in message
    return message


def test_the_defaults_are_sound(certificates: Certificates) -> None:
    context = built(certificates.options)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.maximum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_NONE
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    below_1_3 = [cipher for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert below_1_3
    assert all(cipher["aead"] and "ECDHE" in cipher["name"] for cipher in below_1_3)


@pytest.mark.parametrize(
    ("versions", "lowest", "highest"),
    [
        (("tlsv1.2",), ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
        (("tlsv1.3",), ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3),
        (("tlsv1.2", "tlsv1.3"), ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3),
    ],
)
def test_versions(
    certificates: Certificates, versions: tuple[str, ...], lowest: ssl.TLSVersion, highest: ssl.TLSVersion
) -> None:
    context = built(certificates.server(versions=versions))
    assert (context.minimum_version, context.maximum_version) == (lowest, highest)


@pytest.mark.parametrize(("required", "mode"), [(False, ssl.CERT_OPTIONAL), (True, ssl.CERT_REQUIRED)])
def test_client_certificates(certificates: Certificates, required: bool, mode: ssl.VerifyMode) -> None:
    assert built(certificates.with_clients(required=required)).verify_mode == mode


def test_ciphers_may_be_chosen_for_tls_1_2(certificates: Certificates) -> None:
    chosen = ("TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES256-GCM-SHA384")
    names = [cipher["name"] for cipher in built(certificates.server(ciphers=chosen)).get_ciphers()]
    assert "ECDHE-RSA-AES256-GCM-SHA384" in names
    assert "ECDHE-RSA-AES128-GCM-SHA256" not in names
    assert "NONSENSE" in complaint(certificates.server(ciphers=("NONSENSE",)))


def test_one_file_may_hold_certificate_and_key(certificates: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(Path(certificates.options.keyfile).read_bytes() + Path(certificates.options.certfile).read_bytes())
    assert built(SslOptions(certfile=str(both))).verify_mode == ssl.CERT_NONE


def test_no_certificate_at_all() -> None:
    assert complaint(SslOptions()) == "listener ssl:default: ssl_options.certfile is not set"


@pytest.mark.parametrize("option", ["certfile", "keyfile", "cacertfile"])
def test_a_missing_file_is_named(certificates: Certificates, option: str) -> None:
    message = complaint(certificates.server(verify="verify_peer", **{option: "/no/such/file.pem"}))
    assert message == f"listener ssl:default: ssl_options.{option} '/no/such/file.pem': No such file or directory"


@pytest.mark.parametrize("option", ["certfile", "keyfile", "cacertfile"])
def test_a_file_that_is_no_pem_is_named(certificates: Certificates, option: str, tmp_path: Path) -> None:
    file = tmp_path / "nonsense.pem"
    file.write_text("nonsense")
    message = complaint(certificates.server(verify="verify_peer", **{option: str(file)}))
    what = "private key" if option == "keyfile" else "certificate"
    assert message.endswith(f"ssl_options.{option} {str(file)!r}: there is no PEM {what} in it")


def test_a_folder_is_no_file(certificates: Certificates, tmp_path: Path) -> None:
    assert "Is a directory" in complaint(certificates.server(certfile=str(tmp_path)))


@pytest.mark.parametrize("option", ["certfile", "keyfile", "cacertfile"])
def test_a_pipe_is_no_file(certificates: Certificates, option: str, tmp_path: Path) -> None:
    """Nobody writes to it, so to open it would take for ever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    message = complaint(certificates.server(verify="verify_peer", **{option: str(pipe)}))
    assert message.endswith(f"ssl_options.{option} {str(pipe)!r}: it is no plain file")


def test_a_key_of_another_certificate(certificates: Certificates, tmp_path: Path) -> None:
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(str(tmp_path / "other.pem"))
    message = complaint(certificates.server(keyfile=str(tmp_path / "other.pem")))
    assert message.endswith("the key does not match the certificate")


def encrypted_key(certificates: Certificates, file: Path) -> str:
    key = serialization.load_pem_private_key(Path(certificates.options.keyfile).read_bytes(), None)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"open sesame"),
        )
    )
    return str(file)


def test_an_encrypted_key_and_its_password(certificates: Certificates, tmp_path: Path) -> None:
    keyfile = encrypted_key(certificates, tmp_path / "key.pem")
    assert built(certificates.server(keyfile=keyfile, password="open sesame")).verify_mode == ssl.CERT_NONE
    wrong = complaint(certificates.server(keyfile=keyfile, password="wrong"))
    assert wrong.endswith(f"keyfile {keyfile!r}: the password does not fit")
    # Without one nobody is asked on the terminal.
    assert complaint(certificates.server(keyfile=keyfile)).endswith("the key needs ssl_options.password")


def test_verifying_needs_authorities(certificates: Certificates) -> None:
    message = complaint(certificates.server(verify="verify_peer", cacertfile=""))
    assert "verify_peer needs ssl_options.cacertfile" in message


def test_a_file_nobody_may_read(certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret.pem"
    shutil.copy(certificates.options.keyfile, file)
    file.chmod(0)
    if os.geteuid() == 0:  # root may read everything: say what the system says to others

        def refused(path: str, flags: int) -> object:
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr("os.open", refused)
    assert "Permission denied" in complaint(certificates.server(certfile=str(file), keyfile=str(file)))


def subject(*parts: tuple[tuple[str, str], ...]) -> dict[str, object]:
    return {"subject": parts}


@pytest.mark.parametrize(
    ("certificate", "name", "distinguished"),
    [
        ({}, None, None),
        (subject((("organizationName", "Home"),)), None, "O=Home"),
        (subject((("countryName", "AT"),), (("commonName", "door"),)), "door", "CN=door,C=AT"),
        (subject((("commonName", "a"), ("userId", "7"))), "a", "CN=a+UID=7"),
        (subject((("commonName", "first"),), (("commonName", "last"),)), "last", "CN=last,CN=first"),
        (subject((("commonName", 'a,b+c"\\<>;d'),)), 'a,b+c"\\<>;d', 'CN=a\\,b\\+c\\"\\\\\\<\\>\\;d'),
        (subject((("commonName", " x "),)), " x ", "CN=\\ x\\ "),
        (subject((("commonName", "#1"),)), "#1", "CN=\\#1"),
        (subject((("someOther", "y"),)), None, "someOther=y"),
    ],
)
def test_the_subject_as_rfc_4514_writes_it(
    certificate: dict[str, object], name: str | None, distinguished: str | None
) -> None:
    assert common_name(certificate) == name
    assert distinguished_name(certificate) == distinguished
