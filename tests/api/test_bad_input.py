"""Whatever is sent, the answer is never a fault of ours."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import msgspec
import trio
from api.conftest import ADMIN, Started
from api.fake_questions import FakeQuestions, queued
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_broker.api import v5
from trio_broker.api.app import make_app
from trio_broker.api.failures import ApiError
from trio_broker.api.keys import ApiKeys, Role
from trio_broker.api.routes import Route
from trio_broker.api.validation import parse_query

TEXTS = st.one_of(
    st.sampled_from(["c1", "t/#", "$share/g/t", "none", "0", "-1", "1e9", "true", "null", "9" * 30, "%", "_0", "tcp:"]),
    st.text(st.characters(codec="utf-8"), max_size=20),
)
NAMES = sorted(
    {name for route in v5.ROUTES for wanted in (route.query, route.body) for name in re.findall(r"\w+", str(wanted))}
    | {field.encode_name for route in v5.ROUTES if route.query for field in msgspec.structs.fields(route.query)}
    | {"topic", "payload", "payload_encoding", "qos", "nl", "properties", "user_properties", "correlation_data"}
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), TEXTS
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)),
    max_leaves=10,
)
QUERIES = st.lists(st.tuples(st.sampled_from([name for name in NAMES if name != "node"]), TEXTS), max_size=4)


async def answer_to(route: Route, segments: list[str], query: list[tuple[str, str]], body: Any) -> httpx.Response:
    questions = FakeQuestions()
    questions.add("c1", "t/#")
    questions.mqueues["c1"] = questions.inflights["c1"] = [queued(number) for number in range(3)]
    keys = ApiKeys()
    keys.add(*ADMIN, Role.ADMINISTRATOR)
    app = make_app(questions, keys=keys, started=Started())
    path = re.sub(r":[a-z]+", lambda _: quote(segments.pop(), safe=""), route.path)
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://broker/api/v5", auth=ADMIN) as client:
        return await client.request(route.method, f"{path}?{urlencode(query)}", json=body)


@settings(max_examples=300)
@given(
    route=st.sampled_from([route for route in v5.ROUTES if "monitor" not in route.path]),
    segments=st.lists(TEXTS.filter(bool), min_size=2, max_size=2),
    query=QUERIES,
    body=VALUES,
)
def test_never_500(route: Route, segments: list[str], query: list[tuple[str, str]], body: Any) -> None:
    answer = trio.run(answer_to, route, segments, query, body)
    assert answer.status_code in {200, 202, 204, 400, 404, 415, 503}, answer.text
    assert answer.status_code != 503 or route.path == "/status", answer.text
    if answer.status_code == 400:
        assert {"code", "message"} == set(answer.json()) or {"reason_code", "message"} == set(answer.json())


@given(st.binary(max_size=40))
def test_any_query_string_is_parsed_or_refused(raw: bytes) -> None:
    query: Any
    for route in v5.ROUTES:
        if route.query is not None:
            try:
                query = parse_query(raw, route.query)
            except ApiError as error:
                assert error.status == 400  # noqa: PT017
            else:
                assert isinstance(query, route.query)
