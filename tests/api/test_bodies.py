"""Bodies that are not JSON: texts and uploads."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_broker.api.bodies import TextBody, Upload, described, read_body
from trio_broker.api.failures import ApiError

KIND = "multipart/form-data; boundary=b"


def part(headers: bytes, content: bytes) -> bytes:
    return b"--b\r\n" + headers + b"\r\n\r\n" + content + b"\r\n"


FILE = b'Content-Disposition: form-data; name="filename"; filename="x.tar.gz"\r\nContent-Type: application/gzip'
OTHER = b'Content-Disposition: form-data; name="other"'
END = b"--b--\r\n"


def test_a_text() -> None:
    assert read_body("é".encode(), "text/plain; charset=utf-8", TextBody) == "é"
    assert read_body(b"", "", TextBody) == ""


@pytest.mark.parametrize(("raw", "kind", "status"), [(b"a", "application/json", 415), (b"\xff", "text/plain", 400)])
def test_texts_that_are_refused(raw: bytes, kind: str, status: int) -> None:
    with pytest.raises(ApiError) as refused:
        read_body(raw, kind, TextBody)
    assert refused.value.status == status


def test_an_upload() -> None:
    raw = part(OTHER, b"1") + part(FILE, b"\x00\r\n--c\xff") + part(FILE, b"another") + END
    assert read_body(raw, KIND, Upload) == Upload("x.tar.gz", b"\x00\r\n--c\xff")


def test_a_field_without_a_name_of_a_file() -> None:
    raw = part(b'Content-Disposition: form-data; name="filename"', b"1") + END
    assert read_body(raw, KIND, Upload) == Upload("", b"1")


@pytest.mark.parametrize(
    ("raw", "kind", "status"),
    [
        (b"", "", 415),
        (b"{}", "application/json", 415),
        (b"", "multipart/form-data; boundary=é", 400),
        (b"", "multipart/form-data", 400),
        (b"", KIND, 400),
        (part(OTHER, b"1") + END, KIND, 400),
        (part(FILE, b"1"), KIND, 400),
        (b"--b\r\nContent-Disposition form-data\r\n\r\n1\r\n--b--", KIND, 400),
        (part(OTHER, b"") * 100 + END, KIND, 400),
    ],
)
def test_uploads_that_are_refused(raw: bytes, kind: str, status: int) -> None:
    with pytest.raises(ApiError) as refused:
        read_body(raw, kind, Upload)
    assert refused.value.status == status


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([b"--b", b"--b--", b"\r\n", b"\n", FILE, OTHER, b":", b"x", b"\xff"]), max_size=12))
def test_no_upload_fails_otherwise(pieces: list[bytes]) -> None:
    status = 0
    try:
        found = read_body(b"".join(pieces), KIND, Upload)
    except ApiError as error:
        status = error.status
    assert status == 400 or isinstance(found, Upload)


def test_the_document_describes_them() -> None:
    assert list(described(TextBody)) == ["text/plain"]
    assert described(Upload)["multipart/form-data"]["schema"]["required"] == ["filename"]
