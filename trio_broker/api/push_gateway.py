"""Sends the figures of `GET /prometheus/stats` to a Pushgateway, at intervals.

Invariant: a push that fails changes nothing but the log, which is told once until one succeeds; only one is under way
at a time, and it is given up before the next is due. Imported by brokers that push, and by no others: it loads all of
the REST API.
"""

from __future__ import annotations

import http.client
import logging
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import trio

from trio_broker.api.rates import CpuUse
from trio_broker.api.v5.prometheus_families import TEXT, exposition
from trio_broker.api.v5.prometheus_stats import collect
from trio_broker.errors import ActorGone, AskTimeout

if TYPE_CHECKING:
    from trio_broker.actors.questions import Questions
    from trio_broker.config.model import PushGatewayConfig

__all__ = ["PushGateway", "push_url"]

log = logging.getLogger("trio_broker.push_gateway")

PATIENCE: Final = 10.0
"""Seconds that one push may take at the most."""
LARGEST_ANSWER: Final = 65_536
"""Bytes of an answer that are read."""

_USUAL: Final = (OSError, ValueError, http.client.HTTPException, ActorGone, AskTimeout)
"""What may be in the way of a push without a fault of ours."""


class PushGateway:
    """`follow` the setting `prometheus.push_gateway`: there is a task in `nursery` while it is switched on."""

    def __init__(self, questions: Questions, nursery: trio.Nursery, config: PushGatewayConfig) -> None:
        self._questions = questions
        self._nursery = nursery
        self._config = config
        self._changed = trio.Event()
        self._runs = False
        self._cpu = CpuUse()
        # An address that does not answer keeps one thread, not all of them.
        self._threads = trio.CapacityLimiter(1)

    def follow(self, config: PushGatewayConfig) -> None:
        """Go by this from now on. What is under way is finished first; then the next push is at once."""
        if config != self._config:
            self._config = config
            self._changed.set()
        if config.enable and not self._runs:
            self._runs = True
            self._nursery.start_soon(self._run)

    async def _run(self) -> None:
        failing = False
        while self._config.enable:
            self._changed = trio.Event()
            due = trio.current_time() + self._config.interval
            failing = await self._push(self._config, failing)
            with trio.CancelScope(deadline=due):
                await self._changed.wait()
        self._runs = False

    async def _push(self, config: PushGatewayConfig, failing: bool) -> bool:
        """Did it fail? `failing`: the one before did."""
        patience = min(config.interval, PATIENCE)
        failure: object = f"no answer within {patience:g} s"
        with trio.move_on_after(patience):
            failure = await self._send(config, patience)
        if failure is not None and not failing:
            ours = failure if isinstance(failure, Exception) and not isinstance(failure, _USUAL) else None
            log.warning("the Pushgateway at %s is not reached: %s", config.url, failure, exc_info=ours)
        elif failure is None and failing:
            log.info("the Pushgateway at %s is reached again", config.url)
        return failure is not None

    async def _send(self, config: PushGatewayConfig, patience: float) -> Exception | None:
        """What was in the way, or None."""
        try:
            groups = await collect(self._questions, self._cpu, {})
            text = exposition(family for families in groups.values() for family in families)
            url, headers = push_url(config, self._questions.node_name), {"Content-Type": TEXT, **config.headers}
            request = urllib.request.Request(url, text.encode(), headers, method="POST")

            def post() -> None:
                try:
                    with _OPENER.open(request, timeout=patience) as answer:
                        answer.read(LARGEST_ANSWER)
                except urllib.error.HTTPError as error:
                    error.close()  # it has the socket of the answer
                    raise

            await trio.to_thread.run_sync(post, abandon_on_cancel=True, limiter=self._threads)
        except Exception as error:  # noqa: BLE001 - it is told to the log; the broker goes on without its figures
            return error
        return None


class _StayThere(urllib.request.HTTPRedirectHandler):
    """The headers, which may have a secret among them, go to the address that was set and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(_StayThere)


def push_url(config: PushGatewayConfig, node_name: str) -> str:
    """`URL/metrics/job/JOB`, with the two parts of the node's name put into the job."""
    name, _, host = node_name.partition("@")
    job = config.job_name.replace("${name}", name).replace("${host}", host)
    return f"{config.url.rstrip('/')}/metrics/job/{quote(job, safe='/~@:.-_')}"
