"""TLS listeners over REST: certificates by path and as text, renewed and wrong ones, and secrets that stay hidden."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
import trio
from api.doors import ANYWHERE, address_of, client_at, ended, put, shown, with_listener
from api.live import Live
from api.operations import shows
from cryptography.hazmat.primitives import serialization
from listeners.certificates import Certificates, make_certificates

from trio_broker.config import Config, Layers
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import open_client

SECRET = "not-for-everybody"
SSL_OPTIONS = {
    "verify": "verify_none",
    "fail_if_no_peer_cert": False,
    "depth": 10,
    "versions": ["tlsv1.3", "tlsv1.2"],
    "ciphers": [],
    "reuse_sessions": True,
    "secure_renegotiate": True,
    "honor_cipher_order": True,
    "client_renegotiation": True,
    "handshake_timeout": "15s",
    "hibernate_after": "5s",
    "password": "",
}


@pytest.fixture
def first(tmp_path: Path) -> Certificates:
    return made(tmp_path / "first")


@pytest.fixture
def second(tmp_path: Path) -> Certificates:
    return made(tmp_path / "second")


def made(folder: Path) -> Certificates:
    folder.mkdir()
    return make_certificates(folder)


def paths(certificates: Certificates) -> dict[str, str]:
    options = certificates.options
    return {"certfile": options.certfile, "keyfile": options.keyfile}


def texts(certificates: Certificates) -> dict[str, str]:
    return {name: Path(path).read_text(encoding="utf-8") for name, path in paths(certificates).items()}


def tls(options: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "ssl", "name": "a", "bind": ANYWHERE, "ssl_options": options, **more}


async def greeted(live: Live, certificates: Certificates) -> None:
    """Is that the authority of the listener's certificate?"""
    where = await address_of(live, "ssl:a")
    async with open_client(where, ssl_context=certificates.client_context()) as client:
        await client.ping()


async def is_strange(live: Live, certificates: Certificates) -> bool:
    """Has the listener a certificate of another authority?"""
    context = certificates.client_context()
    async with await trio.open_tcp_stream(*await address_of(live, "ssl:a")) as transport:
        try:
            await trio.SSLStream(transport, context, server_hostname="127.0.0.1").do_handshake()
        except trio.BrokenResourceError as error:
            return isinstance(error.__cause__, ssl.SSLCertVerificationError)
    return False


@shows("POST /listeners", "GET /listeners/:id")
async def test_a_tls_listener_shows_all_its_options(first: Certificates) -> None:
    async with with_listener() as live:
        answer = await live.api.post("/listeners", json=tls(paths(first)))
        assert answer.status_code == 200
        shown_options = answer.json()["ssl_options"]
        expected = {**SSL_OPTIONS, **paths(first), "cacertfile": ""}
        assert {name: shown_options[name] for name in expected} == expected
        assert "websocket" not in answer.json()
        await greeted(live, first)


@shows("POST /listeners", "PUT /listeners/:id", "DELETE /listeners/:id")
async def test_pem_text_is_kept_in_files(first: Certificates, second: Certificates, tmp_path: Path) -> None:
    store, data_dir = MemoryStore(), tmp_path / "data"
    folder = data_dir / "certs" / "listeners" / "ssl" / "a"
    async with with_listener(store, data_dir=str(data_dir)) as live:
        answer = await live.api.post("/listeners", json=tls(texts(first)))
        assert answer.status_code == 200
        assert "BEGIN" not in answer.text
        options = answer.json()["ssl_options"]
        for name, text in texts(first).items():
            path = Path(options[name])
            assert path.parent == folder
            assert path.read_text(encoding="utf-8") == text
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        await greeted(live, first)
    async with with_listener(store, data_dir=str(data_dir)) as live:
        await greeted(live, first)
        answer = await put(live, "ssl:a", ssl_options=texts(second))
        assert answer.status_code == 200
        await greeted(live, second)
        assert {str(path) for path in folder.iterdir()} == set(there(answer.json()))
        before = {path: path.read_bytes() for path in folder.iterdir()}
        wrong = {**texts(second), "keyfile": texts(first)["keyfile"]}
        answer = await put(live, "ssl:a", ssl_options=wrong)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert "the key does not match the certificate" in answer.json()["message"]
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
        assert there(await shown(live, "ssl:a")) == sorted(map(str, before))
        await greeted(live, second)
        await live.api.delete("/listeners/ssl:a")
        assert not folder.exists()


