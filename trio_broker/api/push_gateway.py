"""Sends the figures of `GET /prometheus/stats` to a Pushgateway, at intervals.

Invariant: a push that fails changes nothing but the log, which is told once until one succeeds; only one is under way
at a time, and it is given up before the next is due. Imported by brokers that push, and by no others: it loads all of
the REST API.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import trio

from trio_broker.actors.outbound import Outbound, Unanswered, target_of
from trio_broker.api.prometheus_families import TEXT, exposition
from trio_broker.api.prometheus_stats import collect
from trio_broker.api.rates import CpuUse
from trio_broker.errors import ActorGone, AskTimeout, ConfigError

if TYPE_CHECKING:
    from trio_broker.actors.questions import Questions
    from trio_broker.config.model import PushGatewayConfig

__all__ = ["PushGateway", "push_url"]

log = logging.getLogger("trio_broker.push_gateway")

PATIENCE: Final = 10.0
"""Seconds that one push may take at the most."""
_USUAL: Final = (Unanswered, ConfigError, ActorGone, AskTimeout)
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
            sent = [(name.encode(), value.encode()) for name, value in headers.items()]
            outbound = await Outbound.open(
                url, self._questions.settings.config.outbound, key="prometheus.push_gateway", request_timeout=patience
            )
            try:
                answer = await outbound.request("POST", target_of(url), sent, text.encode())
            finally:
                await outbound.close()
            # The headers, which may have a secret among them, go to no other address: no redirect is followed.
            return None if 200 <= answer.status < 300 else Unanswered(f"it says status {answer.status}")
        except Exception as error:  # noqa: BLE001 - it is told to the log; the broker goes on without its figures
            return error


def push_url(config: PushGatewayConfig, node_name: str) -> str:
    """`URL/metrics/job/JOB`, with the two parts of the node's name put into the job."""
    name, _, host = node_name.partition("@")
    job = config.job_name.replace("${name}", name).replace("${host}", host)
    return f"{config.url.rstrip('/')}/metrics/job/{quote(job, safe='/~@:.-_')}"
