"""Routes: how one is declared, and how a raw request path finds it.

Invariant: a route says everything about itself (method, path, parameters, body, answers, who may call it); requests
are dispatched by it and the API document is made from it, so the two cannot differ.

A handler is an async function. Its signature is the declaration: the first argument is the `Api`; arguments named
like the `:segments` of the path get their decoded text; `query` and `body`, where present, are typed with what the
query and the JSON body must be (for a body that is not JSON see `bodies`); `accept`, where present, gets the Accept
header; `caller`, where present, gets the `Caller`; the return type is the body of the success answer (`None`: 204).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar, Union, get_args, get_type_hints
from urllib.parse import unquote_to_bytes, urlsplit

from attrs import define, field

from trio_broker.api.failures import Failure, invalid

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])

EVERYBODY: Final = "everybody"
VIEWERS: Final = "viewers"
PUBLISHERS: Final = "publishers"
ADMINISTRATORS: Final = "administrators"

MOST_SEGMENTS: Final = 256
"""Of a path in which a variable may stand for several."""


@define(frozen=True)
class Reply:
    """An answer with a status or a form of its own. `body` is encoded as JSON unless `text` is given."""

    status: int
    body: object = None
    text: str | bytes | None = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(factory=dict)


@define(frozen=True)
class Documented:
    """An answer beyond the success and the `Failure`s, for the API document.

    Where one of them is a success (201, 202, 200 in another form), a handler that returns nothing but `Reply` is not
    taken to answer 204. `body` is the type of JSON bodies; what else `content_type` names is text or bytes.
    """

    status: int
    description: str
    body: Any = None
    content_type: str = "application/json"


@define(frozen=True)
class Route:
    """`access` says who may call it: everybody (no credentials), viewers, publishers or administrators.

    `closed`, asked with the `Api` at each call, says whether what is for everybody is for viewers now. With
    `tokens_only` no API key will do: it is for people who have logged in; `own` is the part of the path in which those
    who are no administrators have to stand themselves. `takes` is the type of what a handler reads for itself, for the
    API document.
    """

    method: str
    path: str
    tag: str
    summary: str
    handler: Callable[..., Awaitable[Any]]
    access: str
    query: Any
    body: Any
    result: Any
    failures: tuple[Failure, ...]
    answers: tuple[Documented, ...]
    closed: Callable[[Any], bool] | None = None
    tokens_only: bool = False
    own: str | None = None
    takes: Any = None

    @property
    def path_names(self) -> list[str]:
        return [segment[1:] for segment in self.path.split("/") if segment.startswith(":")]


class Routes:
    """Collects the routes of one resource; its methods are decorators."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.all: list[Route] = []

    def get(self, path: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        return self._declare("GET", path, summary, access=more.pop("access", VIEWERS), **more)

    def post(self, path: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        return self._declare("POST", path, summary, access=more.pop("access", ADMINISTRATORS), **more)

    def put(self, path: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        return self._declare("PUT", path, summary, access=more.pop("access", ADMINISTRATORS), **more)

    def delete(self, path: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        return self._declare("DELETE", path, summary, access=more.pop("access", ADMINISTRATORS), **more)

    def _declare(
        self,
        method: str,
        path: str,
        summary: str,
        *,
        access: str,
        failures: Sequence[Failure] = (),
        answers: Sequence[Documented] = (),
        closed: Callable[[Any], bool] | None = None,
        tokens_only: bool = False,
        own: str | None = None,
        takes: Any = None,
    ) -> Callable[[Handler], Handler]:
        def decorate(handler: Handler) -> Handler:
            hints = get_type_hints(handler, include_extras=True)
            self.all.append(
                Route(
                    method,
                    path,
                    self.tag,
                    summary,
                    handler,
                    access,
                    hints.get("query"),
                    hints.get("body"),
                    _success(hints["return"]),
                    tuple(failures),
                    tuple(answers),
                    closed,
                    tokens_only,
                    own,
                    takes,
                )
            )
            return handler

        return decorate


def _success(hint: Any) -> Any:
    """The return type without `Reply`; None where nothing is left."""
    if hint is Reply or hint is type(None):
        return None
    if Reply not in get_args(hint):
        return hint
    return Union[tuple(part for part in get_args(hint) if part is not Reply)]  # noqa: UP007 - made of a tuple


@define
class _Node:
    literal: dict[str, _Node] = field(factory=dict)
    variable: _Node | None = None
    routes: dict[str, Route] = field(factory=dict)


@define
class Found:
    """A known path: its routes by method and the decoded segments that stand for its variables, in order."""

    routes: dict[str, Route]
    values: list[str]


class Router:
    """Finds routes by the segments of the path as it was sent.

    The path is split before it is percent-decoded: `%2F` inside a client id or a topic does not end its segment.
    `empty`: whether segments without a text count. `several`: a variable may also stand for several segments where
    there is no other way, since client ids and topics with a raw `/` are sent.
    """

    def __init__(self, *, empty: bool = True, several: bool = False) -> None:
        self._root = _Node()
        self._empty = empty
        self._several = several

    def add(self, path: str, route: Route) -> None:
        """`path` is the whole path; a segment that begins with `:` stands for any one segment."""
        node = self._root
        for segment in path.strip("/").split("/"):
            if segment.startswith(":"):
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.literal.setdefault(segment, _Node())
        if route.method in node.routes:
            raise ValueError(f"two routes for {route.method} {path}")
        node.routes[route.method] = route

    def find(self, raw_path: bytes, method: str | None = None) -> Found | None:
        """None: no such path, with this `method` where one is given. 400 when a segment is not UTF-8."""
        if not raw_path.startswith(b"/"):
            # The absolute form of a request target [RFC 9112 section 3.2.2]; anything else finds nothing.
            try:
                raw_path = urlsplit(raw_path).path
            except ValueError:
                return None
            if not raw_path.startswith(b"/"):
                return None
        segments = raw_path[1:].split(b"/")
        if len(segments) > 1 and segments[-1] == b"":
            segments.pop()
        if not self._empty:
            segments = [segment for segment in segments if segment]
        try:
            texts = [unquote_to_bytes(segment).decode() for segment in segments]
        except UnicodeDecodeError:
            raise invalid("path", "Expected percent-encoded UTF-8") from None
        found = _find(self._root, texts, 0, [], method)
        if found is None and self._several and len(texts) <= MOST_SEGMENTS:
            return _find(self._root, texts, 0, [], method, len(texts))
        return found


def _find(
    node: _Node, texts: list[str], position: int, values: list[str], method: str | None, longest: int = 1
) -> Found | None:
    """`longest`: so many segments a variable may stand for."""
    if position == len(texts):
        good = bool(node.routes) if method is None else method in node.routes
        return Found(node.routes, values) if good else None
    literal = node.literal.get(texts[position])
    if literal is not None and (found := _find(literal, texts, position + 1, values, method, longest)):
        return found
    if node.variable is None:
        return None
    for end in range(position + 1, min(position + longest, len(texts)) + 1):
        value = "/".join(texts[position:end])
        if value and (found := _find(node.variable, texts, end, [*values, value], method, longest)):
            return found
    return None
