"""API keys below REST: the bootstrap file, the file of before, the first key and user, and what a check costs."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from api.fake_questions import fake_core
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.actors import slow_hash
from trio_broker.actors.api_keys import ApiKeys, Role
from trio_broker.actors.authn.login_line import PATIENCE
from trio_broker.actors.dashboard_users import DashboardUsers, WrongPassword
from trio_broker.actors.slow_hash import LONGEST, Line, SlowHash, TooBusy
from trio_broker.api.keys import Generated, open_administrators, read_bootstrap_file
from trio_broker.broker import Broker
from trio_broker.config import Config, DashboardConfig
from trio_broker.errors import ConfigError
from trio_broker.store.memory import MemoryStore
from trio_broker.testing.running import make_config

HTTP = {"dashboard": {"listeners": {"http": {"bind": "127.0.0.1:0"}}}}


@pytest.fixture
def bootstrap_file(tmp_path: Path) -> Path:
    return tmp_path / "api_keys.txt"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The secrets that were hashed slowly."""
    seen: list[str] = []
    verify = SlowHash.verify

    def counted(self: SlowHash, secret: str) -> bool:
        seen.append(secret)
        return verify(self, secret)

    monkeypatch.setattr(SlowHash, "verify", counted)
    return seen


async def opened(core: Any, data_dir: Path | None = None, bootstrap: Path | None = None) -> tuple[ApiKeys, Generated]:
    """A start of the REST API; with the same `core` it is a restart."""
    keys, users = ApiKeys(core), DashboardUsers(core)
    return keys, await open_administrators(keys, users, data_dir, bootstrap)


# -- the bootstrap file


