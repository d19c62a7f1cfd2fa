"""Files of users: what they may say, and what is wrong with them, told without what they say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.access.user_files import PasswordType, UserFileError, UserRow, check_user_id, rows_of, rows_of_file

SECRET = "topsecret"


def refusal(name: str, content: bytes, kind: PasswordType = "hash") -> UserFileError:
    with pytest.raises(UserFileError) as caught:
        rows_of_file(name, content, kind)
    assert SECRET not in str(caught.value)
    return caught.value


def outcome(name: str, content: bytes, kind: PasswordType) -> list[UserRow] | UserFileError:
    try:
        return rows_of_file(name, content, kind)
    except UserFileError as error:
        return error


def test_a_csv_as_emqx_has_it() -> None:
    content = (
        b"user_id,password_hash,salt,is_superuser\n"
        b"myuser3,b6c743545a7817ae8c8f624371d5f5f0373234bb0ff36b8ffbf19bce0e06ab75,de1024f462fb83910fd13151bd4bd235,true\n"
        b"myuser4,ee68c985a69208b6eda8c6c9b4c7c2d2b15ee2352cdd64a903171710a99182e8,ad773b5be9dd0613fe6c2f4d8c403139,false\n"
    )
    rows = rows_of_file("users.csv", content, "hash")
    assert [(row.user_id, len(row.secret), len(row.salt), row.is_superuser, row.place) for row in rows] == [
        ("myuser3", 64, 32, True, "line 2"),
        ("myuser4", 64, 32, False, "line 3"),
    ]


def test_the_same_as_json() -> None:
    content = (
        b'[{"user_id":"a","password":"x","is_superuser":true},{"user_id":"b","password":"","is_superuser":"true"}]'
    )
    assert rows_of_file("users.json", content, "plain") == [
        UserRow("a", "x", "", True, "row 1"),
        UserRow("b", "", "", True, "row 2"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        "user_id,password\nanna,x\n",
        "\ufeffuser_id,password\nanna,x",
        "user_id,password\r\nanna,x\r\n\r\n",
        "\n\n user_id , password \n\nanna,x\n,\n",
        'user_id,password\n"anna","x"\n',
        "is_superuser,more,password,user_id\n,,x,anna\n",
    ],
)
def test_csv_in_other_clothes(content: str) -> None:
    rows = rows_of_file("u.csv", content.encode(), "plain")
    assert [(row.user_id, row.secret, row.salt, row.is_superuser) for row in rows] == [("anna", "x", "", False)]


def test_quotes_hold_what_separates() -> None:
    rows = rows_of_file("u.csv", b'user_id,password\n"a,b","say ""hi""\nthere"\nc,d\n', "plain")
    assert [(row.user_id, row.secret, row.place) for row in rows] == [
        ("a,b", 'say "hi"\nthere', "line 2"),
        ("c", "d", "line 4"),
    ]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"user_id,password_hash\n", b"\xef\xbb\xbf"])
def test_a_csv_without_users(content: bytes) -> None:
    assert rows_of_file("u.csv", content, "hash") == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("users", "unknown_file_format"),
        ("", "unknown_file_format"),
        (".json", "unknown_file_format"),
        ("users.txt", '{unsupported_file_format,<<".txt">>}'),
        ("users.JSON", '{unsupported_file_format,<<".JSON">>}'),
        ("a.json/b.exe", '{unsupported_file_format,<<".exe">>}'),
    ],
)
def test_the_name_says_what_it_is(name: str, message: str) -> None:
    assert refusal(name, b"[]").message == message


@pytest.mark.parametrize(
    ("content", "kind", "message", "place"),
    [
        (b"{}", "hash", "unknown_file_format", ""),
        (b'"x"', "hash", "unknown_file_format", ""),
        (b"[1]", "hash", "bad_format", "row 1"),
        (b'[{"user_id":"a","password_hash":"x"},{}]', "hash", "bad_format", "row 2"),
        (b'[{"user_id":"","password_hash":"x"}]', "hash", "bad_format", "row 1"),
        (b'[{"user_id":5,"password_hash":"x"}]', "hash", "bad_format", "row 1"),
        (b'[{"user_id":null,"password_hash":"x"}]', "hash", "bad_format", "row 1"),
        (b'[{"user_id":"a\\u0000","password_hash":"x"}]', "hash", "bad_format", "row 1"),
        (b'[{"user_id":"\\ud800","password_hash":"x"}]', "hash", "bad_format", "row 1"),
        (b'[{"user_id":"a","password":"topsecret"}]', "hash", '"hash_import_requires_password_hash_field"', "row 1"),
        (b'[{"user_id":"a","password_hash":"topsecret"}]', "plain", '"plain_import_requires_password_field"', "row 1"),
        (b'[{"user_id":"a","password":null}]', "plain", '"plain_import_requires_password_field"', "row 1"),
        (b'[{"user_id":"a","password":12}]', "plain", "bad_format", "row 1"),
        (b'[{"user_id":"a","password":"\\udc00"}]', "plain", "bad_format", "row 1"),
        (b'[{"user_id":"a","password_hash":"topsecret","salt":5}]', "hash", "bad_format", "row 1"),
        (b'[{"user_id":"a","password":"' + b"x" * 65_536 + b'"}]', "plain", "bad_format", "row 1"),
        (b'[{"user_id":"' + b"x" * 65_536 + b'","password":"x"}]', "plain", "bad_format", "row 1"),
        (b"[", "hash", "bad_format", ""),
        (b"[{topsecret}]", "hash", "bad_format", ""),
        (b"\xff", "hash", "bad_format", ""),
        (b"[" * 100_000, "hash", "bad_format", ""),
        (b"[" + b"1" * 5_000 + b"]", "hash", "bad_format", ""),
    ],
)
def test_json_that_is_no_list_of_users(content: bytes, kind: PasswordType, message: str, place: str) -> None:
    error = refusal("users.json", content, kind)
    assert (error.message, error.place) == (message, place)


@pytest.mark.parametrize(
    ("content", "message", "place"),
    [
        (b"name,password\nanna,topsecret\n", "bad_format", "line 1"),
        (b"user_id,password\nanna\n", "bad_format", "line 2"),
        (b"user_id,password\nanna,x\nbert,topsecret,\n", "bad_format", "line 3"),
        (b"user_id,password\n,topsecret\n", "bad_format", "line 2"),
        (b"user_id,password\nanna,\n", '"plain_import_requires_password_field"', "line 2"),
        (b"user_id\nanna\n", '"plain_import_requires_password_field"', "line 2"),
        (b'user_id,password\n\nanna,"topsecret', "bad_format", "line 3"),
        (b'user_id,password\nanna,"x"topsecret\n', "bad_format", "line 2"),
        (b"user_id,password\nanna,x\n\xff,x\n", "bad_format", "line 3"),
        (b"user_id,password\nanna,\0\n", None, ""),
    ],
)
def test_csv_that_is_no_list_of_users(content: bytes, message: str | None, place: str) -> None:
    if message is None:
        assert [row.secret for row in rows_of_file("u.csv", content, "plain")] == ["\0"]
        return
    error = refusal("u.csv", content, "plain")
    assert (error.message, error.place) == (message, place)


@pytest.mark.parametrize(("value", "meant"), [(True, True), ("true", True), (1, False), ("TRUE", False), (None, False)])
def test_who_is_a_superuser(value: Any, meant: bool) -> None:
    assert rows_of([{"user_id": "a", "password": "x", "is_superuser": value}], "plain")[0].is_superuser is meant


@pytest.mark.parametrize("user_id", ["+", "#", "/", "a/b", "%2F", " ", "ü€😀", "e\u0301", "\u2024", "x" * 65_535, "\n"])
def test_what_clients_can_call_themselves(user_id: str) -> None:
    assert check_user_id(user_id) == user_id


@given(st.binary(), st.sampled_from(["a.csv", "a.json"]), st.sampled_from(["plain", "hash"]))
def test_no_file_is_a_fault(content: bytes, name: str, kind: PasswordType) -> None:
    assert isinstance(outcome(name, content, kind), list | UserFileError)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda it: st.lists(it)), st.text())
def test_no_document_is_a_fault(value: Any, user_id: str) -> None:
    document = [{"user_id": user_id, "password_hash": value, "salt": value, "is_superuser": value}]
    found = outcome("a.json", json.dumps(document).encode(), "hash")
    if isinstance(found, UserFileError):
        assert found.place == "row 1"
    else:
        assert found[0].user_id == user_id


def test_nothing_secret_is_shown() -> None:
    assert SECRET not in repr(rows_of([{"user_id": "a", "password_hash": SECRET, "salt": SECRET}], "hash"))