async def test_files_that_are_stored_stay_while_that_is_ignored(
    first: Certificates, second: Certificates, tmp_path: Path
) -> None:
    store, data_dir = MemoryStore(), tmp_path / "data"
    folder = data_dir / "certs" / "listeners" / "ssl" / "a"
    async with with_listener(store, data_dir=str(data_dir)) as live:
        assert (await live.api.post("/listeners", json=tls(texts(first)))).status_code == 200
    before = sorted(folder.iterdir())
    async with with_listener(store, data_dir=str(data_dir), ignore_stored=True) as live:
        assert (await live.api.get("/listeners/ssl:a")).status_code == 404
        wrong = {**texts(second), "keyfile": texts(first)["keyfile"]}
        assert (await live.api.post("/listeners", json=tls(wrong))).status_code == 400
        assert sorted(folder.iterdir()) == before
    async with with_listener(store, data_dir=str(data_dir)) as live:
        await greeted(live, first)


def there(listener: dict[str, Any]) -> list[str]:
    """The files of a listener."""
    return sorted(listener["ssl_options"][name] for name in ("certfile", "keyfile"))


@shows("POST /listeners")
async def test_pem_text_needs_a_place_to_be_kept(first: Certificates) -> None:
    async with with_listener() as live:
        answer = await live.api.post("/listeners", json=tls(texts(first)))
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert "without node.data_dir there is nowhere to keep it" in answer.json()["message"]
        assert "root.ssl_options.certfile" in answer.json()["message"]


async def test_pem_text_that_cannot_be_kept_is_refused(first: Certificates, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no directory")
    async with with_listener(data_dir=str(tmp_path / "data")) as live:
        answer = await live.api.post("/listeners", json=tls(texts(first)))
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert "cannot be kept in" in answer.json()["message"]


async def test_files_that_cannot_be_removed_are_no_fault_of_the_change(
    first: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with with_listener(data_dir=str(tmp_path / "data")) as live:
        await live.api.post("/listeners", json=tls(texts(first)))
        with monkeypatch.context() as broken:

            def refused(*_: object, **__: object) -> None:
                raise PermissionError(1, "not permitted")

            broken.setattr(Path, "unlink", refused)
            assert (await live.api.delete("/listeners/ssl:a")).status_code == 204
    assert "ssl:a that are not needed any more are left" in caplog.text


@shows("POST /listeners")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"certfile": "certfile", "keyfile": "/no/key.pem"}, "cannot be read"),
        ({"certfile": "keyfile", "keyfile": "keyfile"}, "there is no PEM certificate in it"),
        ({"certfile": "certfile", "keyfile": "certfile"}, "there is no PEM private key in it"),
        ({"certfile": "certfile", "keyfile": "keyfile", "ciphers": ["ROT13"]}, "none of them is known"),
        ({"certfile": "certfile", "keyfile": "keyfile", "verify": "verify_peer"}, "is needed for verify_peer"),
        ({"certfile": "certfile", "keyfile": "keyfile", "cacertfile": "/no/ca.pem"}, "cannot be read"),
        ({"certfile": "certfile", "keyfile": "keyfile", "versions": []}, "must name one version"),
    ],
)
async def test_what_is_wrong_with_tls_is_named(first: Certificates, options: dict[str, Any], reason: str) -> None:
    files = paths(first)
    asked = {name: files.get(value, value) if isinstance(value, str) else value for name, value in options.items()}
    async with with_listener() as live:
        answer = await live.api.post("/listeners", json=tls(asked))
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert reason in answer.json()["message"]
        assert (await live.api.get("/listeners/ssl:a")).status_code == 404


def encrypted(certificates: Certificates) -> str:
    """The path of its key, encrypted with SECRET."""
    source = Path(certificates.options.keyfile)
    key = serialization.load_pem_private_key(source.read_bytes(), None)
    path = source.with_name("encrypted.pem")
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(SECRET.encode()),
        )
    )
    return str(path)


