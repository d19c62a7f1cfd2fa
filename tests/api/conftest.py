"""The API over a fake broker: `api` sends requests through the whole application, without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from api.fake_questions import FakeQuestions
from attrs import define

from trio_broker.actors import slow_hash
from trio_broker.api.app import WebApp, make_app
from trio_broker.api.keys import Role

ADMIN = ("admin-key", "admin:secret")
VIEWER = ("viewer-key", "viewer-secret")
PUBLISHER = ("publisher-key", "publisher-secret")


@define
class Started:
    """Whether the broker says that it has started."""

    value: bool = True

    def __call__(self) -> bool:
        return self.value


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is hashed in a test is not hashed slowly."""
    monkeypatch.setattr(slow_hash, "COST", 2)


@pytest.fixture
def questions() -> FakeQuestions:
    return FakeQuestions()


@pytest.fixture
def started() -> Started:
    return Started()


@pytest.fixture
def app(questions: FakeQuestions, started: Started) -> WebApp:
    keys = questions.api_keys
    keys.add(*ADMIN, Role.ADMINISTRATOR)
    keys.add(*VIEWER, Role.VIEWER)
    keys.add(*PUBLISHER, Role.PUBLISHER)
    return make_app(questions, started=started, largest_body=3_000_000)


@pytest.fixture
async def api(app: WebApp) -> AsyncIterator[httpx.AsyncClient]:
    """An administrator's client; paths are below `/api/v5`."""
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://broker/api/v5", auth=ADMIN) as client:
        yield client
