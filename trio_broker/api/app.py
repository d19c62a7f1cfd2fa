"""The web application: one generation of the API as Quart serves it, and the applications there are.

Invariant: whatever comes in, the answer is one of the generation's contract; a fault of ours is logged with its
traceback and answered without.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Request, Response
from quart.ctx import RequestContext
from quart.globals import request_ctx
from quart_trio import QuartTrio
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from trio_broker.actors.questions import Questions
from trio_broker.actors.slow_hash import TooBusy
from trio_broker.api.context import Api
from trio_broker.api.failures import BODY_TIMEOUT, BODY_TOO_LARGE, BUSY, INTERNAL_ERROR, UNAVAILABLE, ApiError
from trio_broker.api.generation import LARGEST_BODY, LARGEST_OF_STRANGERS, SLOWEST_BODY, Generation
from trio_broker.api.routes import Reply
from trio_broker.api.v2.generation import LEVEL as V2_LEVEL
from trio_broker.api.v2.generation import GenerationTwo
from trio_broker.api.v4.generation import LEVEL as V4_LEVEL
from trio_broker.api.v4.generation import GenerationFour
from trio_broker.api.v5.generation import GenerationFive
from trio_broker.errors import ActorGone, AskTimeout, StoreError

__all__ = ["LARGEST_BODY", "LARGEST_OF_STRANGERS", "SLOWEST_BODY", "WebApp", "make_app", "make_older_app"]

logger = logging.getLogger(__name__)


class WebApp(QuartTrio):
    """Quart's request and response objects around a generation's own router.

    Quart's own URL map stays empty: it sees paths only after `%2F` was decoded.
    """

    def __init__(self, generation: Generation, *, largest_body: int = LARGEST_BODY) -> None:
        super().__init__(__name__, static_folder=None, template_folder=None)
        self.config["MAX_CONTENT_LENGTH"] = largest_body
        self.config["BODY_TIMEOUT"] = SLOWEST_BODY
        self.generation = generation

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "lifespan" and not scope["path"].startswith("/"):
            # Quart takes it apart as a URL and may fail over that; our router looks at `raw_path` only.
            scope["path"] = "/"
        await super().__call__(scope, receive, send)

    async def dispatch_request(self, request_context: RequestContext | None = None) -> Response:
        """Answer any request; replaces the lookup in Quart's URL map."""
        request = (request_context or request_ctx).request
        generation = self.generation
        try:
            response = _response(await generation.answer(request))
        except ApiError as error:
            response = _response(generation.failure(error))
        except RequestEntityTooLarge:
            response = _response(generation.failure(BODY_TOO_LARGE.error()))
        except RequestTimeout:
            response = _response(generation.failure(BODY_TIMEOUT.error()))
        except TooBusy:
            response = _response(generation.failure(BUSY.error()))
        except (ActorGone, AskTimeout, StoreError) as error:
            logger.warning("%s %s: %s", request.method, _shown_path(request), str(error) or type(error).__name__)
            response = _response(generation.failure(UNAVAILABLE.error()))
        except Exception:
            logger.exception("%s %s failed", request.method, _shown_path(request))
            response = _response(generation.failure(INTERNAL_ERROR.error()))
        if generation.cors and "Origin" in request.headers:
            response.headers["access-control-allow-origin"] = "*"
        return response


def make_app(
    questions: Questions,
    *,
    started: Callable[[], bool],
    level: str = "5.8.9",
    largest_body: int = LARGEST_BODY,
    cors: bool = False,
    api_docs: bool = True,
) -> WebApp:
    """The application that serves `/api/v5`, `/status` and, with `api_docs`, `/api-docs`.

    `started` says whether the broker is up (for the health check); `level` is the release of EMQX to be taken for;
    with `cors` browsers let pages of any origin read the answers.
    """
    generation = GenerationFive(Api(questions, started, level), cors=cors, api_docs=api_docs)
    return WebApp(generation, largest_body=largest_body)


def make_older_app(
    name: str,
    questions: Questions,
    *,
    started: Callable[[], bool],
    largest_body: int = LARGEST_BODY,
    cors: bool = False,
    api_docs: bool = True,
    cloud: bool = False,
) -> WebApp:
    """The application of the generation `name`, which is v2 or v4.

    `cloud`: the paths of v4 also under `/api`, as EMQX Cloud has them. The rest is as for `make_app`.
    """
    generation: Generation
    if name == "v2":
        generation = GenerationTwo(Api(questions, started, V2_LEVEL), cors=cors, api_docs=api_docs)
    else:
        generation = GenerationFour(Api(questions, started, V4_LEVEL), cors=cors, api_docs=api_docs, cloud=cloud)
    return WebApp(generation, largest_body=largest_body)


def _response(reply: Reply) -> Response:
    if reply.text is not None:
        response = Response(reply.text, reply.status, content_type=reply.content_type)
    elif reply.body is not None:
        response = Response(msgspec.json.encode(reply.body), reply.status, content_type=reply.content_type)
    else:
        response = Response(b"", reply.status)
        del response.headers["content-type"]
    response.headers.update(reply.headers)
    return response


def _shown_path(request: Request) -> str:
    """For the log: what was sent, still percent-encoded, so that it stays one line."""
    return ascii(request.scope["raw_path"].decode("latin-1"))
