"""Schemathesis over our own OpenAPI document: what is sent is made from it, what is answered is compared with it.

Invariant: those of one operation, good or bad ones, are sent to a broker of their own on a mock clock, and are the same
in every run (`SCHEMATHESIS_EXAMPLES=500 pytest tests/api/test_schemathesis.py` tries more, and other ones each time).
"""

from __future__ import annotations

import os
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import pytest
import requests
import schemathesis
from api.live import running
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CheckContext
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from trio_broker.api import v5
from trio_broker.api.openapi import document
from trio_broker.api.v5.dialect import DIALECT

EXAMPLES: Final = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "0"))
"""For each operation, good ones and as many bad ones; 0 = the few that the suite has time for."""
FEW: Final = 5
Case: TypeAlias = schemathesis.Case[Any]
Operation: TypeAlias = schemathesis.APIOperation[Any, Any, Any, Any]

BASE: Final = "http://broker/api/v5"

SCHEMA: Final = schemathesis.openapi.from_dict(document(v5.ROUTES, v5.BASE_PATH, DIALECT, version="5.8.9"))
OPERATIONS: Final[list[Operation]] = [result.ok() for result in SCHEMA.get_all_operations()]  # type: ignore[union-attr]

THERE: Final[dict[str, list[str]]] = {
    "clientid": ["c1", "c2"],
    "node": ["trio_broker@127.0.0.1"],
    "topic": ["house/door", "t/#", "house/+"],
    "id": ["tcp:default"],
    "code": ["NOT_FOUND"],
}
"""What path parameters may be called for something to be found."""

UNAVOIDABLE: Final = {"NODE_DOWN", "BAD_NODE"}
"""Codes of answers with 500 that the contract wants."""


def no_fault_of_ours(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    if response.status_code >= 500:
        code = response.json().get("code")
        assert response.status_code == 503 or code in UNAVOIDABLE, response.text
    return None


def bad_parameters_are_refused(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """Bodies are taken more kindly than the document says: none is `{}`, null is absent, numbers may be texts."""
    return None if len(case.operation.body) else negative_data_rejection(ctx, response, case)


CHECKS: Final = [
    no_fault_of_ours,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    bad_parameters_are_refused,
]


def examples_of(operation: Operation, mode: schemathesis.GenerationMode) -> list[Case]:
    """What Hypothesis makes of the document; none where nothing can be bad (any text will do for a segment)."""
    found: list[Case] = []

    @settings(
        max_examples=EXAMPLES or FEW,
        derandomize=not EXAMPLES,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case=operation.as_strategy(mode), data=st.data())
    def collect(case: Case, data: st.DataObject) -> None:
        for name, values in THERE.items():
            if name in case.path_parameters and data.draw(st.booleans()):
                case.path_parameters[name] = quote(data.draw(st.sampled_from(values)), safe="")
        found.append(case)

    try:
        collect()
    except Unsatisfiable:
        assert mode is schemathesis.GenerationMode.NEGATIVE
        assert len(operation.query) + len(operation.body) == 0
    return found


async def check(cases: list[Case]) -> None:
    """Send them to a broker with the clients `c1` (here) and `c2` (away, with a queue) and a retained message."""
    async with running() as live:
        c2 = await live.connect("c2", properties={"session_expiry_interval": 3600})
        await c2.subscribe("q/#", qos=1)
        await c2.disconnect()
        c1 = await live.connect("c1", username="u1")
        await c1.subscribe("t/#", qos=1)
        await c1.publish("q/1", b"one", qos=1)
        await c1.publish("house/door", b"open", qos=1, retain=True)
        for case in cases:
            request = requests.Request(**case.as_transport_kwargs(base_url=BASE)).prepare()
            assert request.method is not None
            assert request.url is not None
            assert request.body is None or isinstance(request.body, bytes)
            headers = {name: str(value) for name, value in request.headers.items() if name.lower() != "user-agent"}
            answer = await live.api.request(request.method, request.url, content=request.body, headers=headers)
            case.validate_response(answer, checks=CHECKS)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
async def test_answers_are_as_documented(
    operation: Operation, mode: schemathesis.GenerationMode, autojump_clock: object
) -> None:
    await check(examples_of(operation, mode))