@shows("GET /listeners/:id", "PUT /listeners/:id")
async def test_the_password_is_hidden_and_kept_when_it_is_sent_back(first: Certificates) -> None:
    store = MemoryStore()
    options = {**paths(first), "keyfile": encrypted(first), "password": SECRET}
    async with with_listener(store) as live:
        answer = await live.api.post("/listeners", json=tls({**options, "password": "x" * 2000}))
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        answer = await live.api.post("/listeners", json=tls({**options, "password": "wrong"}))
        assert "the password does not fit" in answer.json()["message"]
        answer = await live.api.post("/listeners", json=tls(options))
        assert answer.json()["ssl_options"]["password"] == "******"
        answer = await live.api.put("/listeners/ssl:a", json={**answer.json(), "max_connections": 5})
        assert answer.status_code == 200
        assert (await put(live, "ssl:a", ssl_options={"password": "wrong"})).status_code == 400
        assert SECRET not in (await live.api.get("/listeners/ssl:a")).text
        await live.api.post("/listeners/ssl:a/restart")
        await greeted(live, first)
    async with with_listener(store) as live:
        assert (await shown(live, "ssl:a"))["max_connections"] == 5
        await greeted(live, first)


@shows("POST /listeners/:id/restart")
async def test_a_restart_takes_a_renewed_certificate_and_drops_no_other_listener(
    first: Certificates, second: Certificates
) -> None:
    async with with_listener() as live:
        await live.api.post("/listeners", json=tls(paths(first)))
        where = await address_of(live, "ssl:a")
        async with (
            await client_at(live) as other,
            open_client(where, client_id="c1", ssl_context=first.client_context()) as c1,
        ):
            for name, path in paths(first).items():
                Path(path).write_text(texts(second)[name], encoding="utf-8")
            assert await is_strange(live, second)
            assert (await live.api.post("/listeners/ssl:a/restart")).status_code == 200
            assert await ended(c1) == 0x98
            await other.ping()
        assert await address_of(live, "ssl:a") == where
        await greeted(live, second)
        assert await is_strange(live, first)


@shows("POST /listeners/:id/restart")
async def test_a_restart_with_a_broken_file_changes_nothing(first: Certificates) -> None:
    async with with_listener() as live:
        await live.api.post("/listeners", json=tls(paths(first)))
        where = await address_of(live, "ssl:a")
        async with open_client(where, ssl_context=first.client_context()) as client:
            Path(first.options.certfile).write_text("nothing", encoding="utf-8")
            answer = await live.api.post("/listeners/ssl:a/restart")
            assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
            assert "there is no PEM certificate in it" in answer.json()["message"]
            await client.ping()
        await greeted(live, first)


@shows("PUT /listeners/:id")
async def test_other_certificates_are_for_new_connections(first: Certificates, second: Certificates) -> None:
    async with with_listener() as live:
        await live.api.post("/listeners", json=tls(paths(first)))
        where = await address_of(live, "ssl:a")
        async with open_client(where, ssl_context=first.client_context()) as client:
            assert (await put(live, "ssl:a", ssl_options=paths(second))).status_code == 200
            await greeted(live, second)
            await client.ping()
            assert (await shown(live, "ssl:a"))["current_connections"] >= 1
            # The door is opened anew for this, and who is inside stays.
            assert (await put(live, "ssl:a", tcp_options={"backlog": 9})).status_code == 200
            await client.ping()
            assert (await live.api.post("/listeners/ssl:a/stop")).status_code == 200
            assert await ended(client) == 0x98


async def test_a_deleted_listener_of_the_file_needs_its_certificate_no_more(first: Certificates) -> None:
    store = MemoryStore()
    tables = {"ssl": {"a": {"bind": ANYWHERE, "ssl_options": paths(first)}}}
    layers = Layers(Layers(Config()).config({"listeners": tables}))
    for verb in ("stop", "delete"):
        async with with_listener(store, layers=layers) as live:
            await greeted(live, first)
            if verb == "stop":
                await live.api.post("/listeners/ssl:a/stop")
            else:
                await live.api.delete("/listeners/ssl:a")
        Path(first.options.certfile).rename(first.folder / "gone.pem")
        async with with_listener(store, layers=layers) as live:
            rows = (await live.api.get("/listeners?type=ssl")).json()
            assert [row["status"]["running"] for row in rows] == ([False] if verb == "stop" else [])
            (first.folder / "gone.pem").rename(first.options.certfile)
            if verb == "stop":
                await live.api.post("/listeners/ssl:a/start")