def test_the_bootstrap_file(bootstrap_file: Path) -> None:
    bootstrap_file.write_text(
        "# who may call\n\nfirst:secret\n  second:geheim:viewer  \nthird:s3:publisher\n# x:y\nfourth:ü:administrator\n",
        encoding="utf-8",
    )
    assert read_bootstrap_file(bootstrap_file) == {
        "first": ("secret", Role.ADMINISTRATOR),
        "second": ("geheim", Role.VIEWER),
        "third": ("s3", Role.PUBLISHER),
        "fourth": ("ü", Role.ADMINISTRATOR),
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("lonely", "not of the form"),
        (":secret", "not of the form"),
        ("key:", "not of the form"),
        ("key:HIDDEN:viewer:more", "not of the form"),
        ("key:secret:HIDDEN", "unknown role, there are administrator, viewer, publisher"),
        ("key:HIDDEN:", "unknown role"),
        ("good:HIDDEN", "key 'good' is there twice"),
    ],
)
def test_a_bad_line_is_named_and_its_secret_is_not(bootstrap_file: Path, line: str, says: str) -> None:
    bootstrap_file.write_text(f"good:secret\n\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        read_bootstrap_file(bootstrap_file)
    text = str(caught.value)
    assert text.startswith(f"api_key.bootstrap_file: {bootstrap_file}, line 3: ")
    assert says in text
    assert "HIDDEN" not in text
    assert "\n" not in text


async def test_an_unreadable_bootstrap_file(bootstrap_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*No such file"):
        await opened(fake_core(), None, bootstrap_file)
    bootstrap_file.write_bytes(b"key:\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        await opened(fake_core(), None, bootstrap_file)


async def test_bootstrap_keys_are_let_in(tmp_path: Path, bootstrap_file: Path) -> None:
    bootstrap_file.write_text("first:secret\nsecond:geheim:viewer\n")
    data_dir = tmp_path / "data"
    keys, generated = await opened(fake_core(), data_dir, bootstrap_file)
    assert generated.key is None
    assert not data_dir.exists()
    assert await keys.check("first", "secret") is Role.ADMINISTRATOR
    assert await keys.check("second", "geheim") is Role.VIEWER
    assert await keys.check("second", "secret") is None
    assert await keys.check("third", "secret") is None
    first, second = keys.rows()
    assert (first.role, second.role, first.expired_at) == (Role.ADMINISTRATOR, Role.VIEWER, None)


async def test_a_bootstrap_key_has_the_name_that_emqx_gives_it() -> None:
    keys = ApiKeys(fake_core())
    keys.add("example-api-key", "secret_xxxx", Role.VIEWER)
    assert [key.name for key in keys.rows()] == ["from_bootstrap_file_53280fb165b6cd37"]


async def test_what_is_changed_of_a_bootstrap_key_stays(bootstrap_file: Path) -> None:
    core = fake_core()
    bootstrap_file.write_text("first:secret\n")
    keys, _ = await opened(core, None, bootstrap_file)
    (name,) = [key.name for key in keys.rows()]
    await keys.update(name, Role.VIEWER, expired_at=None, enable=False, desc="out")
    assert await keys.check("first", "secret") is None

    keys, _ = await opened(core, None, bootstrap_file)
    assert await keys.check("first", "secret") is None
    assert [(key.desc, key.role, key.enable) for key in keys.rows()] == [("out", Role.VIEWER, False)]
    await keys.update(name, Role.VIEWER, expired_at=None, enable=True)
    assert await keys.check("first", "secret") is Role.VIEWER

    keys, generated = await opened(core)  # out of the file, out of the broker
    assert keys.rows() == []
    assert generated.key is None


async def test_a_key_of_the_file_is_meant_where_another_is_called_the_same(bootstrap_file: Path) -> None:
    core = fake_core()
    keys, generated = await opened(core)
    assert generated.key is not None
    bootstrap_file.write_text(f"{generated.key.api_key}:mine:viewer\n")
    keys, _ = await opened(core, None, bootstrap_file)
    assert await keys.check(generated.key.api_key, "mine") is Role.VIEWER
    assert await keys.check(generated.key.api_key, generated.key.api_secret) is None
    assert await keys.delete("generated-key")
    assert await keys.check(generated.key.api_key, "mine") is Role.VIEWER


# -- the first start


async def test_the_first_start_makes_a_key_and_a_user_and_the_second_knows_them() -> None:
    core = fake_core()
    keys, generated = await opened(core)
    assert generated.key is not None
    assert generated.user is not None
    assert len(generated.key.api_secret) >= 32
    assert len(generated.user.password) >= 20
    assert generated.user.username == "admin"
    assert await keys.check(generated.key.api_key, generated.key.api_secret) is Role.ADMINISTRATOR
    kept = str([dict(core.documents.of(kind)) for kind in ("api_key", "dashboard_user")])
    for secret in (generated.key.api_secret, generated.user.password):
        assert secret not in kept
        assert secret not in repr((keys, keys.rows(), generated))

    again, another = await opened(core)
    assert (another.key, another.user) == (None, None)
    assert await again.check(generated.key.api_key, "wrong") is None
    assert await again.check(generated.key.api_key, generated.key.api_secret) is Role.ADMINISTRATOR
    assert await again.check(generated.key.api_key, "wrong") is None
    assert [key.name for key in again.rows()] == ["generated-key"]
    user = await DashboardUsers(core).log_in("admin", generated.user.password)
    assert user.role is Role.ADMINISTRATOR


async def test_where_there_are_users_no_key_is_made() -> None:
    """Who has deleted all keys wants none."""
    core = fake_core()
    keys, _ = await opened(core)
    await keys.delete("generated-key")
    keys, generated = await opened(core)
    assert keys.rows() == []
    assert generated.key is None


async def test_the_first_user_may_be_configured() -> None:
    core = fake_core()
    core.settings.config = Config(dashboard=DashboardConfig(default_username="root", default_password="password-1"))
    _, generated = await opened(core)
    assert generated.user is None
    assert (await DashboardUsers(core).log_in("root", "password-1")).username == "root"


async def test_a_password_that_was_lost_is_made_anew() -> None:
    """For who can start the broker, which is who may read all that it keeps."""
    core = fake_core()
    users = DashboardUsers(core)
    _, generated = await opened(core)
    before = generated.user
    assert before is not None
    await users.create("boss", "password-1")
    users = DashboardUsers(core)
    await users.update("admin", "mine", Role.VIEWER)
    made = (await open_administrators(ApiKeys(core), users, None, None, new_password=True)).user
    assert made is not None
    user = await users.log_in("admin", made.password)
    assert (user.role, user.description) == (Role.ADMINISTRATOR, "mine")
    with pytest.raises(WrongPassword):
        await users.log_in("admin", before.password)
    core.settings.config = Config(dashboard=DashboardConfig(default_username="root"))
    made = (await open_administrators(ApiKeys(core), users, None, None, new_password=True)).user
    assert made is not None
    assert (await users.log_in("root", made.password)).role is Role.ADMINISTRATOR


@pytest.mark.parametrize("password", ["short1", "x" * 65, "onlyletters", "12345678", "pässword-1"])
def test_a_configured_password_that_is_not_good_enough(password: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(Config(), {"dashboard": {"default_password": password}})
    assert str(caught.value).startswith("dashboard.default_password: ")
    assert password not in str(caught.value)


def test_the_configured_password_is_not_shown() -> None:
    assert "password-1" not in repr(DashboardConfig(default_password="password-1"))
    with pytest.raises(ConfigError) as caught:
        make_config(Config(), {"dashboard": {"default_password": 12345678}})
    assert "12345678" not in str(caught.value)


async def test_equal_secrets_have_different_hashes() -> None:
    one, two = SlowHash.made("secret"), SlowHash.made("secret")
    assert one.salt != two.salt
    assert one.hash != two.hash
    assert one.verify("secret")
    assert not one.verify("Secret")
    assert one.hash not in repr(one)


# -- the file of before


def kept_file(data_dir: Path, api_key: str = "old-key", secret: str = "old-secret") -> Path:
    """As it was written before the store had keys."""
    data_dir.mkdir(exist_ok=True)
    made = SlowHash.made(secret)
    key = {"api_key": api_key, "role": "administrator", "salt": made.salt, "hash": made.hash, "n": made.n}
    path = data_dir / "api_keys.json"
    path.write_text(json.dumps({"keys": [key | {"r": 8, "p": 1}]}))
    return path


async def test_the_file_of_before_is_taken_over_once(tmp_path: Path) -> None:
    core = fake_core()
    path = kept_file(tmp_path)
    there_when_durable = []

    async def durable() -> None:
        there_when_durable.append(path.exists())
        await trio.lowlevel.checkpoint()

    core.durable = durable
    keys, generated = await opened(core, tmp_path)
    assert generated.key is None
    assert generated.user is not None
    assert there_when_durable[0] is True
    assert not path.exists()
    assert await keys.check("old-key", "old-secret") is Role.ADMINISTRATOR

    kept_file(tmp_path)  # the process ended before it was removed
    keys, _ = await opened(core, tmp_path)
    assert [key.name for key in keys.rows()] == ["generated-key"]
    assert not path.exists()
    kept_file(tmp_path, "other-key")
    keys, _ = await opened(core, tmp_path)
    assert [key.name for key in keys.rows()] == ["generated-key", "generated-key-2"]


async def test_a_broker_takes_the_file_over_and_keeps_what_was_in_it(tmp_path: Path) -> None:
    store = MemoryStore()
    path = kept_file(tmp_path)
    for _ in range(2):
        broker = Broker(make_config(Config(), HTTP | {"node": {"data_dir": str(tmp_path)}}), store=store)
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(broker.run)
            assert await broker.questions.api_keys.check("old-key", "old-secret") is Role.ADMINISTRATOR
            assert addresses.generated_key is None
            broker.close()
        assert not path.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"keys":[{"api_key":"a"}]}',
        '{"keys":[{"api_key":"a","role":"king","salt":"","hash":""}]}',
        '{"keys":[{"api_key":"a","role":"viewer","salt":"*","hash":""}]}',
        "\udcff",
    ],
)
async def test_a_damaged_key_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "api_keys.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    before = path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        await opened(fake_core(), tmp_path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


async def test_a_key_file_that_cannot_be_read_or_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"node\.data_dir: cannot read"):
        await opened(fake_core(), tmp_path / "file")

    async def refused(self: trio.Path) -> None:
        raise PermissionError(13, "Permission denied")

    kept_file(tmp_path)
    monkeypatch.setattr(trio.Path, "unlink", refused)
    with pytest.raises(ConfigError, match=r"node\.data_dir: cannot remove .*: Permission denied"):
        await opened(fake_core(), tmp_path)


