"""Whatever is sent, the answer is never a fault of ours."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import msgspec
import trio
import trio.testing
from api.live import running
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trio_broker.api import v5
from trio_broker.api.failures import ApiError
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
    path = re.sub(r":[a-z_]+", lambda _: quote(segments.pop(), safe=""), route.path)
    async with running() as live:
        client = await live.connect("c1", username="u1", properties={"receive_maximum": 1})
        await client.subscribe("t/#", qos=1)
        for _ in range(3):
            await live.broker.publish("t/1", b"waits", qos=1)
        return await live.api.request(route.method, f"{path}?{urlencode(query)}", json=body)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    route=st.sampled_from(v5.ROUTES),
    segments=st.lists(TEXTS.filter(bool), min_size=4, max_size=4),
    query=QUERIES,
    body=VALUES,
)
def test_never_500(route: Route, segments: list[str], query: list[tuple[str, str]], body: Any) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    answer = trio.run(answer_to, route, segments, query, body, clock=clock)
    assert answer.status_code < 500, answer.text
    if answer.status_code == 400:
        assert {"code", "message"} <= set(answer.json()) or {"reason_code", "message"} == set(answer.json())


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
