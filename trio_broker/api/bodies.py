"""Request bodies that are not JSON: a text, and a file that is uploaded.

Invariant: what a handler gets was sent under the content type it asked for; whatever else comes in is an `ApiError`.

A handler asks for one by the type of its `body`: `TextBody` or `Upload`.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import define, field
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from trio_broker.api.failures import Failure, invalid

NOT_TEXT: Final = Failure(415, "UNSUPPORTED_MEDIA_TYPE", "content-type:text/plain Required")
NOT_MULTIPART: Final = Failure(415, "UNSUPPORTED_MEDIA_TYPE", "content-type:multipart/form-data Required")

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


def is_special(wanted: Any) -> bool:
    return wanted is TextBody or wanted is Upload


def read_body(raw: bytes, content_type: str, wanted: Any) -> TextBody | Upload:
    return _text(raw, content_type) if wanted is TextBody else _upload(raw, content_type)


def failure_of(wanted: Any) -> Failure:
    """How a body of another content type is refused."""
    return NOT_TEXT if wanted is TextBody else NOT_MULTIPART


def described(wanted: Any) -> dict[str, Any]:
    """The content of the body for the API document."""
    if wanted is TextBody:
        return {"text/plain": {"schema": {"type": "string"}}}
    file = {"type": "string", "format": "binary"}
    return {"multipart/form-data": {"schema": {"type": "object", "properties": {PART: file}, "required": [PART]}}}


def _text(raw: bytes, content_type: str) -> TextBody:
    if raw and parse_options_header(content_type)[0].lower() != "text/plain":
        raise NOT_TEXT.error()
    try:
        return TextBody(raw.decode())
    except UnicodeDecodeError as error:
        raise invalid("root", f"Expected UTF-8, byte {error.start} is not") from None


def _upload(raw: bytes, content_type: str) -> Upload:
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
        raise invalid(f"root.{PART}", "required_field")
    return Upload(name or "", b"".join(parts))
