"""Request bodies that are not JSON: a text, and a file that is uploaded.

Invariant: what a handler gets was sent under the content type it asked for; whatever else comes in is an `ApiError`.

A handler asks for one by the type of its `body`: `TextBody`, `Upload` or `UploadOrJson`.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import define, field
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from trio_broker.api.failures import ApiError, Failure, invalid

NOT_TEXT: Final = Failure(415, "UNSUPPORTED_MEDIA_TYPE", "content-type:text/plain Required")
NOT_MULTIPART: Final = Failure(415, "UNSUPPORTED_MEDIA_TYPE", "content-type:multipart/form-data Required")
NOT_UPLOAD_OR_JSON: Final = Failure(
    415, "UNSUPPORTED_MEDIA_TYPE", "content-type:application/json or multipart/form-data Required"
)
NO_FILE: Final = Failure(400, "BAD_REQUEST", "Missing required parameter: filename")

PART: Final = "filename"
"""The name of the part that holds the file, as EMQX has it."""
MOST_PARTS: Final = 10


class TextBody(str):
    """The text of a `text/plain` body."""

    __slots__ = ()


@define(frozen=True)
class Upload:
    """The part `filename` of a `multipart/form-data` body; `name` is what the file is called where it comes from."""

    name: str
    content: bytes = field(repr=False)


@define(frozen=True)
class UploadOrJson:
    """Such a part; or a body that is said to be JSON, which has no name (None) and was not looked at yet."""

    name: str | None
    content: bytes = field(repr=False)


def is_special(wanted: Any) -> bool:
    return wanted in (TextBody, Upload, UploadOrJson)


def read_body(raw: bytes, content_type: str, wanted: Any) -> TextBody | Upload | UploadOrJson:
    if wanted is TextBody:
        return _text(raw, content_type)
    return _upload(raw, content_type) if wanted is Upload else _upload_or_json(raw, content_type)


def failure_of(wanted: Any) -> Failure:
    """How a body of another content type is refused."""
    if wanted is TextBody:
        return NOT_TEXT
    return NOT_MULTIPART if wanted is Upload else NOT_UPLOAD_OR_JSON


def described(wanted: Any) -> dict[str, Any]:
    """The content of the body for the API document."""
    if wanted is TextBody:
        return {"text/plain": {"schema": {"type": "string"}}}
    file = {"type": "string", "format": "binary"}
    parts = {"type": "object", "properties": {PART: file}, "required": [PART]}
    found: dict[str, Any] = {"multipart/form-data": {"schema": parts}}
    if wanted is UploadOrJson:
        found["application/json"] = {"schema": {"type": "array", "items": {"type": "object"}}}
    return found


def _text(raw: bytes, content_type: str) -> TextBody:
    if raw and parse_options_header(content_type)[0].lower() != "text/plain":
        raise NOT_TEXT.error()
    try:
        return TextBody(raw.decode())
    except UnicodeDecodeError as error:
        raise invalid("root", f"Expected UTF-8, byte {error.start} is not") from None


def _upload(raw: bytes, content_type: str, missing: ApiError | None = None) -> Upload:
    media_type, options = parse_options_header(content_type)
    if media_type.lower() != "multipart/form-data" or not options.get("boundary", "").isascii():
        raise NOT_MULTIPART.error()
    name, parts, wanted = None, list[bytes](), False
    try:
        decoder = MultipartDecoder(options.get("boundary", "").encode(), max_parts=MOST_PARTS)
        decoder.receive_data(raw)
        decoder.receive_data(None)
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            if isinstance(event, Field | File):
                wanted = event.name == PART and name is None
                if wanted:
                    name = event.filename if isinstance(event, File) else ""
            elif isinstance(event, Data) and wanted:
                parts.append(event.data)
    except Exception as error:  # noqa: BLE001 - it refuses in several ways, all of which are the sender's fault
        raise invalid("root", f"Expected multipart/form-data: {str(error)[:200] or type(error).__name__}") from None
    if name is None:
        raise missing or invalid(f"root.{PART}", "required_field")
    return Upload(name or "", b"".join(parts))


def _upload_or_json(raw: bytes, content_type: str) -> UploadOrJson:
    media_type = parse_options_header(content_type)[0].lower()
    if media_type == "application/json":
        return UploadOrJson(None, raw)
    if raw and media_type != "multipart/form-data":
        raise NOT_UPLOAD_OR_JSON.error()
    upload = _upload(raw, content_type, NO_FILE.error()) if raw else Upload("", b"")
    if not upload.name:
        raise NO_FILE.error()
    return UploadOrJson(upload.name, upload.content)
