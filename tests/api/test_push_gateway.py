"""The Pushgateway: figures that are sent while the settings say so, and what becomes of a push that fails."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import trio
from api.live import running
from api.operations import shows
from api.test_prometheus import COUNTERS, GAUGES
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from trio_broker.actors.outbound import Unanswered
from trio_broker.api.push_gateway import PushGateway, push_url
from trio_broker.config import Config, load
from trio_broker.config.model import PushGatewayConfig


@pytest.mark.parametrize(
    ("url", "job_name", "expected"),
    [
        (
            "http://host:9091",
            "${name}/instance/${name}~${host}",
            "http://host:9091/metrics/job/broker/instance/broker~10.0.0.1",
        ),
        ("http://host/prefix/", "a b/é", "http://host/prefix/metrics/job/a%20b/%C3%A9"),
    ],
)
def test_where_it_is_pushed_to(url: str, job_name: str, expected: str) -> None:
    config = PushGatewayConfig()
    object.__setattr__(config, "job_name", job_name)
    object.__setattr__(config, "url", url)
    assert push_url(config, "broker@10.0.0.1") == expected


@shows("PUT /prometheus")
async def test_figures_are_pushed(caplog: pytest.LogCaptureFixture) -> None:
    """Over a socket: switched on while the broker runs, refused, taken, switched off."""
    send, receive = trio.open_memory_channel[bytes](10)
    answers: Iterator[bytes] = iter((b"503 Busy", b"200 OK", b"202 Accepted"))

    async def gateway(stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
        while len(body) < length:
            body += await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 " + next(answers, b"200 OK") + b"\r\nContent-Length: 0\r\n\r\n")
        await send.send(head + b"\r\n\r\n" + body)

    caplog.set_level(logging.INFO)
    with trio.fail_after(30):
        async with running() as live, trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, gateway, 0)
            port = listeners[0].socket.getsockname()[1]
            push = {
                "enable": True,
                "url": f"http://127.0.0.1:{port}",
                "interval": "1h",
            }
            answer = await live.api.put("/prometheus", json={"push_gateway": push})
            assert answer.status_code == 200, answer.text
            await receive.receive()
            # What is changed counts at once.
            await live.api.put("/prometheus", json={"push_gateway": {**push, "headers": {"X-Env": "test"}}})
            head, _, body = (await receive.receive()).decode().partition("\r\n\r\n")
            assert head.startswith("POST /metrics/job/trio_broker/instance/trio_broker~127.0.0.1 HTTP/1.1\r\n")
            assert "x-env: test" in head.lower()
            assert {family.name for family in text_string_to_metric_families(body)} == COUNTERS | GAUGES
            await live.api.put("/prometheus", json={})
            nursery.cancel_scope.cancel()
    assert caplog.text.count("is not reached: it says status 503") == 1


async def test_a_push_that_fails_is_told_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    no_route, down = Unanswered("no route"), Unanswered("down")
    outcomes: list[Any] = [no_route, no_route, None, None, down, "hangs", None]
    times: list[float] = []

    async def send(self: PushGateway, config: PushGatewayConfig, patience: float) -> Any:
        times.append(trio.current_time())
        outcome = outcomes.pop(0) if outcomes else None
        await trio.sleep(60 if outcome == "hangs" else 0)
        return outcome

    monkeypatch.setattr(PushGateway, "_send", send)
    config = load(overrides=["prometheus.push_gateway.enable=true"], base=Config())
    async with running(config) as live:
        await trio.sleep(15 * 7 + 1)
        assert live.broker.config.prometheus.push_gateway.enable
    said = [record.message.removeprefix("the Pushgateway at http://127.0.0.1:9091 ") for record in caplog.records]
    assert [text for text in said if text.startswith("is ")] == [
        "is not reached: no route",
        "is reached again",
        "is not reached: down",
        "is reached again",
    ]
    assert [round(late - early) for early, late in pairwise(times)] == [15] * 7


async def test_nobody_answers_a_push(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    told = trio.Event()
    warning = logging.Logger.warning

    def warn(logger: logging.Logger, *arguments: Any, **more: Any) -> None:
        warning(logger, *arguments, **more)
        told.set()

    monkeypatch.setattr(logging.Logger, "warning", warn)
    config = load(
        overrides=["prometheus.push_gateway.enable=true", "prometheus.push_gateway.url=http://127.0.0.1:1"],
        base=Config(),
    )
    with trio.fail_after(30):
        async with running(config) as live:
            await told.wait()
            assert (await live.api.get("/prometheus/stats")).status_code == 200
    assert "the Pushgateway at http://127.0.0.1:1 is not reached: 127.0.0.1 port 1: Connection refused" in caplog.text


async def test_a_push_goes_only_where_the_rules_allow_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Who may set where figures go to over REST cannot make the broker ask the metadata service of a cloud."""
    config = load(
        overrides=["prometheus.push_gateway.enable=true", "prometheus.push_gateway.url=http://169.254.169.254/x"],
        base=Config(),
    )
    async with running(config):
        await trio.sleep(1)
    assert "outbound.access_rules do not allow 169.254.169.254" in caplog.text


async def test_a_push_follows_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its headers may hold a secret, which is for the Pushgateway alone."""
    requests: list[bytes] = []
    said: list[str] = []
    told = trio.Event()

    def warn(text: str, *arguments: Any, **_: Any) -> None:
        said.append(text % arguments)
        told.set()

    monkeypatch.setattr("trio_broker.api.push_gateway.log.warning", warn)

    async def gateway(stream: trio.SocketStream) -> None:
        requests.append(await stream.receive_some(65536))
        host = stream.socket.getsockname()[1]
        elsewhere = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{host}/other\r\n"
        await stream.send_all(elsewhere.encode() + b"Content-Length: 0\r\nConnection: close\r\n\r\n")

    with trio.fail_after(30):
        async with running() as live, trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, gateway, 0)
            push = {
                "enable": True,
                "url": f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}",
                "headers": {"Authorization": "Bearer secret"},
            }
            await live.api.put("/prometheus", json={"push_gateway": push})
            await told.wait()
            nursery.cancel_scope.cancel()
    assert [text.partition(" is ")[2] for text in said] == ["not reached: it says status 302"]
    assert [request.split(b" ", 1)[0] for request in requests] == [b"POST"]


async def test_a_fault_in_a_push_is_told_with_its_traceback_and_ends_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> str:
        raise KeyError("a figure")

    monkeypatch.setattr("trio_broker.api.push_gateway.exposition", fails)
    config = load(overrides=["prometheus.push_gateway.enable=true"], base=Config())
    async with running(config) as live:
        await trio.sleep(60)
        assert (await live.api.get("/prometheus/stats")).status_code == 200
    assert [record.exc_info is not None for record in caplog.records if "is not reached" in record.message] == [True]