# -- what was stored


@pytest.mark.parametrize("body", [{}, {"api_key": 1}, [], "x", {"more": 1}])
async def test_a_stored_key_or_user_that_cannot_be_read_is_left_out(
    body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    core = fake_core()
    keys, generated = await opened(core)
    assert generated.key is not None
    for kind in ("api_key", "dashboard_user"):
        good = next(iter(core.documents.of(kind).values()))
        core.documents.put(kind, "bad", {**good, **body} if isinstance(body, dict) and body else body)
        core.documents.put(kind, "worse", good | {"hash": good["hash"] | {"salt": base64.b64encode(b"x").decode()[1:]}})
    keys, users = ApiKeys(core), DashboardUsers(core)
    assert [key.name for key in keys.rows()] == ["generated-key"]
    assert [user.username for user in users.rows()] == ["admin"]
    assert len([record for record in caplog.records if "is left out" in record.message]) == 4
    assert await keys.check(generated.key.api_key, generated.key.api_secret) is Role.ADMINISTRATOR


# -- what a check costs


async def test_a_known_secret_costs_no_slow_hash(slow: list[str]) -> None:
    core = fake_core()
    _, generated = await opened(core)
    keys, _ = await opened(core)
    assert generated.key is not None
    # Nobody of that name: nothing to compare with.
    assert await keys.check("nobody", "secret") is None
    assert slow == []
    for _ in range(3):
        assert await keys.check(generated.key.api_key, generated.key.api_secret) is Role.ADMINISTRATOR
    assert len(slow) == 1
    # The right secret is known by now, so any other is wrong.
    assert await keys.check(generated.key.api_key, "wrong") is None
    assert len(slow) == 1


async def test_guessing_does_not_hold_up_those_who_know(slow: list[str]) -> None:
    core = fake_core()
    _, generated = await opened(core)
    keys, _ = await opened(core)
    assert generated.key is not None
    keys.add("known", "secret", Role.VIEWER)
    api_key = generated.key.api_key
    answers: list[object] = []

    async def guess(number: int) -> None:
        answers.append(await keys.check(api_key, f"guess {number}"))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(guess, number)
        assert await keys.check("known", "secret") is Role.VIEWER
        assert answers == []
    assert answers == [None, None, None]


async def test_many_who_come_with_the_right_secret_cost_one_slow_hash(slow: list[str]) -> None:
    core = fake_core()
    _, generated = await opened(core)
    keys, _ = await opened(core)
    assert generated.key is not None
    answers: list[object] = []

    async def come(api_key: str, secret: str) -> None:
        answers.append(await keys.check(api_key, secret))

    async with trio.open_nursery() as nursery:
        for number in range(4):
            secret = generated.key.api_secret if number < 3 else "wrong"
            nursery.start_soon(come, generated.key.api_key, secret)
    assert answers.count(Role.ADMINISTRATOR) == 3
    assert answers.count(None) == 1
    assert slow.count(generated.key.api_secret) == 1


@pytest.mark.parametrize("goes", [False, True])
async def test_a_crowd_with_one_secret_stands_in_the_line_once(slow: list[str], goes: bool) -> None:
    """More than there is room for; when the first one goes away, another takes its place."""
    core = fake_core()
    _, generated = await opened(core)
    keys, _ = await opened(core)
    assert generated.key is not None
    api_key, secret = generated.key.api_key, generated.key.api_secret
    answers: list[object] = []
    first = trio.CancelScope()

    async def come(scope: trio.CancelScope) -> None:
        with scope:
            answers.append(await keys.check(api_key, secret))

    async with trio.open_nursery() as nursery:
        async with keys._line.turn(""):
            nursery.start_soon(come, first)
            await wait_all_tasks_blocked()
            for _ in range(2 * LONGEST):
                nursery.start_soon(come, trio.CancelScope())
            await wait_all_tasks_blocked()
            if goes:
                first.cancel()
                await wait_all_tasks_blocked()
    assert answers == [Role.ADMINISTRATOR] * (2 * LONGEST + (0 if goes else 1))
    assert slow == [secret]


@pytest.mark.parametrize("change", ["disable", "delete"])
async def test_a_key_that_is_taken_away_while_its_secret_is_checked(change: str) -> None:
    core = fake_core()
    _, generated = await opened(core)
    keys, _ = await opened(core)
    assert generated.key is not None
    answers: list[object] = []

    async def come(api_key: str, secret: str) -> None:
        answers.append(await keys.check(api_key, secret))

    async with trio.open_nursery() as nursery:
        async with keys._line.turn(""):
            nursery.start_soon(come, generated.key.api_key, generated.key.api_secret)
            await wait_all_tasks_blocked()
            if change == "disable":
                await keys.update("generated-key", Role.VIEWER, expired_at=None, enable=False)
            else:
                await keys.delete("generated-key")
    assert answers == [None]


async def test_odd_secrets() -> None:
    keys = ApiKeys(fake_core())
    keys.add("key", "s\udcff:ü ", Role.VIEWER)
    assert await keys.check("key", "s\udcff:ü ") is Role.VIEWER
    assert await keys.check("key", "") is None


# -- the line


async def stand(line: Line, address: str, done: Callable[[], Awaitable[None]]) -> None:
    async with line.turn(address):
        await done()


async def test_the_line_is_bounded(nursery: trio.Nursery) -> None:
    line = Line()
    for number in range(LONGEST + 1):  # and the one whose turn it is
        nursery.start_soon(stand, line, str(number), trio.sleep_forever)
    await wait_all_tasks_blocked()
    with pytest.raises(TooBusy):
        await stand(line, "another", trio.sleep_forever)
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True), trio.fail_after(10):
        await wait_all_tasks_blocked()
        await stand(line, "0", trio.lowlevel.checkpoint)


async def test_who_waits_too_long_is_sent_away(nursery: trio.Nursery, mock_clock: MockClock) -> None:
    line = Line()
    nursery.start_soon(stand, line, "a", trio.sleep_forever)
    sent_away = trio.Event()

    async def wait() -> None:
        with pytest.raises(TooBusy):
            await stand(line, "b", trio.sleep_forever)
        sent_away.set()

    await wait_all_tasks_blocked()
    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    mock_clock.jump(PATIENCE)
    await sent_away.wait()
    nursery.cancel_scope.cancel()


def test_what_a_hash_costs() -> None:
    """The parameters that are recommended for scrypt where people wait."""
    assert slow_hash.SlowHash(salt="", hash="").n == 2**14
