"""API keys: the bootstrap file, the generated key, hashes on disk, and what a check costs."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import trio

from trio_broker.api import keys as keys_module
from trio_broker.api.keys import ApiKeys, Role, load_keys, read_bootstrap_file
from trio_broker.errors import ConfigError


@pytest.fixture
def bootstrap_file(tmp_path: Path) -> Path:
    return tmp_path / "api_keys.txt"


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
        ("key:HIDDEN:king", "unknown role 'king', there are administrator, viewer, publisher"),
        ("key:HIDDEN:", "unknown role ''"),
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


def test_an_unreadable_bootstrap_file(bootstrap_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*No such file"):
        load_keys(None, bootstrap_file)
    bootstrap_file.write_bytes(b"key:\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_keys(None, bootstrap_file)


async def test_bootstrap_keys_are_let_in(tmp_path: Path, bootstrap_file: Path) -> None:
    await trio.Path(bootstrap_file).write_text("first:secret\nsecond:geheim:viewer\n")
    data_dir = tmp_path / "data"
    keys, generated = load_keys(data_dir, bootstrap_file)
    assert generated is None
    assert not data_dir.exists()
    assert await keys.check("first", "secret") is Role.ADMINISTRATOR
    assert await keys.check("second", "geheim") is Role.VIEWER
    assert await keys.check("second", "secret") is None
    assert await keys.check("third", "secret") is None


async def test_the_first_start_makes_a_key_and_the_second_knows_it(tmp_path: Path) -> None:
    data_dir = tmp_path / "a" / "data"
    keys, generated = load_keys(data_dir, None)
    assert generated is not None
    assert len(generated.api_secret) >= 32
    assert await keys.check(generated.api_key, generated.api_secret) is Role.ADMINISTRATOR
    path = data_dir / "api_keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert generated.api_secret not in path.read_text()
    assert [entry.name for entry in data_dir.iterdir()] == ["api_keys.json"]

    again, another = load_keys(data_dir, None)
    assert another is None
    assert await again.check(generated.api_key, "wrong") is None
    assert await again.check(generated.api_key, generated.api_secret) is Role.ADMINISTRATOR
    assert await again.check(generated.api_key, "wrong") is None


def test_equal_secrets_have_different_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_urlsafe", lambda size: "always the same")
    hashes = []
    for name in ("one", "two"):
        load_keys(tmp_path / name, None)
        (stored,) = json.loads((tmp_path / name / "api_keys.json").read_text())["keys"]
        hashes.append((stored["salt"], stored["hash"]))
    assert hashes[0][0] != hashes[1][0]
    assert hashes[0][1] != hashes[1][1]


async def test_without_a_data_dir_the_key_lasts_as_long_as_the_process() -> None:
    keys, generated = load_keys(None, None)
    assert generated is not None
    assert await keys.check(generated.api_key, generated.api_secret) is Role.ADMINISTRATOR
    assert generated.api_secret not in repr(keys)


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
def test_a_damaged_key_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "api_keys.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    before = path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        load_keys(tmp_path, None)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_a_data_dir_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"node\.data_dir: cannot"):
        load_keys(tmp_path / "file", None)


async def test_a_known_secret_costs_no_slow_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, generated = load_keys(tmp_path, None)
    assert generated is not None
    keys, _ = load_keys(tmp_path, None)
    slow: list[str] = []
    scrypt = keys_module._scrypt

    def counted(secret: str, salt: bytes, cost: keys_module._Stored) -> bytes:
        slow.append(secret)
        return scrypt(secret, salt, cost)

    monkeypatch.setattr(keys_module, "_scrypt", counted)
    # Nobody of that name: nothing to compare with.
    assert await keys.check("nobody", "secret") is None
    assert slow == []
    for _ in range(3):
        assert await keys.check(generated.api_key, generated.api_secret) is Role.ADMINISTRATOR
    assert len(slow) == 1
    # The right secret is known by now, so any other is wrong.
    assert await keys.check(generated.api_key, "wrong") is None
    assert len(slow) == 1


async def test_guessing_does_not_hold_up_those_who_know(tmp_path: Path) -> None:
    _, generated = load_keys(tmp_path, None)
    assert generated is not None
    keys, _ = load_keys(tmp_path, None)
    keys.add("known", "secret", Role.VIEWER)
    answers: list[object] = []

    async def guess(number: int) -> None:
        answers.append(await keys.check(generated.api_key, f"guess {number}"))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(guess, number)
        assert await keys.check("known", "secret") is Role.VIEWER
        assert answers == []
    assert answers == [None, None, None]


async def test_odd_secrets() -> None:
    keys = ApiKeys()
    keys.add("key", "s\udcff:ü ", Role.VIEWER)
    assert await keys.check("key", "s\udcff:ü ") is Role.VIEWER
    assert await keys.check("key", "") is None
