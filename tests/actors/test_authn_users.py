"""Users in the built-in database: which clients are let in as whom, and what becomes of them when a user goes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from actors.flows import SESSION, end_of, settle
from api.live import Live, running
from trio.testing import MockClock

from trio_broker.access.authentication import Credentials, Verdict
from trio_broker.access.passwords import Hasher
from trio_broker.actors.authn import built_in, login_line
from trio_broker.actors.authn.built_in import BuiltInDatabase
from trio_broker.actors.authn.users import DOCUMENTS, User
from trio_broker.broker import Broker
from trio_broker.config import Config, MqttConfig
from trio_broker.config.authentication import BuiltInDatabaseConfig, PasswordHashConfig
from trio_broker.errors import ConfigError
from trio_broker.protocol.packets import MQTT5, MQTT311
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.store.memory import MemoryStore
from trio_broker.store.operations import PutDocument
from trio_broker.store.ticket import DONE, Ticket
from trio_broker.testing import open_client

ID = "password_based:built_in_database"
TABLE = {"mechanism": "password_based", "backend": "built_in_database"}
FAST = PasswordHashConfig(name="bcrypt", salt_rounds=5)
"""The fastest of the slow ones."""


def with_users(**options: Any) -> Config:
    return Config(authentication=(BuiltInDatabaseConfig(**options),))


def database(live: Live) -> BuiltInDatabase:
    found = live.broker.questions.authn_users.found(ID)
    assert isinstance(found, BuiltInDatabase)
    return found


async def code(live: Live, **options: Any) -> int:
    """The reason code of the CONNACK."""
    async with open_client(live.broker, **options) as client:
        return int(client.connack.reason_code)


def credentials(username: str | None = "anna", password: bytes | None = b"secret", **more: Any) -> Credentials:
    return Credentials(more.pop("client_id", "c"), username, password, more.pop("peer_host", "10.0.0.1"), "tcp:x", 5)


# -- who is let in


@pytest.mark.parametrize("level", [MQTT5, MQTT311])
@pytest.mark.parametrize("name", ["plain", "md5", "sha", "sha256", "sha512", "bcrypt", "pbkdf2"])
async def test_who_knows_the_password_is_let_in(name: str, level: int) -> None:
    algorithm = PasswordHashConfig(name=name, salt_rounds=5, iterations=2)
    async with running(with_users(password_hash_algorithm=algorithm)) as live:
        await database(live).add_user("anna", "secret")
        assert await code(live, level=level, client_id="c", username="anna", password=b"secret") == 0
        assert await code(live, level=level, client_id="c", username="anna", password=b"Secret") == 0x86
        assert await code(live, level=level, client_id="c", username="anna", password=b"\xff\x00") == 0x86
        assert await code(live, level=level, client_id="c", username="anna", password=b"") == 0x86
        assert await code(live, level=level, client_id="c", username="anna") == 0x86
        assert await code(live, level=level, client_id="c", username="bert", password=b"secret") == 0x86
        assert await code(live, level=level, client_id="c") == 0x86


async def test_what_it_answers() -> None:
    """None where it does not know the client; without a password it refuses, whoever that is."""
    async with running(with_users()) as live:
        it = database(live)
        await it.add_user("anna", "secret")
        await it.add_user("root", "secret", is_superuser=True)
        assert await it.authenticate(credentials()) == Verdict(authenticator=ID)
        assert await it.authenticate(credentials("root")) == Verdict(superuser=True, authenticator=ID)
        assert await it.authenticate(credentials("bert")) is None
        assert await it.authenticate(credentials(None)) is None
        for username in ("anna", "bert", None):
            verdict = await it.authenticate(credentials(username, None))
            assert verdict == Verdict(ReasonCode.BAD_USER_NAME_OR_PASSWORD, authenticator=ID)
        assert await it.authenticate(credentials("anna", b"x")) == verdict


async def test_clients_share_their_verdicts() -> None:
    async with running(with_users()) as live:
        it = database(live)
        for user_id in ("anna", "bert"):
            await it.add_user(user_id, "secret")
        assert await it.authenticate(credentials("anna")) is await it.authenticate(credentials("bert"))


async def test_users_by_client_id() -> None:
    async with running(with_users(user_id_type="clientid")) as live:
        await database(live).add_user("c1", "secret")
        assert await code(live, client_id="c1", username="anything", password=b"secret") == 0
        assert await code(live, client_id="c1", password=b"secret") == 0
        assert await code(live, client_id="c2", username="c1", password=b"secret") == 0x86
        assert await code(live, client_id="", username="c1", password=b"secret") == 0x86


NASTY = [
    "+",
    "#",
    "/",
    "a/b",
    "%2F",
    " ",
    "A",
    "a",
    "\u0430",
    "e\u0301",
    "\u00e9",
    "\ufb01",
    "fi",
    "😀",
    "'",
    "x" * 500,
]
"""Some of them look alike."""


async def test_ids_are_compared_code_point_by_code_point() -> None:
    async with running(with_users()) as live:
        it = database(live)
        for user_id in NASTY:
            await it.add_user(user_id, f"of {user_id}")
        for user_id in NASTY:
            for other in NASTY:
                verdict = await it.authenticate(credentials(user_id, f"of {other}".encode()))
                assert verdict is not None
                assert verdict.accepted is (user_id == other)


async def test_a_superuser_is_one_for_authorization() -> None:
    async with running(with_users()) as live:
        await database(live).add_user("root", "secret", is_superuser=True)
        await live.connect("c", username="root", password=b"secret")
        actor = await live.broker.questions._actor("c")
        assert actor is not None
        assert actor.verdict is not None
        assert (actor.verdict.superuser, actor.verdict.authenticator) == (True, ID)


# -- slow hashes


async def test_unknown_clients_cost_what_wrong_passwords_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    verify = Hasher.verify

    def count(self: Hasher, password: bytes, kept: Any) -> bool:
        asked.append(password)
        return verify(self, password, kept)

    monkeypatch.setattr(Hasher, "verify", count)
    for algorithm in (FAST, PasswordHashConfig()):
        async with running(with_users(password_hash_algorithm=algorithm)) as live:
            it = database(live)
            await it.add_user("anna", "secret")
            asked.clear()
            assert await it.authenticate(credentials("anna", b"1")) is not None
            assert await it.authenticate(credentials("bert", b"2")) is None
            assert await it.authenticate(credentials(None, b"3")) is None
            assert asked == [b"1", b"2", b"3"]


async def test_nobody_to_find_costs_no_slow_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hasher, "verify", None)
    async with running(with_users(password_hash_algorithm=FAST)) as live:
        assert await database(live).authenticate(credentials()) is None


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> trio.Event:
    """Slow hashes wait for this event in place of a thread."""
    event = trio.Event()

    async def run_sync(function: Any, *args: Any, limiter: trio.CapacityLimiter) -> Any:
        async with limiter:
            await event.wait()
            return function(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    return event


async def test_too_many_at_once_are_told_to_come_again(
    stuck: trio.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those who wait are bounded, in number and time; one line in the log says so. Others are served meanwhile."""
    async with running(with_users(password_hash_algorithm=FAST)) as live:
        it = database(live)
        secret = it._hasher.made(b"secret")
        it.users.put(User("anna", secret))
        live.broker.questions.authn_users.line = login_line.LoginLine(threads=1, longest=10)
        outcomes: list[int] = []

        async def log_in(number: int) -> None:
            outcomes.append(await code(live, client_id=f"c{number}", username="anna", password=b"secret"))

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(log_in, number)
            await settle()
            assert outcomes == [ReasonCode.SERVER_BUSY] * 19
            assert (await live.api.get("/stats")).status_code == 200
            stuck.set()
        assert outcomes[19:] == [0] * 11
    told = [record.getMessage() for record in caplog.records if "too many clients wait" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith(ID)


async def test_a_user_who_changes_while_the_hash_is_computed(stuck: trio.Event) -> None:
    async with running(with_users(password_hash_algorithm=FAST)) as live:
        it = database(live)
        secret = it._hasher.made(b"secret")
        for user_id in ("stays", "rises", "goes", "new password"):
            it.users.put(User(user_id, secret))
        outcomes: dict[str, Verdict | None] = {}

        async def log_in(user_id: str) -> None:
            outcomes[user_id] = await it.authenticate(credentials(user_id))

        async with trio.open_nursery() as nursery:
            for user_id in list(it.users.all):
                nursery.start_soon(log_in, user_id)
            await settle()
            it.users.put(User("rises", secret, True))
            it.users.delete("goes")
            it.users.put(User("new password", it._hasher.made(b"other")))
            stuck.set()
        assert outcomes["stays"] == Verdict(authenticator=ID)
        assert outcomes["rises"] == Verdict(superuser=True, authenticator=ID)
        assert outcomes["goes"] is None
        assert outcomes["new password"] == Verdict(ReasonCode.BAD_USER_NAME_OR_PASSWORD, authenticator=ID)


# -- users come and go


async def test_users_are_there_after_a_restart() -> None:
    store = MemoryStore()
    async with running(with_users(), store) as live:
        it = database(live)
        await it.add_user("anna", "secret", is_superuser=True)
        await it.add_user("bert", "secret")
        await it.add_user("carl", "secret")
        await it.update_user("bert", "other")
        await it.delete_user("carl")
    async with running(with_users(), store) as live:
        it = database(live)
        assert {user.user_id: user.is_superuser for user in it.users.all.values()} == {"anna": True, "bert": False}
        assert await code(live, username="anna", password=b"secret") == 0
        assert await code(live, username="bert", password=b"other") == 0
        assert await code(live, username="bert", password=b"secret") == 0x86
        assert await code(live, username="carl", password=b"secret") == 0x86


async def test_no_password_is_kept() -> None:
    store = MemoryStore()
    async with running(with_users(), store) as live:
        await database(live).add_user("anna", "topsecret")
        assert "topsecret" not in repr(database(live).users.all)
    [kept] = [document for document in await store.documents() if document.kind == DOCUMENTS + ID]
    assert "topsecret" not in str(kept)


@pytest.mark.parametrize("body", ["null", "[]", '["x"]', "[true]", "[true, 1, 2]", '[true, "a", "b", "c"]', "{}", "5"])
async def test_a_user_in_the_store_that_cannot_be_read(body: str, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    async with running(with_users(), store) as live:
        await database(live).add_user("anna", "secret")
        store.write(PutDocument(DOCUMENTS + ID, "bert", body))
    async with running(with_users(), store) as live:
        assert list(database(live).users.all) == ["anna"]
    assert f"the user 'bert' of {ID} in the store is left out" in caplog.text


async def test_new_settings_keep_the_users() -> None:
    async with running(with_users()) as live:
        await database(live).add_user("c1", "secret")
        first = database(live)
        await live.broker.questions.settings.change({"authentication": [{**TABLE, "user_id_type": "clientid"}]})
        assert database(live) is not first
        assert await code(live, client_id="c1", password=b"secret") == 0
        assert await code(live, client_id="c2", username="c1", password=b"secret") == 0x86


async def test_users_go_with_their_authenticator() -> None:
    store = MemoryStore()
    async with running(with_users(), store) as live:
        await database(live).add_user("anna", "secret")
        it = database(live)
        await live.broker.questions.settings.change({"authentication": []})
        assert list(it.users.all) == ["anna"]  # it may come again with the next configuration
        await live.broker.questions.settings.change({"authentication": [TABLE]})
        await live.broker.questions.authenticators.remove(ID)
        assert not it.users.all
    assert not [document for document in await store.documents() if document.kind == DOCUMENTS + ID]


# -- connections of a user that is deleted


async def test_a_user_that_is_deleted_is_thrown_out() -> None:
    """MQTT 5.0 clients are told why; sessions stay; other users and other clients do, too."""
    async with running(with_users()) as live:
        it = database(live)
        for user_id in ("anna", "bert"):
            await it.add_user(user_id, "secret")
        a1 = await live.connect("a1", username="anna", password=b"secret", properties=SESSION)
        a2 = await live.connect("a2", level=MQTT311, username="anna", password=b"secret")
        b1 = await live.connect("b1", username="bert", password=b"secret")
        assert await it.delete_user("anna")
        assert (await end_of(a1)).reason_code == ReasonCode.NOT_AUTHORIZED
        assert (await end_of(a2)).how == "eof"
        await b1.ping()
        info = await live.broker.questions.client("a1")
        assert info is not None
        assert not info.connected
        assert await code(live, client_id="a1", username="anna", password=b"secret") == 0x86
        assert not await it.delete_user("anna")


async def test_who_is_thrown_out_by_client_id() -> None:
    async with running(with_users(user_id_type="clientid")) as live:
        it = database(live)
        for user_id in ("c1", "c2"):
            await it.add_user(user_id, "secret")
        c1 = await live.connect("c1", username="c2", password=b"secret")
        c2 = await live.connect("c2", password=b"secret")
        await it.delete_user("c1")
        await it.add_user("not here", "secret")
        await it.delete_user("not here")
        assert (await end_of(c1)).reason_code == ReasonCode.NOT_AUTHORIZED
        await c2.ping()


async def test_who_was_let_in_by_somebody_else_stays() -> None:
    """The same user name, but nobody of this database: it was not asked then."""
    config = Config(mqtt=MqttConfig(allow_anonymous=True))
    async with running(config) as live:
        before = await live.connect("before", username="anna")
        await live.broker.questions.settings.change({"authentication": [TABLE]})
        it = database(live)
        await it.add_user("anna", "secret")
        after = await live.connect("after", username="anna", password=b"secret")
        await it.delete_user("anna")
        assert (await end_of(after)).reason_code == ReasonCode.NOT_AUTHORIZED
        await before.ping()


class HeldStore(MemoryStore):
    """What is written while `held` is durable when that is done."""

    held: Ticket | None = None

    @property
    def ticket(self) -> Ticket:
        return DONE if self.held is None else self.held


async def test_who_is_on_the_way_in_when_its_user_is_deleted_is_refused() -> None:
    """It was let in, and waits until the store knows of its session."""
    store = HeldStore()
    async with running(with_users(), store) as live:
        it = database(live)
        await it.add_user("anna", "secret")
        store.held = Ticket()
        outcomes: list[int] = []

        async def come() -> None:
            outcomes.append(await code(live, client_id="c", username="anna", password=b"secret", properties=SESSION))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come)
            await settle()
            assert outcomes == []
            nursery.start_soon(it.delete_user, "anna")
            await settle()
            store.held.resolve()
        assert outcomes == [ReasonCode.NOT_AUTHORIZED]
        store.held = None


async def test_who_was_found_right_before_its_user_was_deleted_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(with_users()) as live:
        it = database(live)
        await it.add_user("anna", "secret")
        look = it.authenticate

        async def authenticate(credentials: Credentials) -> Verdict | None:
            verdict = await look(credentials)
            it.users.delete("anna")
            return verdict

        monkeypatch.setattr(it, "authenticate", authenticate)
        assert await code(live, client_id="c", username="anna", password=b"secret") == ReasonCode.NOT_AUTHORIZED


@pytest.mark.parametrize("clean_start", [False, True])
async def test_who_waits_behind_somebody_else_when_its_user_is_deleted_is_refused(clean_start: bool) -> None:
    """Both come to one session, whose first client waits until the store knows of it; that one stays."""
    store = HeldStore()
    async with running(with_users(), store) as live:
        it = database(live)
        for user_id in ("anna", "bert"):
            await it.add_user(user_id, "secret")
        store.held = Ticket()
        outcomes: dict[str, int] = {}

        async def come(username: str) -> None:
            outcomes[username] = await code(
                live,
                client_id="c",
                username=username,
                password=b"secret",
                clean_start=clean_start,
                properties=SESSION,
            )

        async with trio.open_nursery() as nursery:
            for username in ("bert", "anna"):
                nursery.start_soon(come, username)
                await settle()
            nursery.start_soon(it.delete_user, "anna")
            await settle()
            store.held.resolve()
        store.held = None
        assert outcomes == {"bert": ReasonCode.SUCCESS, "anna": ReasonCode.NOT_AUTHORIZED}


async def test_who_is_thrown_out_is_who_came_by_this_client_id() -> None:
    """Users are looked up by user name by now."""
    async with running(with_users(user_id_type="clientid")) as live:
        for user_id in ("c1", "c2"):
            await database(live).add_user(user_id, "secret")
        c1 = await live.connect("c1", username="c2", password=b"secret")
        await live.broker.questions.settings.change({"authentication": [TABLE]})
        await database(live).delete_user("c2")
        await c1.ping()
        await database(live).delete_user("c1")
        assert (await end_of(c1)).reason_code == ReasonCode.NOT_AUTHORIZED


async def test_a_new_password_throws_nobody_out() -> None:
    async with running(with_users()) as live:
        it = database(live)
        await it.add_user("anna", "secret")
        client = await live.connect("c", username="anna", password=b"secret")
        await it.update_user("anna", "other", is_superuser=True)
        await client.ping()
        assert await code(live, username="anna", password=b"secret") == 0x86


# -- a file with the first users


def bootstrapped(path: Path, **options: Any) -> Config:
    return with_users(bootstrap_file=str(path), **options)


async def test_users_of_a_file_are_there_at_the_start(tmp_path: Path, autojump_clock: MockClock) -> None:
    path = tmp_path / "users.csv"
    path.write_text("user_id,password,is_superuser\nanna,secret,true\nbert,secret,\nanna,later,\n")
    async with running(bootstrapped(path)) as live:
        it = database(live)
        assert {user.user_id: user.is_superuser for user in it.users.all.values()} == {"anna": True, "bert": False}
        assert await code(live, username="anna", password=b"secret") == 0
        assert await code(live, username="anna", password=b"later") == 0x86


async def test_a_file_never_overrides_users(tmp_path: Path) -> None:
    store = MemoryStore()
    path = tmp_path / "users.json"
    path.write_text('[{"user_id": "anna", "password": "of the file"}]')
    async with running(bootstrapped(path), store) as live:
        await database(live).update_user("anna", "secret")
    path.write_text('[{"user_id": "anna", "password": "of the file"}, {"user_id": "bert", "password": "secret"}]')
    async with running(bootstrapped(path), store) as live:
        assert await code(live, username="anna", password=b"secret") == 0
        assert await code(live, username="bert", password=b"secret") == 0


async def test_a_file_of_hashes(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    hash = "50a313e55a6161344ffcaac19b7034e1b72f77ed84386ca51efaa1b93756c556"  # of the salt and "public"
    path.write_text(f"user_id,password_hash,salt,is_superuser\nanna,{hash},e378187547bf2d6f0545a3f441aa4d8a,true\n")
    async with running(bootstrapped(path, bootstrap_type="hash")) as live:
        assert await code(live, username="anna", password=b"public") == 0


async def test_slow_hashes_of_a_file_are_made_once(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text("user_id,password\nanna,secret\n")
    store = MemoryStore()
    async with running(bootstrapped(path, password_hash_algorithm=FAST), store) as live:
        first = database(live).users.all["anna"]
        assert await code(live, username="anna", password=b"secret") == 0
    async with running(bootstrapped(path, password_hash_algorithm=FAST), store) as live:
        assert database(live).users.all["anna"] == first


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("users.csv", b"user_id,password\nanna,x\n,x\n", "line 3: bad_format: user_id is missing"),
        ("users.csv", b"user_id,pass\nanna,x\n", 'line 2: "plain_import_requires_password_field"'),
        ("users.json", b"[{}]", "row 1: bad_format: user_id is missing"),
        ("users.json", b"{}", "unknown_file_format"),
        ("users.txt", b"", "unsupported_file_format"),
        ("users.csv", None, "No such file"),
    ],
)
async def test_a_file_that_is_wrong_is_told_at_the_start(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="bootstrap_file") as caught:
        await Broker(bootstrapped(path)).run()
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


async def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder; and one that has no end is not read to it."""
    (tmp_path / "users.csv").mkdir()
    long = tmp_path / "long.csv"
    long.write_text("user_id,password\n" + "anna,x\n" * 100)
    monkeypatch.setattr(built_in, "LARGEST_FILE", 100)
    for path, message in ((tmp_path / "users.csv", "no plain file"), (long, "larger than")):
        with pytest.raises(ConfigError, match=message):
            await Broker(bootstrapped(path)).run()


async def test_a_password_that_bcrypt_cannot_take_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text(f"user_id,password\nanna,{'x' * 72}\nbert,{'topsecret' * 9}\n")
    with pytest.raises(ConfigError, match=r"line 3.*72 bytes") as caught:
        await Broker(bootstrapped(path, password_hash_algorithm=FAST)).run()
    assert "topsecret" not in str(caught.value)


async def test_a_long_file_tells_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(built_in, "TELL_EVERY", 0)
    path = tmp_path / "users.csv"
    path.write_text("user_id,password\n" + "".join(f"u{number},x\n" for number in range(3)))
    caplog.set_level(logging.INFO)
    async with running(bootstrapped(path, password_hash_algorithm=FAST)):
        assert "2 of 3 passwords are hashed" in caplog.text
    assert "3 of 3 users of" in caplog.text
